//! `bootd reload`

use clap::Args;

use super::{Exit, Place, ask};
use crate::dhcp::answer_diff::{Differences, Group, Who};
use crate::plugins::Reloaded;
use crate::reload::Report;

/// What is to be taken into service.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Plugins that get new instances with the settings that they have. Without any the configuration file is read again.
    #[arg(value_name = "PLUGIN", conflicts_with = "dry_run")]
    plugins: Vec<String>,
    /// Change nothing; show which nodes and recent clients would get something else, and what.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    match arguments.plugins.is_empty() {
        true => configuration(arguments),
        false => plugins(arguments),
    }
}

fn configuration(arguments: &Arguments) -> Exit {
    let path = if arguments.dry_run {
        "/reload?dry_run=1"
    } else {
        "/reload"
    };
    let report: Report = match ask::post(&arguments.place, path) {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    if arguments.json {
        say!("{:#}", serde_json::json!(report));
    } else {
        show(&report);
    }
    let file = report.file.display();
    if !report.mistakes.is_empty() {
        eprintln!("bootd: {file}: {} mistake(s); nothing changed", report.mistakes.len());
        report.mistakes.iter().for_each(|mistake| eprintln!("  {mistake}"));
        return Exit::Wrong;
    }
    if !report.needs_restart.is_empty() {
        let nothing = if arguments.dry_run { "" } else { "; nothing changed" };
        eprintln!("bootd: {file}: these keys need a restart{nothing}");
        report.needs_restart.iter().for_each(|change| eprintln!("  {change}"));
        return if arguments.dry_run { Exit::Good } else { Exit::Wrong };
    }
    plugins_are_good(&report.plugins)
}

fn plugins(arguments: &Arguments) -> Exit {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for plugin in &arguments.plugins {
        query.append_pair("plugin", plugin);
    }
    let reloaded: Vec<Reloaded> = match ask::post(&arguments.place, &format!("/reload?{}", query.finish())) {
        Ok(reloaded) => reloaded,
        Err(exit) => return exit,
    };
    if arguments.json {
        say!("{:#}", serde_json::json!(reloaded));
    } else {
        reloaded.iter().for_each(show_plugin);
    }
    plugins_are_good(&reloaded)
}

/// Tells those that kept their old instance.
fn plugins_are_good(reloaded: &[Reloaded]) -> Exit {
    let mut exit = Exit::Good;
    for plugin in reloaded {
        if let Some(error) = &plugin.error {
            eprintln!("bootd: plugin {}: {error}", plugin.name);
            exit = Exit::Failed;
        }
    }
    exit
}

fn show_plugin(plugin: &Reloaded) {
    if plugin.error.is_none() {
        say!("{}: generation {} is in service", plugin.name, plugin.generation);
    }
}

fn show(report: &Report) {
    report.changes.iter().for_each(|change| say!("{change}"));
    if let Some(answers) = &report.answers {
        show_answers(answers);
    }
    if report.applied {
        report.plugins.iter().for_each(show_plugin);
        report
            .warnings
            .iter()
            .for_each(|warning| eprintln!("warning: {warning}"));
        let what = match report.changes.len() {
            0 => "nothing changed".into(),
            1 => "1 key changed".into(),
            many => format!("{many} keys changed"),
        };
        say!(
            "{}: {what}; in service after {:.1} ms",
            report.file.display(),
            report.took_ms
        );
    }
}

fn show_answers(answers: &Differences) {
    for group in &answers.groups {
        say!("{}", line(group));
    }
    let asked = format!(
        "{} nodes and {} recent packets were answered by both",
        answers.nodes, answers.recent
    );
    match answers.groups.is_empty() {
        true => say!("nobody gets anything else; {asked}"),
        false => say!("{asked}"),
    }
    answers.notes.iter().for_each(|note| say!("{note}"));
}

fn line(group: &Group) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
    let names: Vec<String> = group.who.iter().map(name).collect();
    let stages = match group.stages.as_slice() {
        [] => String::new(),
        stages => format!(" ({})", stages.join(", ")),
    };
    format!(
        "{}: {} -> {} for {}{stages}: {}",
        group.what,
        shown(&group.old),
        shown(&group.new),
        names.len(),
        names.join(", ")
    )
}

/// The node, else the hardware address.
fn name(who: &Who) -> String {
    who.xname.clone().unwrap_or_else(|| who.mac.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_a_line_with_all_whom_it_is_for() {
        let who = |xname: Option<&str>, last| Who {
            xname: xname.map(str::to_owned),
            mac: bootd_sdk::mac::Mac([2, 0, 0, 0, 0, last]),
        };
        let group = Group {
            what: "routers".into(),
            old: Some("172.16.0.254".into()),
            new: None,
            stages: vec!["ipxe".into()],
            who: vec![who(Some("x1000c0s0b0n0"), 1), who(None, 2)],
        };
        assert_eq!(
            line(&group),
            "routers: 172.16.0.254 -> (none) for 2 (ipxe): x1000c0s0b0n0, 02:00:00:00:00:02"
        );
    }
}

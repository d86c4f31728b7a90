//! `bootd explain`

use clap::Args;

use super::{Exit, Place, ask, size};
use crate::explain::{DhcpStep, Explanation, File};

/// Which node.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The hardware address of its boot interface.
    #[arg(long)]
    mac: String,
    /// Its firmware: x86-bios, i386-efi, x86_64-efi, arm32-efi or arm64-efi.
    #[arg(long, default_value = "x86_64-efi")]
    arch: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("mac", &arguments.mac)
        .append_pair("arch", &arguments.arch)
        .finish();
    let path = format!("/explain?{query}");
    if arguments.json {
        return ask::print_json(&arguments.place, &path);
    }
    match ask::view(&arguments.place, &path) {
        Ok(explanation) => {
            print(&explanation);
            Exit::Good
        }
        Err(exit) => exit,
    }
}

fn print(explanation: &Explanation) {
    match &explanation.node {
        Some(node) => say!(
            "{} is {} ({}{}){}",
            explanation.mac,
            node.id,
            if node.kind.is_empty() { "node" } else { &node.kind },
            node.nid.map(|nid| format!(", NID {nid}")).unwrap_or_default(),
            if node.groups.is_empty() {
                String::new()
            } else {
                format!(", in {}", node.groups.join(", "))
            },
        ),
        None => say!("{} is not in the inventory", explanation.mac),
    }
    for (family, steps) in [("DHCP", &explanation.dhcp), ("DHCPv6", &explanation.dhcp6)] {
        steps.iter().for_each(|step| print_step(family, step));
    }
    if let Some(loader) = &explanation.loader {
        say!("\nLoader\n  {}", file(loader));
    }
    match &explanation.script {
        Some(script) if script.stored == script.rewritten => {
            say!(
                "\nBoot script (stored and rewritten are the same) from {}\n{}",
                script.url,
                indented(&script.rewritten)
            );
        }
        Some(script) => {
            say!(
                "\nBoot script, as stored, from {}\n{}",
                script.url,
                indented(&script.stored)
            );
            say!(
                "\nBoot script, rewritten: as the node gets it\n{}",
                indented(&script.rewritten)
            );
        }
        None => say!("\nBoot script\n  no plugin in service makes boot scripts"),
    }
    say!("\nFiles");
    for found in &explanation.files {
        say!("  {}", file(found));
    }
    if explanation.files.is_empty() {
        say!("  the script names none that this box serves");
    }
    for document in &explanation.documents {
        say!(
            "\n{} ({})\n{}",
            document.path,
            document.status,
            indented(&document.body)
        );
    }
    for advice in &explanation.advice {
        say!("\nadvice: {advice}");
    }
}

fn print_step(family: &str, step: &DhcpStep) {
    say!(
        "\n{family} to the {}",
        match step.stage.as_str() {
            "firmware" => "firmware",
            "ipxe" => "boot loader (iPXE)",
            _ => "operating system",
        }
    );
    let Some(fields) = step.answer.as_object() else {
        return;
    };
    for (name, value) in fields
        .iter()
        .filter(|(_, value)| !value.is_null() && !plain(value).is_empty())
    {
        match value.as_array().filter(|_| name == "options") {
            Some(options) => options
                .iter()
                .for_each(|option| say!("  {:<13} {}", "option", plain(option))),
            None => say!("  {:<13} {}", name.replace('_', " "), plain(value)),
        }
    }
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn file(file: &File) -> String {
    match (&file.bytes, &file.problem) {
        (Some(bytes), _) => format!("{} ({})", file.name, size(*bytes)),
        (None, Some(problem)) => format!("{}: MISSING: {problem}", file.name),
        (None, None) => file.name.clone(),
    }
}

fn indented(text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("  | {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

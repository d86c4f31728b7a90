//! `bootd import`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Place, ask, export};

/// What to import.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What `bootd export` printed, or with --plugin a file as that plugin reads it; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose data it is. Without it the file's own sections say so.
    #[arg(long, value_name = "PLUGIN")]
    plugin: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Hands each section to its plugin, in the file's order. A plugin takes all of its section or nothing; the first that refuses ends it.
pub(super) fn run(arguments: &Arguments) -> Exit {
    let read = if arguments.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(&arguments.file)
    };
    let text = match read {
        Ok(text) => text,
        Err(error) => {
            eprintln!("bootd: {}: {error}", arguments.file.display());
            return Exit::Wrong;
        }
    };
    let sections = match &arguments.plugin {
        Some(plugin) => vec![(plugin.clone(), text)],
        None => sections(&text),
    };
    if sections.is_empty() {
        eprintln!(
            "bootd: {}: this is not what bootd export prints; say with --plugin whose data it is",
            arguments.file.display()
        );
        return Exit::Wrong;
    }
    for (at, (plugin, data)) in sections.iter().enumerate() {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("plugin", plugin)
            .finish();
        let path = format!("/import?{query}");
        if let Err(exit) = ask::post_text::<serde_json::Value>(&arguments.place, &path, data.clone()) {
            let left: Vec<&str> = sections[at..].iter().map(|(plugin, _)| plugin.as_str()).collect();
            eprintln!("bootd: not imported: {}", left.join(", "));
            return exit;
        }
        say!("{plugin}: imported");
    }
    Exit::Good
}

/// The sections of an export, in order: the plugin and its data. What stands before the first is nobody's.
fn sections(text: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (export::plugin_of(line), sections.last_mut()) {
            (Some(plugin), _) => sections.push((plugin.into(), String::new())),
            (None, Some((_, data))) => {
                data.push_str(line);
                data.push('\n');
            }
            (None, None) => {}
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sections_of_an_export_are_each_plugins_own() {
        let text =
            "# by hand\n--- # bootd export: smd\nnodes: []\n---\n# more\n--- # bootd export: bss \r\n- kernel: k\n";
        let wanted = [("smd", "nodes: []\n---\n# more\n"), ("bss", "- kernel: k\n")];
        let wanted: Vec<_> = wanted.map(|(plugin, data)| (plugin.to_owned(), data.to_owned())).into();
        assert_eq!(sections(text), wanted);
        assert!(sections("nodes: []\n").is_empty());
    }
}

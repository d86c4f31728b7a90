//! `bootd cache`: what is kept of artifacts, and what an operator does with it: `ls`, `warm`, `pin`, `unpin`, `rm`

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Exit, Look, Place, ask};
use crate::admin::views::{Cache, Changed};
use crate::cache::{Cached, CachedState};

/// What to do with the cache.
#[derive(Debug, Args)]
// Good before and after what to do.
#[command(mut_arg("config", |arg| arg.global(true)), mut_arg("json", |arg| arg.global(true)))]
pub struct Arguments {
    #[command(flatten)]
    look: Look,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Show what is kept, being fetched, or pinned. The same as without any of these words.
    #[command(after_help = "Examples:\n  bootd cache ls\n  bootd cache ls --json")]
    Ls,
    /// Fetch objects before nodes ask for them, and wait until they are here.
    #[command(
        after_help = "Examples:\n  bootd cache warm --all\n  bootd cache warm s3://boot-images/compute/base/rocky9.6-compute-base-rocky9"
    )]
    Warm {
        /// Objects: /bucket/key, s3://bucket/key or http://host/bucket/key.
        #[arg(value_name = "URL", required_unless_present = "all")]
        urls: Vec<String>,
        /// All that the boot scripts of all nodes name.
        #[arg(long, conflicts_with = "urls")]
        all: bool,
    },
    /// Keep objects whatever else wants their room, once they are fetched, also over a restart.
    #[command(after_help = "Examples:\n  bootd cache pin s3://boot-images/compute/base/rocky9.6-compute-base-rocky9")]
    Pin {
        /// Objects: /bucket/key, s3://bucket/key or http://host/bucket/key.
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
    /// End that.
    #[command(after_help = "Examples:\n  bootd cache unpin /boot-images/compute/base/rocky9.6-compute-base-rocky9")]
    Unpin {
        /// Objects: /bucket/key, s3://bucket/key or http://host/bucket/key.
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
    /// Remove objects; who asks for one next has it fetched anew.
    #[command(
        after_help = "Examples:\n  bootd cache rm http://172.16.0.254:9000/boot-images/compute/base/rocky9.6-compute-base-rocky9"
    )]
    Rm {
        /// Objects: /bucket/key, s3://bucket/key or http://host/bucket/key.
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let look = &arguments.look;
    match &arguments.act {
        None | Some(Act::Ls) if look.json => ask::print_json(&look.place, "/cache"),
        None | Some(Act::Ls) => show(look),
        Some(Act::Warm { urls, all: false }) => warm_all(look, urls),
        Some(Act::Warm { all: true, .. }) => match ask::view::<Vec<String>>(&look.place, "/cache/wanted") {
            Ok(urls) if urls.is_empty() => {
                eprintln!("bootd: no boot script names a file of this box's buckets; see bootd explain");
                Exit::Good
            }
            Ok(urls) => warm_all(look, &urls),
            Err(exit) => exit,
        },
        Some(Act::Pin { urls }) => change_all(look, "pin", urls, ["pinned", "pinned already"]),
        Some(Act::Unpin { urls }) => change_all(look, "unpin", urls, ["not pinned any more", "was not pinned"]),
        Some(Act::Rm { urls }) => change_all(look, "rm", urls, ["removed", "was not kept"]),
    }
}

fn show(look: &Look) -> Exit {
    let view: Cache = match ask::view(&look.place, "/cache") {
        Ok(view) => view,
        Err(exit) => return exit,
    };
    let [state, size, age, hits, pinned, path, origin] =
        ["STATE", "BYTES", "FETCHED", "HITS", "PINNED", "OBJECT", "FROM"];
    say!("{state:<14} {size:>14} {age:<14} {hits:>7} {pinned:<6} {path:<60} {origin}");
    for object in &view.objects {
        let age = object.age_s.map_or_else(
            || "-".into(),
            |seconds| {
                // To the minute, once it is that old.
                let seconds = if seconds < 60 { seconds } else { seconds / 60 * 60 };
                format!("{} ago", humantime::format_duration(Duration::from_secs(seconds)))
            },
        );
        let size = object.len.map_or_else(|| "-".into(), |len| len.to_string());
        let pinned = if object.is_pinned { "yes" } else { "" };
        let (state, why) = (progress(object), object.why.as_deref().map(|why| format!(" ({why})")));
        say!(
            "{state:<14} {size:>14} {age:<14} {:>7} {pinned:<6} {:<60} {}{}",
            object.hits,
            object.path,
            object.origin,
            why.unwrap_or_default()
        );
    }
    say!("{} objects", view.objects.len());
    Exit::Good
}

fn progress(object: &Cached) -> String {
    match (object.state, object.len) {
        (CachedState::Fetching, Some(len)) if len > 0 => {
            format!("fetching {} %", object.have.saturating_mul(100) / len)
        }
        (state, _) => state.name().into(),
    }
}

/// One after the other, for their origin is one; each is waited for.
fn warm_all(look: &Look, urls: &[String]) -> Exit {
    let mut exit = Exit::Good;
    let mut done = Vec::new();
    for url in urls {
        match warm(look, url) {
            Ok(object) => done.push(object),
            Err(failed) => exit = failed,
        }
    }
    if look.json {
        say!("{:#}", serde_json::json!(done));
    }
    exit
}

fn warm(look: &Look, url: &str) -> Result<Cached, Exit> {
    let is_shown = !look.json && std::io::stderr().is_terminal();
    let (mut have, mut breaks) = (0, 0);
    loop {
        let object: Cached = act(&look.place, "warm", url)?;
        if object.have < have {
            breaks += 1;
        }
        if breaks >= BREAKS {
            eprintln!(
                "bootd: {}: its fetch broke {breaks} times; see the log of the bootd that serves",
                object.path
            );
            return Err(Exit::Failed);
        }
        have = object.have;
        if is_shown {
            // The next one goes over it.
            eprint!("\r{:<14} {}\x1b[K", progress(&object), object.path);
            let _ = std::io::stderr().flush();
        }
        if object.state != CachedState::Fetching {
            if is_shown {
                eprintln!();
            }
            if !look.json {
                say!("{} {}: {} bytes", object.state.name(), object.path, object.have);
            }
            return Ok(object);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn change_all(look: &Look, word: &str, urls: &[String], says: [&str; 2]) -> Exit {
    let mut exit = Exit::Good;
    let mut done = Vec::new();
    for url in urls {
        match act::<Changed>(&look.place, word, url) {
            Ok(change) if look.json => done.push(change),
            Ok(change) => say!("{}: {}", change.path, says[usize::from(!change.changed)]),
            Err(failed) => exit = failed,
        }
    }
    if look.json {
        say!("{:#}", serde_json::json!(done));
    }
    exit
}

fn act<T: serde::de::DeserializeOwned>(place: &Place, word: &str, url: &str) -> Result<T, Exit> {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("url", url)
        .finish();
    ask::post(place, &format!("/cache/{word}?{query}"))
}

/// Fetches of an object that begin anew because the one before broke for good.
const BREAKS: u32 = 3;
/// Between two looks at a fetch.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Verb};

    #[test]
    fn there_is_something_to_do_for_each_word() {
        for line in [
            "bootd cache",
            "bootd cache --json ls --config F",
            "bootd cache warm --all",
            "bootd cache warm /b/k s3://b/k --json",
            "bootd cache pin /b/k",
            "bootd cache rm /b/k /b/l",
        ] {
            assert!(
                matches!(Cli::try_parse_from(line.split(' ')).unwrap().verb, Verb::Cache(_)),
                "{line}"
            );
        }
        for line in [
            "bootd cache warm",
            "bootd cache warm --all /b/k",
            "bootd cache pin",
            "bootd cache rm",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}

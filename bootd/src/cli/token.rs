//! `bootd token`, and `bootd token --keys`

use std::time::Duration;

use clap::Args;

use super::{Exit, Place, ask};

/// What the token says.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Who shows it.
    #[arg(long, default_value = "operator")]
    subject: String,
    /// What it allows, where bootd.toml asks for scopes.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How long it is good, at most auth.longest.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Print the public keys (a JWKS) by which others know the tokens that are made here, and make none; GET /bootd/v1/keys gives the same.
    #[arg(long, conflicts_with_all = ["subject", "scope", "ttl"])]
    keys: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    if arguments.keys {
        return ask::print_json(&arguments.place, "/keys");
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("subject", &arguments.subject);
    query.append_pair("ttl_s", &arguments.ttl.as_secs().to_string());
    for scope in &arguments.scope {
        query.append_pair("scope", scope);
    }
    let made: serde_json::Value = match ask::post(&arguments.place, &format!("/token?{}", query.finish())) {
        Ok(made) => made,
        Err(exit) => return exit,
    };
    match made["token"].as_str() {
        Some(token) => {
            say!("{token}");
            Exit::Good
        }
        None => Exit::Failed,
    }
}

//! What an operator asks of the plugins' data: export and import, all of it as YAML in the form of the files that they read; and accept, which
//! lets through what a plugin holds back of a site that it mirrors.
//!
//! Each plugin that has `GET /bootd/v1/export/NAME` and `POST /bootd/v1/import/NAME`, or `POST /bootd/v1/accept/NAME`, takes part, in
//! configuration order. This side only carries: what is in the text, that an import is all or nothing, and that no secret leaves, is the
//! plugin's business.

use std::time::Duration;

use bootd_sdk::wire::{Answer, Request};
use hyper::StatusCode;

use crate::http::App;
use crate::plugins::{Lane, Routed};

/// How long a plugin may take for all of its data: longer than for a node that waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// What came of `bootd nodes accept`.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Accepted {
    /// What was held back until now.
    pub accepted: Vec<String>,
    /// What is held back still: the site does not answer, or has lost even more.
    pub left: Vec<String>,
    /// Which plugin could not be asked, and why.
    pub failed: Vec<String>,
}

/// Bytes that an import may have.
pub(super) const MOST: usize = 64 * 1024 * 1024;

/// Why nothing was exported, imported or accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    /// No plugin in service keeps data under this name.
    #[error("no plugin {0} with such data is in service (see bootd plugins)")]
    Nobody(String),
    /// The plugin did not answer.
    #[error("plugin {0}: {1}")]
    Unanswered(String, crate::plugins::CallError),
    /// The plugin refuses; its own words.
    #[error("plugin {name}: {text}")]
    Refused {
        /// The plugin.
        name: String,
        /// What it answered with.
        status: StatusCode,
        /// Why.
        text: String,
    },
}

impl TransferError {
    /// The status for whoever asked.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Nobody(_) => StatusCode::NOT_FOUND,
            Self::Unanswered(..) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused { status, .. } => *status,
        }
    }
}

/// The plugins that take part, in configuration order.
pub(super) fn names(app: &App) -> Vec<String> {
    let takes_part = |name: &&str| matches!(app.plugins.route("GET", &export_path(name)), Routed::To(..));
    app.plugins.names().filter(takes_part).map(Into::into).collect()
}

/// All that a plugin keeps, as YAML.
pub(super) async fn export(app: &App, name: &str) -> Result<String, TransferError> {
    Ok(ask(app, name, "GET", export_path(name), String::new()).await?.body)
}

/// Hands a plugin what it is to keep.
pub(super) async fn import(app: &App, name: &str, text: String) -> Result<(), TransferError> {
    ask(app, name, "POST", format!("/bootd/v1/import/{name}"), text).await?;
    Ok(())
}

/// Lets through what plugins hold back. Each that held something back, with its own words; and those that could not be asked.
pub(super) async fn accept(app: &App) -> Accepted {
    let mut done = Accepted::default();
    let names: Vec<&str> = app.plugins.names().collect();
    for name in names {
        let path = format!("/bootd/v1/accept/{name}");
        if !matches!(app.plugins.route("POST", &path), Routed::To(..)) {
            continue;
        }
        match ask(app, name, "POST", path, String::new()).await {
            Ok(answer) => {
                let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
                let texts = |field: &str| -> Vec<String> {
                    let texts = answer[field].as_array().into_iter().flatten();
                    texts.filter_map(|text| text.as_str()).map(Into::into).collect()
                };
                // Who looks for rows one day finds when they went, and that somebody meant it.
                for what in texts("accepted") {
                    tracing::info!(plugin = name, what, "the operator accepts what was held back");
                    done.accepted.push(format!("{name}: {what}"));
                }
                for what in texts("left") {
                    tracing::warn!(plugin = name, what, "the operator accepts, and this is held back still");
                    done.left.push(format!("{name}: {what}"));
                }
            }
            Err(error) => {
                tracing::warn!(plugin = name, %error, "the operator accepts, and the plugin could not be asked");
                done.failed.push(error.to_string());
            }
        }
    }
    done
}

fn export_path(name: &str) -> String {
    format!("/bootd/v1/export/{name}")
}

async fn ask(app: &App, name: &str, method: &str, path: String, body: String) -> Result<Answer, TransferError> {
    let Routed::To(plugin, route) = app.plugins.route(method, &path) else {
        return Err(TransferError::Nobody(name.into()));
    };
    let boot_url = app.config.boot_url();
    let (scheme, host) = boot_url.split_once("://").unwrap_or(("http", &boot_url));
    let request = Request {
        method: method.into(),
        path,
        body,
        listener: "admin".into(),
        scheme: scheme.into(),
        host: host.into(),
        // Whoever may open the socket is an operator.
        claims: Some(serde_json::json!({ "sub": "operator" })),
        ..Request::default()
    };
    let answer = app.plugins.ask(plugin, &request, Lane::of(&route), DEADLINE).await;
    let answer = answer.map_err(|error| TransferError::Unanswered(name.into(), error))?;
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    Err(TransferError::Refused {
        name: name.into(),
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        text: detail(answer.body),
    })
}

/// The reason in a problem's body (RFC 7807), or the body as it is.
fn detail(body: String) -> String {
    let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    problem["detail"].as_str().map_or(body, Into::into)
}

//! The service of a site: what is asked of it, with which token, and what its answers are worth as answers.
//!
//! Knows nothing of what is mirrored. Promises: every question has a deadline and every answer a bound; what went wrong is said with what to
//! do; a token is in the requests, and nowhere else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;

use super::Listed;
use super::settings::{Settings, Token};
use super::state::Kind;
use crate::text::shown;
use crate::wire::{Answer, Fetch, Fetched, Mistake, Request};
use crate::{Host, HostError, form, time};

/// Where it is, and how it is asked.
pub(super) struct Service {
    host: Host,
    /// Its URL, without a slash at its end.
    pub(super) base: String,
    /// Its path, as it is appended to `config.url`.
    path: String,
    ca: Option<String>,
    token: Option<Token>,
    folder: PathBuf,
}

impl Service {
    /// Asks nothing yet. `folder`: of bootd.toml; `path`: the service's (`/hsm/v2`).
    pub(super) fn new(host: Host, settings: &Settings, folder: &Path, path: &str) -> Self {
        Self {
            host,
            base: format!("{}{path}", settings.url.text()),
            path: path.into(),
            ca: settings.ca.as_ref().map(|ca| folder.join(ca).display().to_string()),
            token: settings.token.clone(),
            folder: folder.into(),
        }
    }

    /// What the site says of a collection, when it is something that can be believed at all.
    pub(super) fn ask(
        &self,
        listed: &Listed,
        known: Option<String>,
        within: Duration,
        most_bytes: usize,
    ) -> Result<New, Unanswered> {
        let is_known = known.is_some();
        let mut fetch = Fetch {
            timeout_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            most_bytes,
            known: Some(known.unwrap_or_default()),
            ..self.fetch(listed.path)
        };
        self.show_token(&mut fetch).map_err(Unanswered::Silent)?;
        let fetched = self.host.fetch(&fetch).map_err(|error| match error {
            HostError::Stopping => Unanswered::Stopping,
            error => Unanswered::Silent(unreachable(&error.to_string())),
        })?;
        match fetched.status {
            200 => Ok(New {
                validator: fetched.validator,
                body: Some(fetched.body),
            }),
            304 if is_known => Ok(New {
                validator: fetched.validator,
                body: None,
            }),
            status => Err(Unanswered::Wrong(Kind::Status(status), refusal(status, &fetched))),
        }
    }

    /// Passes a request on with its client's token, and gives the site's answer. `path`: as the service has it below its base, decoded.
    pub(super) fn pass_on(&self, request: &Request, path: &str) -> Answer {
        let segments: Vec<String> = path.split('/').map(form::segment).collect();
        if segments.iter().any(|segment| segment == "." || segment == "..") {
            return Answer::problem(400, "Bad Request", "the path leads elsewhere");
        }
        let query = match request.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        // Of a field that stands twice the first: that is the token that was looked at here.
        let first = |name: &&str| request.headers.iter().find(|(other, _)| other == *name).cloned();
        let fetch = Fetch {
            method: request.method.clone(),
            headers: CARRIED_THERE.iter().filter_map(first).collect(),
            body: request.body.clone(),
            timeout_ms: WRITE_MS,
            ..self.fetch(&format!("{}{query}", segments.join("/")))
        };
        match self.host.fetch(&fetch) {
            Ok(fetched) => Answer {
                status: fetched.status,
                headers: fetched
                    .headers
                    .into_iter()
                    .filter(|(name, _)| CARRIED_BACK.contains(&name.as_str()))
                    .collect(),
                body: fetched.body,
                keep: false,
            },
            Err(error) => {
                let text = unreachable(&error.to_string());
                let took = match text.starts_with("cannot connect") {
                    true => "nothing was written",
                    false => "whether it took this is not known",
                };
                let detail = format!(
                    "{} keeps this data, and {took}: {text}. What this box serves is as it was.",
                    self.base
                );
                Answer::problem(502, "Bad Gateway", &detail)
            }
        }
    }

    /// One thing that is asked for while somebody waits, with the token of the configuration. `within`: for all of it.
    pub(super) fn look_up(
        &self,
        path_and_query: &str,
        headers: &[(String, String)],
        within: Duration,
    ) -> Result<Fetched, String> {
        let mut fetch = Fetch {
            timeout_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            most_bytes: MOST_LOOKED_UP,
            ..self.fetch(path_and_query)
        };
        fetch.headers.extend(headers.iter().cloned());
        self.show_token(&mut fetch)?;
        self.host.fetch(&fetch).map_err(|error| error.to_string())
    }

    /// What is wrong with the settings that only files can show.
    pub(super) fn unready(&self) -> Vec<Mistake> {
        let mut told = Vec::new();
        let mut tell = |key: &str, text: String| {
            told.push(Mistake {
                file: format!("config.{key}"),
                line: 0,
                text,
            });
        };
        if let Some(ca) = &self.ca {
            match std::fs::read_to_string(ca) {
                Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {}
                Ok(_) => tell("ca", format!("{ca} holds no certificate in PEM form")),
                Err(error) => tell("ca", format!("{ca}: {error}")),
            }
        }
        if let Err(text) = self.token() {
            tell("token", text);
        }
        let doubled = format!("{0}{0}", self.path);
        if !self.path.is_empty() && self.base.ends_with(&doubled) {
            tell("url", format!("{} is appended to it, and is in it already", self.path));
        }
        told
    }

    /// A token that ends soon, before the site refuses it.
    pub(super) fn token_ends(&self) -> Option<Mistake> {
        let ends = self.token_end()?;
        let now = self.host.now_unix().as_secs();
        (ends > now && ends - now < SOON).then(|| Mistake {
            file: "config.token".into(),
            line: 0,
            text: format!(
                "the token ends at {}: write a newer one in its place",
                time::rfc3339(ends)
            ),
        })
    }

    /// When the token ends, in seconds since 1970, as far as it says that.
    pub(super) fn token_end(&self) -> Option<u64> {
        expiry(&self.token().ok()??)
    }

    fn fetch(&self, path_and_query: &str) -> Fetch {
        Fetch {
            ca: self.ca.clone(),
            ..Fetch::get(format!("{}{path_and_query}", self.base))
        }
    }

    fn show_token(&self, fetch: &mut Fetch) -> Result<(), String> {
        if let Some(token) = self.token()? {
            fetch.headers.push(("authorization".into(), format!("Bearer {token}")));
        }
        Ok(())
    }

    fn token(&self) -> Result<Option<String>, String> {
        let token = match &self.token {
            None => return Ok(None),
            Some(Token::Env(name)) => {
                std::env::var(name).map_err(|_| format!("config.token: the variable {name} is not set"))?
            }
            Some(Token::File(file)) => {
                let file = self.folder.join(file);
                std::fs::read_to_string(&file).map_err(|error| format!("config.token: {}: {error}", file.display()))?
            }
        };
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("config.token: there is no token in it".into());
        }
        Ok(Some(token.into()))
    }
}

/// What a site said of a collection.
pub(super) struct New {
    /// `None`: as it was.
    pub(super) body: Option<String>,
    pub(super) validator: Option<String>,
}

/// Why it said nothing of use.
pub(super) enum Unanswered {
    /// There is no answer.
    Silent(String),
    Wrong(Kind, String),
    /// The instance is to end.
    Stopping,
}

/// Why an answer with this status is none.
fn refusal(status: u16, fetched: &Fetched) -> String {
    match status {
        300..=399 => match fetched.header("location") {
            Some(to) => format!(
                "status {status} leads to {}: set config.url to where the service is",
                shown(to)
            ),
            None => format!("status {status}"),
        },
        401 | 403 => {
            let detail = serde_json::from_str::<serde_json::Value>(&fetched.body).unwrap_or_default();
            let detail = detail["detail"]
                .as_str()
                .map_or(String::new(), |detail| format!(" ({})", excerpt(detail)));
            format!("status {status}: the token is refused{detail}; see config.token")
        }
        _ => format!("status {status} {}", excerpt(&fetched.body))
            .trim_end()
            .to_owned(),
    }
}

/// Why there is no answer, with what to do.
fn unreachable(text: &str) -> String {
    if text.contains("certificate") {
        return format!("{text}; config.ca must hold what the site's certificate leads to");
    }
    text.to_owned()
}

/// No service that is mirrored answers with anything but JSON.
pub(super) fn looks_like_json(body: &str) -> Result<(), String> {
    match body.trim_start().chars().next() {
        Some('{' | '[' | 'n') => Ok(()),
        Some(_) => Err(format!("the answer is no JSON: {}", excerpt(body))),
        None => Err("the answer is empty".into()),
    }
}

/// Some words of a text that others sent, such as an error page.
pub fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(MOST_WORDS).collect();
    shown(&words.join(" "))
}

/// When a token ends, in seconds since 1970; `None`: it is no JSON Web Token, or has no end. What it says is not verified: that is the site's.
fn expiry(token: &str) -> Option<u64> {
    let payload = token.split('.').nth(1)?;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims["exp"].as_u64()
}

/// Fields of a request that is passed on.
const CARRIED_THERE: [&str; 3] = ["authorization", "content-type", "if-match"];
/// Fields of its answer.
const CARRIED_BACK: [&str; 7] = [
    "content-type",
    "location",
    "allow",
    "etag",
    "retry-after",
    "warning",
    "bss-referral-token",
];
/// For a write that is passed on.
const WRITE_MS: u64 = 20_000;
/// Bytes of one thing that is looked up.
const MOST_LOOKED_UP: usize = 1024 * 1024;
/// Seconds before its end when a token is told of: those of OpenCHAMI live for an hour, and are renewed in time by who renews them.
const SOON: u64 = 300;
/// Words of an error page that are told.
const MOST_WORDS: usize = 12;

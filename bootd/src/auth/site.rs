//! The keys of the site (a JWKS): read from a file or a URL, and looked at again from time to time.
//!
//! A URL that fails is asked again after waits that grow, up to five minutes, each shortened by chance so that boxes that lost it together
//! do not come back together. A token with a key that nobody knows brings the next look forward, at most once in ten seconds: keys that
//! rotate are known at once, and strange tokens ask a site for little. What cannot be read changes nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::rand;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keys::Auth;
use crate::config::Jwks;
use crate::metrics::Metrics;

/// Bytes that a set of keys may have.
pub(super) const MOST: usize = 1 << 20;
/// How long a request waits for a look that it brought forward.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the keys are looked at.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// A file; a URL after its first failure; and between a look and one that is brought forward, at least.
    soon: Duration,
    /// A URL, and the longest wait after failures.
    late: Duration,
}

/// Looks at the site's keys: when they were, and what they found.
pub(super) struct Site {
    pace: Pace,
    /// Somebody wants a look sooner.
    wanted: Notify,
    looks: watch::Sender<Looks>,
    /// Why the last look found no keys.
    trouble: ArcSwapOption<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Looks {
    last_began: Option<Instant>,
    is_under_way: bool,
    ended: u64,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            pace: Pace {
                soon: Duration::from_secs(10),
                late: Duration::from_secs(300),
            },
            wanted: Notify::new(),
            looks: watch::Sender::default(),
            trouble: ArcSwapOption::empty(),
        }
    }
}

impl Auth {
    /// Looks at the site's keys from time to time, until the end.
    pub async fn keep_fresh(self: Arc<Self>, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        let Some(jwks) = self.config.jwks.clone() else { return };
        let (mut before, mut failures) = (None, 0);
        loop {
            let began = Instant::now();
            self.site.looks.send_modify(|looks| {
                looks.last_began = Some(began);
                looks.is_under_way = true;
            });
            let read = tokio::select! {
                () = shutdown.cancelled() => return,
                read = self.read(&jwks) => read,
            };
            failures = match read.and_then(|text| Ok((set_of(&text)?, text))) {
                Ok((set, text)) => {
                    if before.as_ref() != Some(&text) {
                        let keys = self.trust(Some(&set));
                        tracing::info!(%jwks, keys, "keys for tokens");
                        before = Some(text);
                    }
                    self.site.trouble.store(None);
                    0
                }
                Err(error) => {
                    metrics.refused("auth", "jwks", &jwks, &error);
                    self.site.trouble.store(Some(Arc::new(error)));
                    failures + 1
                }
            };
            self.site.looks.send_modify(|looks| {
                looks.is_under_way = false;
                looks.ended += 1;
            });
            let wait = self.site.pace.after(failures, &jwks, chance());
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.site.is_wanted(began) => metrics.done("auth", "jwks_early"),
            }
        }
    }

    /// Brings the next look forward, when the last one is not just over, and waits a moment for it. `false`: the keys are those from
    /// before.
    pub async fn look_again(&self) -> bool {
        if self.config.jwks.is_none() {
            return false;
        }
        let mut looks = self.site.looks.subscribe();
        let seen = *looks.borrow_and_update();
        if !seen.is_under_way {
            // Before the first one nobody looks yet.
            if seen
                .last_began
                .is_none_or(|began| began.elapsed() < self.site.pace.soon)
            {
                return false;
            }
            self.site.wanted.notify_one();
        }
        let ended = looks.wait_for(|looks| looks.ended > seen.ended);
        matches!(tokio::time::timeout(PATIENCE, ended).await, Ok(Ok(_)))
    }

    /// What is wrong with the site's keys, for `bootd status`.
    pub fn trouble(&self) -> Option<String> {
        let (jwks, trouble) = (self.config.jwks.as_ref()?, self.site.trouble.load_full()?);
        let meanwhile = match self.of_site() {
            0 => "no key of it is known yet, so its tokens are refused",
            _ => "the keys from before stay",
        };
        Some(format!("auth.jwks: {jwks}: {trouble}; {meanwhile}"))
    }

    async fn read(&self, jwks: &Jwks) -> Result<Vec<u8>, String> {
        match jwks {
            Jwks::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
            Jwks::Url(url) => fetch(url, self.config.ca.as_deref()).await,
        }
    }
}

impl Site {
    /// Until somebody wants a look, and the one that began then is long enough ago.
    async fn is_wanted(&self, last_began: Instant) {
        loop {
            self.wanted.notified().await;
            if last_began.elapsed() >= self.pace.soon {
                return;
            }
        }
    }
}

impl Pace {
    /// How long to wait after so many failures in a row. `chance`: from 0 to 1.
    fn after(self, failures: u32, jwks: &Jwks, chance: f64) -> Duration {
        match (jwks, failures) {
            (Jwks::File(_), _) => self.soon,
            (Jwks::Url(_), 0) => self.late,
            (Jwks::Url(_), failures) => {
                let longest = self.soon.saturating_mul(1 << (failures - 1).min(16)).min(self.late);
                longest.mul_f64(0.5 + chance / 2.0)
            }
        }
    }
}

/// A number from 0 to 1 that nobody foresees.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without random numbers there is no jitter, and worse to worry about.
    let _ = rand::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// A set of keys. Keys of a kind that is not known here are left out (RFC 7517 section 5).
pub(super) fn set_of(text: &[u8]) -> Result<JwkSet, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let keys = set.keys.into_iter();
    Ok(JwkSet {
        keys: keys.filter_map(|key| serde_json::from_value::<Jwk>(key).ok()).collect(),
    })
}

/// The text of a file of keys.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() > MOST {
        return Err(format!("more than {MOST} bytes"));
    }
    Ok(text)
}

/// The certificates of a file.
pub(super) fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| failed(&error))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        return Err(failed(&"holds no certificate in PEM form"));
    }
    Ok(certificates)
}

async fn fetch(url: &str, ca: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy();
    if let Some(ca) = ca {
        client = client.tls_certs_only(certificates(ca)?);
    }
    let client = client.build().map_err(|error| innermost(&error))?;
    let mut response = client.get(url).send().await.map_err(|error| innermost(&error))?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + part.len() > MOST {
            return Err(format!("more than {MOST} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// The end of a chain of errors: what stands before it says that a request failed, and repeats its URL.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    match text.contains("certificate") {
        true => format!("{text} (auth.ca names the certificates that are trusted)"),
        false => text,
    }
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;

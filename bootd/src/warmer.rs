//! Fetches what boot scripts name before nodes ask for it, and knows whether this rack can boot without its origins.
//!
//! Whenever scripts may have changed (a boot parameter was set, a node came) all of them are looked through, when that has settled; files of
//! remote origins that are not kept are fetched, one after the other. Readers have their own way, so nothing waits for this. What could not be
//! fetched is tried again from time to time. Each step is seen in `bootd status` and `bootd cache ls`. The cache hears from here which files belong
//! together, and that it is time to look after those that change (`cache::sets`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

use crate::cache::{Cached, CachedState};
use crate::explain;
use crate::http::{App, InService};
use crate::metrics::Metrics;

/// What is known of the files that boot scripts name.
#[derive(Debug, Default)]
pub struct Readiness(ArcSwapOption<Found>);

/// As of the last look.
#[derive(Debug, Default)]
struct Found {
    named: usize,
    here: usize,
    /// Those that could not be fetched, and why.
    failed: Vec<String>,
    is_over: bool,
}

impl Readiness {
    /// In a line; `None` before the first look, and where nothing is kept.
    pub fn text(&self) -> Option<String> {
        let found = self.0.load();
        let Found {
            named, here, is_over, ..
        } = found.as_deref()?;
        Some(match named - here {
            0 if *named == 0 => "boot files: no boot script names one of this box's buckets".into(),
            0 => format!("boot files: all {named} are here: nodes boot without their origins"),
            left if *is_over => format!("boot files: {left} of {named} are not here: nodes need their origins"),
            left => format!("boot files: {left} of {named} are being fetched"),
        })
    }

    /// Whether all nodes boot without their origins, as far as files are concerned; so where nothing is to be kept for them. Before the first look: not
    /// yet.
    pub fn is_ready(&self) -> bool {
        self.0.load().as_ref().is_some_and(|found| found.here == found.named)
    }

    /// What could not be fetched, and why.
    pub fn failures(&self) -> Vec<String> {
        self.0
            .load()
            .as_ref()
            .map(|found| found.failed.clone())
            .unwrap_or_default()
    }

    /// Nothing is known any more.
    fn forget(&self) {
        if self.0.load().is_some() {
            self.0.store(None);
        }
    }

    fn tell(&self, metrics: &Metrics, found: Found) {
        for (what, count) in [("named", found.named), ("here", found.here)] {
            metrics.set("boot_files", what, i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.0.store(Some(Arc::new(found)));
    }
}

/// Runs until the shutdown token is cancelled. Where nothing is kept, or another configuration is to come for it, it only waits.
pub async fn run(app: InService, shutdown: CancellationToken) {
    // Beside each other: a set changes while the next one is fetched.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_warm(&app) => {}
        () = change_sets(&app) => {}
    }
}

async fn change_sets(in_service: &InService) {
    loop {
        tokio::time::sleep(LOOK).await;
        let app = in_service.load_full();
        if app.artifacts.keeps() && app.config.cache.warm {
            app.artifacts.change_sets().await;
        }
    }
}

async fn keep_warm(in_service: &InService) {
    let (mut last, mut before) = (None, None);
    let mut looked = Instant::now();
    let mut config = Arc::clone(&in_service.load().config);
    loop {
        tokio::time::sleep(LOOK).await;
        let app = &in_service.load_full();
        let readiness = &*app.readiness;
        if !app.artifacts.keeps() || !app.config.cache.warm {
            readiness.forget();
            continue;
        }
        if !Arc::ptr_eq(&config, &app.config) {
            // Scripts may lead elsewhere now.
            (last, config) = (None, Arc::clone(&app.config));
        }
        let as_of = explain::scripts_as_of(app);
        if as_of.is_none() {
            app.artifacts.set_sets(&[]);
        }
        // Who sets one parameter sets more; who never stops is not waited for.
        let is_settled = as_of == before || looked.elapsed() >= SETTLES;
        before = as_of;
        let failed = !readiness.failures().is_empty();
        let is_due = looked.elapsed() >= if failed { AFTER_FAILURE } else { ANYWAY };
        if as_of.is_none() || !is_settled || (as_of == last && !is_due) {
            continue;
        }
        let began = Instant::now();
        let sets = explain::wanted(app).await;
        let named: BTreeSet<&String> = sets.iter().flatten().collect();
        // Many nodes: looking through all their scripts must not be all that this box does.
        tokio::time::sleep(began.elapsed() * RESTS).await;
        app.artifacts.set_sets(&sets);
        warm(app, readiness, &named).await;
        (last, looked) = (as_of, Instant::now());
    }
}

async fn warm(app: &App, readiness: &Readiness, named: &BTreeSet<&String>) {
    let mut failed = Vec::new();
    for (here, path) in named.iter().enumerate() {
        let found = Found {
            named: named.len(),
            here: here - failed.len(),
            failed: failed.clone(),
            is_over: false,
        };
        readiness.tell(&app.metrics, found);
        if let Err(why) = fetch(app, path).await {
            let text = format!("cache: {path}: {why}");
            if !readiness.failures().contains(&text) {
                tracing::warn!(path, %why, "a boot file could not be fetched ahead");
            }
            failed.push(text);
        }
    }
    let found = Found {
        named: named.len(),
        here: named.len() - failed.len(),
        failed,
        is_over: true,
    };
    readiness.tell(&app.metrics, found);
}

/// Waits until a file is here.
async fn fetch(app: &App, path: &str) -> Result<(), String> {
    let mut before = 0;
    loop {
        let Cached { state, have, .. } = app.artifacts.warm(path).await.map_err(|error| error.to_string())?;
        if state != CachedState::Fetching {
            return Ok(());
        }
        if have < before {
            return Err("its fetch broke".into());
        }
        before = have;
        tokio::time::sleep(LOOK).await;
    }
}

/// Between two looks whether scripts may have changed, or whether a file is here.
const LOOK: Duration = Duration::from_secs(1);
/// How long changes that go on are waited for.
const SETTLES: Duration = Duration::from_secs(15);
/// Between two looks at everything, when something could not be fetched.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// The same when all is well: objects change at their origins, and the check of one that is kept finds that out.
const ANYWAY: Duration = Duration::from_secs(300);
/// So many times as long as a look took nothing is done.
const RESTS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_whether_nodes_need_their_origins() {
        let readiness = Readiness::default();
        assert_eq!(readiness.text(), None);
        let metrics = Metrics::default();
        for (named, here, is_over, says) in [
            (0, 0, true, "boot files: no boot script names one of this box's buckets"),
            (3, 1, false, "boot files: 2 of 3 are being fetched"),
            (3, 1, true, "boot files: 2 of 3 are not here: nodes need their origins"),
            (
                3,
                3,
                true,
                "boot files: all 3 are here: nodes boot without their origins",
            ),
        ] {
            let failed = vec!["cache: /b/k: why".to_owned(); named - here];
            let found = Found {
                named,
                here,
                failed: failed.clone(),
                is_over,
            };
            readiness.tell(&metrics, found);
            assert_eq!(readiness.text().as_deref(), Some(says));
            assert_eq!(readiness.failures(), failed);
        }
        assert!(metrics.text().contains("boot_files"));
    }
}

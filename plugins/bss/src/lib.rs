//! The bss plugin: which kernel a node boots, from boot parameter files.
//!
//! Owns the boot parameters. Serves the boot script that each node asks for in its loader, and the read side of BSS's API. A changed file with
//! a mistake changes nothing. A node that may not boot yet is told to ask again, never to give up. Stored parameters are never changed: URLs
//! are led here only in the script. Never writes a file.

mod file;
mod params;
mod script;

use bootd_sdk::file::{Paths, Source};
use bootd_sdk::form;
use bootd_sdk::prelude::*;
use bootd_sdk::xname;

use params::Params;
use script::{Key, Script};

/// The `config` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Boot parameter files, as `ochami bss boot params set` reads them.
    #[serde(default)]
    boot: Paths,
    /// Seconds that a node waits after a boot that failed, before it asks again.
    #[serde(default = "retry_delay")]
    retry_delay_s: u32,
    /// Seconds that a node without parameters waits before it asks again.
    #[serde(default = "poll_delay")]
    poll_delay_s: u32,
    /// Where cloud-init is: appended as `ds=nocloud-net;s=ADVERTISE/` to parameters without `ds=`. Unset: nothing is appended.
    #[serde(default)]
    advertise: Option<String>,
}

fn retry_delay() -> u32 {
    30
}

fn poll_delay() -> u32 {
    10
}

/// An instance.
pub struct Bss {
    host: Host,
    settings: Settings,
    boot_url: String,
    source: Source<Params>,
}

impl Plugin for Bss {
    const NAME: &'static str = "bss";
    const MODES: &'static [&'static str] = &["local"];
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        for prefix in ["/boot/v1", "/apis/bss/boot/v1"] {
            for (path, access) in [
                ("/bootscript", Access::Open),
                ("/service/status", Access::Open),
                ("/bootparameters", Access::Token),
            ] {
                setup.routes.push(Route::new("GET", &format!("{prefix}{path}"), access));
            }
        }
        let (source, mistakes) = Source::open(&start.settings.boot.below(&start.folder), file::read);
        let bss = Self {
            host: start.host,
            settings: start.settings,
            boot_url: start.server.boot_url,
            source,
        };
        let files = bss.settings.boot.0.len();
        bss.source.report(bss.host, mistakes, |data| describe(data, files));
        Ok(bss)
    }

    fn run(&self) -> Result<(), Error> {
        let files = self.settings.boot.0.len();
        self.source.follow(self.host, |data| describe(data, files));
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        let path = request.path.strip_prefix("/apis/bss").unwrap_or(&request.path);
        match path.trim_end_matches('/') {
            "/boot/v1/bootscript" => self.bootscript(&request),
            "/boot/v1/bootparameters" => self.bootparameters(&request),
            "/boot/v1/service/status" => Answer::new(200, "application/json", r#"{"bss-status":"running"}"#),
            _ => Answer::text(404, "404 page not found\n"),
        }
    }
}

impl Bss {
    fn bootscript(&self, request: &Request) -> Answer {
        let Some(query) = form::pairs(&request.query) else {
            return bad_request("the query is not well formed");
        };
        let key = match key(&query) {
            Ok(key) => key,
            Err(detail) => return bad_request(&detail),
        };
        let retry = form::first(&query, "retry").and_then(|text| text.parse().ok());
        let script = Script {
            base: request.base().unwrap_or_else(|| self.boot_url.clone()),
            retry_delay: self.settings.retry_delay_s,
            poll_delay: self.settings.poll_delay_s,
            advertise: self.settings.advertise.as_deref(),
            rewrites: &request.rewrites,
        };
        let data = self.source.data();
        let node = self.node(&key).filter(|node| node.enabled);
        let mac = match key {
            Key::Mac(mac) => Some(mac),
            Key::Name(_) | Key::Nid(_) => None,
        };
        let entry = node.as_ref().and_then(|node| data.choose(mac, node));
        match (node, entry) {
            (Some(node), Some(entry)) => {
                // The name only when no MAC is known: what a loader asks by is its MAC (contract 3.3).
                let again = mac.or_else(|| data.mac_of(&node));
                let again = again.map_or_else(|| Key::Name(node.id.clone()), Key::Mac);
                text(script.boot(entry, &node, mac, &again, retry.unwrap_or(0))).kept()
            }
            // Also when the node told its architecture: it keeps asking, so it boots as soon as somebody knows it.
            _ => text(script.poll(&key, self.host.now_unix().as_secs())),
        }
    }

    fn node(&self, key: &Key) -> Option<Node> {
        let mut query = Query::default();
        match key {
            Key::Mac(mac) => query.mac = Some(*mac),
            Key::Name(name) => query.id = Some(name.clone()),
            Key::Nid(nid) => query.nid = Some(*nid),
        }
        self.host.node(&query)
    }

    fn bootparameters(&self, request: &Request) -> Answer {
        let Some(query) = form::pairs(&request.query) else {
            return bad_request("the query is not well formed");
        };
        match params::Filter::new(&query) {
            Err(detail) => bad_request(&detail),
            Ok(filter) => match self.source.data().list(&filter) {
                Ok(list) => Answer::new(200, "application/json", list.to_string()),
                Err(detail) => Answer::problem(404, "Not Found", &detail),
            },
        }
    }
}

/// Who is asked for: the first of mac, name and nid.
fn key(query: &[(String, String)]) -> Result<Key, String> {
    if let Some(mac) = form::first(query, "mac") {
        return mac.parse().map(Key::Mac).map_err(|error| format!("{error}"));
    }
    if let Some(name) = form::first(query, "name") {
        let name = xname::normalise(name);
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.len() > 253 || !name.chars().all(is_name) {
            return Err("name= must be an xname, such as x1000c0s0b0n0".into());
        }
        return Ok(Key::Name(name));
    }
    if let Some(nid) = form::first(query, "nid") {
        return nid.parse().map(Key::Nid).map_err(|_| "nid= must be a number".into());
    }
    Err("Need a mac=, name=, or nid= parameter".into())
}

fn text(body: String) -> Answer {
    Answer::new(200, "text/plain; charset=UTF-8", body)
}

fn bad_request(detail: &str) -> Answer {
    Answer::problem(400, "Bad Request", detail)
}

fn describe(data: &Params, files: usize) -> String {
    let (entries, targets) = (data.len(), data.targets());
    format!("{entries} boot parameters for {targets} targets from {files} files")
}

export_plugin!(Bss);

#[cfg(test)]
mod tests;

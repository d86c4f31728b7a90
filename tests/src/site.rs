//! A site behind the rack: a bootd in local mode on a machine of its own, in the place of the site's SMD, BSS, cloud-init and artifacts.
//!
//! Everything that it is told names its own address, as at a real site. Its data come through its API, none from files. The site and the rack
//! trust the same identity provider, so that an operator's token is good at both.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::ochami::Ochami;
use crate::signer::{ISSUER, Signer};
use crate::{Bootd, Journal, Machine, Rack};

/// The address of the site's machine on the bridge.
pub const SITE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 253);

/// A site; its bootd is the caller's, who starts and kills it.
pub struct Site {
    /// Its folder, in the rack's: configuration, state, log.
    pub dir: PathBuf,
    /// Its machine.
    pub machine: Machine,
    /// What its bootd says. What the rack's says is in the rack's own.
    pub journal: Journal,
    token: String,
}

impl Site {
    /// A site for a rack: a machine on the rack's bridge with a `bootd.toml`; nothing runs yet. Its bootd serves the rack's images too.
    pub fn new(rack: &Rack) -> Result<Self> {
        let images = format!(
            "[[http.listener]]\naddress = \"0.0.0.0:9000\"\nserve = [\"artifacts\"]\n\
             [[origin]]\nbucket = \"boot-images\"\ndir = \"{}\"\n",
            rack.images.bucket().display()
        );
        Self::with(rack, &images)
    }

    /// The same without artifacts: those are the caller's, who runs an S3 server on the site's machine, at port 9000.
    pub fn with_s3(rack: &Rack) -> Result<Self> {
        Self::with(rack, "")
    }

    fn with(rack: &Rack, images: &str) -> Result<Self> {
        let machine = Machine::plug(&rack.network, "site")?;
        machine.ip(&format!("addr add {SITE}/24 brd + dev site0"))?;
        let signer = Signer::new()?;
        let site = Self {
            dir: rack.path("site"),
            machine,
            journal: Journal::new(),
            token: signer.site_token()?,
        };
        fs::create_dir(&site.dir).with_context(|| format!("make {}", site.dir.display()))?;
        fs::write(rack.path("site.jwks"), signer.jwks()?)?;
        fs::write(rack.path("site.token"), &site.token)?;
        fs::write(site.dir.join("bootd.toml"), site.config(rack) + images)?;
        Ok(site)
    }

    /// Starts its bootd and waits until it is ready.
    pub fn start_bootd(&self) -> Result<Bootd> {
        Bootd::start_on(&self.machine, &self.dir, &self.journal)
    }

    /// An operator with a token that is good at the site and at the rack, who speaks to the site.
    pub fn ochami(&self) -> Ochami {
        self.operator().at(SITE)
    }

    /// The same operator, who speaks to the rack.
    pub fn operator(&self) -> Ochami {
        Ochami::with_token(&self.token)
    }

    /// Tells the site what the tutorial tells: five nodes, their boot parameters, cloud-init's defaults and group.
    pub fn fill(&self) -> Result<()> {
        self.ochami().tell_the_tutorial()
    }

    /// The text of a `bootd.toml` for the rack whose three plugins mirror this site, each second, and whose artifacts come from there.
    pub fn rack_config(&self, rack: &Rack) -> String {
        self.rack_config_with(rack, &format!("http://{SITE}:8081"), "")
    }

    /// The same with another URL of the site, and more lines of `config.` for each plugin.
    pub fn rack_config_with(&self, rack: &Rack, url: &str, more: &str) -> String {
        let config = rack.config().replace("auth = \"none\"\n", "");
        let own = config.split("[[origin]]").next().unwrap_or_default();
        let mut config = format!(
            "{own}{}[[origin]]\nbucket = \"boot-images\"\nendpoint = \"http://{SITE}:9000\"\nfrom = [\"s3://\"]\n",
            auth(rack)
        );
        for plugin in ["smd", "bss", "cloud-init"] {
            config.push_str(&format!(
                "[[plugin]]\nname = \"{plugin}\"\nmode = \"upstream\"\nconfig.url = \"{url}\"\nconfig.refresh_s = 1\n\
                 config.token = {{ file = \"{}\" }}\n{more}",
                rack.path("site.token").display()
            ));
        }
        config
    }

    fn config(&self, rack: &Rack) -> String {
        let dir = self.dir.display();
        format!(
            r#"[server]
interfaces = []
address = "{SITE}"
state_dir = "{dir}/state"
cache_dir = "{dir}/cache"
[[http.listener]]
address = "0.0.0.0:8081"
serve = ["boot", "loaders"]
[admin]
socket = "{dir}/admin.sock"
{}[[plugin]]
name = "smd"
[[plugin]]
name = "bss"
[[plugin]]
name = "cloud-init"
"#,
            auth(rack)
        )
    }
}

/// Whom both trust.
fn auth(rack: &Rack) -> String {
    let jwks = rack.path("site.jwks");
    format!(
        "[auth]\njwks = \"{}\"\nissuers = [\"{ISSUER}\"]\naudiences = [\"site\"]\n",
        jwks.display()
    )
}

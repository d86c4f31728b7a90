//! All that a node would get, step by step, without a packet: the same functions that answer packets and requests are asked here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use bootd_sdk::lead;
use bootd_sdk::mac::Mac;
use bootd_sdk::wire::{Answer, Node, Request};
use serde::{Deserialize, Serialize};

use crate::config::{Arch, Config, Dhcp6, Selector};
use crate::dhcp::{self, Stage};
use crate::http::{App, url_host};
use crate::inventory::Snapshot;
use crate::net::Interface;
use crate::plugins::{Asked, Freshness, Plugins, Ready, Routed};
use crate::script;

/// Who is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The boot interface.
    pub mac: Mac,
    /// The firmware.
    pub arch: Option<Arch>,
}

/// What `bootd explain` shows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The boot interface.
    pub mac: Mac,
    /// The firmware that was assumed.
    pub arch: Option<String>,
    /// The node, when the inventory has it.
    pub node: Option<Node>,
    /// What DHCP answers to the firmware, to iPXE, and to the operating system.
    pub dhcp: Vec<DhcpStep>,
    /// What DHCPv6 advertises to the same; empty where it is not served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp6: Vec<DhcpStep>,
    /// The loader.
    pub loader: Option<File>,
    /// The boot script.
    pub script: Option<Script>,
    /// The files that the script names and this box serves.
    pub files: Vec<File>,
    /// The documents that cloud-init fetches.
    pub documents: Vec<Document>,
    /// What would be better otherwise.
    #[serde(default)]
    pub advice: Vec<String>,
}

/// One DHCP answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct DhcpStep {
    /// `firmware`, `ipxe` or `os`.
    pub stage: String,
    /// The answer's fields.
    pub answer: serde_json::Value,
}

/// The boot script.
#[derive(Debug, Serialize, Deserialize)]
pub struct Script {
    /// Where the node fetches it.
    pub url: String,
    /// With the URLs as they are stored.
    pub stored: String,
    /// With the URLs as the node gets them.
    pub rewritten: String,
}

/// A file that the node fetches.
#[derive(Debug, Serialize, Deserialize)]
pub struct File {
    /// Its name or URL.
    pub name: String,
    /// Its size.
    pub bytes: Option<u64>,
    /// Why it cannot be had.
    pub problem: Option<String>,
}

/// A document of cloud-init.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    /// Its path.
    pub path: String,
    /// The answer's status.
    pub status: u16,
    /// Its text.
    pub body: String,
}

impl Question {
    /// From `mac=…&arch=…`.
    pub fn parse(query: &str) -> Result<Self, String> {
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
        let find = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_ref())
        };
        let mac = find("mac")
            .ok_or("mac is missing")?
            .parse::<Mac>()
            .map_err(|error| error.to_string())?;
        let arch = match find("arch") {
            None | Some("") => None,
            Some(name) => Some(Arch::from_name(name).ok_or_else(|| {
                format!(
                    "no architecture '{name}'; there are {}",
                    Arch::ALL.map(Arch::name).join(", ")
                )
            })?),
        };
        Ok(Self { mac, arch })
    }
}

/// Goes through a boot.
pub async fn explain(app: &App, question: &Question) -> Explanation {
    let snapshot = app.inventory.snapshot();
    let node = snapshot.by_mac(question.mac).map(|(node, _)| (**node).clone());
    let arch = question.arch.unwrap_or(Arch::X86_64Efi);
    let loaders = app.files.load();
    let served = app.config.with_loaders(|arch| loaders.get(arch.file_name()).is_ok());
    // While they cannot be listed the answers name no server.
    let interfaces = Interface::all().unwrap_or_default();
    let meant = |selectors: &[Selector], i: &Interface| selectors.iter().any(|s| s.means(&i.name, i.ips()));
    let own: Vec<Ipv4Addr> = interfaces
        .iter()
        .filter(|i| meant(&served.interfaces, i))
        .flat_map(|interface| interface.addresses.clone())
        .collect();
    let own6 = |dhcp6: &Dhcp6| {
        let served = interfaces.iter().filter(|i| meant(&dhcp6.interfaces, i));
        dhcp::Receiving6::of(served.flat_map(|interface| interface.networks6.iter().map(|(ip, _)| *ip)))
    };
    let (mut dhcp, mut dhcp6) = (Vec::new(), Vec::new());
    let mut address = None;
    let mut loader = None;
    let mut script_url = None;
    let mut script_url6 = None;
    for (stage, name) in [(Stage::Firmware, "firmware"), (Stage::Ipxe, "ipxe"), (Stage::Os, "os")] {
        let answer = dhcp::explain(&served, &snapshot, &own, question.mac, Some(arch), stage);
        address = address.or(answer.address);
        match stage {
            Stage::Firmware => loader = answer.boot_file.clone(),
            Stage::Ipxe => script_url = answer.boot_file.clone(),
            Stage::Os => {}
        }
        let answer = serde_json::to_value(&answer).unwrap_or_default();
        dhcp.push(DhcpStep {
            stage: name.into(),
            answer,
        });
        if let Some(six) = &served.dhcp6 {
            let answer = dhcp::explain6(&served, six, &snapshot, &own6(six), question.mac, Some(arch), stage);
            match stage {
                Stage::Firmware => loader = loader.or(answer.boot_file.as_deref().and_then(loader_of)),
                Stage::Ipxe => script_url6 = answer.boot_file.clone(),
                Stage::Os => {}
            }
            dhcp6.push(DhcpStep {
                stage: name.into(),
                answer: serde_json::to_value(&answer).unwrap_or_default(),
            });
        }
    }
    let loader = match loader {
        Some(name) => {
            let found = loaders.get(&name);
            let bytes = found.as_ref().ok().map(|bytes| bytes.len() as u64);
            let problem = found.err().map(|refused| refused.to_string());
            Some(File { name, bytes, problem })
        }
        None => app.config.tftp.loaders.get(&arch).map(|loader| File {
            name: loader.file.display().to_string(),
            bytes: None,
            problem: Some("it is not there, so such clients get no loader".into()),
        }),
    };
    let reached = match script_url6.as_deref().filter(|_| script_url.is_none()) {
        Some(url) => Reached::named_by(url).unwrap_or_else(|| Reached::usual(&app.config)),
        None => Reached::usual(&app.config),
    };
    let asker = Asker {
        plugins: &app.plugins,
        config: &app.config,
        snapshot: &snapshot,
        node: node.as_ref(),
        address,
        reached: &reached,
    };
    let script = asker.script(question.mac, script_url.or(script_url6)).await;
    let files = match &script {
        Some(script) => files_of(app, &script.rewritten, &reached).await,
        None => Vec::new(),
    };
    let documents = asker.documents().await;
    let mut advice: Vec<String> = script
        .iter()
        .flat_map(|script| seed_advice(&script.rewritten))
        .collect();
    let script_urls = script.iter().flat_map(|script| script_urls(&script.rewritten));
    let named: Vec<Named> = script_urls.chain(documents.iter().flat_map(included)).collect();
    advice.extend(past_this_box(&Here::of(&app.config), &named).await);
    Explanation {
        mac: question.mac,
        arch: Some(arch.name().into()),
        node,
        dhcp,
        dhcp6,
        loader,
        script,
        files,
        documents,
        advice,
    }
}

/// The loader of this box that a URL of DHCPv6 names.
fn loader_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let path = url.path().trim_start_matches('/');
    Some(path.strip_prefix("loaders/").unwrap_or(path).to_owned())
}

/// What is to be said of a script's `ds=nocloud...;s=URL`, the URL below which cloud-init finds its documents.
fn seed_advice(script: &str) -> Vec<String> {
    let mut advice = Vec::new();
    for word in script.split_whitespace() {
        let word = word.trim_matches(['"', '\'']);
        let Some(seed) = word.strip_prefix("ds=nocloud") else {
            continue;
        };
        let url = seed.split(';').find_map(|part| {
            let url = part.strip_prefix("s=").or_else(|| part.strip_prefix("seedfrom="))?;
            url.contains("://").then_some(url)
        });
        if let Some(url) = url.filter(|url| url.ends_with("/cloud-init")) {
            let text = format!(
                "the kernel argument {word}: clients before cloud-init 23.1 join its URL and a document's name without a slash \
                 ({url}meta-data); bootd answers these paths, too, but better say s={url}/"
            );
            if !advice.contains(&text) {
                advice.push(text);
            }
        }
    }
    advice
}

/// A URL that a node is given.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    /// What names it, for people.
    by: String,
    url: String,
    /// How to name this box instead.
    correction: &'static str,
}

/// The URLs of a boot script.
fn script_urls(script: &str) -> Vec<Named> {
    let mut named = Vec::new();
    for (word, url) in http_urls(script) {
        let is_seed = word.trim_start_matches(['"', '\'']).starts_with("ds=nocloud");
        named.push(Named {
            by: if is_seed {
                "the kernel argument ds="
            } else {
                "the boot script"
            }
            .into(),
            url,
            correction: match is_seed {
                true => "set ds= in the boot parameters to this box",
                false => "correct the boot parameters, or see origin.from",
            },
        });
    }
    named
}

/// The URLs that cloud-init includes.
fn included(document: &Document) -> Vec<Named> {
    let is_include = document.status == 200 && document.body.starts_with("#include");
    let urls = match is_include {
        true => http_urls(&document.body),
        false => Vec::new(),
    };
    let named = urls.into_iter().map(|(_, url)| Named {
        by: format!("#include in {}", document.path),
        url,
        correction: match document.path.ends_with("/vendor-data") {
            true => "set base-url in the cluster's defaults to this box",
            false => "correct the group's document",
        },
    });
    named.collect()
}

/// Each URL of a text with what is before it in its word.
fn http_urls(text: &str) -> Vec<(String, String)> {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';');
    let mut urls = Vec::new();
    lead::led(text, |word, rest| {
        if lead::origin(rest).is_some() {
            let url = rest.split(ends).next().unwrap_or_default();
            urls.push((word.to_owned(), url.to_owned()));
        }
        None
    });
    urls
}

/// What is to be said of URLs that are none of this box's. Each host is told once for each that names it.
async fn past_this_box(here: &Here, named: &[Named]) -> Vec<String> {
    let mut advice: Vec<String> = Vec::new();
    let mut told = BTreeSet::new();
    for named in named {
        let origin = lead::origin(&named.url).unwrap_or_default();
        if !told.insert((&named.by, &named.url[..origin])) {
            continue;
        }
        let place = match here.leads(&named.url).await {
            Place::Here | Place::Unknown => continue,
            Place::OtherPort => "leads to a port of this box on which bootd does not listen",
            Place::Elsewhere => "leads to another box",
        };
        let Named { by, url, correction } = named;
        advice.push(format!("{by}: {place}: {url}: {correction}"));
    }
    advice
}

/// Where this box listens.
struct Here {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// To a listener.
    Here,
    /// To this box, past all listeners.
    OtherPort,
    Elsewhere,
    /// Only the node knows.
    Unknown,
}

impl Here {
    fn of(config: &Config) -> Self {
        let listeners = config.http.listeners.iter();
        let towards_nodes = config.dhcp.subnets.iter().filter_map(|subnet| subnet.server);
        let addresses = towards_nodes.chain(config.address).map(IpAddr::V4);
        Self {
            addresses: addresses.chain(listeners.clone().map(|l| l.address.ip())).collect(),
            ports: listeners.map(|listener| listener.address.port()).collect(),
        }
    }

    async fn leads(&self, url: &str) -> Place {
        let Ok(url) = url::Url::parse(url) else {
            return Place::Unknown;
        };
        let is_here = match url.host() {
            Some(url::Host::Ipv4(ip)) => self.has(ip.into()),
            Some(url::Host::Ipv6(ip)) => self.has(ip.into()),
            // A variable of iPXE's.
            Some(url::Host::Domain(name)) if name.contains('$') => return Place::Unknown,
            Some(url::Host::Domain(name)) => {
                let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((name, 0))).await;
                let Ok(Ok(mut found)) = found else {
                    return Place::Unknown;
                };
                found.any(|address| self.has(address.ip()))
            }
            None => return Place::Unknown,
        };
        let is_ours = url
            .port_or_known_default()
            .is_some_and(|port| self.ports.contains(&port));
        match (is_here, is_ours) {
            (true, true) => Place::Here,
            (true, false) => Place::OtherPort,
            (false, _) => Place::Elsewhere,
        }
    }

    /// Only an address of this box can be bound to.
    fn has(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) || UdpSocket::bind((ip, 0)).is_ok()
    }
}

/// How long a name is looked up.
const LOOK_UP: std::time::Duration = std::time::Duration::from_secs(1);

/// Sizes of what a script names and this box serves.
async fn files_of(app: &App, script: &str, reached: &Reached) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    for url in script::own_urls(script, &app.config.rewrites(&url_host(reached.ip))) {
        let size = app.artifacts.size(script::path_of(url).unwrap_or("/")).await;
        let (bytes, problem) = match size {
            Ok(bytes) => (Some(bytes), None),
            Err(error) => (None, Some(error.to_string())),
        };
        files.push(File {
            name: url.into(),
            bytes,
            problem,
        });
    }
    files
}

/// What is not right with the files that boot scripts name.
#[derive(Debug, Default)]
pub struct BootFiles {
    /// Files of this box's buckets that cannot be had, with what to do.
    pub missing: Vec<String>,
    /// Kernels, initramfs and root images that lead past this box.
    pub elsewhere: Vec<String>,
}

/// Looks at the boot scripts of all nodes.
pub async fn boot_files(app: &App) -> BootFiles {
    let reached = Reached::usual(&app.config);
    let NamedFiles { here, elsewhere, .. } = named_files(app, &reached).await;
    // Nodes share files: each is asked for once.
    let names = here.into_iter().collect::<Vec<_>>().join(" ");
    let missing = files_of(app, &names, &reached).await.into_iter().filter_map(|file| {
        let (name, problem) = (file.name, file.problem?);
        let advice = "a boot script names it; put it there or correct the boot parameters";
        Some(format!("{name}: {problem}: {advice}"))
    });
    let elsewhere = elsewhere.into_iter().map(|url| {
        format!("{url}: a boot script names it, and no origin has it: nodes fetch it past this box; see origin.from")
    });
    BootFiles {
        missing: missing.collect(),
        elsewhere: elsewhere.collect(),
    }
}

/// The boot script of each interface of each node as it would be by this configuration, from the plugins that serve; nothing of it is kept.
pub(crate) async fn scripts(app: &App, config: &Config) -> Vec<(String, Mac, String)> {
    let (snapshot, reached) = (app.inventory.snapshot(), Reached::usual(config));
    let (mut scripts, mut asked) = (Vec::new(), 0_u32);
    for entry in snapshot.entries().iter().filter(|entry| entry.node.kind == "Node") {
        for interface in &entry.node.interfaces {
            asked += 1;
            if asked.is_multiple_of(AT_ONCE) {
                tokio::time::sleep(REST).await;
            }
            let asker = Asker {
                plugins: &app.plugins,
                config,
                snapshot: &snapshot,
                node: Some(&*entry.node),
                address: None,
                reached: &reached,
            };
            let script = asker.asked_anew(SCRIPT, &format!("mac={}", interface.mac)).await;
            let script = script.as_ref().map(text).unwrap_or_default();
            scripts.push((entry.node.id.clone(), interface.mac, script));
        }
    }
    scripts
}

/// What boot scripts are made of now; `None` when nobody makes any.
pub fn scripts_as_of(app: &App) -> Option<Freshness> {
    match app.plugins.route("GET", SCRIPT) {
        Routed::To(plugin, _) => Some(app.plugins.as_of(plugin, &app.inventory.snapshot())),
        _ => None,
    }
}

/// The files of this box's buckets that boot scripts name, each script's as a set of paths of the artifacts listener.
pub async fn wanted(app: &App) -> BTreeSet<Vec<String>> {
    named_files(app, &Reached::usual(&app.config)).await.sets
}

/// What boot scripts name.
#[derive(Default)]
struct NamedFiles {
    /// URLs that lead to this box's buckets.
    here: BTreeSet<String>,
    /// Those that do not.
    elsewhere: BTreeSet<String>,
    /// The paths of each script's own, as many sets as there are different ones.
    sets: BTreeSet<Vec<String>>,
}

async fn named_files(app: &App, reached: &Reached) -> NamedFiles {
    let snapshot = app.inventory.snapshot();
    let rewrites = app.config.rewrites(&url_host(reached.ip));
    let mut named = NamedFiles::default();
    let mut asked = 0_u32;
    for entry in snapshot.entries().iter().filter(|entry| entry.node.kind == "Node") {
        for interface in &entry.node.interfaces {
            asked += 1;
            if asked.is_multiple_of(AT_ONCE) {
                tokio::time::sleep(REST).await;
            }
            let asker = Asker {
                plugins: &app.plugins,
                config: &app.config,
                snapshot: &snapshot,
                node: Some(&*entry.node),
                address: None,
                reached,
            };
            if let Some(script) = asker.script(interface.mac, None).await {
                let urls = script::own_urls(&script.rewritten, &rewrites);
                let foreign = script::file_urls(&script.rewritten).filter(|url| !urls.contains(url));
                named.elsewhere.extend(foreign.map(str::to_owned));
                named.here.extend(urls.into_iter().map(str::to_owned));
                let set = script::own_paths(&script.rewritten, &rewrites);
                if !set.is_empty() {
                    named.sets.insert(set.into_iter().map(str::to_owned).collect());
                }
            }
        }
    }
    named
}

/// The route of boot scripts.
pub(crate) const SCRIPT: &str = "/boot/v1/bootscript";
/// Scripts that are asked for without a rest: nodes that boot meanwhile want theirs.
const AT_ONCE: u32 = 64;
/// The rest.
const REST: std::time::Duration = std::time::Duration::from_millis(20);

/// Asks plugins on behalf of a node.
struct Asker<'a> {
    plugins: &'a Plugins,
    config: &'a Config,
    /// Where the node is from.
    snapshot: &'a Snapshot,
    /// The node, when it is known.
    node: Option<&'a Node>,
    /// Its address.
    address: Option<Ipv4Addr>,
    /// Where it reaches this box.
    reached: &'a Reached,
}

/// Where a node reaches this box.
struct Reached {
    /// Without a slash at the end.
    boot_url: String,
    ip: IpAddr,
}

impl Reached {
    /// As the configuration has it.
    fn usual(config: &Config) -> Self {
        Self {
            boot_url: config.boot_url(),
            ip: config.own_address().into(),
        }
    }

    /// As the URL of its boot script has it. `None`: that names no address.
    fn named_by(script_url: &str) -> Option<Self> {
        let url = url::Url::parse(script_url).ok()?;
        let ip = match url.host()? {
            url::Host::Ipv4(ip) => ip.into(),
            url::Host::Ipv6(ip) => ip.into(),
            url::Host::Domain(_) => return None,
        };
        let boot_url = url.origin().ascii_serialization();
        Some(Self { boot_url, ip })
    }
}

impl Asker<'_> {
    /// The boot script, stored and rewritten.
    async fn script(&self, mac: Mac, url: Option<String>) -> Option<Script> {
        let url = url.unwrap_or_else(|| format!("{}/boot/v1/bootscript?mac={mac}", self.reached.boot_url));
        let (path, query) = (SCRIPT, format!("mac={mac}"));
        let stored = self.ask(path, &query, LedTo::WhereTheyAre).await?;
        let rewritten = self.ask(path, &query, LedTo::ThisBox).await?;
        Some(Script {
            url,
            stored: text(&stored),
            rewritten: text(&rewritten),
        })
    }

    async fn documents(&self) -> Vec<Document> {
        let mut documents = Vec::new();
        let mut paths: Vec<String> = ["meta-data", "user-data", "vendor-data"]
            .map(|name| format!("/cloud-init/{name}"))
            .into();
        paths.extend(
            self.node
                .iter()
                .flat_map(|node| node.groups.iter().map(|group| format!("/cloud-init/{group}.yaml"))),
        );
        for path in paths {
            if let Some(answer) = self.ask(&path, "", LedTo::ThisBox).await {
                documents.push(Document {
                    path,
                    status: answer.status.as_u16(),
                    body: text(&answer),
                });
            }
        }
        documents
    }

    /// One GET on a plugin's route, as the node would send it. `None`: no plugin in service has the route.
    async fn ask(&self, path: &str, query: &str, led_to: LedTo) -> Option<Ready> {
        self.asked(path, query, led_to, Keeps::AsUsual).await
    }

    /// The same from the plugin itself, of an answer that is not kept either.
    async fn asked_anew(&self, path: &str, query: &str) -> Option<Ready> {
        self.asked(path, query, LedTo::ThisBox, Keeps::Nothing).await
    }

    async fn asked(&self, path: &str, query: &str, led_to: LedTo, keeps: Keeps) -> Option<Ready> {
        let Routed::To(plugin, route) = self.plugins.route("GET", path) else {
            return None;
        };
        let Reached { boot_url, ip } = self.reached;
        let (scheme, host) = boot_url.split_once("://").unwrap_or(("http", boot_url));
        let asked = Asked {
            plugin,
            node: self.node.map(|node| node.id.as_str()),
            peer: self.address.map(IpAddr::V4),
            scheme,
            host,
            led_to: (led_to == LedTo::ThisBox).then_some(*ip),
            path,
            query,
            as_of: self.plugins.as_of(plugin, self.snapshot),
        };
        let kept_as = (keeps == Keeps::AsUsual).then_some(&asked);
        if let Some(kept) = kept_as.and_then(|asked| self.plugins.kept(asked)) {
            return Some(kept);
        }
        let request = Request {
            method: "GET".into(),
            path: path.into(),
            query: query.into(),
            listener: "explain".into(),
            scheme: scheme.into(),
            host: host.into(),
            peer: asked.peer,
            node: self.node.cloned(),
            rewrites: match led_to {
                LedTo::ThisBox => self.config.rewrites(&url_host(*ip)),
                LedTo::WhereTheyAre => Vec::new(),
            },
            leads_here: led_to == LedTo::ThisBox,
            ..Request::default()
        };
        match self.plugins.answer(plugin, kept_as, request, &route).await {
            Ok(answer) => Some(answer),
            Err(error) => Some(Answer::text(503, error.to_string()).into()),
        }
    }
}

/// Where URLs of boot parameters lead in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LedTo {
    ThisBox,
    WhereTheyAre,
}

/// Whether answers come from memory, and go there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    AsUsual,
    Nothing,
}

fn text(answer: &Ready) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Document, Here, Place, included, past_this_box, script_urls, seed_advice};

    fn here() -> Here {
        Here {
            addresses: BTreeSet::from(["10.1.0.1".parse().unwrap()]),
            ports: BTreeSet::from([8081, 9000]),
        }
    }

    #[tokio::test]
    async fn urls_that_lead_nodes_to_another_box_are_told_once_a_host() {
        let script = "#!ipxe\nkernel http://10.1.0.1:9000/b/k root=live:http://10.9.0.1:9000/b/r \
                      ds=nocloud-net;s=http://10.9.0.1:8081/cloud-init/;h=x || goto retry\ninitrd http://10.9.0.1:9000/b/i\n\
                      chain http://10.1.0.1:8081/boot/v1/bootscript?mac=x\nchain http://${next-server}:8081/x\n";
        let document = |path: &str, status, body: &str| Document {
            path: path.into(),
            status,
            body: body.into(),
        };
        let documents = [
            document(
                "/cloud-init/vendor-data",
                200,
                "#include\nhttp://10.9.0.1:8081/cloud-init/a.yaml\nhttp://10.9.0.1:8081/cloud-init/b.yaml\n",
            ),
            document("/cloud-init/a.yaml", 200, "#include\nhttp://10.1.0.1/x\n"),
            document("/cloud-init/b.yaml", 200, "#cloud-config\nurl: http://10.9.0.9/\n"),
            document("/cloud-init/c.yaml", 500, "#include\nhttp://10.9.0.9/\n"),
        ];
        let mut named = script_urls(script);
        named.extend(documents.iter().flat_map(included));
        assert_eq!(
            past_this_box(&here(), &named).await,
            [
                "the boot script: leads to another box: http://10.9.0.1:9000/b/r: correct the boot parameters, or see origin.from",
                "the kernel argument ds=: leads to another box: http://10.9.0.1:8081/cloud-init/: set ds= in the boot parameters to this box",
                "#include in /cloud-init/vendor-data: leads to another box: http://10.9.0.1:8081/cloud-init/a.yaml: set base-url in the \
                 cluster's defaults to this box",
                "#include in /cloud-init/a.yaml: leads to a port of this box on which bootd does not listen: http://10.1.0.1/x: correct the \
                 group's document",
            ]
        );
    }

    #[tokio::test]
    async fn where_a_url_leads_is_known_of_addresses_and_of_names_that_can_be_looked_up() {
        for (url, place) in [
            ("http://10.1.0.1:8081/", Place::Here),
            ("HTTP://10.1.0.1:9000", Place::Here),
            ("http://127.0.0.1:8081/", Place::Here),
            ("http://localhost:8081/", Place::Here),
            ("https://10.1.0.1/", Place::OtherPort),
            ("http://192.0.2.1:8081/", Place::Elsewhere),
            ("http://[2001:db8::1]:8081/", Place::Elsewhere),
            ("http://nowhere.invalid:8081/", Place::Unknown),
            ("http://${next-server}:8081/", Place::Unknown),
            ("http://:1/", Place::Unknown),
        ] {
            assert_eq!(here().leads(url).await, place, "{url}");
        }
    }

    #[test]
    fn a_seed_without_a_slash_at_its_end_is_advised_one() {
        let of = |ds: &str| {
            seed_advice(&format!(
                "#!ipxe\nkernel http://a/k ro {ds} console=ttyS0 || goto retry\n"
            ))
        };
        for (ds, url) in [
            (
                "ds=nocloud;s=http://172.16.0.254:8081/cloud-init",
                "s=http://172.16.0.254:8081/cloud-init/",
            ),
            (
                "ds=nocloud-net;h=x;s=https://rack1/cloud-init",
                "s=https://rack1/cloud-init/",
            ),
            (
                "\"ds=nocloud;seedfrom=http://rack1/cloud-init\"",
                "s=http://rack1/cloud-init/",
            ),
        ] {
            let [advice] = of(ds).try_into().unwrap();
            assert!(advice.ends_with(url) && advice.contains("23.1"), "{advice}");
        }
        for ds in [
            "",
            "ds=nocloud",
            "ds=nocloud;s=http://172.16.0.254:8081/cloud-init/",
            "ds=nocloud;s=/cloud-init",
            "ds=openstack;s=http://rack1/cloud-init",
        ] {
            assert_eq!(of(ds), [""; 0], "{ds}");
        }
    }
}

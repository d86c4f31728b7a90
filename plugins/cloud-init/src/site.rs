//! Upstream mode: what a site says is the book, kept in the store, and served while the site is away.
//!
//! The cluster's defaults and the groups are refreshed as wholes. A site's cloud-init lists no overrides of single nodes: when the settings
//! say how, each node's is read from the document that the site makes for it, when the node first needs it and then now and again. A node never
//! waits for the site longer than a moment: it gets its document without, and that is told. Writes are the site's; what came of them is
//! read back. What was here before the site was asked stays until the site says something else.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bootd_sdk::changes::Changes;
use bootd_sdk::lead::Name;
use bootd_sdk::prelude::*;
use bootd_sdk::upstream::{Listed, Loss, Mirror, Site, Trust, excerpt};
use bootd_sdk::{form, time, xname};

use crate::CloudInit;
use crate::admin::read_instance;
use crate::book::{Book, By, Draft, group_key, instance_key, rows};
use crate::file::is_nodes;
use crate::ledger::{Ledger, NotWritten, Written};
use crate::metadata::address;
use crate::mirror::{self, Part, Said};
use crate::model::{Defaults, Instance};
use crate::newer;
use crate::overrides::{self, Asked, Read};
use crate::rounds::Rounds;
use crate::routes::plain;
use crate::settings::{Api, Instances, UpstreamSettings};
use crate::status;

/// A site, and what is known of it.
pub(crate) struct Mirrored {
    host: Host,
    site: Site,
    api: Api,
    instances: Instances,
    /// `None`: URLs that name the site stay as they are.
    names: Option<Vec<Name>>,
    /// The site's defaults were taken: only then a document says what is different about its node.
    has_defaults: AtomicBool,
    /// What is wrong with single rows, by collection.
    mistakes: Mutex<BTreeMap<usize, Vec<String>>>,
    rounds: Mutex<Rounds>,
    /// Requests that wait for the site.
    waiting: AtomicUsize,
    /// It took long when it was last asked.
    is_slow: AtomicBool,
    trouble: Mutex<Trouble>,
    numbers: Numbers,
}

/// What keeps overrides from being read.
#[derive(Default)]
struct Trouble {
    /// Since when the site gives none, and why.
    failing: Option<(u64, String)>,
    /// It gives none of these nodes.
    refused: BTreeMap<String, Refusal>,
}

/// Why the site does not say what is different about a node.
struct Refusal {
    /// Since when, in seconds since 1970.
    since: u64,
    /// The same, on the clock that never jumps.
    begun: Duration,
    times: u32,
    /// What it said last.
    text: String,
}

/// Among bootd's metrics.
struct Numbers {
    read: Number,
    failed: Number,
    without: Number,
    unknown: Number,
}

/// What came of asking for an override.
enum Answered {
    /// This is the node's own.
    Own(Box<Instance>),
    /// The site does not say, and is well.
    Refused(String),
    /// The site is not well.
    Failed(String),
}

impl Mirrored {
    /// Nothing is asked yet.
    pub(crate) fn new(host: Host, settings: &UpstreamSettings, folder: &Path) -> Self {
        let listed = match settings.api {
            Api::CloudInit => CLOUD_INIT,
            Api::MetadataService => METADATA_SERVICE,
        };
        Self {
            host,
            site: Site::new(host, &settings.site(), folder, settings.service(), listed),
            api: settings.api,
            instances: settings.instance,
            names: settings
                .rewrite
                .then(|| Name::all(settings.names().iter().map(String::as_str))),
            has_defaults: AtomicBool::new(false),
            mistakes: Mutex::default(),
            rounds: Mutex::default(),
            waiting: AtomicUsize::new(0),
            is_slow: AtomicBool::new(false),
            trouble: Mutex::default(),
            numbers: Numbers {
                read: host.counter("upstream_overrides_read"),
                failed: host.counter("upstream_overrides_failed"),
                without: host.counter("upstream_documents_without_override"),
                unknown: host.gauge("upstream_overrides_unknown"),
            },
        }
    }

    /// The instance is in service.
    pub(crate) fn begin(&self, plugin: &CloudInit, caught_up: Written) {
        if caught_up == Written::New {
            self.host.bump();
        }
        self.look(plugin);
    }

    /// Asks the site for what is due.
    pub(crate) fn look(&self, plugin: &CloudInit) {
        if self.site.is_due() {
            self.refresh(&plugin.ledger);
        }
        if self.reads_overrides() {
            self.read_overrides(&plugin.ledger);
        }
    }

    /// What URLs of the site's documents begin with, when they lead to this box.
    pub(crate) fn names(&self, request: &Request) -> Option<&[Name]> {
        self.names.as_deref().filter(|_| request.leads_here)
    }

    /// An answer made of what is mirrored.
    pub(crate) fn mark(&self, answer: Answer) -> Answer {
        self.site.mark(answer)
    }

    /// Lets through what is held back.
    pub(crate) fn accept(&self, ledger: &Ledger) -> Answer {
        self.site.accept(&Reader {
            of: self,
            ledger,
            written: None,
        })
    }

    /// An import would be undone by the next refresh.
    pub(crate) fn import(&self) -> Answer {
        let text = format!(
            "nothing was imported: the data are those of {}, and are written there, or by setting mode = \"local\"",
            self.site.url()
        );
        Answer::problem(409, "Conflict", &text)
    }

    /// A write is the site's. `path`: below the site's base.
    pub(crate) fn write(&self, ledger: &Ledger, request: &Request, path: &str) -> Answer {
        if self.api == Api::MetadataService {
            let text = format!(
                "this box mirrors {} and only reads it: write there, with `ochami metadata`\n",
                self.site.url()
            );
            let mut answer = plain(405, text);
            answer.headers.push(("allow".into(), "GET".into()));
            return answer;
        }
        let answer = self.site.pass_on(request, path);
        let is_done = (200..300).contains(&answer.status);
        if !is_done {
            if answer.status >= 500 {
                self.site.hurry();
            }
            return answer;
        }
        match path.strip_prefix("/admin/instance-info/") {
            Some(id) => self.override_written(ledger, request, &xname::normalise(id)),
            None => {
                let written = path.strip_prefix("/admin/groups/").map(group_key);
                let reader = Reader {
                    of: self,
                    ledger,
                    written,
                };
                // What the request deleted is no loss; all else is guarded.
                return self.site.read_back(&reader, false, answer);
            }
        }
        answer
    }

    /// Makes sure that what is different about a node is known before its meta-data are made, if the site says so in a moment. `false`: it is
    /// not known.
    pub(crate) fn knows(&self, ledger: &Ledger, node: &Node) -> bool {
        if !self.reads_overrides() || is_known(&ledger.book(), &node.id) {
            return true;
        }
        let may_ask = !self.is_unwell() && self.rounds().may_ask(&node.id, self.host.now_boot());
        if may_ask && let Some(_place) = self.place() {
            self.read_one(ledger, node);
        }
        let is_known = is_known(&ledger.book(), &node.id);
        if !is_known {
            self.numbers.without.add(1);
            self.rounds().want(&node.id);
        }
        is_known
    }
}

impl Mirrored {
    /// How it is: what there is, as of when, what is wrong, and what is missing.
    pub(crate) fn health(&self, book: &Book) -> Health {
        let unknown = self.count_unknown();
        let line = match (self.api, self.instances) {
            (Api::CloudInit, Instances::None) => {
                format!(
                    "{} (instance overrides are not mirrored: config.instance = \"none\")",
                    status::line(book)
                )
            }
            (Api::CloudInit, _) => match unknown {
                (0, _) => status::line(book),
                (unknown, all) => format!(
                    "{} (those of {unknown} of {all} nodes not read yet)",
                    status::line(book)
                ),
            },
            (Api::MetadataService, _) => status::line(book),
        };
        let mistake = |file: String, text: String| Mistake { file, line: 0, text };
        let rows = self.mistakes().clone();
        let rows = rows.into_iter().flat_map(|(at, texts)| {
            let path = self.listed().get(at).map_or("", |listed| listed.path);
            let file = format!("{}{path}", self.site.url());
            texts.into_iter().map(move |text| mistake(file.clone(), text))
        });
        let mut mistakes: Vec<Mistake> = rows.chain(status::unread(book)).collect();
        let trouble = self.trouble();
        // A site that is away altogether is told already.
        if let Some((since, text)) = trouble.failing.as_ref().filter(|_| !self.site.is_failing()) {
            let text = format!(
                "{text}, since {}; nodes of which nothing was read before get their documents without",
                time::rfc3339(*since)
            );
            mistakes.push(mistake("instance overrides".into(), text));
        }
        let now = self.host.now_boot();
        let mut refused = trouble.refused.iter().filter(|(id, refusal)| {
            // Most are over in a moment. Who has an override goes on with it: that is worth no warning before it lasts.
            refusal.times > 1 && (now >= refusal.begun + A_WHILE || !is_known(book, id))
        });
        for (id, refusal) in refused.by_ref().take(MOST_TOLD) {
            let meanwhile = match is_known(book, id) {
                true => "the node gets what was mirrored before",
                false => "the node gets its documents without",
            };
            let text = format!(
                "{}, since {}; {meanwhile}; the site is asked again within 10 minutes",
                refusal.text,
                time::rfc3339(refusal.since)
            );
            mistakes.push(mistake(format!("instance override of {id}"), text));
        }
        let more = refused.count();
        if more > 0 {
            mistakes.push(mistake(
                "instance overrides".into(),
                format!("and those of {more} more nodes"),
            ));
        }
        self.site.health(&line, mistakes)
    }

    fn refresh(&self, ledger: &Ledger) {
        let reader = Reader {
            of: self,
            ledger,
            written: None,
        };
        let was_unwell = self.is_unwell();
        self.site.refresh(&reader, Trust::Guarded);
        if was_unwell && !self.is_unwell() {
            self.rounds().ask_again(self.host.now_boot());
        }
    }

    fn reads_overrides(&self) -> bool {
        self.api == Api::CloudInit && self.instances != Instances::None
    }

    /// Whether documents of the site are not to be believed yet, or not to be had.
    fn is_unwell(&self) -> bool {
        !self.has_defaults.load(Ordering::Acquire) || self.site.is_failing() || self.site.is_stale()
    }

    /// Reads the overrides whose turn it is.
    fn read_overrides(&self, ledger: &Ledger) {
        let now = self.host.now_boot();
        if self.rounds().is_listing_due(now) {
            self.list(ledger, now);
        }
        if self.is_unwell() {
            return;
        }
        let mut next = self.rounds().next(now).into_iter();
        let mut owns = Vec::new();
        while let Some(id) = next.next() {
            let query = Query {
                id: Some(id.clone()),
                ..Query::default()
            };
            let Some(node) = self.host.node(&query) else {
                self.trouble().refused.remove(&id);
                self.rounds().forget(&id);
                continue;
            };
            match self.ask(ledger, &node, PATIENCE) {
                Answered::Own(own) => owns.push(*own),
                Answered::Refused(text) => self.refused(&id, text),
                Answered::Failed(text) => {
                    self.take(ledger, &std::mem::take(&mut owns));
                    self.failed(&id, next.by_ref().collect(), text);
                }
            }
        }
        self.take(ledger, &owns);
    }

    fn list(&self, ledger: &Ledger, now: Duration) {
        let Ok(nodes) = self.host.nodes(&Query::default()) else {
            return;
        };
        let nodes: BTreeSet<String> = nodes
            .into_iter()
            .map(|node| node.id)
            .filter(|id| is_nodes(id))
            .collect();
        let book = ledger.book();
        let known = book
            .documents
            .instances
            .keys()
            .filter(|id| is_known(&book, id))
            .cloned()
            .collect();
        self.trouble().refused.retain(|id, _| nodes.contains(id));
        self.rounds().list(now, nodes, known);
        if !self.is_unwell() {
            self.forget_gone(ledger, now);
        }
        let (unknown, _) = self.count_unknown();
        self.numbers.unknown.set(i64::try_from(unknown).unwrap_or(i64::MAX));
    }

    /// Deletes what is mirrored of nodes that left the inventory.
    fn forget_gone(&self, ledger: &Ledger, now: Duration) {
        let gone = self.rounds().gone(now);
        if gone.is_empty() {
            return;
        }
        let written = ledger.write(|book| {
            let mut draft = Draft::of(book);
            for id in gone.iter().filter(|id| is_known(book, id)) {
                draft.remove(&instance_key(id));
            }
            Ok::<_, Infallible>(draft)
        });
        match written {
            Ok(_) => tracing::info!(
                nodes = gone.len(),
                "what was mirrored of nodes that left the inventory is deleted"
            ),
            // The next listing finds them again.
            Err(NotWritten::Store(error)) => {
                tracing::error!(%error, "what is mirrored of nodes that left cannot be deleted")
            }
            Err(NotWritten::Refused(never)) => match never {},
        }
    }

    fn count_unknown(&self) -> (usize, usize) {
        self.rounds().unknown()
    }

    /// A place among those that wait for the site. All of the plugin's threads may: not so when it is slow, so that one goes on answering.
    fn place(&self) -> Option<Place<'_>> {
        let most = if self.is_slow.load(Ordering::Relaxed) {
            1
        } else {
            MOST_WAITING
        };
        let more = |waiting: usize| (waiting < most).then_some(waiting + 1);
        let taken = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Place(&self.waiting))
    }

    /// Asks for one override while somebody waits.
    fn read_one(&self, ledger: &Ledger, node: &Node) {
        match self.ask(ledger, node, A_MOMENT) {
            Answered::Own(own) => self.take(ledger, &[*own]),
            Answered::Refused(text) => self.refused(&node.id, text),
            Answered::Failed(text) => self.failed(&node.id, Vec::new(), text),
        }
    }

    fn ask(&self, ledger: &Ledger, node: &Node, within: Duration) -> Answered {
        let id = form::segment(&node.id);
        let (path, headers, asked) = match self.instances {
            Instances::None => return Answered::Refused("config.instance = \"none\"".into()),
            Instances::Impersonate => (format!("/admin/impersonation/{id}/meta-data"), vec![], Asked::ByName),
            Instances::Forwarded => {
                let Some(ip) = address(node).or_else(|| any_address(node)) else {
                    return Answered::Refused("the node has no address".into());
                };
                let field = ("x-forwarded-for".to_owned(), ip.to_string());
                ("/meta-data".to_owned(), vec![field], Asked::ByAddress(ip))
            }
        };
        let begun = self.host.now_boot();
        let fetched = self.site.look_up(&path, &headers, within);
        let took = self.host.now_boot().saturating_sub(begun);
        self.is_slow.store(took >= SLOW, Ordering::Relaxed);
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(text) => return Answered::Failed(text),
        };
        match fetched.status {
            200 => match overrides::read(&ledger.book().documents, node, asked, &fetched.body) {
                Ok(Read::Override(own)) => Answered::Own(own),
                Ok(Read::OtherDefaults) => {
                    // Perhaps they are new.
                    self.site.hurry();
                    Answered::Refused(
                        "the site's document was made of other cluster defaults than those mirrored".into(),
                    )
                }
                Ok(Read::AnotherNodes) => Answered::Refused(format!(
                    "the site answers {path} with the document of another node: it does not believe X-Forwarded-For: {TRUSTED}"
                )),
                Err(text) => Answered::Refused(format!("the site's document is not understood: {text}")),
            },
            status @ (404 | 422) => {
                let text = format!("{path}: status {status} {}", excerpt(&fetched.body));
                Answered::Refused(match asked {
                    Asked::ByName => text.trim_end().to_owned(),
                    Asked::ByAddress(ip) => format!(
                        "{}: the site knows no node with the address {ip}, or does not believe X-Forwarded-For: {TRUSTED}",
                        text.trim_end()
                    ),
                })
            }
            status => Answered::Failed(format!("{path}: status {status} {}", excerpt(&fetched.body))),
        }
    }

    /// Takes overrides that were read.
    fn take(&self, ledger: &Ledger, owns: &[Instance]) {
        if owns.is_empty() {
            return;
        }
        let rows = rows(&Defaults::default(), &[], owns);
        let written = ledger.write(|book| {
            let mut draft = Draft::of(book);
            draft.set_all(&rows, By::Site);
            Ok::<_, Infallible>(draft)
        });
        match written {
            Ok(written) => {
                let mut trouble = self.trouble();
                let mut rounds = self.rounds();
                trouble.failing = None;
                for own in owns {
                    trouble.refused.remove(&own.id);
                    rounds.read(&own.id);
                }
                let (unknown, _) = rounds.unknown();
                drop((trouble, rounds));
                self.numbers.read.add(i64::try_from(owns.len()).unwrap_or(i64::MAX));
                self.numbers.unknown.set(i64::try_from(unknown).unwrap_or(i64::MAX));
                if written == Written::New {
                    self.host.bump();
                }
            }
            Err(NotWritten::Store(error)) => {
                let mut ids = owns.iter().map(|own| own.id.clone());
                let first = ids.next().unwrap_or_default();
                self.failed(
                    &first,
                    ids.collect(),
                    format!("what was read cannot be stored: {error}"),
                );
            }
            Err(NotWritten::Refused(never)) => match never {},
        }
    }

    fn refused(&self, id: &str, text: String) {
        self.numbers.failed.add(1);
        let now = self.host.now_boot();
        let mut trouble = self.trouble();
        trouble.failing = None;
        let refusal = trouble.refused.entry(id.into()).or_insert_with(|| Refusal {
            since: self.host.now_unix().as_secs(),
            begun: now,
            times: 0,
            text: String::new(),
        });
        refusal.times = refusal.times.saturating_add(1);
        refusal.text = text;
        drop(trouble);
        self.rounds().refuse(now, id);
    }

    fn failed(&self, id: &str, unread: Vec<String>, text: String) {
        self.numbers.failed.add(1);
        let mut trouble = self.trouble();
        if trouble.failing.is_none() {
            tracing::warn!(reason = text, "instance overrides cannot be read");
        }
        let since = trouble
            .failing
            .take()
            .map_or_else(|| self.host.now_unix().as_secs(), |(since, _)| since);
        trouble.failing = Some((since, text));
        drop(trouble);
        self.rounds().fail(self.host.now_boot(), id, unread);
    }

    /// The site took an override through this box. What came of it is read back where that is possible; else what was written counts.
    fn override_written(&self, ledger: &Ledger, request: &Request, id: &str) {
        let query = Query {
            id: Some(id.into()),
            ..Query::default()
        };
        let node = self.host.node(&query).filter(|_| self.reads_overrides());
        match node.map(|node| self.ask(ledger, &node, PATIENCE)) {
            Some(Answered::Own(own)) => return self.take(ledger, &[*own]),
            Some(Answered::Refused(text)) => self.refused(id, text),
            Some(Answered::Failed(text)) => self.failed(id, Vec::new(), text),
            None => {}
        }
        let key = instance_key(id);
        let written = ledger.write(|book| {
            let mut draft = Draft::of(book);
            match (request.method.as_str(), read_instance(id, &request.body)) {
                ("DELETE", _) => draft.remove(&key),
                (_, Ok(mut own)) => {
                    // The site keeps the id that a node has.
                    if let Some(before) = book.documents.instances.get(id) {
                        own.instance_id = before.instance_id.clone().or(own.instance_id);
                    }
                    draft.set_all(&rows(&Defaults::default(), &[], &[own]), By::Site);
                }
                (_, Err(_)) => {}
            }
            Ok::<_, Infallible>(draft)
        });
        match written {
            Ok(Written::New) => self.host.bump(),
            Ok(Written::Same) => {}
            Err(NotWritten::Store(error)) => tracing::error!(%error, "an override that the site took cannot be stored"),
            Err(NotWritten::Refused(never)) => match never {},
        }
    }

    fn listed(&self) -> &'static [Listed] {
        match self.api {
            Api::CloudInit => CLOUD_INIT,
            Api::MetadataService => METADATA_SERVICE,
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mistakes(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<String>>> {
        self.mistakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait for the site, until it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads the site's lists into the book.
struct Reader<'a> {
    of: &'a Mirrored,
    ledger: &'a Ledger,
    /// The row that was just written at the site through this box: when it is gone, that was meant.
    written: Option<String>,
}

impl Mirror for Reader<'_> {
    type Change = (Part, Said);

    fn read(&self, collection: usize, body: &str) -> Result<(Loss, Self::Change), String> {
        let (part, said) = match (self.of.api, collection) {
            (Api::CloudInit, 0) => (Part::Defaults, mirror::defaults(body)),
            (Api::CloudInit, _) => (Part::Groups, mirror::groups(body)),
            (Api::MetadataService, 0) => (Part::Defaults, newer::defaults(body)),
            (Api::MetadataService, 1) => (Part::Groups, newer::groups(body)),
            (Api::MetadataService, _) => (Part::Instances, newer::instances(body)),
        };
        let said = said.map_err(|error| error.to_string())?;
        let loss = mirror::losing(&self.ledger.book(), part, &said, self.written.as_deref());
        Ok((loss, (part, said)))
    }

    fn take(&self, collection: usize, (part, said): Self::Change) -> Result<(), HostError> {
        let changes = Cell::new(Changes::default());
        let written = self.ledger.write(|book| {
            let draft = mirror::draft(book, part, &said);
            changes.set(draft.changes());
            Ok::<_, Infallible>(draft)
        });
        match written {
            Ok(Written::New) => {
                self.of.host.bump();
                let rows = self.of.listed().get(collection).map_or("", |listed| listed.rows);
                changes.get().log(rows, self.of.site.url());
                let now = self.of.host.now_boot();
                match part {
                    Part::Defaults => self.of.rounds().again(now),
                    Part::Groups | Part::Instances => self.of.rounds().ask_again(now),
                }
            }
            Ok(Written::Same) => {}
            Err(NotWritten::Store(error)) => return Err(error),
            Err(NotWritten::Refused(never)) => match never {},
        }
        if part == Part::Defaults {
            self.of.has_defaults.store(true, Ordering::Release);
        }
        self.of.mistakes().insert(collection, said.mistakes);
        Ok(())
    }
}

/// Whether the site said what is different about a node.
fn is_known(book: &Book, id: &str) -> bool {
    book.row(&instance_key(id)).is_some_and(|row| row.by == By::Site)
}

fn any_address(node: &Node) -> Option<IpAddr> {
    let mut ips = node.interfaces.iter().flat_map(|interface| &interface.ips);
    ips.next().map(|address| address.ip)
}

const CLOUD_INIT: &[Listed] = &[
    Listed {
        path: "/admin/cluster-defaults",
        rows: "cluster defaults",
    },
    Listed {
        path: "/admin/groups",
        rows: "groups",
    },
];
const METADATA_SERVICE: &[Listed] = &[
    Listed {
        // As it spells it.
        path: "/clusterdefaultss",
        rows: "cluster defaults",
    },
    Listed {
        path: "/groups",
        rows: "groups",
    },
    Listed {
        path: "/instanceinfos",
        rows: "node overrides",
    },
];
/// How long a node waits for its override.
const A_MOMENT: Duration = Duration::from_millis(1500);
/// The same, when no node waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that wait for a site that answers at once: as many as the plugin has threads for nodes.
const MOST_WAITING: usize = 2;
/// A site that takes longer is slow.
const SLOW: Duration = Duration::from_millis(200);
/// How long an override that is mirrored may be refused before that is told.
const A_WHILE: Duration = Duration::from_secs(60);
/// What to do when the site does not believe in whose name it is asked.
const TRUSTED: &str = "the trusted_proxies of its listener must list this box, or config.instance be another";
/// Nodes whose refused overrides are told one by one.
const MOST_TOLD: usize = 3;

//! `cache`: objects from bootd's artifacts listener and from nginx, before the same origin.
//!
//! Hot, when everybody has the object: bytes a second and processor time, beside nginx that sends files. Cold, when nobody has it and many ask at
//! once, behind a slow link and a fast one: what the origin sent, when the first and the last byte came, beside nginx's proxy_cache. A storm of
//! nodes over two images. And thousands that read next to nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::appliance::median;
use super::cache_servers::{Nginx, Place, Server};
use super::fetches::{Fetches, Outcome, Seen};
use super::origin::Sent;
use super::slow;
use super::{Options, Table};

/// Measures, and gives the report.
pub fn run(options: &Options) -> Result<String> {
    // bootd steps back so far where it may not go ahead with packets. All others do the same, or it would be measured behind them.
    rustix::process::setpriority_process(None, BEHIND).context("step back")?;
    let tables = [hot(options)?, cold(options)?, storm(options)?, standing(options)?];
    Ok(tables.map(|table| table.markdown()).join("\n"))
}

/// Objects that are there already.
fn hot(options: &Options) -> Result<Table> {
    let place = Place::new()?;
    let servers = [
        place.bootd()?,
        place.nginx(Nginx::Static)?,
        place.nginx(Nginx::StaticOpen)?,
    ];
    let root = options.object.unwrap_or(if options.short { 200 } else { 1400 }) * MB;
    let loads = [(root, 1), (root, 8), (root, 64), (14 * MB, 32), (400, 64)];
    let rounds = options.rounds.unwrap_or(if options.short { 1 } else { 5 });
    let time = Duration::from_millis(if options.short { 1000 } else { 3000 });
    let mut table = Table::new(
        "Hot objects, over connections that are kept",
        &[
            "object, clients",
            "server",
            "MB/s",
            "answers/s",
            "processor time",
            "of nginx's rate",
            "of nginx's time",
        ],
    );
    for (len, clients) in loads {
        let path = object(len, "hot");
        place.keep(&path)?;
        let mut seen = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for (server, seen) in servers.iter().zip(&mut seen) {
                let fetches = Fetches::of_one(server.port, &path, clients);
                let outcome = fetches.for_a_while(time, || server.used());
                seen.push(outcome.with_context(|| format!("{clients} clients of {}", server.name))?);
            }
        }
        let middle = seen.map(|seen| Middle::of(&seen));
        for (server, own) in servers.iter().zip(&middle) {
            table.row(own.row(len, clients, server.name, &middle[1]));
        }
    }
    table.notes.push(format!(
        "Medians of {rounds} rounds by turns, {} s each after half of that again; nginx with `sendfile`, `tcp_nopush` and a worker a processor. \
         Clients compare nothing here; they and the servers share {} processors.",
        time.as_secs_f64(),
        std::thread::available_parallelism()?
    ));
    Ok(table)
}

/// Medians.
struct Middle {
    /// A second.
    bytes: f64,
    /// A second.
    answers: f64,
    /// Seconds of a processor for one byte.
    cost: f64,
}

impl Middle {
    fn of(seen: &[Outcome]) -> Self {
        let of = |value: fn(&Outcome) -> f64| median(seen.iter().map(value).collect());
        Self {
            bytes: of(|one| one.bytes as f64 / one.time.as_secs_f64()),
            answers: of(|one| one.answers as f64 / one.time.as_secs_f64()),
            cost: of(|one| one.used.as_secs_f64() / one.bytes.max(1) as f64),
        }
    }

    fn row(&self, len: u64, clients: usize, name: &str, nginx: &Self) -> [String; 7] {
        // Of a large one only parts come in the time.
        let answers = (len < 100 * MB).then(|| format!("{:.0}", self.answers));
        let cost = match len {
            ..MB => format!("{:.1} us an answer", self.cost * len as f64 * 1e6),
            _ => format!("{:.3} s a GB", self.cost * 1e9),
        };
        [
            format!("{}, {clients}", size(len)),
            name.to_owned(),
            format!("{:.0}", self.bytes / MB as f64),
            answers.unwrap_or_default(),
            cost,
            format!("{:.2}", self.bytes / nginx.bytes),
            format!("{:.2}", self.cost / nginx.cost),
        ]
    }
}

/// An object that nobody has, and many want at once.
fn cold(options: &Options) -> Result<Table> {
    let place = Place::new()?;
    let servers = [
        place.bootd()?,
        place.nginx(Nginx::Proxy)?,
        place.nginx(Nginx::ProxyLock)?,
    ];
    let (slow, fast) = if options.short { (4, 100) } else { (20, 400) };
    let rounds = options.rounds.unwrap_or(if options.short { 1 } else { 3 });
    let mut table = Table::new(
        "Cold objects, that many clients want at once",
        &[
            "origin, object, clients",
            "server",
            "the origin sent",
            "first byte, after the origin's",
            "last of them",
            "last byte",
            "of the origin's time",
        ],
    );
    let loads = [
        (Some(4 * MB), slow * MB, CLIENTS),
        (Some(4 * MB), slow * MB, MORE_CLIENTS),
        (None, fast * MB, CLIENTS),
    ];
    for (pace, len, clients) in loads {
        place.origin.set_pace(pace);
        let link = pace.map_or("no limit".to_owned(), |pace| format!("{} MB/s", pace / MB));
        let about = format!("{link}, {}, {clients} clients", size(len));
        let mut own = Vec::new();
        let mut seen = [const { Vec::new() }; 3];
        for round in 0..rounds {
            let path = object(len, &format!("cold{round}of{clients}"));
            own.push(rush(&place, place.origin.port, &path, 1).context("the origin itself")?);
            // nginx as it is would fetch the object for each of many clients, for minutes.
            let servers = servers
                .iter()
                .zip(&mut seen)
                .filter(|(server, _)| clients <= CLIENTS || server.name != Nginx::Proxy.name());
            for (server, seen) in servers {
                let rush = rush(&place, server.port, &path, clients);
                seen.push(rush.with_context(|| format!("{about}, {}", server.name))?);
            }
        }
        let alone = median(own.iter().map(|rush| rush.end).collect());
        let nothing = String::new;
        table.row([
            about.clone(),
            "the origin, one client".into(),
            nothing(),
            nothing(),
            nothing(),
            format!("{alone:.2} s"),
            "1".into(),
        ]);
        for (server, seen) in servers.iter().zip(&seen).filter(|(_, seen)| !seen.is_empty()) {
            table.row(cold_row(&about, server.name, seen, len, alone));
        }
    }
    table.notes.push(format!(
        "Medians of {rounds} rounds by turns. First byte: the median of the clients, and the last of them. The origin's time: one client that \
         reads from it. Where the origin has no limit, as many times its bytes go to clients as there are."
    ));
    Ok(table)
}

fn cold_row(about: &str, name: &str, seen: &[Rush], len: u64, alone: f64) -> [String; 7] {
    let of = |value: fn(&Rush) -> f64| median(seen.iter().map(value).collect());
    let end = of(|rush| rush.end);
    [
        about.to_owned(),
        name.to_owned(),
        format!("{:.2} times", of(|rush| rush.sent.bytes as f64) / len as f64),
        format!("{:.1} ms", of(|rush| rush.first * 1e3)),
        format!("{:.1} ms", of(|rush| rush.worst * 1e3)),
        format!("{end:.2} s"),
        format!("{:.2}", end / alone),
    ]
}

/// What came of many clients that asked at once.
struct Rush {
    sent: Sent,
    /// Seconds from the first byte that left the origin to the first byte of a client: their median.
    first: f64,
    /// The same of the last client.
    worst: f64,
    /// Seconds from the requests to the last byte of the last client.
    end: f64,
}

fn rush(place: &Place, port: u16, path: &str, clients: usize) -> Result<Rush> {
    let mut fetches = Fetches::of_one(port, path, clients);
    // One is enough to see that the bytes are right, and costs the others little.
    fetches.compare = 1;
    place.origin.take();
    let start = Instant::now();
    let seen: Vec<Seen> = fetches.once(PATIENCE)?.into_iter().collect::<Result<_>>()?;
    let sent = place.origin.take();
    let left = sent.first.context("the origin sent nothing")?;
    let first: Vec<f64> = seen
        .iter()
        .map(|seen| seen.first.saturating_duration_since(left).as_secs_f64())
        .collect();
    let end = seen.iter().map(|seen| seen.last).max().unwrap_or(start);
    Ok(Rush {
        sent,
        worst: first.iter().copied().fold(0.0, f64::max),
        first: median(first),
        end: (end - start).as_secs_f64(),
    })
}

/// Many nodes, half of them with one image and half with another, none of which is there.
fn storm(options: &Options) -> Result<Table> {
    let place = Place::new()?;
    let servers = [place.bootd()?, place.nginx(Nginx::ProxyLock)?];
    let scale = if options.short { 10 } else { 1 };
    let image = |name: &str| {
        let of = |file: &str, len: u64| object(len / scale, &format!("{name}-{file}"));
        vec![of("kernel", 2 * MB), of("initramfs", 6 * MB), of("root", 24 * MB)]
    };
    let images = [image("one"), image("other")];
    let objects: u64 = 2 * 32 * MB / scale;
    let mut table = Table::new(
        format!("A storm of {NODES} nodes over two images of {}", size(objects / 2)),
        &[
            "server",
            "nodes with all",
            "the origin sent",
            "of the objects",
            "fetches",
            "time",
            "MB/s",
            "processor time",
        ],
    );
    for server in &servers {
        let fetches = Fetches {
            port: server.port,
            clients: (0..NODES).map(|node| images[node % 2].clone()).collect(),
            compare: NODES,
        };
        table.row(weathered(&place, server, &fetches, objects)?);
    }
    table.notes.push(format!(
        "Once; each node reads kernel, initramfs and root image over one connection, and compares every byte. The objects have {objects} bytes."
    ));
    Ok(table)
}

fn weathered(place: &Place, server: &Server, fetches: &Fetches, objects: u64) -> Result<[String; 8]> {
    place.origin.take();
    let (before, start) = (server.used()?, Instant::now());
    let seen = fetches.once(PATIENCE)?;
    let (time, used) = (start.elapsed().as_secs_f64(), server.used()?.saturating_sub(before));
    let sent = place.origin.take();
    let good = seen.iter().filter(|seen| seen.is_ok()).count();
    let why = seen.into_iter().find_map(Result::err);
    let bytes = good as f64 * objects as f64 / 2.0;
    Ok([
        server.name.to_owned(),
        why.map_or(good.to_string(), |why| format!("{good}: {why}")),
        sent.bytes.to_string(),
        format!("{:.2} times", sent.bytes as f64 / objects as f64),
        sent.bodies.to_string(),
        format!("{time:.1} s"),
        format!("{:.0}", bytes / time / MB as f64),
        format!("{:.2} s a GB", used.as_secs_f64() / bytes * 1e9),
    ])
}

/// Readers that hardly read.
fn standing(options: &Options) -> Result<Table> {
    let place = Place::new()?;
    let bootd = place.bootd()?;
    let readers = if options.short { 500 } else { 5000 };
    let path = object(200 * MB, "slow");
    place.keep(&path)?;
    let time = Duration::from_secs(if options.short { 3 } else { 20 });
    let outcome = slow::run(bootd.port, &path, readers, bootd.pid(), time)?;
    let mut table = Table::new(
        format!("{readers} readers at once that take 2 KiB a second"),
        &[
            "server",
            "readers that are served",
            "the longest wait for a first byte",
            "read",
            "memory, before",
            "memory",
        ],
    );
    table.row([
        bootd.name.to_owned(),
        outcome.served.to_string(),
        format!("{:.2} s", outcome.waited.as_secs_f64()),
        size(outcome.bytes),
        size(outcome.before),
        size(outcome.memory),
    ]);
    table.notes.push(format!(
        "Once, for {} s; the memory is that of the process beyond mapped files.",
        time.as_secs()
    ));
    Ok(table)
}

/// The path of an object of this length.
fn object(len: u64, name: &str) -> String {
    format!("/boot-images/{len}/{name}")
}

fn size(len: u64) -> String {
    match len {
        len @ ..MB => format!("{len} bytes"),
        len => format!("{:.1} MB", len as f64 / MB as f64).replace(".0 MB", " MB"),
    }
}

/// Of `bootd::urgency`.
const BEHIND: i32 = 5;
const MB: u64 = 1_000_000;
const CLIENTS: usize = 20;
const MORE_CLIENTS: usize = 100;
const NODES: usize = 1000;
/// nginx fetches a slow object for each of its clients.
const PATIENCE: Duration = Duration::from_secs(600);

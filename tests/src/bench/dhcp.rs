//! `dhcp`: whole 4-way exchanges through a relay, by one generator for all: bootd, Kea with a memfile, dnsmasq, and a bare echo that sends back
//! what comes with the same calls as bootd, which is what the kernel and the cable allow.
//!
//! `dhcp`: as fast as it goes, for nodes that have their addresses and for leases of a pool. `dhcp-latency`: the latency at half of bootd's
//! rate, beside the echo at that rate, and while everything that can go on beside packets does. The generator has one processor to itself and each server
//! another one, alike; the servers take turns, and medians of the rounds are shown.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bootd_tests::{eventually, plugin, tail};

use super::appliance::median;
use super::dhcp_servers::{self as servers, Echo, Persist, START, Server, Threads};
use super::generator::{self, Expect, Load, Outcome};
use super::relay::Wire;
use super::{Options, Table, pin, shown, site};

/// Measures how fast it goes.
pub fn run(options: &Options) -> Result<String> {
    let wire = Wire::up()?;
    let bench = Bench { wire, options };
    let (known, dynamic) = (bench.known()?, bench.dynamic()?);
    Ok(format!("{known}\n{dynamic}"))
}

/// Measures the latency.
pub fn latency(options: &Options) -> Result<Table> {
    let wire = Wire::up()?;
    let bench = Bench { wire, options };
    let rate = match options.rate {
        Some(rate) => rate,
        None => bench.half()?,
    };
    bench.latency(rate)
}

type Start = fn(&Path, &Options) -> Result<Server>;

/// A server in a table.
struct Contender {
    name: &'static str,
    start: Start,
    expect: fn() -> Expect,
    /// Whether it is kept to its processor.
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    One,
    Any,
}

const KNOWN: [Contender; 8] = [
    Contender {
        name: "echo",
        start: echo,
        expect: || Expect::Echo,
        place: Place::One,
    },
    Contender {
        name: BOOTD,
        start: |folder, options| Ok(Server::Process(servers::bootd(folder, options, "")?)),
        expect: || Expect::OwnAddress,
        place: Place::One,
    },
    Contender {
        name: "Kea, pool, persist off, one thread",
        start: |folder, _| kea(folder, Known::Pool, Persist::No, Threads::One),
        expect: any_of_the_pool,
        place: Place::One,
    },
    Contender {
        name: "Kea, pool, persist off, threads",
        start: |folder, _| kea(folder, Known::Pool, Persist::No, Threads::Many),
        expect: any_of_the_pool,
        place: Place::One,
    },
    Contender {
        name: "Kea, pool, persist off, threads, both processors",
        start: |folder, _| kea(folder, Known::Pool, Persist::No, Threads::Many),
        expect: any_of_the_pool,
        place: Place::Any,
    },
    Contender {
        name: "Kea, reservations, persist off, one thread",
        start: |folder, _| kea(folder, Known::Reservations, Persist::No, Threads::One),
        expect: || Expect::OwnAddress,
        place: Place::One,
    },
    Contender {
        name: "Kea, reservations, persist off, threads",
        start: |folder, _| kea(folder, Known::Reservations, Persist::No, Threads::Many),
        expect: || Expect::OwnAddress,
        place: Place::One,
    },
    Contender {
        name: "dnsmasq, pool",
        start: dnsmasq,
        expect: any_of_the_pool,
        place: Place::One,
    },
];

const DYNAMIC: [Contender; 4] = [
    Contender {
        name: "bootd, durable before the ACK",
        start: |folder, _| Ok(Server::Process(servers::bootd_pool(folder)?)),
        expect: any_of_the_pool,
        place: Place::One,
    },
    Contender {
        name: "Kea, persist, one thread",
        start: |folder, _| kea(folder, Known::Pool, Persist::Yes, Threads::One),
        expect: any_of_the_pool,
        place: Place::One,
    },
    Contender {
        name: "Kea, persist, threads",
        start: |folder, _| kea(folder, Known::Pool, Persist::Yes, Threads::Many),
        expect: any_of_the_pool,
        place: Place::One,
    },
    Contender {
        name: "dnsmasq",
        start: dnsmasq,
        expect: any_of_the_pool,
        place: Place::One,
    },
];

/// How Kea knows the clients.
enum Known {
    Pool,
    Reservations,
}

struct Bench<'o> {
    wire: Wire,
    options: &'o Options,
}

impl Bench<'_> {
    /// Nodes that have their addresses.
    fn known(&self) -> Result<Table> {
        let mut table = Table::new(
            format!("dhcp: {} clients that the server knows, closed loop", site::NODES),
            &COLUMNS,
        );
        for in_flight in self.in_flight(&[64, 1024]) {
            let all = self.contest(&KNOWN, in_flight)?;
            self.rows(&mut table, &KNOWN, in_flight, &all);
        }
        table.notes.push(format!(
            "Medians of {} rounds of {} s. The generator and each server have a processor of their own; \"both processors\": all that the generator leaves.",
            self.rounds(),
            self.time().as_secs_f64()
        ));
        Ok(table)
    }

    /// Leases of a pool.
    fn dynamic(&self) -> Result<Table> {
        let mut table = Table::new(
            format!("dhcp: {} clients of a pool, closed loop", site::NODES),
            &COLUMNS,
        );
        for in_flight in self.in_flight(&[1024]) {
            let all = self.contest(&DYNAMIC, in_flight)?;
            self.rows(&mut table, &DYNAMIC, in_flight, &all);
        }
        table
            .notes
            .push("Kea writes its file and leaves it to the system when that reaches the disk.".into());
        Ok(table)
    }

    /// Half of the rate that bootd reaches.
    fn half(&self) -> Result<u32> {
        let all = self.contest(&KNOWN[1..2], 1024)?;
        Ok((all.get(BOOTD).map_or(f64::NAN, Medians::rate) / 2.0) as u32)
    }

    /// What else goes on, at half of bootd's rate.
    fn latency(&self, rate: u32) -> Result<Table> {
        let mut table = Table::new(
            format!("dhcp: latency of an exchange, {rate} begun a second"),
            &[
                "beside",
                "exchanges/s",
                "p50",
                "p99",
                "p99.9",
                "p99.9, of echo",
                "lost",
                "wrong",
            ],
        );
        let mut all: BTreeMap<&str, Medians> = BTreeMap::new();
        for _ in 0..self.rounds() {
            for beside in BESIDE {
                let outcome = self
                    .beside(beside, rate)
                    .with_context(|| format!("{}\n{}", beside.name(), tail(&self.wire.folder.join("log"), 10)))?;
                all.entry(beside.name()).or_default().add(&outcome);
            }
        }
        let echo = all.get(Beside::Echo.name()).map_or(f64::NAN, |echo| echo.share(2));
        for beside in BESIDE {
            let Some(medians) = all.get(beside.name()) else {
                continue;
            };
            table.row([
                beside.name().into(),
                format!("{:.0}", medians.rate()),
                us(medians.share(0)),
                us(medians.share(1)),
                us(medians.share(2)),
                format!("{:.2}", medians.share(2) / echo),
                medians.lost.to_string(),
                medians.wrong.to_string(),
            ]);
        }
        Ok(table)
    }

    /// The servers are at work for a while before they are measured: what a start costs is another measurement (`process`).
    fn beside(&self, beside: Beside, rate: u32) -> Result<Outcome> {
        let folder = &self.wire.folder;
        let mut load = Load {
            in_flight: 4096,
            rate: Some(rate.max(100)),
            time: self.time(),
            expect: Expect::OwnAddress,
            strangers: None,
        };
        let mut server = match beside {
            Beside::Echo => {
                load.expect = Expect::Echo;
                echo(folder, self.options)?
            }
            Beside::Nothing | Beside::Republished => Server::Process(servers::bootd(folder, self.options, "")?),
            Beside::PluginHangs => {
                let file = plugin::hostile()?;
                let more = format!(
                    "[[plugin]]\nname = \"hostile\"\nfile = \"{}\"\nconfig.behaviour = \"hang-in-resolve\"\n",
                    file.display()
                );
                load.strangers = Some(1024);
                Server::Process(servers::bootd(folder, self.options, &more)?)
            }
            Beside::SmdDown => {
                let site = folder.join("site");
                fs::create_dir_all(&site)?;
                servers::write_nodes(&site, "compute")?;
                let nodes = format!(
                    "[[plugin]]\nname = \"smd\"\nconfig.nodes = \"{}/nodes.yaml\"\n",
                    site.display()
                );
                let config = site::config_text(&site, &format!("[tftp]\nport = 6969\n{nodes}"))
                    .replace("\"eth0\"", "\"lo\"")
                    .replace("0.0.0.0:8081", SITE);
                let smd = format!(
                    "[[plugin]]\nname = \"smd\"\nmode = \"upstream\"\nconfig.url = \"http://{SITE}\"\nconfig.refresh_s = 1\n"
                );
                let upstream = servers::bootd_with(&site, &config)?;
                let own = folder.join("mirror");
                fs::create_dir_all(&own)?;
                let mut mirror = Server::Process(servers::bootd_with(&own, &site::config_text(&own, &smd))?);
                self.measure(&mut mirror, &load.at_ease(), Place::One, Duration::ZERO)
                    .with_context(|| format!("{}\n{}", tail(&site.join("log"), 10), tail(&own.join("log"), 10)))?;
                drop(upstream);
                mirror
            }
            Beside::StoreSyncs => {
                load.strangers = Some(128);
                let cidr = "cidr = \"10.1.0.0/16\"\n";
                let pool = format!(
                    "{cidr}pool = {{ first = \"10.1.100.0\", last = \"10.1.200.255\", lease_time = \"1h\" }}\n"
                );
                servers::write_nodes(folder, "compute")?;
                let smd = format!(
                    "[[plugin]]\nname = \"smd\"\nconfig.nodes = \"{}/nodes.yaml\"\n",
                    folder.display()
                );
                let config = site::config_text(folder, &smd).replace(cidr, &pool);
                Server::Process(servers::bootd_with(folder, &config)?)
            }
        };
        if beside != Beside::Republished {
            return self.measure(&mut server, &load, Place::One, SETTLED);
        }
        let ending = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0.. {
                    if ending.load(Ordering::Relaxed)
                        || servers::write_nodes(folder, &format!("g{}", turn % 2)).is_err()
                    {
                        break;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
            let outcome = self.measure(&mut server, &load, Place::One, SETTLED);
            ending.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// All take turns.
    fn contest(&self, contenders: &[Contender], in_flight: usize) -> Result<BTreeMap<&'static str, Medians>> {
        let mut all: BTreeMap<&str, Medians> = BTreeMap::new();
        for _ in 0..self.rounds() {
            for contender in contenders {
                let folder = self.wire.folder.join("server");
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir_all(&folder)?;
                let load = Load {
                    in_flight,
                    rate: None,
                    time: self.time(),
                    expect: (contender.expect)(),
                    strangers: None,
                };
                let told = || format!("{}\n{}", contender.name, tail(&folder.join("log"), 10));
                let mut server = (contender.start)(&folder, self.options).with_context(told)?;
                let outcome = self
                    .measure(&mut server, &load, contender.place, Duration::ZERO)
                    .with_context(told)?;
                eprintln!("{}, {in_flight} in flight: {:.0}/s", contender.name, outcome.rate());
                all.entry(contender.name).or_default().add(&outcome);
            }
        }
        Ok(all)
    }

    /// Loads a server, once it answers.
    fn measure(&self, server: &mut Server, load: &Load, place: Place, settle: Duration) -> Result<Outcome> {
        let first = load.at_ease();
        eventually(START, "the server answers", || match server.must_run() {
            Ok(()) => self.load(&first).ok().map(Ok),
            Err(error) => Some(Err(error)),
        })??;
        std::thread::sleep(settle);
        if place == Place::One {
            // All of its threads are there by now, and those that come have what those have.
            server.pin(SERVER_PROCESSOR)?;
        }
        self.load(load)
    }

    fn load(&self, load: &Load) -> Result<Outcome> {
        self.wire.at_relay(|| {
            pin(None, GENERATOR_PROCESSOR)?;
            generator::run(load)
        })
    }

    fn rows(&self, table: &mut Table, contenders: &[Contender], in_flight: usize, all: &BTreeMap<&str, Medians>) {
        let keas = all.iter().filter(|(name, _)| name.starts_with("Kea"));
        let kea = keas.map(|(_, medians)| medians.rate()).fold(f64::NAN, f64::max);
        let echo = all.get("echo").map_or(f64::NAN, Medians::rate);
        for contender in contenders {
            let Some(medians) = all.get(contender.name) else {
                continue;
            };
            let ratio = |to: f64| {
                if to.is_nan() {
                    String::new()
                } else {
                    format!("{:.2}", medians.rate() / to)
                }
            };
            table.row([
                contender.name.into(),
                in_flight.to_string(),
                format!("{:.0}", medians.rate()),
                ratio(kea),
                ratio(echo),
                us(medians.share(0)),
                us(medians.share(1)),
                us(medians.share(2)),
                medians.lost.to_string(),
                medians.wrong.to_string(),
            ]);
        }
    }

    fn in_flight(&self, usual: &[usize]) -> Vec<usize> {
        self.options.in_flight.map_or(usual.to_vec(), |number| vec![number])
    }

    fn rounds(&self) -> usize {
        if self.options.short { 1 } else { 5 }
    }

    fn time(&self) -> Duration {
        Duration::from_secs(if self.options.short { 1 } else { 5 })
    }
}

impl Load {
    /// A few exchanges of the same kind, to see that the server is there.
    fn at_ease(&self) -> Self {
        Self {
            in_flight: 1,
            rate: None,
            time: Duration::from_millis(100),
            strangers: None,
            ..self.clone()
        }
    }
}

/// What came of the rounds.
#[derive(Default)]
struct Medians {
    rates: Vec<f64>,
    /// p50, p99, p99.9, in us.
    shares: [Vec<f64>; 3],
    lost: u64,
    wrong: u64,
}

impl Medians {
    fn add(&mut self, outcome: &Outcome) {
        self.rates.push(outcome.rate());
        for (share, at) in self.shares.iter_mut().zip([0.5, 0.99, 0.999]) {
            share.push(outcome.times.share(at).as_secs_f64() * 1e6);
        }
        self.lost += outcome.lost;
        self.wrong += outcome.wrong;
    }

    fn rate(&self) -> f64 {
        median(self.rates.clone())
    }

    fn share(&self, which: usize) -> f64 {
        self.shares.get(which).map_or(f64::NAN, |share| median(share.clone()))
    }
}

/// What goes on beside the packets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// The echo, and nothing.
    Echo,
    /// bootd, and nothing.
    Nothing,
    /// Look-ups that hang.
    PluginHangs,
    /// An upstream that is not there.
    SmdDown,
    /// All nodes change, each second.
    Republished,
    /// Clients of a pool take leases.
    StoreSyncs,
}

const BESIDE: [Beside; 6] = [
    Beside::Echo,
    Beside::Nothing,
    Beside::PluginHangs,
    Beside::SmdDown,
    Beside::Republished,
    Beside::StoreSyncs,
];

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Nothing => "bootd, nothing beside it",
            Self::PluginHangs => "bootd, a plugin hangs in look-ups",
            Self::SmdDown => "bootd, SMD is down",
            Self::Republished => "bootd, all nodes change each second",
            Self::StoreSyncs => "bootd, one in 128 takes a lease of the pool",
        }
    }
}

fn echo(_: &Path, _: &Options) -> Result<Server> {
    Ok(Server::Echo(Echo::start(SERVER_PROCESSOR)?))
}

fn kea(folder: &Path, known: Known, persist: Persist, threads: Threads) -> Result<Server> {
    let subnet = match known {
        Known::Pool => servers::pool(),
        Known::Reservations => servers::reservations(),
    };
    Ok(Server::Process(servers::kea(folder, subnet, persist, threads)?))
}

fn dnsmasq(folder: &Path, _: &Options) -> Result<Server> {
    Ok(Server::Process(servers::dnsmasq(folder)?))
}

fn any_of_the_pool() -> Expect {
    Expect::OneOf(servers::FIRST..=servers::LAST)
}

fn us(value: f64) -> String {
    shown(Duration::from_secs_f64(value / 1e6))
}

const COLUMNS: [&str; 10] = [
    "server",
    "in flight",
    "exchanges/s",
    "of Kea's best",
    "of echo",
    "p50",
    "p99",
    "p99.9",
    "lost",
    "wrong",
];
const BOOTD: &str = "bootd";
/// Where SMD is, until it is down.
const SITE: &str = "127.0.0.1:27779";
/// After its first answer a server is through with its start.
const SETTLED: Duration = Duration::from_secs(6);
const GENERATOR_PROCESSOR: usize = 1;
const SERVER_PROCESSOR: usize = 0;

//! A plugin that misbehaves: `config.behaviour` says how. Written as plugins are, on the SDK, so what is wrong here can happen to anybody.
//!
//! Tables that are wrong and calls that no safe code makes are in `tables.c` and `raw.c` beside it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bootd_sdk::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Behaviour {
    /// Serves, as the others do.
    Good,
    PanicInInit,
    HangInInit,
    FailInInit,
    PanicInHandle,
    HangInHandle,
    HangInResolve,
    RunSpins,
    RunPanics,
    /// Never returns, also when it is told to stop.
    RunHangs,
    /// Publishes a node when it starts first; later it publishes that there is none, and then fails.
    FailSecondStart,
    /// Answers after a sleep.
    SleepInHandle,
    PublishGarbage,
    PublishMany,
    PublishOften,
    Log,
    Nonsense,
    /// A thread that goes on publishing after its instance has ended.
    Outlive,
    /// The boot script, kept; the next requests hang.
    ScriptThenHang,
    /// The boot script, kept; the next request panics.
    ScriptThenPanic,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    behaviour: Behaviour,
}

struct Hostile {
    behaviour: Behaviour,
    host: Host,
}

/// Instances so far: statics outlive them, because nothing is ever unmapped.
static INSTANCES: AtomicU32 = AtomicU32::new(0);
/// Requests of nodes so far, of all instances.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

impl Plugin for Hostile {
    const NAME: &'static str = "hostile";
    type Settings = Settings;

    fn init(start: Start<Settings>, setup: &mut Setup) -> Result<Self, Error> {
        INSTANCES.fetch_add(1, Ordering::SeqCst);
        let behaviour = start.settings.behaviour;
        match behaviour {
            Behaviour::PanicInInit => panic!("init panics on purpose"),
            Behaviour::HangInInit => hang(),
            Behaviour::FailInInit => return Err("init fails on purpose".into()),
            Behaviour::ScriptThenHang | Behaviour::ScriptThenPanic => {
                setup.routes.push(Route::new("GET", "/boot/v1", Access::Open));
            }
            Behaviour::FailSecondStart => {
                let first = INSTANCES.load(Ordering::SeqCst) == 1;
                let nodes = if first { rows(1) } else { Vec::new() };
                let full = true;
                start.host.publish(&Publication {
                    full,
                    nodes,
                    ..Publication::default()
                })?;
                if !first {
                    return Err("a later start fails on purpose".into());
                }
            }
            Behaviour::SleepInHandle
            | Behaviour::Good
            | Behaviour::PanicInHandle
            | Behaviour::HangInHandle
            | Behaviour::Nonsense => {
                setup.routes.push(Route::new("GET", "/hostile", Access::Open));
            }
            _ => {}
        }
        setup.provides_nodes = true;
        if behaviour == Behaviour::Outlive {
            outlive(start.host);
        }
        Ok(Self {
            behaviour,
            host: start.host,
        })
    }

    fn run(&self) -> Result<(), Error> {
        match self.behaviour {
            Behaviour::RunSpins => loop {
                std::hint::spin_loop();
            },
            Behaviour::RunPanics => panic!("run panics on purpose"),
            Behaviour::RunHangs => hang(),
            Behaviour::PublishGarbage => self.publish_garbage(),
            Behaviour::PublishMany => self.publish(rows(100_000)),
            Behaviour::PublishOften => self.publish_often(),
            Behaviour::Log => self.log(),
            _ => {}
        }
        while self.host.sleep(Duration::from_secs(3600)).is_ok() {}
        Ok(())
    }

    fn handle(&self, request: Request) -> Answer {
        // bootd itself asks, too, for its look at the boot files; nodes say which host they mean.
        let is_node = request.headers.iter().any(|(name, _)| name == "host");
        let asked = if is_node {
            REQUESTS.fetch_add(1, Ordering::SeqCst)
        } else {
            0
        };
        match self.behaviour {
            Behaviour::PanicInHandle => panic!("handle panics on purpose"),
            Behaviour::HangInHandle => hang(),
            Behaviour::SleepInHandle => match self.host.sleep(Duration::from_millis(600)) {
                Ok(()) => Answer::text(200, "slept\n"),
                Err(Stopping) => Answer::text(502, "woken\n"),
            },
            Behaviour::Nonsense => nonsense(&request.path),
            Behaviour::ScriptThenHang | Behaviour::ScriptThenPanic if !is_node => Answer::text(404, "not yet\n"),
            Behaviour::ScriptThenHang | Behaviour::ScriptThenPanic if asked == 0 => {
                Answer::text(200, "#!ipxe\necho kept\n").kept()
            }
            Behaviour::ScriptThenHang => hang(),
            Behaviour::ScriptThenPanic => panic!("the second script panics on purpose"),
            _ => Answer::text(200, "good\n"),
        }
    }

    fn resolve(&self, _: Mac) -> Option<Node> {
        match self.behaviour {
            Behaviour::HangInResolve => hang(),
            _ => None,
        }
    }
}

impl Hostile {
    fn publish(&self, nodes: Vec<Value>) {
        let publication = Publication {
            full: true,
            nodes,
            ..Publication::default()
        };
        let (begun, count) = (Instant::now(), publication.nodes.len());
        let text = match self.host.publish(&publication) {
            Ok(report) => format!(
                "{} of {count} rows accepted, {} refused, after {} ms",
                report.accepted,
                report.refused.len(),
                begun.elapsed().as_millis()
            ),
            Err(error) => error.to_string(),
        };
        self.say(text);
    }

    /// Ten times a second, as far as the host lets it.
    fn publish_often(&self) {
        let begun = Instant::now();
        let mut published = 0;
        while self.host.sleep(Duration::from_millis(100)).is_ok() && begun.elapsed() < Duration::from_secs(60) {
            self.publish(rows(10_000));
            published += 1;
            self.say(format!(
                "{published} publications in {} ms",
                begun.elapsed().as_millis()
            ));
        }
    }

    fn publish_garbage(&self) {
        self.publish(vec![
            Value::Null,
            json!(17),
            json!("x1000c0s0b0n0"),
            json!([]),
            json!({}),
            json!({"id": "no xname"}),
            json!({"id": "x1000c0s0b0n0\n#!ipxe", "interfaces": "none"}),
            // The first node's MAC and address under another name, and its name with another MAC.
            json!({"id": "x9c0s0b0n0", "interfaces": [{"mac": "52:54:00:be:ef:01", "ips": [{"ip": "172.16.0.1"}]}, {"mac": 5}]}),
            json!({"id": "x9c0s0b0n1", "interfaces": [{"mac": "zz:zz", "ips": []}]}),
            json!({"id": "x9c0s0b0n2", "interfaces": [{"mac": "02:00:00:00:00:01", "ips": [{"ip": "999.0.0.1"}]}]}),
            json!({"id": "x9c0s0b0n3", "nid": -1}),
            json!({"id": "x".repeat(100_000)}),
        ]);
    }

    fn log(&self) {
        let begun = Instant::now();
        for n in 0..1_000_000_u32 {
            self.host
                .log(6, "hostile", &format!("line {n} of a million"), "{\"a\":1}");
        }
        self.say(format!("a million lines in {} ms", begun.elapsed().as_millis()));
        while self.host.sleep(Duration::from_millis(500)).is_ok() {
            self.host.log(6, "hostile", "one more line", "");
        }
    }

    fn say(&self, text: String) {
        self.host.health(&Health {
            text,
            mistakes: Vec::new(),
        });
    }
}

/// Never comes back, and never will.
fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Nodes outside everything that the rack's own are.
fn rows(count: u32) -> Vec<Value> {
    (0..count)
        .map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            json!({
                "id": format!("x{}c{}s{}b0n0", 2000 + n / 512, n / 64 % 8, n % 64),
                "kind": "Node",
                "interfaces": [{"mac": format!("02:00:00:{a:02x}:{b:02x}:{c:02x}"), "ips": [{"ip": format!("10.{a}.{b}.{c}")}]}],
            })
        })
        .collect()
}

/// Publishes ten times a second whatever happens to the instance. The newest instance's health tells what came of it.
fn outlive(host: Host) {
    static NEWEST: AtomicU32 = AtomicU32::new(0);
    static REFUSED: AtomicU32 = AtomicU32::new(0);
    let mine = NEWEST.fetch_add(1, Ordering::SeqCst) + 1;
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let id = format!("x3000c0s0b0n{mine}");
            let publication = Publication {
                full: true,
                nodes: vec![json!({"id": id, "kind": "Node"})],
                ..Publication::default()
            };
            let published = host.publish(&publication);
            if mine == NEWEST.load(Ordering::SeqCst) {
                let refused = REFUSED.load(Ordering::SeqCst);
                let text = format!("instance {mine}: {published:?}; earlier ones were refused {refused} times");
                host.health(&Health {
                    text,
                    mistakes: Vec::new(),
                });
            } else if published == Err(HostError::Stopping) {
                REFUSED.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
}

/// Answers that are none, by the request's path.
fn nonsense(path: &str) -> Answer {
    let text = || Answer::text(200, "");
    match path.rsplit('/').next().unwrap_or_default() {
        "status-0" => Answer::text(0, ""),
        "status-99" => Answer::text(99, ""),
        "status-65535" => Answer::text(65535, ""),
        "huge" => Answer::text(200, "x".repeat(100_000_000)),
        "header-name" => Answer {
            headers: vec![("a b\r\nx".into(), "c".into())],
            ..text()
        },
        "header-value" => Answer {
            headers: vec![("a".into(), "b\r\nset-cookie: c".into())],
            ..text()
        },
        "header-length" => Answer {
            headers: vec![
                ("content-length".into(), "999999".into()),
                ("transfer-encoding".into(), "chunked".into()),
            ],
            body: "short\n".into(),
            ..text()
        },
        _ => Answer::text(200, "good\n"),
    }
}

export_plugin!(Hostile);

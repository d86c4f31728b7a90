//! The engine between clients and a wire that loses, doubles and reorders, by seeds: each client gets exactly its file, in bounded time, whatever
//! happens on the way; a transfer has no more memory than a window; nothing leaves for who aborted.
//!
//! `BOOTD_SIM_SEED` repeats one run, `BOOTD_SIM_SEEDS` says how many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Files;
use super::engine::{End, Engine, Id, Limits, Ports, Verdict};
use super::request::Packet;
use crate::net::Burst;

/// A small generator of numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.below(2);
        }
        random
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a wire does to packets, in percent.
#[derive(Clone, Copy)]
struct Weather {
    loses: u64,
    doubles: u64,
    /// How many are overtaken by others.
    delays: u64,
    /// The usual way, in microseconds; others take up to three times as long.
    slow: u64,
}

/// A client that reads one file.
struct Client {
    peer: SocketAddr,
    request: Vec<u8>,
    wanted: Vec<u8>,
    got: Vec<u8>,
    blksize: usize,
    window: u64,
    /// Acknowledges each packet out of order, or only the first one.
    complains_each_time: bool,
    complained: bool,
    patience: Duration,
    server: Option<Id>,
    /// Transfers that it gave up.
    left: Vec<Id>,
    /// Blocks that came, and how many of them are in this window.
    blocks: u64,
    in_window: u64,
    last_said: Vec<u8>,
    timer: u64,
    tries: u32,
    /// Aborts when it has so many bytes.
    aborts_at: Option<usize>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reads,
    Done,
    Aborted,
    Failed,
}

enum Event {
    ToServer(usize, Option<Id>, Vec<u8>),
    ToClient(usize, Id, Vec<u8>),
    /// Begins, or waited long enough.
    Timer(usize, u64),
}

struct World {
    random: Random,
    weather: Weather,
    engine: Engine,
    files: Files,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    kept: HashMap<u64, Event>,
    count: u64,
    clients: Vec<Client>,
    peers: BTreeMap<SocketAddr, usize>,
    /// Of each transfer its client.
    ways: HashMap<Id, usize>,
    sent: u64,
    /// Transfers whose client's ERROR came.
    aborted: Vec<Id>,
    most_held: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let weather = match seed % 4 {
            0 => Weather {
                loses: 0,
                doubles: 0,
                delays: 1,
                slow: 300,
            },
            1 => Weather {
                loses: 2,
                doubles: 2,
                delays: 2,
                slow: 2000,
            },
            2 => Weather {
                loses: 10,
                doubles: 10,
                delays: 10,
                slow: 30_000,
            },
            _ => Weather {
                loses: 15,
                doubles: 20,
                delays: 20,
                slow: 200_000,
            },
        };
        let sizes = [0, 1, 511, 512, 513, 1024, 1468 * 16, 10_000, 1468 * 32 + 7];
        let files: Vec<(String, Vec<u8>)> = sizes
            .iter()
            .map(|&size| {
                let bytes = (0..size).map(|_| random.of(b"\n\rabcdefgh")).collect();
                (format!("f{size}"), bytes)
            })
            .collect();
        let count = 1 + random.below(8) as usize;
        let clients: Vec<Client> = (0..count)
            .map(|number| Client::new(number, &files, &mut random))
            .collect();
        let peers = clients
            .iter()
            .enumerate()
            .map(|(at, client)| (client.peer, at))
            .collect();
        Self {
            random,
            weather,
            engine: Engine::new(Limits {
                reads: 100,
                each: 100,
                blksize: 1468,
                windowsize: 64,
                ports: Ports::Own,
            }),
            files: Files::of(files),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            kept: HashMap::new(),
            count: 0,
            clients,
            peers,
            ways: HashMap::new(),
            sent: 0,
            aborted: Vec::new(),
            most_held: 0,
        }
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.count += 1;
        self.events.push(Reverse((time, self.count)));
        self.kept.insert(self.count, event);
    }

    /// Something goes over the wire, or does not, or twice.
    fn over(&mut self, make: impl Fn() -> Event) {
        if self.random.happens(self.weather.loses) {
            return;
        }
        let copies = 1 + u64::from(self.random.happens(self.weather.doubles));
        for _ in 0..copies {
            let late = self.random.happens(self.weather.delays);
            let more = if late {
                self.random.below(2 * self.weather.slow)
            } else {
                0
            };
            let way = Duration::from_micros(self.weather.slow + more);
            self.at(self.now + way, make());
        }
    }

    fn run(&mut self) {
        for client in 0..self.clients.len() {
            let start = Duration::from_millis(self.random.below(2000));
            self.at(start, Event::Timer(client, 0));
        }
        let mut steps = 0_u64;
        while self.clients.iter().any(|client| client.state == State::Reads) {
            steps += 1;
            assert!(steps < 2_000_000, "it does not end");
            let alarm = self.engine.alarm();
            let next = self.events.peek().map(|Reverse((at, _))| *at);
            match (alarm, next) {
                (Some(alarm), next) if next.is_none_or(|next| alarm <= next) => {
                    self.now = self.now.max(alarm);
                    while let Some((id, burst)) = self.engine.due(self.now) {
                        self.leaves(id, burst);
                    }
                }
                (_, Some(_)) => self.next(),
                (_, None) => panic!("nothing happens any more"),
            }
            self.look();
        }
        // Whatever is still on its way, the server comes to rest.
        while !self.engine.is_empty() || !self.events.is_empty() {
            match (self.engine.alarm(), self.events.peek().map(|Reverse((at, _))| *at)) {
                (Some(alarm), next) if next.is_none_or(|next| alarm <= next) => {
                    self.now = self.now.max(alarm);
                    while let Some((id, burst)) = self.engine.due(self.now) {
                        self.leaves(id, burst);
                    }
                }
                (_, Some(_)) => self.next(),
                (_, None) => panic!("a transfer waits for nothing"),
            }
            self.look();
        }
    }

    fn next(&mut self) {
        let Some(Reverse((at, number))) = self.events.pop() else {
            return;
        };
        self.now = at;
        match self.kept.remove(&number).unwrap() {
            Event::ToServer(client, None, packet) => self.asks(client, &packet),
            Event::ToServer(_, Some(id), packet) => {
                if Packet::read(&packet) == Ok(Packet::Error) {
                    self.aborted.push(id);
                }
                if let Ok(burst) = self.engine.packet(id, &packet, self.now) {
                    self.leaves(id, burst);
                }
            }
            Event::ToClient(client, id, packet) => self.hears(client, id, &packet),
            Event::Timer(client, timer) => self.waited(client, timer),
        }
    }

    fn look(&mut self) {
        let most: usize = self
            .clients
            .iter()
            .map(|client| 2 * client.window as usize * client.blksize + 64)
            .sum();
        self.most_held = self.most_held.max(self.engine.held());
        // A request that came twice may have two transfers, one after the other.
        assert!(self.engine.held() <= 2 * most, "{} bytes are held", self.engine.held());
        self.engine.ended();
    }

    fn asks(&mut self, client: usize, packet: &[u8]) {
        let peer = self.clients[client].peer;
        match self.engine.request(peer, packet, &self.files, self.now) {
            Verdict::Begin(opening) => {
                let (id, burst) = self.engine.begin(opening, 1472, self.now);
                self.ways.insert(id, client);
                self.leaves(id, Some(burst));
            }
            Verdict::Again(id, burst) => self.leaves(id, Some(burst)),
            Verdict::Refuse(refusal) => panic!("{refusal:?}"),
            Verdict::Ignore(_) => {}
        }
    }

    fn leaves(&mut self, id: Id, burst: Option<Burst>) {
        let Some(burst) = burst else { return };
        assert!(!self.aborted.contains(&id), "something is sent to who aborted");
        assert!(burst.count() <= 64);
        let client = self.ways[&id];
        for (head, body) in burst.datagrams() {
            assert!(head.len() + body.len() <= 1472);
            let packet = [head, body].concat();
            self.sent += 1;
            self.over(|| Event::ToClient(client, id, packet.clone()));
        }
    }

    fn says(&mut self, client: usize, to: Option<Id>, packet: Vec<u8>) {
        self.over(|| Event::ToServer(client, to, packet.clone()));
    }

    fn waited(&mut self, number: usize, timer: u64) {
        let client = &mut self.clients[number];
        if client.state != State::Reads || client.timer != timer {
            return;
        }
        client.tries += 1;
        if client.tries > 60 {
            client.state = State::Failed;
            return;
        }
        if client.blocks == 0 && client.tries.is_multiple_of(8) {
            client.begin_anew();
        }
        let (to, packet) = (client.server, client.last_said.clone());
        self.says(number, to, packet);
        self.wait(number);
    }

    fn wait(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.timer += 1;
        let (timer, patience) = (client.timer, client.patience);
        self.at(self.now + patience, Event::Timer(number, timer));
    }

    fn hears(&mut self, number: usize, id: Id, packet: &[u8]) {
        let client = &mut self.clients[number];
        if client.server.is_some_and(|server| server != id) || client.left.contains(&id) {
            // Another transfer's port (RFC 1350, 4).
            return self.says(number, Some(id), b"\0\x05\0\x05unknown\0".to_vec());
        }
        if client.state != State::Reads {
            // It stays a while, in case its last word was lost.
            if client.state == State::Done {
                let word = client.last_said.clone();
                self.says(number, Some(id), word);
            }
            return;
        }
        client.server = Some(id);
        let answers = client.takes(packet);
        let aborts = client.aborts_at.is_some_and(|at| client.got.len() >= at);
        if aborts {
            client.state = State::Aborted;
            return self.says(number, Some(id), b"\0\x05\0\0no more\0".to_vec());
        }
        if let Some(answer) = answers {
            self.clients[number].last_said.clone_from(&answer);
            self.says(number, Some(id), answer);
            self.wait(number);
        }
    }
}

impl Client {
    fn new(number: usize, files: &[(String, Vec<u8>)], random: &mut Random) -> Self {
        let (name, bytes) = &files[random.below(files.len() as u64) as usize];
        let netascii = random.happens(30);
        let wanted = match netascii {
            true => bytes
                .iter()
                .flat_map(|&byte| match byte {
                    b'\n' => vec![b'\r', b'\n'],
                    b'\r' => vec![b'\r', 0],
                    byte => vec![byte],
                })
                .collect(),
            false => bytes.clone(),
        };
        let mut request = format!("\0\u{1}{name}\0{}\0", if netascii { "netascii" } else { "octet" });
        for (option, values) in [
            ("blksize", &["", "", "64", "512", "1024", "1468", "9000"][..]),
            ("windowsize", &["", "", "1", "2", "4", "16", "64", "65535"]),
            ("tsize", &["", "0"]),
            ("timeout", &["", "", "1", "3"]),
        ] {
            let value = random.of(values);
            if !value.is_empty() {
                request += &format!("{option}\0{value}\0");
            }
        }
        Self {
            peer: SocketAddr::from(([10, 0, 0, 1], 2000 + number as u16)),
            last_said: request.clone().into_bytes(),
            request: request.into_bytes(),
            wanted,
            got: Vec::new(),
            blksize: 512,
            window: 1,
            complains_each_time: random.happens(50),
            complained: false,
            patience: Duration::from_millis(500 + random.below(3000)),
            server: None,
            left: Vec::new(),
            blocks: 0,
            in_window: 0,
            timer: 0,
            tries: 0,
            aborts_at: random.happens(20).then(|| random.below(20_000) as usize),
            state: State::Reads,
        }
    }

    /// From the same port, with the same request.
    fn begin_anew(&mut self) {
        self.left.extend(self.server.take());
        self.got.clear();
        (self.blksize, self.window, self.blocks, self.in_window) = (512, 1, 0, 0);
        self.last_said.clone_from(&self.request);
    }

    /// What came, and what it says to that.
    fn takes(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let acknowledgement = |block: u64| [&[0, 4][..], &(block as u16).to_be_bytes()].concat();
        match packet {
            [0, 6, options @ ..] => {
                if self.blocks > 0 {
                    return None;
                }
                let mut words = options
                    .split(|byte| *byte == 0)
                    .map(|word| str::from_utf8(word).unwrap());
                while let (Some(name), Some(value)) = (words.next(), words.next()) {
                    match name {
                        "blksize" => self.blksize = value.parse().unwrap(),
                        "windowsize" => self.window = value.parse().unwrap(),
                        "tsize" => assert_eq!(value.parse::<usize>().unwrap(), self.wanted.len()),
                        _ => {}
                    }
                }
                Some(acknowledgement(0))
            }
            [0, 3, high, low, data @ ..] => {
                let block = u16::from_be_bytes([*high, *low]);
                if block != (self.blocks + 1) as u16 {
                    // In lock-step a doubled block is acknowledged again; with windows a gap is told.
                    let again = self.window == 1 || self.complains_each_time || !self.complained;
                    self.complained = true;
                    self.in_window = 0;
                    return again.then(|| acknowledgement(self.blocks));
                }
                self.complained = false;
                self.tries = 0;
                self.blocks += 1;
                self.in_window += 1;
                self.got.extend_from_slice(data);
                assert!(self.wanted.starts_with(&self.got), "other bytes than the file's");
                if data.len() < self.blksize {
                    self.state = State::Done;
                }
                let tells = self.in_window >= self.window || self.state == State::Done;
                if tells {
                    self.in_window = 0;
                }
                let word = acknowledgement(self.blocks);
                if !tells {
                    // What it would say if nothing came any more.
                    self.last_said = word;
                    return None;
                }
                Some(word)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn numbers(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_client_gets_exactly_its_file_over_any_wire() {
    let seeds = match numbers("BOOTD_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..numbers("BOOTD_SIM_SEEDS").unwrap_or(400),
    };
    for seed in seeds {
        let told = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            for client in &world.clients {
                let what = String::from_utf8_lossy(&client.request).into_owned();
                match client.state {
                    State::Done => assert_eq!(client.got.len(), client.wanted.len(), "{what}"),
                    State::Aborted => {}
                    other => panic!("{other:?} after {} bytes of {what:?}", client.got.len()),
                }
            }
            assert_eq!(world.peers.len(), world.clients.len());
            let clients = world.clients.iter();
            let blocks: u64 = clients
                .map(|client| client.wanted.len() as u64 / client.blksize as u64 + 2)
                .sum();
            // Nobody makes it send without end: no apprentice. Doubled and lost packets cost some, windows more.
            let most = match seed % 4 {
                0 => blocks * 2,
                1 => blocks * 8,
                _ => blocks * 60,
            };
            assert!(world.sent <= most + 500, "{} datagrams for {blocks} blocks", world.sent);
            (world.now, blocks)
        });
        let (took, blocks) = told.unwrap_or_else(|_| panic!("BOOTD_SIM_SEED={seed} repeats it"));
        // Four seconds a block on the worst wire, on which one exchange of four fails, with a wait of three that was asked for; and a server that waits for the last word.
        let most =
            Duration::from_secs(90) + Duration::from_millis([2, 200, 1000, 4000][seed as usize % 4]) * blocks as u32;
        assert!(took < most, "seed {seed} took {took:?} for {blocks} blocks");
    }
}

#[test]
fn blocks_go_on_with_number_0_behind_65535_with_windows_and_without() {
    let file: Bytes = (0..70_000_u32 * 8 + 3).map(|n| (n / 8) as u8).collect();
    for window in [1, 16] {
        let limits = Limits {
            reads: 1,
            each: 1,
            blksize: 512,
            windowsize: 64,
            ports: Ports::Own,
        };
        let mut engine = Engine::new(limits);
        let files = Files::of([("f", file.clone())]);
        let peer = SocketAddr::from(([10, 0, 0, 1], 2000));
        let request = format!("\0\u{1}f\0octet\0blksize\08\0windowsize\0{window}\0");
        let Verdict::Begin(opening) = engine.request(peer, request.as_bytes(), &files, Duration::ZERO) else {
            panic!("refused");
        };
        let (id, _) = engine.begin(opening, 1472, Duration::ZERO);
        let (mut got, mut block) = (Vec::new(), 0_u16);
        while !engine.is_empty() {
            let packet = [&[0, 4][..], &block.to_be_bytes()].concat();
            let Some(burst) = engine.packet(id, &packet, Duration::ZERO).unwrap() else {
                break;
            };
            for (head, data) in burst.datagrams() {
                block = block.wrapping_add(1);
                assert_eq!(head[2..], block.to_be_bytes());
                got.extend_from_slice(data);
            }
        }
        assert!(got == file);
        assert_eq!(engine.ended()[0].how, End::Done);
    }
}

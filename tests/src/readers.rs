//! Many TFTP clients at once, in one thread: each reads the same file again and again, or once.
//!
//! They speak as loaders do: blksize and windowsize, an acknowledgement at the end of each window, the last word again after a second without news.
//! Every block is compared with what it should be. They receive and send with the same calls as bootd does, and sleep only until something comes.

use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bootd::net::{Burst, Inbox, Listening, Met, Outbox};
use rustix::event::{Timespec, epoll};

/// Who reads what.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The clients' address.
    pub from: IpAddr,
    /// The file's name.
    pub name: String,
    /// What must come.
    pub content: Vec<u8>,
    /// How many clients there are.
    pub clients: usize,
    /// Bytes a block; the server must grant it.
    pub blksize: usize,
    /// Blocks a window; 1 is not asked for.
    pub window: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Bytes of the file that came, each counted once a reading.
    pub bytes: u64,
    /// In this time.
    pub time: Duration,
    /// Whole files of each client.
    pub files: Vec<u64>,
    /// How long each client's first file took.
    pub first: Vec<Duration>,
    /// How often a client said something again because nothing came.
    pub again: u64,
    /// Blocks that came and were not the next one.
    pub useless: u64,
}

impl Load {
    /// Reads for so long, after half of that again that is not counted.
    pub fn for_a_while(&self, time: Duration) -> Result<Outcome> {
        self.run(|outcome, passed| match passed {
            passed if passed < time / 2 => Phase::Warm,
            passed if passed < time * 3 / 2 => Phase::Counts,
            _ => {
                outcome.time = time;
                Phase::Over
            }
        })
    }

    /// Reads until each client has the file once; an error if that takes longer than so.
    pub fn once(&self, patience: Duration) -> Result<Outcome> {
        let outcome = self.run(|outcome, passed| {
            let all = outcome.files.iter().all(|files| *files > 0);
            outcome.time = passed;
            if all || passed > patience {
                Phase::Over
            } else {
                Phase::CountsOnce
            }
        })?;
        let missing = outcome.files.iter().filter(|files| **files == 0).count();
        ensure!(
            missing == 0,
            "{missing} of {} clients have no file after {patience:?}: {} bytes came, {} repetitions",
            self.clients,
            outcome.bytes,
            outcome.again
        );
        Ok(outcome)
    }

    fn run(&self, mut phase: impl FnMut(&mut Outcome, Duration) -> Phase) -> Result<Outcome> {
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let start = Instant::now();
        let mut clients = Vec::with_capacity(self.clients);
        for number in 0..self.clients {
            let socket = Listening::open(SocketAddr::new(self.from, 0), 1 << 20).context("a client's socket")?;
            epoll::add(
                &sockets,
                &socket,
                epoll::EventData::new_u64(number as u64),
                epoll::EventFlags::IN,
            )?;
            clients.push(Client::new(socket));
        }
        let mut outcome = Outcome {
            files: vec![0; self.clients],
            first: vec![Duration::ZERO; self.clients],
            ..Outcome::default()
        };
        let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
        for client in &mut clients {
            client.ask(self, &mut outbox);
        }
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
        let mut looked = Instant::now();
        let tick = Timespec::try_from(TICK).ok();
        loop {
            let now = match phase(&mut outcome, start.elapsed()) {
                Phase::Over => return Ok(outcome),
                now => now,
            };
            let (events, _) = epoll::wait(&sockets, &mut room, tick.as_ref())?;
            for event in events {
                let number = event.data.u64() as usize;
                let Some(client) = clients.get_mut(number) else {
                    continue;
                };
                if client.socket.receive(&mut inbox).is_err() {
                    continue;
                }
                let mut came = Came::default();
                for (bytes, met) in inbox.datagrams() {
                    client.takes(self, bytes.unwrap_or_default(), met, &mut came)?;
                }
                outcome.useless += came.useless;
                if now != Phase::Warm {
                    outcome.bytes += came.bytes;
                }
                if came.is_whole {
                    if outcome.files[number] == 0 {
                        outcome.first[number] = start.elapsed();
                    }
                    if now != Phase::Warm {
                        outcome.files[number] += 1;
                    }
                }
                client.answer(self, &came, now != Phase::CountsOnce, &mut outbox);
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                for client in &mut clients {
                    outcome.again += u64::from(client.said_again(looked, &mut outbox));
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warm,
    Counts,
    /// And no client reads a second time.
    CountsOnce,
    Over,
}

struct Client {
    socket: Listening,
    /// Where the server's transfer is met.
    server: Option<Met>,
    blocks: u64,
    in_window: u64,
    complained: bool,
    /// Its last word, whom that was for, and when.
    last: Vec<u8>,
    told: Option<Met>,
    said: Instant,
    is_over: bool,
}

/// What one receive brought.
#[derive(Default)]
struct Came {
    bytes: u64,
    useless: u64,
    /// Whether what came is to be acknowledged.
    says: bool,
    is_whole: bool,
}

impl Client {
    fn new(socket: Listening) -> Self {
        Self {
            socket,
            server: None,
            blocks: 0,
            in_window: 0,
            complained: false,
            last: Vec::new(),
            told: None,
            said: Instant::now(),
            is_over: false,
        }
    }

    fn ask(&mut self, load: &Load, outbox: &mut Outbox) {
        (self.server, self.blocks, self.in_window, self.is_over) = (None, 0, 0, false);
        let mut request = format!("\0\u{1}{}\0octet\0blksize\0{}\0", load.name, load.blksize);
        if load.window > 1 {
            request += &format!("windowsize\0{}\0", load.window);
        }
        let to = Met {
            peer: load.server,
            ours: self.socket.address().ip(),
            interface: 0,
            is_ours_alone: true,
        };
        self.say(request.into_bytes(), to, outbox);
    }

    fn takes(&mut self, load: &Load, packet: &[u8], met: &Met, came: &mut Came) -> Result<()> {
        if self.server.is_some_and(|server| server.peer != met.peer) {
            // Of the reading before.
            came.useless += 1;
            return Ok(());
        }
        match packet {
            [0, 6, options @ ..] => {
                let mut words = options.split(|byte| *byte == 0);
                while let (Some(name), Some(value)) = (words.next(), words.next()) {
                    let wanted = match name {
                        b"blksize" => load.blksize as u64,
                        b"windowsize" => load.window,
                        _ => continue,
                    };
                    let value = String::from_utf8_lossy(value);
                    ensure!(
                        value == wanted.to_string(),
                        "{wanted} was asked for and {value} granted"
                    );
                }
                self.server = Some(*met);
                came.says = self.blocks == 0;
            }
            [0, 3, high, low, data @ ..] => {
                if self.server.is_none()
                    || self.is_over
                    || u16::from_be_bytes([*high, *low]) != (self.blocks + 1) as u16
                {
                    came.useless += 1;
                    // A gap is told once; what came twice, when there is nothing else to say.
                    came.says |= load.window == 1 || !self.complained;
                    self.complained = true;
                    self.in_window = 0;
                    return Ok(());
                }
                let from = self.blocks as usize * load.blksize;
                let wanted = load.content.get(from..load.content.len().min(from + load.blksize));
                ensure!(wanted == Some(data), "block {} holds something else", self.blocks + 1);
                self.complained = false;
                self.blocks += 1;
                self.in_window += 1;
                came.bytes += data.len() as u64;
                self.is_over = data.len() < load.blksize;
                came.is_whole |= self.is_over;
                if self.is_over || self.in_window >= load.window {
                    self.in_window = 0;
                    came.says = true;
                }
            }
            [0, 5, _, code, text @ ..] => bail!("error {code}: {}", String::from_utf8_lossy(text)),
            other => bail!("what is {other:?}"),
        }
        Ok(())
    }

    fn answer(&mut self, load: &Load, came: &Came, again: bool, outbox: &mut Outbox) {
        if let (true, Some(server)) = (came.says, self.server) {
            let [.., high, low] = self.blocks.to_be_bytes();
            self.say(vec![0, 4, high, low], server, outbox);
        }
        if came.is_whole && again {
            self.ask(load, outbox);
        }
    }

    fn said_again(&mut self, now: Instant, outbox: &mut Outbox) -> bool {
        if self.is_over || now.saturating_duration_since(self.said) < PATIENCE {
            return false;
        }
        let Some(to) = self.told else { return false };
        let last = std::mem::take(&mut self.last);
        self.say(last, to, outbox);
        true
    }

    fn say(&mut self, packet: Vec<u8>, to: Met, outbox: &mut Outbox) {
        self.last.clone_from(&packet);
        (self.told, self.said) = (Some(to), Instant::now());
        outbox.add(Burst::of(packet.into()), Some(to));
        // What does not leave is lost.
        self.socket.send(outbox, |_, _| {});
    }
}

/// How often it is looked for who waits in vain.
const TICK: Duration = Duration::from_millis(100);
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(1);

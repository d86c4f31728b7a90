//! Many HTTP clients at once, in one thread: each reads a list of objects over one connection, once or again and again.
//!
//! Each has an address of its own, as nodes have. Bodies are compared with what they should be, or thrown away by the kernel, which costs next
//! to nothing, so that servers are measured and not their clients.

use std::io::Write;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Socket, Type};

use super::origin;

/// Who reads what.
pub struct Fetches {
    /// Where the server listens, on the loopback interface.
    pub port: u16,
    /// The paths that each client reads, one after the other.
    pub clients: Vec<Vec<String>>,
    /// How many of them, from the first one on, compare what comes.
    pub compare: usize,
}

/// What one client saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// When the first byte of its first body came.
    pub first: Instant,
    /// When the last byte of its last one did.
    pub last: Instant,
}

/// What came in a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Bytes of bodies.
    pub bytes: u64,
    /// Whole answers.
    pub answers: u64,
    /// In this time.
    pub time: Duration,
    /// What the server used of processors meanwhile.
    pub used: Duration,
}

impl Fetches {
    /// So many clients that all read this one object.
    pub fn of_one(port: u16, path: &str, clients: usize) -> Self {
        Self {
            port,
            clients: vec![vec![path.to_owned()]; clients],
            compare: 0,
        }
    }

    /// Reads until each client has its list; what each one saw, or why it has not.
    pub fn once(&self, patience: Duration) -> Result<Vec<Result<Seen>>> {
        let mut crowd = Crowd::gather(self, Then::Leave)?;
        let start = Instant::now();
        while crowd.open > 0 && start.elapsed() < patience {
            crowd.step()?;
        }
        let seen = |client: Client<'_>| match client.state {
            State::Left(seen) => Ok(seen),
            State::Failed(error) => Err(error),
            _ => bail!("not within {} s", patience.as_secs()),
        };
        Ok(crowd.clients.into_iter().map(seen).collect())
    }

    /// Reads for so long, after half of that again that is not counted; `used` tells what the server has used so far.
    pub fn for_a_while(&self, time: Duration, used: impl Fn() -> Result<Duration>) -> Result<Outcome> {
        let mut crowd = Crowd::gather(self, Then::Again)?;
        crowd.step_for(time / 2)?;
        let (before, start) = (used()?, Instant::now());
        (crowd.bytes, crowd.answers) = (0, 0);
        crowd.step_for(time)?;
        Ok(Outcome {
            bytes: crowd.bytes,
            answers: crowd.answers,
            time: start.elapsed(),
            used: used()?.saturating_sub(before),
        })
    }
}

/// What a client does at the end of its list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Leave,
    Again,
}

struct Crowd<'a> {
    sockets: rustix::fd::OwnedFd,
    clients: Vec<Client<'a>>,
    buffer: Vec<u8>,
    then: Then,
    open: usize,
    bytes: u64,
    answers: u64,
}

struct Client<'a> {
    stream: TcpStream,
    paths: &'a [String],
    /// Which of them is read.
    turn: usize,
    compares: bool,
    first: Option<Instant>,
    state: State,
}

enum State {
    /// What came of the head.
    Head(Vec<u8>),
    Body {
        at: u64,
        len: u64,
    },
    Left(Seen),
    Failed(anyhow::Error),
}

impl<'a> Crowd<'a> {
    /// Connects all of them, and then has each ask.
    fn gather(fetches: &'a Fetches, then: Then) -> Result<Self> {
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(fetches.clients.len());
        for (number, paths) in fetches.clients.iter().enumerate() {
            let stream = connect(number, fetches.port)?;
            let token = epoll::EventData::new_u64(number as u64);
            epoll::add(&sockets, &stream, token, epoll::EventFlags::IN)?;
            clients.push(Client {
                stream,
                paths,
                turn: 0,
                compares: number < fetches.compare,
                first: None,
                state: State::Head(Vec::new()),
            });
        }
        for client in &mut clients {
            client.ask()?;
        }
        Ok(Self {
            sockets,
            open: clients.len(),
            clients,
            buffer: vec![0; BUFFER],
            then,
            bytes: 0,
            answers: 0,
        })
    }

    fn step_for(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            self.step()?;
            if self.open < self.clients.len() {
                bail!("{}", self.first_failure());
            }
        }
        Ok(())
    }

    fn first_failure(&self) -> String {
        let failed = self.clients.iter().find_map(|client| match &client.state {
            State::Failed(error) => Some(error.to_string()),
            _ => None,
        });
        failed.unwrap_or_default()
    }

    fn step(&mut self) -> Result<()> {
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; 256];
        let tick = Timespec::try_from(TICK).ok();
        let (events, _) = epoll::wait(&self.sockets, &mut room, tick.as_ref())?;
        for event in events {
            let Some(client) = self.clients.get_mut(event.data.u64() as usize) else {
                continue;
            };
            match client.takes(&mut self.buffer, self.then) {
                Ok(came) => {
                    self.bytes += came.bytes;
                    self.answers += u64::from(came.is_whole);
                }
                Err(error) => client.state = State::Failed(error),
            }
            if matches!(client.state, State::Left(_) | State::Failed(_)) {
                let _ = epoll::delete(&self.sockets, &client.stream);
                self.open -= 1;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Came {
    bytes: u64,
    is_whole: bool,
}

impl Client<'_> {
    fn ask(&mut self) -> Result<()> {
        let path = &self.paths[self.turn];
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.stream.write_all(request.as_bytes()).context("ask")
    }

    /// Reads once.
    fn takes(&mut self, buffer: &mut [u8], then: Then) -> Result<Came> {
        match &mut self.state {
            State::Head(head) => {
                let (_, read) = recv(&self.stream, &mut buffer[..HEAD], RecvFlags::empty())?;
                ensure!(read > 0, "the server closed the connection before an answer");
                head.extend_from_slice(&buffer[..read]);
                let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    ensure!(head.len() < HEAD, "a head without end");
                    return Ok(Came::default());
                };
                let body = head.split_off(end + 4);
                let len = length(head)?;
                self.state = State::Body { at: 0, len };
                self.has(body.len() as u64, self.compares.then_some(&body), then)
            }
            State::Body { at, len } => {
                let most = usize::try_from(*len - *at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let how = if self.compares {
                    RecvFlags::empty()
                } else {
                    RecvFlags::TRUNC
                };
                let (_, read) = recv(&self.stream, &mut buffer[..most], how)?;
                ensure!(read > 0, "the server closed the connection {} bytes early", *len - *at);
                self.has(read as u64, self.compares.then(|| &buffer[..read]), then)
            }
            State::Left(_) | State::Failed(_) => Ok(Came::default()),
        }
    }

    /// So many bytes of the body came.
    fn has(&mut self, bytes: u64, compare: Option<&[u8]>, then: Then) -> Result<Came> {
        let State::Body { at, len } = &mut self.state else {
            return Ok(Came::default());
        };
        ensure!(compare.is_none_or(|came| origin::is_right(*at, came)), "wrong bytes");
        *at += bytes;
        ensure!(*at <= *len, "more bytes than were announced");
        if bytes > 0 {
            self.first.get_or_insert_with(Instant::now);
        }
        let is_whole = *at == *len;
        if is_whole {
            self.go_on(then)?;
        }
        Ok(Came { bytes, is_whole })
    }

    fn go_on(&mut self, then: Then) -> Result<()> {
        self.turn += 1;
        if self.turn == self.paths.len() {
            if then == Then::Leave {
                let last = Instant::now();
                let first = self.first.unwrap_or(last);
                self.state = State::Left(Seen { first, last });
                return Ok(());
            }
            self.turn = 0;
        }
        self.state = State::Head(Vec::new());
        self.ask()
    }
}

/// A connection from the address of client `number`.
fn connect(number: usize, port: u16) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let [_, _, high, low] = (number as u32 + 1).to_be_bytes();
    let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    socket.bind(&from.into())?;
    socket
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .context("connect")?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The length of a good answer.
fn length(head: &[u8]) -> Result<u64> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    ensure!(first.split(' ').nth(1) == Some("200"), "the answer is {first}");
    let length = lines.find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.with_context(|| format!("an answer without length: {head}"))
}

const TICK: Duration = Duration::from_millis(10);
const HEAD: usize = 16 * 1024;
const BUFFER: usize = 1 << 20;

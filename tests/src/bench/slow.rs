//! Thousands of readers at once that take next to nothing: nodes whose links are bad, or that stand still. What each of them holds of the server.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// What came of them.
pub struct Outcome {
    /// Readers whose answer began well and goes on.
    pub served: usize,
    /// The longest that one waited for its first byte.
    pub waited: Duration,
    /// Bytes that all of them together read.
    pub bytes: u64,
    /// Bytes of memory that the server has for itself, beyond what it maps of files.
    pub memory: u64,
    /// The same before they came.
    pub before: u64,
}

/// So many read the object at this path, each a little once a second, for so long.
pub fn run(port: u16, path: &str, readers: usize, pid: u32, time: Duration) -> Result<Outcome> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    let before = memory(pid)?;
    let mut open = (0..readers)
        .map(|number| ask(port, path, number))
        .collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let mut outcome = Outcome {
        served: 0,
        waited: Duration::ZERO,
        bytes: 0,
        memory: 0,
        before,
    };
    while start.elapsed() < time {
        let round = Instant::now();
        for reader in &mut open {
            reader.read(&mut outcome);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    outcome.memory = memory(pid)?;
    outcome.served = open.iter().filter(|reader| reader.state == State::Reads).count();
    Ok(outcome)
}

struct Reader {
    stream: TcpStream,
    asked: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Reads,
    Failed,
}

fn ask(port: u16, path: &str, number: usize) -> Result<Reader> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    // As little as the system gives, or all of it would be on the way at once.
    socket.set_recv_buffer_size(4096)?;
    let [high, low] = u16::try_from(number % 60_000 + 1)?.to_be_bytes();
    let own = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
    socket.bind(&own.into())?;
    socket
        .connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .with_context(|| format!("reader {number}"))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(Reader {
        stream,
        asked: Instant::now(),
        state: State::Waits,
    })
}

impl Reader {
    fn read(&mut self, outcome: &mut Outcome) {
        let mut buffer = [0; A_LITTLE];
        self.state = match self.stream.read(&mut buffer) {
            Ok(0) => State::Failed,
            Ok(_) if self.state == State::Waits && !buffer.starts_with(b"HTTP/1.1 200") => State::Failed,
            Ok(length) => {
                if self.state == State::Waits {
                    outcome.waited = outcome.waited.max(self.asked.elapsed());
                }
                outcome.bytes += length as u64;
                State::Reads
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.state,
            Err(_) => State::Failed,
        };
    }
}

/// Anonymous memory of a process.
fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = kilobytes.context("no RssAnon")?.parse()?;
    Ok(kilobytes << 10)
}

/// Bytes a second.
const A_LITTLE: usize = 2048;

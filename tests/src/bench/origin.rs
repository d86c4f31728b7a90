//! Where objects come from: a web server that makes up objects of any length and counts every byte of them that it sends.
//!
//! `/<bucket>/<length>/<name>` has so many bytes, the same in every object. All its connections share one pace, as behind one link to a site.
//! Threads and plain sockets, so that a byte is counted when the kernel has taken it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// A running one; its threads end with the process.
pub struct Origin {
    /// Where it listens, on the loopback interface.
    pub port: u16,
    shared: Arc<Shared>,
}

/// What it sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Answers with a body.
    pub bodies: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// When the first of them left.
    pub first: Option<Instant>,
}

#[derive(Default)]
struct Shared {
    sent: Mutex<Sent>,
    pace: Mutex<Pace>,
}

/// Bytes a second, of all connections together.
#[derive(Default)]
struct Pace {
    rate: Option<u64>,
    /// When the link is free again.
    free: Option<Instant>,
}

impl Origin {
    /// Starts it; it sends as fast as it can.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("the origin's port")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                // Whoever goes away in the middle is no mistake of the origin.
                thread::spawn(move || shared.serve(&stream).is_ok());
            }
        });
        Ok(Self { port, shared })
    }

    /// From now on it sends so many bytes a second, or as many as it can.
    pub fn set_pace(&self, rate: Option<u64>) {
        *lock(&self.shared.pace) = Pace { rate, free: None };
    }

    /// What it sent since the last time.
    pub fn take(&self) -> Sent {
        std::mem::take(&mut *lock(&self.shared.sent))
    }
}

/// The bytes of every object from this place on, as far as they are at hand in one piece.
pub fn bytes_at(at: u64) -> &'static [u8] {
    static PIECE: OnceLock<Vec<u8>> = OnceLock::new();
    let piece = PIECE.get_or_init(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        std::iter::repeat_with(next).take(PERIOD).collect()
    });
    piece.get((at % PERIOD as u64) as usize..).unwrap_or_default()
}

/// Whether these are the bytes of an object from this place on.
pub fn is_right(mut at: u64, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let wanted = bytes_at(at);
        let many = wanted.len().min(bytes.len());
        if wanted[..many] != bytes[..many] {
            return false;
        }
        at += many as u64;
        bytes = &bytes[many..];
    }
    true
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream);
        while self.answer(&mut requests, stream)? {}
        Ok(())
    }

    /// Answers a request; whether there may be another one.
    fn answer(&self, requests: &mut impl BufRead, mut to: &TcpStream) -> Result<bool> {
        let mut first = String::new();
        let mut is_last = false;
        loop {
            let mut line = String::new();
            ensure!(requests.read_line(&mut line)? > 0, "the connection ended");
            let line = line.trim_end();
            match () {
                () if first.is_empty() => first = line.to_owned(),
                () if line.is_empty() => break,
                () => is_last |= line.eq_ignore_ascii_case("connection: close"),
            }
        }
        let mut words = first.split(' ');
        let (method, path) = words.next().zip(words.next()).context("no request")?;
        let len = path.split('/').nth(2).and_then(|len| len.parse().ok());
        let len: u64 = len.with_context(|| format!("no length in {path}"))?;
        is_last |= words.next() != Some("HTTP/1.1");
        let connection = if is_last { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nETag: \"{len}\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: application/octet-stream\r\n{connection}\r\n"
        );
        to.write_all(head.as_bytes())?;
        if method == "GET" {
            lock(&self.sent).bodies += 1;
            self.send(len, to)?;
        }
        Ok(!is_last)
    }

    fn send(&self, len: u64, mut to: &TcpStream) -> Result<()> {
        let mut at = 0;
        while at < len {
            let part = bytes_at(at);
            let most = part.len().min(PART).min(usize::try_from(len - at).unwrap_or(PART));
            self.wait_for_the_link(most);
            let written = to.write(&part[..most])?;
            ensure!(written > 0, "the connection takes nothing");
            at += written as u64;
            let mut sent = lock(&self.sent);
            sent.bytes += written as u64;
            sent.first.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn wait_for_the_link(&self, bytes: usize) {
        let turn = {
            let mut pace = lock(&self.pace);
            let Some(rate) = pace.rate else { return };
            let now = Instant::now();
            let turn = pace.free.map_or(now, |free| free.max(now));
            pace.free = Some(turn + Duration::from_secs_f64(bytes as f64 / rate as f64));
            turn
        };
        thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Odd, so that a piece at a wrong place is wrong nearly everywhere.
const PERIOD: usize = (1 << 20) - 3;
/// Bytes that leave at once: at 4 MB/s each 16 ms.
const PART: usize = 64 * 1024;

//! The TFTP service: async-tftp on one thread of its own, with tight limits, over the table of [`Files`].
//!
//! Promises: opening a file never waits; a read counts as done when its last block was read out and the client did not let the
//! retries run out; nothing that a client sends ends the service, and should it end all the same it starts again on the same socket.
//! The engine drops silently what it cannot parse (no NUL in the first 4096 bytes, a name that is not UTF-8, an unknown mode) and does not hear a
//! client's ERROR: a firmware that probes with `tsize` and aborts costs a socket and six small packets in six seconds. Callers see none of
//! the engine, so that it can be replaced.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_tftp::packet;
use async_tftp::server::{Handler, TftpServerBuilder};
use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::{Either, select};
use rustix::net::sockopt;
use tokio::sync::oneshot;

use super::{Files, Kind, Refused};
use crate::config::{Config, Tftp};
use crate::metrics::Metrics;

/// A running TFTP service. Dropping it ends it too, without waiting.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    stop: oneshot::Sender<Infallible>,
    thread: JoinHandle<()>,
}

/// A TFTP service that does not start.
#[derive(Debug, thiserror::Error)]
pub enum TftpError {
    /// The port is taken, not allowed, or the address is not this machine's.
    #[error("TFTP cannot listen on {address}: {why}{}", hint(why))]
    Bind {
        /// Where it should listen.
        address: SocketAddr,
        /// Why it cannot. Not a `source`: whoever prints the chain would say it twice.
        why: io::Error,
    },
    /// The thread cannot be started.
    #[error("the TFTP thread cannot be started: {0}")]
    Thread(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (another program listens there: stop it, or choose another tftp.port)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

/// Listens on [`Config::address`] and [`Tftp::port`] (0 takes a free one) and serves until stopped. What `files` holds when a read begins
/// is what that read gets.
pub fn start(config: &Config, files: Arc<ArcSwap<Files>>, metrics: Arc<Metrics>) -> Result<Service, TftpError> {
    start_with(config, files, metrics, Limits::default())
}

impl Service {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, with the transfers under way, and waits for its thread.
    pub fn stop(self) {
        drop(self.stop);
        // The thread catches its panics; if it did not, there is nothing left to end.
        let _ = self.thread.join();
    }
}

fn start_with(
    config: &Config,
    files: Arc<ArcSwap<Files>>,
    metrics: Arc<Metrics>,
    limits: Limits,
) -> Result<Service, TftpError> {
    // Answers leave from the address that was asked; with several, the route to the client decides.
    let address = SocketAddr::from((config.tftp_address(), config.tftp.port));
    let bind = |why| TftpError::Bind { address, why };
    let socket = UdpSocket::bind(address).map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    // A whole rack may power on at once. Without the privilege the system's limit holds, and clients that were not heard ask again.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER));

    let (stop, stopped) = oneshot::channel();
    let desk = Desk {
        files,
        metrics,
        limits,
        open: Arc::default(),
    };
    let tftp = config.tftp.clone();
    let thread = std::thread::Builder::new()
        .name("tftp".into())
        .spawn(move || supervise(&desk, stopped, || serve(&socket, &tftp, desk.clone())))
        .map_err(TftpError::Thread)?;
    tracing::info!(%address, "tftp listens");
    Ok(Service { address, stop, thread })
}

/// Serves until stopped, whatever happens to the engine.
fn supervise<S>(desk: &Desk, mut stopped: oneshot::Receiver<Infallible>, serve: impl Fn() -> S)
where
    S: Future<Output = Result<(), async_tftp::Error>>,
{
    loop {
        let served = catch_unwind(AssertUnwindSafe(|| until_stopped(&mut stopped, serve())));
        match served {
            Ok(Ended::Stopped) => return,
            Ok(Ended::ByItself(error)) => tracing::error!(%error, "tftp service ended, starting again"),
            Err(_) => tracing::error!("tftp service panicked, starting again"),
        }
        desk.metrics.done("tftp", "restarted");
        let pause = async {
            async_io::Timer::after(desk.limits.pause).await;
            Ok(())
        };
        if let Ended::Stopped = until_stopped(&mut stopped, pause) {
            return;
        }
    }
}

/// How a future under [`until_stopped`] ended.
enum Ended {
    Stopped,
    ByItself(String),
}

fn until_stopped(
    stopped: &mut oneshot::Receiver<Infallible>,
    work: impl Future<Output = Result<(), async_tftp::Error>>,
) -> Ended {
    match async_io::block_on(select(stopped, pin!(work))) {
        Either::Left(_) => Ended::Stopped,
        Either::Right((Ok(()), _)) => Ended::ByItself("no error".into()),
        Either::Right((Err(error), _)) => Ended::ByItself(error.to_string()),
    }
}

async fn serve(socket: &UdpSocket, tftp: &Tftp, desk: Desk) -> Result<(), async_tftp::Error> {
    let Limits { timeout, retries, .. } = desk.limits;
    TftpServerBuilder::with_handler(desk)
        .std_socket(socket.try_clone()?)?
        .timeout(timeout)
        .max_send_retries(retries)
        .ignore_client_timeout()
        .block_size_limit(tftp.blksize)
        .window_size_limit(tftp.windowsize)
        .build()
        .await?
        .serve()
        .await
}

/// What bounds a transfer, and all of them.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How long an ACK may take.
    timeout: Duration,
    /// How often a window is sent again.
    retries: u32,
    /// Reads under way at once; each holds a socket.
    reads: usize,
    /// Of these, one client's.
    each: usize,
    /// Between the end of an engine and the start of the next.
    pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // A flood of requests must leave descriptors to the other services.
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = descriptors.map_or(READS, |most| usize::try_from(most / 2).unwrap_or(READS));
        Self {
            timeout: Duration::from_secs(1),
            retries: 5,
            reads: READS.min(half),
            each: READS_EACH,
            pause: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// How long a client is waited for at least before the engine gives it up.
    fn patience(self) -> Duration {
        self.timeout * (self.retries + 1)
    }
}

/// Where requests arrive: hands out files or says why not.
#[derive(Clone)]
struct Desk {
    files: Arc<ArcSwap<Files>>,
    metrics: Arc<Metrics>,
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

/// Reads under way.
#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Handler for Desk {
    type Reader = Transfer;
    type Writer = NoWriter;

    fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> impl Future<Output = Result<(Transfer, Option<u64>), packet::Error>> + Send {
        let name = path.to_string_lossy();
        // A panic here would end every transfer, not just this one.
        let opened = catch_unwind(AssertUnwindSafe(|| self.open(*client, &name)));
        std::future::ready(opened.unwrap_or_else(|_| {
            self.metrics.refused("tftp", "panic", client, &Shown(&name));
            Err(packet::Error::UnknownError)
        }))
    }

    fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> impl Future<Output = Result<NoWriter, packet::Error>> + Send {
        let name = path.to_string_lossy();
        self.metrics.refused("tftp", "write", client, &Shown(&name));
        std::future::ready(Err(packet::Error::IllegalOperation))
    }
}

impl Desk {
    fn open(&self, peer: SocketAddr, name: &str) -> Result<(Transfer, Option<u64>), packet::Error> {
        let files = self.files.load();
        let file = files.find(name).map_err(|refused| {
            self.metrics.refused("tftp", refused.label(), &peer, &Shown(name));
            match refused {
                Refused::Empty | Refused::Unknown => packet::Error::FileNotFound,
                Refused::TooLong | Refused::Control | Refused::Dots => packet::Error::PermissionDenied,
            }
        })?;
        // `Transfer` gives the place back when it is dropped.
        self.take_place(peer.ip()).map_err(|(label, told)| {
            self.metrics.refused("tftp", label, &peer, &Shown(name));
            packet::Error::Msg(told.into())
        })?;
        let size = file.bytes.len() as u64;
        let reading = Transfer {
            desk: self.clone(),
            peer,
            name: Shown(name).to_string(),
            kind: file.kind,
            bytes: file.bytes.clone(),
            at: 0,
            ended: None,
        };
        Ok((reading, Some(size)))
    }

    /// A place for a read, or the metric label and the client's text of why there is none. The engine cannot be silent: it answers whatever
    /// is refused.
    fn take_place(&self, client: IpAddr) -> Result<(), (&'static str, &'static str)> {
        let mut open = self.places();
        if open.all >= self.limits.reads {
            return Err(("too_many_reads", "too many transfers, try again"));
        }
        let own = open.by_client.entry(client).or_default();
        if *own >= self.limits.each {
            return Err(("too_many_reads_of_client", "too many transfers of yours, try again"));
        }
        *own += 1;
        open.all += 1;
        Ok(())
    }

    fn give_place_back(&self, client: IpAddr) {
        let mut open = self.places();
        open.all -= 1;
        if let Entry::Occupied(mut own) = open.by_client.entry(client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    fn places(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read under way; its end, good or bad, is told when it is dropped.
struct Transfer {
    desk: Desk,
    peer: SocketAddr,
    name: String,
    kind: Kind,
    bytes: Bytes,
    at: usize,
    /// When the engine saw the end of the file; it then sends the last window.
    ended: Option<Instant>,
}

impl AsyncRead for Transfer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let left = &self.bytes[self.at..];
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        self.at += read;
        if read == 0 && self.ended.is_none() {
            self.ended = Some(Instant::now());
        }
        Poll::Ready(Ok(read))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.desk.give_place_back(self.peer.ip());
        let Desk { metrics, limits, .. } = &self.desk;
        let (peer, file, bytes) = (self.peer, &self.name, self.at);
        // The engine drops a read alike after the last ACK and after the last retry; only the time tells them apart.
        let done = self.ended.is_some_and(|ended| ended.elapsed() < limits.patience());
        if done {
            metrics.done("tftp", "read");
            metrics.sent("tftp", self.kind.label(), bytes as u64);
            tracing::info!(%peer, %file, bytes, done, "tftp read");
        } else {
            // Ordinary: a UEFI firmware asks for the size first and aborts.
            metrics.done("tftp", "aborted");
            tracing::debug!(%peer, %file, bytes, done, "tftp read");
        }
    }
}

/// Nothing is ever written.
enum NoWriter {}

impl AsyncWrite for NoWriter {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

/// A name from outside, as it may stand in a log line.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(SHOWN) {
            write!(f, "{}", char.escape_debug())?;
        }
        if chars.next().is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

/// Requests that wait for the thread, in bytes as the kernel counts them.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Reads under way at once, if the process may open twice as many files.
const READS: usize = 4096;
/// Reads of one client at once: a firmware that asks for a size and aborts leaves one behind for [`Limits::patience`].
const READS_EACH: usize = 8;
/// Characters of a name in a log line.
const SHOWN: usize = 100;

#[cfg(test)]
mod tests;

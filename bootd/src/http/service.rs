//! Accepts connections and keeps them within bounds: how many at once, how long a TLS handshake and a head may take, how large a head may
//! be.
//!
//! Owns its sockets; everything about the meaning of a request is the router's. Ends when the shutdown token is cancelled: no new
//! connections, open ones get a moment to finish.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Body;
use super::deadline::HeadDeadline;
use super::door::Door;
use super::plain::{Plain, Slot};
use super::router::{Connection, InService};
use super::tls::handshake;
use crate::config::Listener;
use crate::net::Sockets;

/// Connections of one listener at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 8192;
/// Bytes of a request's head.
const MOST_HEAD: usize = 32 * 1024;
/// Connections of one client at once: iPXE and curl need few, a node that comes back from a crash leaves some behind.
const MOST_OF_ONE: usize = 64;
/// How long a client may take nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a head may take; slower clients are cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long open connections may go on after a stop.
const DRAIN: Duration = Duration::from_secs(5);

/// A listener that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("http.listener {address}: {source}{}", hint(source))]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl BindError {
    /// What the system says.
    pub fn kind(&self) -> std::io::ErrorKind {
        self.source.kind()
    }

    /// Where it should listen.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (another program listens there: stop it, or choose another port)",
        std::io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        std::io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        _ => "",
    }
}

/// Opens a listener's socket, or takes the one that was handed over for its address. Must run within a tokio runtime.
pub fn bind(listener: &Listener, sockets: &Sockets) -> Result<Arc<TcpListener>, BindError> {
    let opened = match sockets.tcp(listener.address) {
        Some(socket) => take_over(socket, listener),
        None => open(listener),
    };
    let socket = opened.map_err(|source| BindError {
        address: listener.address,
        source,
    })?;
    let socket = Arc::new(socket);
    sockets.lend(&socket);
    Ok(socket)
}

fn take_over(socket: std::net::TcpListener, listener: &Listener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    prepare(&SockRef::from(&socket), listener)?;
    tracing::info!(listener = %listener.address, "its socket was handed over");
    TcpListener::from_std(socket)
}

fn open(listener: &Listener) -> io::Result<TcpListener> {
    let socket = if listener.address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket?;
    socket.set_reuseaddr(true)?;
    let options = SockRef::from(&socket);
    prepare(&options, listener)?;
    if listener.address.is_ipv6() && listener.address.ip().is_unspecified() {
        // Every address, of IPv4 as well, whatever the system's default is.
        options.set_only_v6(false)?;
    }
    socket.bind(listener.address)?;
    socket.listen(4096)
}

/// What is set here the connections have from the start, without a call for each of them.
fn prepare(socket: &SockRef<'_>, listener: &Listener) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A client that is gone, or takes nothing, is cut off by the kernel: hyper has no time limit for writing.
    socket.set_tcp_user_timeout(Some(WRITE_TIMEOUT))?;
    let keepalive = socket2::TcpKeepalive::new().with_time(WRITE_TIMEOUT);
    socket.set_tcp_keepalive(&keepalive)?;
    match listener.pace {
        Some(pace) => crate::net::set_pace(&**socket, pace),
        None => Ok(()),
    }
}

/// Serves a listener until the shutdown token is cancelled, or the door is left and the last connection ended. What the configuration says of it counts
/// from each next request on.
pub async fn run(
    socket: Arc<TcpListener>,
    listener: Arc<Listener>,
    app: InService,
    door: Door,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(most_connections()));
    let seats: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
    let connections = TaskTracker::new();
    loop {
        let slot = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = door.closes() => match door.is_open().await {
                true => continue,
                false => break,
            },
            accepted = socket.accept() => accepted,
        };
        let now = app.load_full();
        match accepted {
            Ok((stream, peer)) => {
                // On `[::]` clients of IPv4 come with mapped addresses.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let listener = Arc::clone(now.listener(listener.address).unwrap_or(&listener));
                let Some(seat) = Seat::take(&seats, peer.ip(), &listener.trusted_proxies) else {
                    now.metrics
                        .refused("http", "too_many_connections", &peer, &"of one client");
                    continue;
                };
                let (app, door, shutdown) = (Arc::clone(&app), door.clone(), shutdown.clone());
                connections.spawn(async move {
                    serve(stream, peer, listener, app, door, shutdown).await;
                    drop((slot, seat));
                });
            }
            Err(error) => {
                // Out of descriptors, or a client that was gone before it was accepted: never a reason to stop.
                now.metrics.refused("http", "accept", &listener.address, &error);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Another one may want to listen there.
    drop(socket);
    connections.close();
    if door.is_left() {
        tokio::select! {
            () = connections.wait() => {}
            () = shutdown.cancelled() => {}
        }
    }
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(listener = %listener.address, open = connections.len(), "connections were still open at the end");
    }
}

/// A listener takes at most a quarter of the descriptors that the process may have: an artifact needs two, other parts some.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let quarter = limit.map_or(MOST_CONNECTIONS, |limit| {
        usize::try_from(limit / 4).unwrap_or(MOST_CONNECTIONS)
    });
    quarter.clamp(16, MOST_CONNECTIONS)
}

/// One of a client's connections; dropped when it ends.
struct Seat {
    seats: Arc<Mutex<HashMap<IpAddr, usize>>>,
    client: IpAddr,
}

impl Seat {
    /// `None`: the client has as many as it may. A trusted proxy speaks for many clients and has no limit of its own.
    fn take(seats: &Arc<Mutex<HashMap<IpAddr, usize>>>, client: IpAddr, proxies: &[IpAddr]) -> Option<Self> {
        let client = client.to_canonical();
        let mut taken = seats.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(client).or_default();
        if *count >= MOST_OF_ONE && !proxies.contains(&client) {
            return None;
        }
        *count += 1;
        Some(Self {
            seats: Arc::clone(seats),
            client,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    app: InService,
    door: Door,
    shutdown: CancellationToken,
) {
    let begun = app.load_full();
    // A listener with an address of its own knows it already.
    let local = match listener.address.ip().is_unspecified() {
        true => stream.local_addr().unwrap_or(listener.address),
        false => listener.address,
    };
    let offered = begun.certificates.of(&listener);
    let metrics = Arc::clone(&begun.metrics);
    drop(begun);
    let speaks_tls = listener.tls.is_some();
    let connection = Connection { listener, local, peer };
    let slot = Slot::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (app, mut connection, slot, door) = (app.load_full(), connection.clone(), slot.clone(), door.clone());
        async move {
            let listener = app.listener(connection.listener.address);
            // Between one that speaks TLS and one that does not there is no way for a connection.
            if let Some(listener) = listener.filter(|listener| listener.tls.is_some() == speaks_tls) {
                connection.listener = Arc::clone(listener);
            }
            let mut response = app.respond(&connection, request).await;
            slot.set(response.extensions_mut().remove());
            if door.is_left() {
                // The next request is for the other process, which has all that changed since.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let ended = match (speaks_tls, offered) {
        (false, _) => converse(Plain::new(stream, slot.clone()), service, HEAD_TIMEOUT, &shutdown).await,
        // Never plain in its place.
        (true, None) => return,
        (true, Some(offered)) => {
            let made = tokio::select! {
                () = shutdown.cancelled() => return,
                made = handshake(stream, offered, HANDSHAKE_TIMEOUT) => made,
            };
            let stream = match made {
                Ok(stream) => stream,
                Err(none) => {
                    metrics.refused("http", none.label(), &peer, &none);
                    return;
                }
            };
            converse(TokioIo::new(stream), service, HEAD_TIMEOUT, &shutdown).await
        }
    };
    match ended {
        Ended::Left => {}
        Ended::Idle => metrics.done("http", "idle_end"),
        Ended::Failed(error) => {
            // A node that reboots in the middle of a download is ordinary.
            let reason = if error.is_parse() {
                "bad_request"
            } else if error.is_timeout() {
                "head_timeout"
            } else {
                "connection"
            };
            metrics.refused("http", reason, &peer, &error);
        }
    }
}

/// How a conversation ended.
#[derive(Debug)]
enum Ended {
    /// The client left, or the present request was the last.
    Left,
    /// The client had its answers, and kept the connection longer than it needed it. Nothing is refused to it.
    Idle,
    /// The client broke the rules, or sent no head in time, or is gone in the middle of something.
    Failed(hyper::Error),
}

/// Answers requests until the client leaves, breaks the rules, or sends nothing for so long. After a stop the present request is the last.
async fn converse<I, S>(io: I, service: S, head_timeout: Duration, shutdown: &CancellationToken) -> Ended
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let deadline = HeadDeadline::new(head_timeout);
    let has_asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        service.call(request)
    });
    let served = http1::Builder::new()
        .timer(deadline.clone())
        .header_read_timeout(head_timeout)
        .max_buf_size(MOST_HEAD)
        .serve_connection(io, service);
    tokio::pin!(served);
    let alarm = tokio::time::sleep(head_timeout);
    tokio::pin!(alarm);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => return match ended {
                Ok(()) => Ended::Left,
                Err(error) if error.is_timeout() && has_asked.load(Ordering::Relaxed) => Ended::Idle,
                Err(error) => Ended::Failed(error),
            },
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            // The connection is polled again; when its deadline has come, it finds so.
            () = alarm.as_mut() => alarm.as_mut().reset(deadline.next_look(Instant::now()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::http::full;

    const SHORT: Duration = Duration::from_millis(200);

    /// A client, and how its conversation ends.
    fn conversation() -> (DuplexStream, tokio::task::JoinHandle<Ended>) {
        let (client, server) = tokio::io::duplex(4096);
        let ended = tokio::spawn(async {
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(full("text"))) });
            converse(TokioIo::new(server), service, SHORT, &CancellationToken::new()).await
        });
        (client, ended)
    }

    #[tokio::test]
    async fn a_client_that_does_not_finish_a_head_in_time_is_cut_off_be_it_the_first_or_a_later_one() {
        for requests in [0, 3] {
            let (mut client, ended) = conversation();
            for _ in 0..requests {
                client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let mut answer = Vec::new();
                while !answer.ends_with(b"text") {
                    assert!(client.read_buf(&mut answer).await.unwrap() > 0);
                }
            }
            let started = Instant::now();
            client.write_all(b"GET / HTTP/1.1\r\nhost: x").await.unwrap();
            match ended.await.unwrap() {
                Ended::Failed(error) if requests == 0 => assert!(error.is_timeout(), "{error}"),
                Ended::Idle if requests > 0 => {}
                other => panic!("{requests}: {other:?}"),
            }
            // The alarm was set before this request, or with it.
            assert!(
                started.elapsed() < 2 * SHORT + Duration::from_secs(5),
                "{:?}",
                started.elapsed()
            );
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_kept_after_its_answers_ends_in_time_and_is_no_refusal_and_one_that_never_asks_is() {
        let (mut client, ended) = conversation();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"text"));
        assert!(matches!(ended.await.unwrap(), Ended::Idle));
        let (mut silent, ended) = conversation();
        assert_eq!(silent.read_to_end(&mut answer).await.unwrap(), 0);
        assert!(matches!(ended.await.unwrap(), Ended::Failed(error) if error.is_timeout()));
    }

    #[tokio::test]
    async fn a_client_that_asks_again_in_time_stays() {
        let (mut client, ended) = conversation();
        let started = Instant::now();
        while started.elapsed() < 3 * SHORT {
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"text") {
                assert!(client.read_buf(&mut answer).await.unwrap() > 0);
            }
        }
        drop(client);
        assert!(matches!(ended.await.unwrap(), Ended::Left));
    }
}

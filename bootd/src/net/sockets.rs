//! Sockets that outlive a process: those that systemd holds (`bootd.socket`), and those that a bootd hands to the one that follows it.
//!
//! A socket is known by what it is, its kind, its address and its interface, so it needs no name: whoever would open one asks here first. What nobody asks
//! for is told and closed ([`Sockets::close_the_rest`]). Whoever opens or takes one lends it, and it is among the [`Sockets::duplicates`] as long as it is
//! open. Never opens a socket.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::{SockRef, Type};

/// Those that were handed over, and those that are open.
#[derive(Default)]
pub struct Sockets {
    handed: Mutex<Vec<(Kind, OwnedFd)>>,
    /// Descriptors of systemd that are no TCP listeners.
    others: usize,
    open: Mutex<Vec<Weak<dyn AsFd + Send + Sync>>>,
}

/// What a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Tcp(SocketAddr),
    /// With the interface that it is bound to.
    Udp(Option<String>, SocketAddr),
    Unix(PathBuf),
    Other,
}

impl Sockets {
    /// Takes over what systemd gave to this process (sd_listen_fds(3)). To be called once, before there are threads: it removes the variables
    /// that say so.
    pub fn from_environment() -> Self {
        let mut given = listenfd::ListenFd::from_env();
        let all = given.len();
        let listeners = (0..all).filter_map(|number| given.take_tcp_listener(number).ok().flatten());
        let mut sockets = Self::of(listeners.map(OwnedFd::from).collect());
        sockets.others = all - locked(&sockets.handed).len();
        sockets
    }

    /// Takes over these.
    pub fn of(handed: Vec<OwnedFd>) -> Self {
        let known = handed.into_iter().map(|socket| (Kind::of(&socket), socket));
        Self {
            handed: Mutex::new(known.collect()),
            others: 0,
            open: Mutex::default(),
        }
    }

    /// The TCP listener at this address, if it was handed over.
    pub fn tcp(&self, address: SocketAddr) -> Option<TcpListener> {
        self.take(&Kind::Tcp(address)).map(TcpListener::from)
    }

    /// The UDP socket at this address, and on this interface if it is bound to one.
    pub fn udp(&self, interface: Option<&str>, address: SocketAddr) -> Option<UdpSocket> {
        let kind = Kind::Udp(interface.map(str::to_owned), without_scope(address));
        self.take(&kind).map(UdpSocket::from)
    }

    /// The listener at this path.
    pub fn unix(&self, path: &Path) -> Option<UnixListener> {
        self.take(&Kind::Unix(path.into())).map(UnixListener::from)
    }

    /// Counts this one among those that are open, as long as it is.
    pub fn lend<S: AsFd + Send + Sync + 'static>(&self, socket: &Arc<S>) {
        let mut open = locked(&self.open);
        open.retain(|socket| socket.strong_count() > 0);
        let socket: Arc<dyn AsFd + Send + Sync> = Arc::<S>::clone(socket);
        open.push(Arc::downgrade(&socket));
    }

    /// Another descriptor for each that is open.
    pub fn duplicates(&self) -> io::Result<Vec<OwnedFd>> {
        let open = locked(&self.open);
        let present = open.iter().filter_map(Weak::upgrade);
        present.map(|socket| socket.as_fd().try_clone_to_owned()).collect()
    }

    /// Closes those that nobody asked for.
    pub fn close_the_rest(&self) {
        if self.others > 0 {
            let count = self.others;
            tracing::warn!(count, "descriptors were handed over that are no TCP listeners");
        }
        for (kind, _) in locked(&self.handed).drain(..) {
            tracing::warn!(
                ?kind,
                "a socket was handed over that bootd.toml does not name: bootd.socket and bootd.toml must name the same addresses"
            );
        }
    }

    fn take(&self, wanted: &Kind) -> Option<OwnedFd> {
        let mut handed = locked(&self.handed);
        let found = handed.iter().position(|(kind, _)| kind == wanted)?;
        // In the order in which they came, so that each of a group is read by one thread.
        Some(handed.remove(found).1)
    }
}

impl Kind {
    fn of(socket: &OwnedFd) -> Self {
        let socket = SockRef::from(socket);
        let (Ok(kind), Ok(address)) = (socket.r#type(), socket.local_addr()) else {
            return Self::Other;
        };
        let is_listener = socket.is_listener().unwrap_or(false);
        if let Some(path) = address.as_pathname().filter(|_| is_listener) {
            return Self::Unix(path.into());
        }
        match address.as_socket() {
            Some(address) if is_listener && kind == Type::STREAM => Self::Tcp(address),
            Some(address) if kind == Type::DGRAM => {
                let interface = socket.device().ok().flatten();
                let interface = interface.map(|name| String::from_utf8_lossy(&name).into_owned());
                Self::Udp(interface, without_scope(address))
            }
            _ => Self::Other,
        }
    }
}

/// The interface says on which link an address is.
fn without_scope(mut address: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(address) = &mut address {
        address.set_scope_id(0);
        address.set_flowinfo(0);
    }
    address
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_socket_is_given_once_to_who_asks_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        let unix = UnixListener::bind(&path).unwrap();
        let connected = OwnedFd::from(TcpStream::connect(tcp_at).unwrap());
        let sockets = Sockets::of(vec![tcp.into(), udp.into(), unix.into(), connected]);
        assert!(sockets.udp(None, tcp_at).is_none() && sockets.tcp(udp_at).is_none());
        assert!(sockets.udp(Some("lo"), udp_at).is_none());
        assert_eq!(sockets.tcp(tcp_at).unwrap().local_addr().unwrap(), tcp_at);
        assert_eq!(sockets.udp(None, udp_at).unwrap().local_addr().unwrap(), udp_at);
        assert!(sockets.unix(&path).is_some());
        assert!(sockets.tcp(tcp_at).is_none() && sockets.udp(None, udp_at).is_none() && sockets.unix(&path).is_none());
        assert_eq!(locked(&sockets.handed).len(), 1);
    }

    #[test]
    fn what_is_lent_is_there_for_the_next_process_until_it_is_closed() {
        let sockets = Sockets::default();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let at = socket.local_addr().unwrap();
        sockets.lend(&socket);
        let next = Sockets::of(sockets.duplicates().unwrap());
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"waits", at).unwrap();
        drop(socket);
        assert!(sockets.duplicates().unwrap().is_empty());
        let mut buffer = [0; 16];
        let next = next.udp(None, at).unwrap();
        assert_eq!(next.recv(&mut buffer).unwrap(), 5, "what waited in it is not lost");
    }
}

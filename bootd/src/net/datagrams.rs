//! UDP of both families, for who serves one client after the other: a port that tells to which of our addresses a datagram was sent, ways back
//! to clients from that very address, and many datagrams with one system call.
//!
//! Datagrams for one client ([`Burst`]) leave as one where the kernel cuts them (UDP_SEGMENT), else one by one; their contents are sent from where
//! they are. Nothing here waits: what finds no room in a buffer is lost, as on any wire.
//! Contains unsafe code: the calls, and the headers that they take.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use bytes::Bytes;
use rustix::net::sockopt;
use smallvec::SmallVec;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::control::{CONTROL, Control, Received, number};
use super::option::{option, set_option};
use super::{Backlog, SENDING};

/// A port on an address of ours, or on all of one family.
#[derive(Debug)]
pub struct Listening {
    socket: Socket,
    address: SocketAddr,
}

/// Where a datagram came from, and where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Our address that it was sent to.
    pub ours: IpAddr,
    /// The number of the interface it came through; 0: unknown.
    pub interface: u32,
    /// Whether it was sent to us alone, not to all or to a group.
    pub is_ours_alone: bool,
}

/// What came through a [`Listening`].
pub struct Inbox {
    buffers: Box<[u8]>,
    controls: Box<[Control]>,
    came: Vec<Came>,
}

struct Came {
    length: usize,
    whole: bool,
    met: Met,
}

/// Datagrams for one client: each a head and so many bytes of the body, the last one maybe less. Without heads: the body, as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    /// The heads.
    pub heads: SmallVec<[[u8; 4]; 16]>,
    /// What is sent behind them.
    pub body: Bytes,
    /// Bytes of the body behind each head but the last.
    pub each: usize,
}

/// A way to one client, with a port of its own: nobody else is heard on it, and a client that is gone is an error, `ConnectionRefused`.
#[derive(Debug)]
pub struct Way(Socket);

/// Datagrams that wait to be sent with as few calls as there may be.
#[derive(Default)]
pub struct Outbox {
    waiting: Vec<(Burst, Option<Met>)>,
    pieces: Vec<Piece>,
    parts: Vec<libc::iovec>,
    names: Vec<SockAddr>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

/// Some datagrams of a burst.
#[derive(Clone, Copy)]
struct Piece {
    burst: usize,
    first: usize,
    count: usize,
}

impl Listening {
    /// Opens it. Port 0 takes a free one. A socket of IPv6 leaves IPv4 alone.
    pub fn open(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let socket = socket_for(&address)?;
        match address {
            SocketAddr::V4(_) => set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => {
                socket.set_only_v6(true)?;
                set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            }
        }
        // Without the privilege the system's limit holds.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, buffer)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, buffer));
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket, address })
    }

    /// Takes over one that another process opened.
    pub fn handed(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self {
            socket: socket.into(),
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on [`Listening::gone`] tells of clients that nobody is at any more.
    pub fn hear_who_is_gone(&self) -> io::Result<()> {
        match self.address {
            SocketAddr::V4(_) => set_option(&self.socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
            SocketAddr::V6(_) => set_option(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
        }
    }

    /// The next client whose machine says that nobody listens there. `WouldBlock`: there is none.
    pub fn gone(&self) -> io::Result<SocketAddr> {
        loop {
            if let Some(peer) = self.next_error()? {
                return Ok(peer);
            }
        }
    }

    /// Takes one report from the socket's queue of errors; `None`: it is about something else.
    fn next_error(&self) -> io::Result<Option<SocketAddr>> {
        let report = Received::wait(&self.socket, &mut [], libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)?;
        let told = report.told(libc::IPPROTO_IP, libc::IP_RECVERR);
        // It is a `sock_extended_err`, which begins with the number of the error.
        let error = told.or_else(|| report.told(libc::IPPROTO_IPV6, libc::IPV6_RECVERR));
        let is_refused = error.and_then(number) == Some(libc::ECONNREFUSED);
        Ok(report.peer.filter(|_| is_refused))
    }

    /// How much waits, and what there was no room for.
    pub fn backlog(&self) -> io::Result<Backlog> {
        Backlog::of(&self.socket)
    }

    /// Takes what is there, at most [`TAKEN`] datagrams. `WouldBlock`: nothing is.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.receive(&self.socket, self.address)
    }

    /// Sends what waits. `failed` hears who does not get something, and why.
    pub fn send(&self, outbox: &mut Outbox, mut failed: impl FnMut(SocketAddr, io::Error)) {
        outbox.flush(self.socket.as_fd(), |met, error| {
            if let Some(met) = met {
                failed(met.peer, error);
            }
        });
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Way {
    /// Opens one to who was met, from the address that it spoke to and a free port.
    pub fn open(met: &Met) -> io::Result<Self> {
        let socket = socket_for(&met.peer)?;
        let ours: SocketAddr = match (met.ours, met.peer) {
            (IpAddr::V6(ours), SocketAddr::V6(peer)) => SocketAddrV6::new(ours, 0, 0, peer.scope_id()).into(),
            (ours, _) => (ours, 0).into(),
        };
        // Smaller is no reason not to serve.
        let _ = socket.set_send_buffer_size(SENDING);
        socket.bind(&ours.into())?;
        socket.connect(&met.peer.into())?;
        Ok(Self(socket))
    }

    /// The largest datagram that goes to the client in one piece, without the headers of IP and UDP.
    pub fn room(&self) -> io::Result<usize> {
        let is_v6 = self.0.local_addr()?.is_ipv6();
        let (level, name, headers) = match is_v6 {
            true => (libc::IPPROTO_IPV6, libc::IPV6_MTU, 48),
            false => (libc::IPPROTO_IP, libc::IP_MTU, 28),
        };
        let mtu = usize::try_from(option(&self.0, level, name)?).unwrap_or_default();
        Ok(mtu.saturating_sub(headers))
    }

    /// Our end.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?.as_socket();
        address.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The next datagram; of a longer one as much as fits. `WouldBlock`: there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.0, buffer, rustix::net::RecvFlags::empty())?.0)
    }

    /// Sends what waits: all of it is this client's.
    pub fn send(&self, outbox: &mut Outbox) -> io::Result<()> {
        let mut result = Ok(());
        outbox.flush(self.0.as_fd(), |_, error| result = Err(error));
        result
    }
}

impl AsFd for Way {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Burst {
    /// A packet as it is.
    pub fn of(packet: Bytes) -> Self {
        Self {
            heads: SmallVec::new(),
            each: packet.len(),
            body: packet,
        }
    }

    /// Its datagrams, in parts.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.count()).map(|number| self.datagram(number))
    }

    /// How many datagrams it is.
    pub fn count(&self) -> usize {
        self.heads.len().max(1)
    }

    fn datagram(&self, number: usize) -> (&[u8], &[u8]) {
        let Some(head) = self.heads.get(number) else {
            return (&[], &self.body);
        };
        let from = (number * self.each).min(self.body.len());
        let until = (from + self.each).min(self.body.len());
        (head, self.body.get(from..until).unwrap_or_default())
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![0; TAKEN * LARGEST].into(),
            controls: vec![Control::EMPTY; TAKEN].into(),
            came: Vec::with_capacity(TAKEN),
        }
    }
}

impl Inbox {
    /// What came: its bytes, and where it was met. `None` instead of the bytes: it is longer than any datagram should be.
    pub fn datagrams(&self) -> impl Iterator<Item = (Option<&[u8]>, &Met)> {
        let buffers = self.buffers.chunks_exact(LARGEST);
        buffers.zip(&self.came).map(|(buffer, came)| {
            let bytes = buffer.get(..came.length).filter(|_| came.whole);
            (bytes, &came.met)
        })
    }

    fn receive(&mut self, socket: &Socket, bound: SocketAddr) -> io::Result<()> {
        // Room for twice as many as came before: headers that nothing comes for cost as much as others.
        let room = (2 * self.came.len() + 2).min(TAKEN);
        self.came.clear();
        let mut names: SmallVec<[MaybeUninit<libc::sockaddr_storage>; 4]> = SmallVec::new();
        let mut parts: SmallVec<[libc::iovec; 4]> = SmallVec::new();
        let mut headers: SmallVec<[libc::mmsghdr; 4]> = SmallVec::new();
        names.resize_with(room, MaybeUninit::uninit);
        for buffer in self.buffers.chunks_exact_mut(LARGEST).take(room) {
            parts.push(libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            });
            // SAFETY: a header of zeros is a valid one: null pointers with zero lengths.
            headers.push(unsafe { std::mem::zeroed() });
        }
        let ends = names.iter_mut().zip(&mut self.controls).zip(&mut parts);
        for (header, ((name, control), part)) in headers.iter_mut().zip(ends) {
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each header points at a name and a part in lists of this function, which do not grow any more, and at a control buffer and,
        // by its part, a buffer of its own in `self`, all with the lengths that it says; nothing of that is used otherwise until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let ends = names.iter().zip(&*self.controls);
        for (header, (name, control)) in headers.iter().zip(ends).take(received) {
            // SAFETY: the kernel wrote the name of a sender, so much of it as it says, into a place that is large enough for any.
            let name = unsafe { SockAddr::new(name.assume_init().into_storage(), header.msg_hdr.msg_namelen) };
            let peer = name
                .as_socket()
                .unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
            self.came.push(Came {
                length: header.msg_len as usize,
                whole: header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0,
                met: met(peer, bound, control, header.msg_hdr.msg_controllen as _),
            });
        }
        Ok(())
    }
}

/// Reads what the kernel says of a datagram beside its bytes.
fn met(peer: SocketAddr, bound: SocketAddr, told: &Control, length: usize) -> Met {
    let mut met = Met {
        peer,
        ours: bound.ip(),
        interface: 0,
        is_ours_alone: true,
    };
    for (level, kind, data) in told.entries(length) {
        match (level, kind, data) {
            // An `in_pktinfo`: the interface, the address that is ours, and the one in the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &[i, n, t, f, a, b, c, d, ref header @ ..]) => {
                met.ours = Ipv4Addr::new(a, b, c, d).into();
                met.interface = u32::from_ne_bytes([i, n, t, f]);
                met.is_ours_alone = header.starts_with(&[a, b, c, d]);
            }
            // An `in6_pktinfo`: the address in the header, and the interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data) => {
                let Some((ours, interface)) = data.split_first_chunk::<16>() else {
                    continue;
                };
                let ours = Ipv6Addr::from(*ours);
                met.ours = ours.into();
                met.interface = number(interface).unwrap_or_default().cast_unsigned();
                met.is_ours_alone = !ours.is_multicast();
            }
            _ => {}
        }
    }
    met
}

impl Outbox {
    /// Adds what is to be sent: to who was met, from the address that it spoke to; `None`: to the client of the [`Way`].
    pub fn add(&mut self, burst: Burst, to: Option<Met>) {
        self.waiting.push((burst, to));
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How much waits, in bursts.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Sends all that waits.
    fn flush(&mut self, socket: BorrowedFd<'_>, mut failed: impl FnMut(Option<Met>, io::Error)) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        for (burst, (datagrams, _)) in self.waiting.iter().enumerate() {
            let together = together(datagrams);
            let mut first = 0;
            while first < datagrams.count() {
                let count = together.min(datagrams.count() - first);
                pieces.push(Piece { burst, first, count });
                first += count;
            }
        }
        let mut rest = pieces.as_slice();
        let mut tried = 0;
        while let Some(piece) = rest.first() {
            let is_shared = self.waiting.get(piece.burst).is_some_and(|(_, to)| to.is_some());
            match self.send_some(socket, &rest[..rest.len().min(TAKEN)]) {
                Ok(sent) => {
                    rest = rest.get(sent.max(1)..).unwrap_or_default();
                    tried = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Of a socket that many share it says that somebody is gone, and not who; it says so once.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_shared && tried < TRIES => {
                    tried += 1
                }
                Err(error) => {
                    let cannot_cut = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
                    if piece.count > 1 && cannot_cut {
                        self.one_by_one(socket, *piece, &mut failed);
                    } else {
                        failed(self.waiting.get(piece.burst).and_then(|(_, to)| *to), error);
                    }
                    rest = rest.get(1..).unwrap_or_default();
                    tried = 0;
                }
            }
        }
        self.waiting.clear();
        self.pieces = pieces;
    }

    /// The datagrams of a piece that the kernel, or the device, does not cut itself.
    fn one_by_one(&mut self, socket: BorrowedFd<'_>, piece: Piece, failed: &mut impl FnMut(Option<Met>, io::Error)) {
        for first in piece.first..piece.first + piece.count {
            let single = Piece {
                burst: piece.burst,
                first,
                count: 1,
            };
            if let Err(error) = self.send_some(socket, &[single]) {
                failed(self.waiting.get(piece.burst).and_then(|(_, to)| *to), error);
            }
        }
    }

    /// Sends pieces and says how many left; an error is the first one's.
    fn send_some(&mut self, socket: BorrowedFd<'_>, pieces: &[Piece]) -> io::Result<usize> {
        let Self {
            waiting,
            parts,
            names,
            controls,
            headers,
            ..
        } = self;
        parts.clear();
        names.clear();
        controls.clear();
        headers.clear();
        for piece in pieces {
            let Some((burst, to)) = waiting.get(piece.burst) else {
                break;
            };
            for number in piece.first..piece.first + piece.count {
                let (head, body) = burst.datagram(number);
                for bytes in [head, body] {
                    parts.push(libc::iovec {
                        iov_base: bytes.as_ptr().cast_mut().cast(),
                        iov_len: bytes.len(),
                    });
                }
            }
            let mut control = Control::EMPTY;
            let mut length = 0;
            if let Some(met) = to {
                length = control.pktinfo(length, met);
                names.push(met.peer.into());
            }
            if piece.count > 1 {
                length = control.segment(length, burst.each + HEAD);
            }
            controls.push(control);
            // SAFETY: a header of zeros is a valid one: null pointers with zero lengths.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_controllen = length as _;
            header.msg_hdr.msg_iovlen = (2 * piece.count) as _;
            headers.push(header);
        }
        // Nothing is added to the lists from here on, so what the headers point at stays where it is.
        let (mut part, mut named) = (parts.as_mut_slice(), names.iter());
        for (header, (piece, control)) in headers.iter_mut().zip(pieces.iter().zip(&mut *controls)) {
            let (own, others) = part.split_at_mut((2 * piece.count).min(part.len()));
            part = others;
            header.msg_hdr.msg_iov = own.as_mut_ptr();
            if header.msg_hdr.msg_controllen > 0 {
                header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
            }
            let to = waiting.get(piece.burst).and_then(|(_, to)| to.as_ref());
            if let Some(name) = to.and_then(|_| named.next()) {
                header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
                header.msg_hdr.msg_namelen = name.len();
            }
        }
        // SAFETY: each header points at parts, a control buffer and maybe a name in the lists of `self`, with the lengths that it says, and the
        // parts at heads and bodies in `waiting`; none of them moves until the call returns, and the system only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

// SAFETY: the pointers in the scratch lists are read only by the call that `send_some` makes after it has set all of them.
unsafe impl Send for Outbox {}

/// How many datagrams of a burst may leave as one for the kernel to cut: as many as it takes, and as an IP packet of the largest kind holds.
fn together(burst: &Burst) -> usize {
    let each = burst.each + HEAD;
    (LARGEST_TOGETHER / each.max(1)).clamp(1, SEGMENTS)
}

impl Control {
    /// Adds the address that a datagram is sent from, and returns the new length.
    fn pktinfo(&mut self, at: usize, met: &Met) -> usize {
        match met.ours {
            IpAddr::V4(ours) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ours.octets());
                self.add(at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
            IpAddr::V6(ours) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ours.octets());
                // Where the route leads; only addresses of a link are of one interface.
                if ours.is_unicast_link_local() {
                    info[16..].copy_from_slice(&met.interface.to_ne_bytes());
                }
                self.add(at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
            }
        }
    }

    /// Adds where the kernel cuts, and returns the new length.
    fn segment(&mut self, at: usize, each: usize) -> usize {
        self.add(at, libc::SOL_UDP, libc::UDP_SEGMENT, &(each as u16).to_ne_bytes())
    }
}

/// A name as the `socket2` crate holds it.
trait IntoStorage {
    fn into_storage(self) -> SockAddrStorage;
}

impl IntoStorage for libc::sockaddr_storage {
    fn into_storage(self) -> SockAddrStorage {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: both are the system's `sockaddr_storage`.
        unsafe { *storage.view_as::<Self>() = self };
        storage
    }
}

/// A socket for datagrams to or from such an address, that never waits and lets its datagrams be cut into fragments on their way.
fn socket_for(address: &SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.cloexec().nonblocking();
    let socket = Socket::new(Domain::for_address(*address), kind, Some(Protocol::UDP))?;
    match address {
        SocketAddr::V4(_) => set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?,
        SocketAddr::V6(_) => set_option(
            &socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        )?,
    }
    Ok(socket)
}

/// Datagrams that one receive takes at most, and one send gives.
pub const TAKEN: usize = 64;
/// The largest datagram that is read.
const LARGEST: usize = 4096;
/// How often a datagram is tried while others' clients are said to be gone.
const TRIES: u32 = 4;
/// Bytes of a head.
const HEAD: usize = 4;
/// What the kernel cuts into at most (UDP_MAX_SEGMENTS of the oldest kernels that can).
const SEGMENTS: usize = 64;
/// What fits into one IP packet, of either family, with its headers.
const LARGEST_TOGETHER: usize = 65_000;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn client(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// What comes, when it comes.
    fn receive(port: &Listening, inbox: &mut Inbox) {
        let started = std::time::Instant::now();
        while port.receive(inbox).is_err() {
            assert!(started.elapsed() < Duration::from_secs(5));
            std::thread::yield_now();
        }
    }

    fn burst(length: usize, each: usize) -> Burst {
        let body: Bytes = (0..length).map(|n| (n % 251) as u8).collect();
        let count = length / each + 1;
        Burst {
            heads: (0..count).map(|n| [9, 9, 9, n as u8]).collect(),
            body,
            each,
        }
    }

    fn comes_whole(socket: &UdpSocket, burst: &Burst) {
        let mut buffer = vec![0; 65536];
        for (head, body) in burst.datagrams() {
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..length], [head, body].concat());
        }
    }

    #[test]
    fn what_comes_says_which_of_our_addresses_it_was_sent_to_and_is_answered_from_it() {
        let port = Listening::open("0.0.0.0:0".parse().unwrap(), 1 << 20).unwrap();
        let number = port.address().port();
        let asks = client("127.0.0.1:0");
        asks.send_to(b"hello", ("127.0.0.7", number)).unwrap();
        let mut inbox = Inbox::default();
        receive(&port, &mut inbox);
        let (bytes, met) = inbox.datagrams().next().unwrap();
        assert_eq!((bytes, met.peer), (Some(&b"hello"[..]), asks.local_addr().unwrap()));
        assert_eq!((met.ours.to_string().as_str(), met.is_ours_alone), ("127.0.0.7", true));

        let mut outbox = Outbox::default();
        let (small, large) = (Burst::of(Bytes::from("whole")), burst(16 * 1400 + 3, 1400));
        outbox.add(small, Some(*met));
        outbox.add(large.clone(), Some(*met));
        port.send(&mut outbox, |_, error| panic!("{error}"));
        assert!(outbox.is_empty());
        let mut buffer = [0; 100];
        let (length, from) = asks.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.to_string()),
            (&b"whole"[..], format!("127.0.0.7:{number}"))
        );
        comes_whole(&asks, &large);
    }

    #[test]
    fn a_way_has_a_port_of_its_own_and_hears_that_a_client_is_gone() {
        for own in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(asks) = UdpSocket::bind(own) else { continue };
            asks.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let met = Met {
                peer: asks.local_addr().unwrap(),
                ours: asks.local_addr().unwrap().ip(),
                interface: 0,
                is_ours_alone: true,
            };
            let way = Way::open(&met).unwrap();
            assert!(way.room().unwrap() > 1400);
            // More than the kernel takes at once, an exact multiple, blocks that leave alone, and one datagram.
            for sent in [
                burst(70 * 900, 900),
                burst(2000, 1000),
                burst(140_000, 65_464),
                burst(5, 100),
            ] {
                let mut outbox = Outbox::default();
                outbox.add(sent.clone(), None);
                way.send(&mut outbox).unwrap();
                comes_whole(&asks, &sent);
            }
            assert_eq!(way.receive(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            drop(asks);
            let mut outbox = Outbox::default();
            outbox.add(Burst::of(Bytes::from("anybody?")), None);
            way.send(&mut outbox).unwrap();
            let error = way.receive(&mut [0; 10]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn datagrams_that_are_too_long_are_none() {
        let port = Listening::open("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let asks = client("127.0.0.1:0");
        asks.send_to(&[1; LARGEST], port.address()).unwrap();
        asks.send_to(&[1; LARGEST + 1], port.address()).unwrap();
        let mut inbox = Inbox::default();
        receive(&port, &mut inbox);
        let lengths: Vec<_> = inbox.datagrams().map(|(bytes, _)| bytes.map(<[u8]>::len)).collect();
        assert_eq!(lengths, [Some(LARGEST), None]);
    }
}

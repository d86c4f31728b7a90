//! Many packets with one system call: `recvmmsg` and `sendmmsg`.
//!
//! [`Incoming`] owns the buffers that packets are received into, allocated once. Sending takes packets from wherever they are and copies none.
//! Neither waits for a full batch: a receive returns what is there when something is, a send says of each packet that did not leave why.
//! Contains unsafe code: the two calls, and the headers that they take.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Packets that one call moves at most.
pub const BATCH: usize = 64;
/// The largest packet that is read.
const LARGEST: usize = 9216;
/// One buffer behind the other, a cache line apart: at a multiple of the page size the beginnings of all would share few lines of the cache.
const STRIDE: usize = LARGEST + 64;

/// The packets of one receive, from senders of one family.
pub struct Incoming<P = SocketAddrV4> {
    buffers: Box<[u8]>,
    /// Of each its length, if it is whole.
    packets: [(Option<usize>, P); BATCH],
    count: usize,
}

/// A sender, as the standard library has it.
pub trait Peer: Copy {
    /// As the system has it.
    type Name: Address;
    /// The sender of this name.
    fn of(name: Self::Name) -> Self;
}

impl Peer for SocketAddrV4 {
    type Name = libc::sockaddr_in;

    fn of(name: libc::sockaddr_in) -> Self {
        let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
        Self::new(ip, u16::from_be(name.sin_port))
    }
}

impl Peer for SocketAddrV6 {
    type Name = libc::sockaddr_in6;

    fn of(name: libc::sockaddr_in6) -> Self {
        let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
        Self::new(ip, port, 0, name.sin6_scope_id)
    }
}

impl<P: Peer> Default for Incoming<P> {
    fn default() -> Self {
        Self {
            buffers: vec![0; BATCH * STRIDE].into(),
            packets: [(None, P::of(P::Name::NOBODY)); BATCH],
            count: 0,
        }
    }
}

impl<P: Peer> Incoming<P> {
    /// What came, and from whom.
    pub fn packets(&self) -> impl Iterator<Item = (&[u8], P)> {
        let buffers = self.buffers.chunks_exact(STRIDE);
        let packets = self.packets.iter().take(self.count);
        buffers
            .zip(packets)
            .filter_map(|(buffer, (length, peer))| Some((buffer.get(..(*length)?)?, *peer)))
    }

    /// Who sent more than any packet should have; that is not among the packets.
    pub fn too_long(&self) -> impl Iterator<Item = P> {
        let packets = self.packets.iter().take(self.count);
        packets.filter(|(length, _)| length.is_none()).map(|(_, peer)| *peer)
    }

    /// How many came.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether as many came as there is room for: more may wait.
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Waits for a packet, as long as the socket's timeout says, and takes all that are there then.
    pub(super) fn receive(&mut self, socket: impl AsFd) -> io::Result<()> {
        self.count = 0;
        let mut names = [P::Name::NOBODY; BATCH];
        let mut parts = [NOTHING; BATCH];
        // SAFETY: headers of zeros are valid ones: null pointers with zero lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let buffers = self.buffers.chunks_exact_mut(STRIDE);
        for (((header, part), name), buffer) in headers.iter_mut().zip(&mut parts).zip(&mut names).zip(buffers) {
            part.iov_base = buffer.as_mut_ptr().cast();
            part.iov_len = LARGEST;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<P::Name>() as libc::socklen_t;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: each header points at a name and a part of this function's frame, and the part at a buffer of its own with at least that
        // length; none of them moves or is used otherwise until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket,
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                WAIT_FOR_ONE,
                std::ptr::null_mut(),
            )
        };
        self.count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for ((header, name), packet) in headers.iter().zip(&names).zip(&mut self.packets).take(self.count) {
            let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            *packet = (whole.then_some(header.msg_len as usize), P::of(*name));
        }
        Ok(())
    }
}

/// How full a socket's buffer for what comes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes that wait, as the kernel counts them.
    pub waiting: u32,
    /// Bytes that there is room for.
    pub room: u32,
    /// Packets that found no room since the socket was opened.
    pub dropped: u32,
}

impl Backlog {
    /// A socket's, now.
    pub(super) fn of(socket: impl AsFd) -> io::Result<Self> {
        let mut values = [0_u32; MEMINFO];
        let mut length = size_of_val(&values) as libc::socklen_t;
        // SAFETY: the values are a place of that length; the kernel writes no more than it, and any bytes are numbers.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                values.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let [waiting, room, .., dropped] = values;
        Ok(Self { waiting, room, dropped })
    }
}

/// The values of SO_MEMINFO; those of interest are the first two and the last.
const MEMINFO: usize = 9;

/// A packet to send.
pub(super) struct Outgoing<'a, A, const HEAD: usize> {
    /// What the sender calls it.
    pub(super) number: usize,
    /// What goes before the payload.
    pub(super) head: [u8; HEAD],
    pub(super) payload: &'a [u8],
    pub(super) to: A,
}

/// An address as the system takes it; whatever bytes it has, it is one.
pub trait Address: Copy {
    /// Nobody's.
    const NOBODY: Self;
}

impl Address for libc::sockaddr_in {
    const NOBODY: Self = to_name(NOBODY);
}

impl Address for libc::sockaddr_in6 {
    const NOBODY: Self = to_name6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0), 0);
}

impl Address for libc::sockaddr_ll {
    const NOBODY: Self = Self {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
}

/// Sends packets without ever waiting for room in the buffer; `failed` hears of each that did not leave: `WouldBlock` when too many wait.
pub(super) fn send<'a, A: Address, const HEAD: usize>(
    socket: impl AsFd,
    packets: impl Iterator<Item = Outgoing<'a, A, HEAD>>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut packets = packets.peekable();
    if packets.peek().is_none() {
        return;
    }
    let mut numbers = [0; BATCH];
    let mut heads = [[0; HEAD]; BATCH];
    let mut names = [A::NOBODY; BATCH];
    let mut parts = [[NOTHING; 2]; BATCH];
    // SAFETY: headers of zeros are valid ones: null pointers with zero lengths.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    loop {
        let mut count = 0;
        let room = numbers.iter_mut().zip(&mut heads).zip(&mut names).zip(&mut parts);
        for ((((number, head), name), parts), header) in room.zip(&mut headers) {
            let Some(packet) = packets.next() else { break };
            (*number, *head, *name) = (packet.number, packet.head, packet.to);
            let part = |bytes: &[u8]| libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            *parts = [part(head), part(packet.payload)];
            let parts = if HEAD == 0 { &mut parts[1..] } else { parts };
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<A>() as libc::socklen_t;
            header.msg_hdr.msg_iovlen = parts.len() as _;
            header.msg_hdr.msg_iov = parts.as_mut_ptr();
            count += 1;
        }
        let (headers, numbers) = (&mut headers[..count], &numbers[..count]);
        let mut done = 0;
        while done < count {
            match send_some(socket.as_fd(), &mut headers[done..]) {
                Ok(sent) => done += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed(numbers[done], error);
                    done += 1;
                }
            }
        }
        if count < BATCH {
            return;
        }
    }
}

/// How many left; an error is the first one's. Only `send` calls this, with headers that it filled.
fn send_some(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    // SAFETY: each header points at a name and parts in the frame of `send`, and the parts at a head there and a payload that its caller
    // lends; all of them stay in place until the call returns, and the system only reads them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as libc::c_uint,
            DO_NOT_WAIT,
        )
    };
    match usize::try_from(sent) {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(sent) => Ok(sent),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// An address of IPv4 as the system takes it.
pub(super) const fn to_name(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: address.ip().to_bits().to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// The same of IPv6; an address of the link goes with its interface.
pub(super) const fn to_name6(address: SocketAddrV6, index: u32) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr {
            s6_addr: address.ip().octets(),
        },
        sin6_scope_id: if address.ip().is_unicast_link_local() { index } else { 0 },
    }
}

const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
const NOTHING: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};
// Flags are of another type in musl.
#[cfg(target_env = "musl")]
type Flags = libc::c_uint;
#[cfg(not(target_env = "musl"))]
type Flags = libc::c_int;
const WAIT_FOR_ONE: Flags = libc::MSG_WAITFORONE as Flags;
const DO_NOT_WAIT: Flags = libc::MSG_DONTWAIT as Flags;

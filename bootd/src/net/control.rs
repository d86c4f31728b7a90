//! Control messages: what recvmsg(2) and sendmsg(2) have beside the bytes of a datagram.
//!
//! Written and read as bytes, by the layout of cmsg(3), so that nothing here trusts a pointer or a length of the kernel's.
//! Contains unsafe code: memory of ours is lent to calls of the `socket2` crate as what the kernel may write.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockAddrStorage, Socket};

/// A buffer for control messages, aligned as they are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL]);

impl Control {
    /// Without any.
    pub(super) const EMPTY: Self = Self([0; CONTROL]);

    /// Adds one behind so many bytes, and returns the new length.
    pub(super) fn add(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let length = HEAD + data.len();
        let end = at + length.next_multiple_of(ALIGNED);
        let Some(space) = self.0.get_mut(at..end) else {
            return at;
        };
        let head = length.to_ne_bytes().into_iter().chain(level.to_ne_bytes());
        let bytes = head.chain(kind.to_ne_bytes()).chain(data.iter().copied());
        space.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        end
    }

    /// Those in its first bytes: level, type and data of each.
    pub(super) fn entries(&self, length: usize) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
        let mut rest = self.0.get(..length).unwrap_or(&self.0);
        std::iter::from_fn(move || {
            let (head, _) = rest.split_first_chunk::<HEAD>()?;
            let (long, numbers) = head.split_first_chunk()?;
            let long = usize::from_ne_bytes(*long);
            let (level, kind) = (number(numbers)?, number(numbers.get(4..)?)?);
            let data = rest.get(HEAD..long)?;
            rest = rest.get(long.next_multiple_of(ALIGNED)..).unwrap_or_default();
            Some((level, kind, data))
        })
    }
}

/// The number that some data begins with.
pub(super) fn number(data: &[u8]) -> Option<libc::c_int> {
    data.first_chunk().copied().map(libc::c_int::from_ne_bytes)
}

/// A datagram, or a report about one.
pub(super) struct Received {
    /// Bytes that came.
    pub(super) length: usize,
    /// Whom it is from; of a report whom it is about.
    pub(super) peer: Option<SocketAddr>,
    control: Control,
    told: usize,
}

impl Received {
    /// Waits for one as the socket and the flags say.
    pub(super) fn wait(socket: &Socket, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Self> {
        let mut control = Control::EMPTY;
        let (storage, length) = (SockAddrStorage::zeroed(), SockAddrStorage::zeroed().size_of());
        // SAFETY: zeros are an address of no family, and so long is its place.
        let mut peer = unsafe { SockAddr::new(storage, length) };
        let mut parts = [MaybeUninitSlice::new(lent(buffer))];
        let mut header = MsgHdrMut::new()
            .with_addr(&mut peer)
            .with_buffers(&mut parts)
            .with_control(lent(&mut control.0));
        let length = socket.recvmsg(&mut header, flags)?;
        let told = header.control_len();
        Ok(Self {
            length,
            peer: peer.as_socket(),
            control,
            told,
        })
    }

    /// The data of a control message that came with it.
    pub(super) fn told(&self, level: libc::c_int, kind: libc::c_int) -> Option<&[u8]> {
        let mut entries = self.control.entries(self.told);
        let found = entries.find(|(of, what, _)| (*of, *what) == (level, kind));
        found.map(|(_, _, data)| data)
    }
}

/// Bytes for the kernel to write.
fn lent(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the layouts are the same; who gets this hands it to the kernel only, which writes bytes and never takes one back.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}

/// As much as is ever sent or asked for at once.
pub(super) const CONTROL: usize = 96;
const ALIGNED: usize = size_of::<usize>();
/// The length, the level and the type.
const HEAD: usize = size_of::<usize>() + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_and_what_does_not_fit_is_left_out() {
        let mut control = Control::EMPTY;
        let first = control.add(0, 1, 2, &[1, 2, 3]);
        let second = control.add(first, 3, 4, &[5; 20]);
        assert_eq!((first, second), (24, 64));
        assert_eq!(control.add(second, 5, 6, &[0; 17]), second);
        let all: Vec<_> = control.entries(second).collect();
        assert_eq!(all, [(1, 2, &[1, 2, 3][..]), (3, 4, &[5; 20])]);
    }

    #[test]
    fn a_false_length_ends_it() {
        for length in [0_usize, 15, 97, usize::MAX] {
            let mut control = Control::EMPTY;
            control.add(0, 1, 2, &[0; 8]);
            control.0[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control.entries(24).count(), 0, "{length}");
        }
        assert_eq!(Control::EMPTY.entries(10).count(), 0);
    }

    #[test]
    fn the_layout_is_the_systems() {
        // SAFETY: these two only compute with the size.
        let (length, space) = unsafe { (libc::CMSG_LEN(20), libc::CMSG_SPACE(20)) };
        assert_eq!(
            (length as usize, space as usize),
            (HEAD + 20, (HEAD + 20).next_multiple_of(ALIGNED))
        );
    }
}

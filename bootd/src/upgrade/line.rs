//! How the two processes speak: a Unix stream, the new one's standard input, with JSON behind a length, and descriptors beside a byte (SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dhcp::Unsaved;

/// One end.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

/// What the new process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// Known nodes are answered.
    Ready,
    /// All is.
    Serving,
}

/// What the old process says when its files are closed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Released {
    /// What is in no row of the store.
    pub(super) unsaved: Vec<Unsaved>,
}

/// The old process's last word: the new one is the main process now.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandedOver;

impl Line {
    /// Both ends; the second one is for the other process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(PATIENCE))?;
        Ok((Self(ours), theirs.into()))
    }

    /// The end that came as standard input, in whose place nothing is then.
    pub(super) fn of_standard_input() -> io::Result<Self> {
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        line.set_write_timeout(Some(PATIENCE))?;
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(nothing)?;
        Ok(Self(line))
    }

    /// Has [`Line::hear`] wait so long at most.
    pub(super) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))
    }

    pub(super) fn say(&self, what: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(what)?;
        let mut line = &self.0;
        line.write_all(&(text.len() as u64).to_le_bytes())?;
        line.write_all(&text)
    }

    /// Of the same program at both ends, so it is not doubted beyond its length.
    pub(super) fn hear<T: DeserializeOwned>(&self) -> io::Result<T> {
        let mut line = &self.0;
        let mut length = [0; 8];
        line.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST {
            return Err(io::Error::other(format!("{length} bytes at once are too many")));
        }
        let mut text = Vec::new();
        line.take(length).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Gives the other process these.
    pub(super) fn give(&self, descriptors: &[OwnedFd]) -> io::Result<()> {
        self.say(&descriptors.len())?;
        for some in descriptors.chunks(AT_ONCE) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            beside.push(SendAncillaryMessage::ScmRights(&some));
            sendmsg(&self.0, &[IoSlice::new(&[0])], &mut beside, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Takes what the other one gives.
    pub(super) fn take(&self) -> io::Result<Vec<OwnedFd>> {
        let count: usize = self.hear()?;
        let mut taken = Vec::new();
        while taken.len() < count {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut beside = RecvAncillaryBuffer::new(&mut room);
            let mut byte = [0];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let came = recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut beside, flags)?;
            let before = taken.len();
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(some) = message {
                    taken.extend(some);
                }
            }
            if came.bytes == 0 || taken.len() == before {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(taken)
    }
}

/// Descriptors beside one byte; the kernel takes 253.
const AT_ONCE: usize = 64;
/// Bytes of a message at most: an inventory of 200,000 nodes with all that plugins keep.
const LONGEST: u64 = 1 << 30;
/// How long the other end may take nothing.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn words_and_sockets_come_as_they_were_sent() {
        let (ours, theirs) = Line::pair().unwrap();
        let theirs = Line(UnixStream::from(theirs));
        let sockets: Vec<UdpSocket> = (0..150).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let given: Vec<OwnedFd> = sockets
            .iter()
            .map(|socket| socket.try_clone().unwrap().into())
            .collect();
        ours.give(&given).unwrap();
        ours.say(&Word::Ready).unwrap();
        let taken: Vec<UdpSocket> = theirs.take().unwrap().into_iter().map(UdpSocket::from).collect();
        let at = |sockets: &[UdpSocket]| -> Vec<_> { sockets.iter().map(|s| s.local_addr().unwrap()).collect() };
        assert_eq!(at(&taken), at(&sockets));
        assert_eq!(theirs.hear::<Word>().unwrap(), Word::Ready);
        drop(ours);
        let error = theirs.hear::<Word>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "the other process ended");
    }
}

//! A plain connection: hands slices of a mapped file to the kernel as that part of the file, so that nobody copies them.
//!
//! hyper gives a body's own slices to the socket. Of the one answer that is under way it is known which file its body is from ([`Slot`]); a slice
//! that lies in that file's mapping leaves by sendfile(2), and everything else, or a slice that is not recognised, by an ordinary write of
//! its bytes. So a mistake here costs time, and never a byte.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::cache::{Mapped, WeakMapped};

/// The file that the body of the present answer is from, if it is from one; it is not kept for that.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<WeakMapped>>>);

/// The connection.
pub(super) struct Plain {
    stream: TokioIo<TcpStream>,
    slot: Slot,
    /// Bytes of files that left since others had their turn.
    turn: usize,
}

impl Slot {
    /// The next answer's.
    pub(super) fn set(&self, mapped: Option<WeakMapped>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mapped;
    }

    /// Where in its file a slice is, with the file.
    fn find(&self, slice: &[u8]) -> Option<(Mapped, u64)> {
        let mapped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds a slice of it keeps it.
        let mapped = mapped.as_ref()?.upgrade()?;
        let at = mapped.offset_of(slice)?;
        Some((mapped, at))
    }
}

impl Plain {
    pub(super) fn new(stream: TcpStream, slot: Slot) -> Self {
        Self {
            stream: TokioIo::new(stream),
            slot,
            turn: 0,
        }
    }

    /// Tries as often as the socket has room, and waits for it otherwise.
    fn try_write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.inner();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || write(stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl Write for Plain {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = slices.iter().skip_while(|slice| slice.is_empty());
        match (slices.next(), slices.next()) {
            (Some(first), _) if let Some((mapped, at)) = self.slot.find(first) => {
                if self.turn >= TURN {
                    self.turn = 0;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let sent = ready!(self.try_write(context, |stream| mapped.send(stream, at, first.len())))?;
                self.turn += sent;
                Poll::Ready(Ok(sent))
            }
            // The head goes out with the beginning of the body.
            (Some(first), Some(second)) if self.slot.find(second).is_some() => {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                self.try_write(context, |stream| Ok(rustix::net::send(stream, first, flags)?))
            }
            (Some(first), Some(second)) => {
                let both: Vec<IoSlice<'_>> = [*first, *second].into_iter().chain(slices.copied()).collect();
                Pin::new(&mut self.stream).poll_write_vectored(context, &both)
            }
            (Some(first), None) => Pin::new(&mut self.stream).poll_write(context, first),
            (None, _) => Poll::Ready(Ok(0)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A reader that is as fast as this box lets others have their turn after so many bytes.
const TURN: usize = 1 << 20;

impl Read for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::FileExt;

    use bytes::Bytes;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::header::CONTENT_LENGTH;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LEN: u64 = 3_000_001;

    fn file() -> (Arc<File>, Vec<u8>) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let body: Vec<u8> = (0..LEN as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        (&*file).write_all(&body).unwrap();
        (file, body)
    }

    /// Serves the file, `/<from>`, to one connection; `known`: the slot says so.
    async fn serve(stream: TcpStream, mapped: Mapped, known: bool) {
        let slot = Slot::default();
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let (mapped, slot) = (mapped.clone(), slot.clone());
            async move {
                let mut from: u64 = request.uri().path()[1..].parse().unwrap();
                let length = LEN - from;
                let parts = std::iter::from_fn({
                    let mapped = mapped.clone();
                    move || {
                        let part = (from < LEN).then(|| mapped.at_hand(from..LEN).unwrap())?;
                        from += part.len() as u64;
                        Some(Ok::<_, Infallible>(Frame::data(part)))
                    }
                });
                slot.set(known.then(|| mapped.downgrade()));
                let mut response = Response::new(StreamBody::new(futures_util::stream::iter(parts)));
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
                Ok::<_, Infallible>(response)
            }
        });
        let plain = Plain::new(stream, slot.clone());
        let _ = http1::Builder::new()
            .pipeline_flush(false)
            .serve_connection(plain, service)
            .await;
    }

    /// What comes for these requests, of which so many are sent at once.
    async fn bodies(known: bool, from: &[u64], at_once: usize) -> Vec<Bytes> {
        let (file, _) = file();
        let mapped = Mapped::of(&file, LEN).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let serving = tokio::spawn(serve(accepted, mapped, known));
        let mut bodies = Vec::new();
        for group in from.chunks(at_once) {
            for from in group {
                let request = format!("GET /{from} HTTP/1.1\r\nhost: x\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
            }
            for from in group {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let mut body = vec![0; (LEN - from) as usize];
                stream.read_exact(&mut body).await.unwrap();
                bodies.push(body.into());
            }
        }
        drop(stream);
        serving.await.unwrap();
        bodies
    }

    #[tokio::test]
    async fn every_byte_is_right_whether_slices_are_recognised_or_not_one_by_one_and_in_a_row() {
        let (_, body) = file();
        let from = [0, 1, 2_999_999, 1_048_577, 5, 1 << 20, 3];
        for known in [true, false] {
            for at_once in [1, 3] {
                let got = bodies(known, &from, at_once).await;
                for (from, got) in from.iter().zip(got) {
                    assert!(got == body[*from as usize..], "{from} {known} {at_once}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_part_is_sent_from_where_it_is_in_the_file_and_a_file_that_became_shorter_is_no_end() {
        let (file, _) = file();
        let slot = Slot::default();
        let mapped = Mapped::of(&file, LEN).unwrap();
        let part = mapped.at_hand(10..20).unwrap();
        slot.set(Some(mapped.downgrade()));
        let (found, at) = slot.find(&part).unwrap();
        assert_eq!(at, 10);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(found.send(&server, at, 10).unwrap(), 10);
        let mut got = [0; 10];
        client.read_exact(&mut got).await.unwrap();
        let mut wanted = [0; 10];
        file.read_exact_at(&mut wanted, 10).unwrap();
        assert_eq!(got, wanted);
        // A file that became shorter is no end of a body.
        file.set_len(5).unwrap();
        assert!(found.send(&server, at, 10).is_err());
        assert!(slot.find(b"elsewhere").is_none());
    }
}

//! An HTTP client for measurements: one connection that is kept, one request at a time, nothing that costs time of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::SERVER;

pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((SERVER, port)))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self {
            stream,
            read: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends a request and reads its answer: the status, and the body.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Result<(u16, &[u8])> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {SERVER}:8081\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.read.clear();
        let (status, head, length) = loop {
            self.fill()?;
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
                let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
                let status: u16 = status.with_context(|| head.clone())?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = match length {
                    Some(length) => length.trim().parse()?,
                    None => {
                        ensure!(status == 204, "an answer without content-length: {head}");
                        0
                    }
                };
                break (status, end + 4, length);
            }
        };
        while self.read.len() < head + length {
            self.fill()?;
        }
        Ok((status, &self.read[head..head + length]))
    }

    fn fill(&mut self) -> Result<()> {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part)? {
            0 => bail!("the server closed the connection"),
            read => self.read.extend_from_slice(&part[..read]),
        }
        Ok(())
    }
}

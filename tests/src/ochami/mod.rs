//! The `ochami` program on the wire: what each of its commands sends, byte for byte, and what it makes of the answers.
//!
//! [`commands`] has the requests of the tutorial's commands; here is how they travel: one connection a command, the
//! headers in that program's order, a token only where it shows one, never a Content-Type and never an Accept (contract
//! 1.1). Like that program a command goes on after a request that failed, and has failed then. The requests come from
//! the server's own address, as those of an operator on the head node do. [`Line`] is the connection below, for tests
//! that say something else.

pub mod commands;
pub mod recorder;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use commands::Command;
use commands::Image;

use crate::{Rack, SERVER, server};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An operator with a token.
#[derive(Debug, Clone)]
pub struct Ochami {
    token: String,
    at: Ipv4Addr,
}

impl Ochami {
    /// Gets a token from the running bootd, as `DEMO_ACCESS_TOKEN=$(bootd token)` does.
    pub fn log_in(rack: &Rack) -> Result<Self> {
        let config = rack.path("bootd.toml").display().to_string();
        let output = server::command(&["token", "--config", &config])?;
        ensure!(
            output.status.success(),
            "bootd token: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self::with_token(String::from_utf8(output.stdout)?.trim()))
    }

    /// An operator who shows this token.
    pub fn with_token(token: &str) -> Self {
        Self {
            token: token.into(),
            at: SERVER,
        }
    }

    /// The same operator at another server. Where requests name the rack's address they name that one's; both have as many digits, so that
    /// nothing else changes.
    pub fn at(&self, address: Ipv4Addr) -> Self {
        Self {
            at: address,
            ..self.clone()
        }
    }

    /// Their token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Sends a command's requests, one after the other on one connection, whatever is answered.
    pub fn run(&self, command: &Command) -> Result<Vec<Answer>> {
        let mut line = Line::open_to(self.at)?;
        let mut answers = Vec::new();
        for request in &command.requests {
            let request = String::from_utf8(request.bytes(&self.token))?;
            let request = request.replace(&SERVER.to_string(), &self.at.to_string());
            answers.push(line.ask(request.as_bytes())?);
        }
        Ok(answers)
    }

    /// The answer to a single GET with the token.
    pub fn get(&self, target: &str) -> Result<Answer> {
        let mut answers = self.run(&commands::read(target, target))?;
        answers.pop().context("an answer")
    }

    /// [`Ochami::run`], where each answer must be a success, as it must for exit code 0.
    pub fn succeed(&self, command: &Command) -> Result<Vec<Answer>> {
        let answers = self.run(command)?;
        for (request, answer) in command.requests.iter().zip(&answers) {
            ensure!(
                (200..300).contains(&answer.status),
                "ochami {}: {} {}: {}: {}",
                command.words.join(" "),
                request.method,
                request.target,
                answer.status,
                answer.body
            );
        }
        Ok(answers)
    }

    /// The only answer of a command that must succeed.
    pub fn one(&self, command: &Command) -> Result<Answer> {
        let mut answers = self.succeed(command)?;
        ensure!(answers.len() == 1, "{} answers", answers.len());
        answers.pop().context("an answer")
    }

    /// Tells what the tutorial tells: five nodes, their boot parameters, cloud-init's defaults and group.
    pub fn tell_the_tutorial(&self) -> Result<()> {
        for command in [
            commands::discover(),
            commands::boot_params("set", Image::Base),
            commands::defaults_set(),
            commands::ci_group_set(),
        ] {
            self.succeed(&command)?;
        }
        Ok(())
    }

    /// The JSON of the only answer of a command that must succeed.
    pub fn json(&self, command: &Command) -> Result<Value> {
        self.one(command)?.json()
    }
}

/// Whether a request shows the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// `Authorization: Bearer …`
    Token,
    /// Nothing, where the program sends none.
    Nothing,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: &'static str,
    /// Path and query, as on the wire.
    pub target: String,
    /// Whether it shows the token.
    pub shown: Shown,
    /// JSON, or nothing.
    pub body: String,
}

impl Request {
    /// A request with a body and the token.
    pub fn new(method: &'static str, target: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            shown: Shown::Token,
            body: body.into(),
        }
    }

    /// A GET with the token.
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target, "")
    }

    /// A GET without it.
    pub fn open(target: impl Into<String>) -> Self {
        Self {
            shown: Shown::Nothing,
            ..Self::get(target)
        }
    }

    /// What goes over the wire.
    pub fn bytes(&self, token: &str) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {SERVER}:8081\r\nUser-Agent: {USER_AGENT}\r\n",
            self.method, self.target
        );
        if !self.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if self.shown == Shown::Token {
            text.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        text.push_str("Accept-Encoding: gzip\r\n\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its status line and headers.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body as JSON; what is none is an error, as it is for the program.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// A connection to the boot listener that is kept open from request to request.
pub struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    /// Opens one to the rack's server, from the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Self::open_to(SERVER)
    }

    /// Opens one to another server.
    pub fn open_to(address: Ipv4Addr) -> Result<Self> {
        let to = SocketAddr::from((address, 8081));
        let stream = TcpStream::connect_timeout(&to, PATIENCE).context("connect the boot listener")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends these bytes and reads one answer to its end.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.get_mut().write_all(request).context("send a request")?;
        let head = read_head(&mut self.stream)?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut answer = Answer {
            status: status.with_context(|| format!("an answer without status: {head}"))?,
            head,
            body: String::new(),
        };
        let length = match answer.header("content-length") {
            Some(text) => text.parse().context("content-length")?,
            None if answer.status == 204 => 0,
            None => bail!("an answer without content-length: {}", answer.head),
        };
        answer.body = read_body(&mut self.stream, length)?;
        Ok(answer)
    }
}

/// What stands before the body, with the line feeds of its lines and without the empty line.
fn read_head(stream: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        ensure!(
            stream.read_line(&mut head).context("read a head")? > 0,
            "the connection ended: {head}"
        );
        if head[before..].trim_end().is_empty() {
            head.truncate(before);
            return Ok(head);
        }
    }
}

fn read_body(stream: &mut impl Read, length: usize) -> Result<String> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("read a body")?;
    String::from_utf8(body).context("a body that is not UTF-8")
}

const USER_AGENT: &str = "ochami/0.9.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_headers_of_the_program_in_its_order_and_no_other() {
        let bytes = Request::new("PUT", "/boot/v1/bootparameters", "{}").bytes("T");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "PUT /boot/v1/bootparameters HTTP/1.1\r\nHost: 172.16.0.254:8081\r\nUser-Agent: ochami/0.9.1\r\n\
             Content-Length: 2\r\nAuthorization: Bearer T\r\nAccept-Encoding: gzip\r\n\r\n{}"
        );
        let bytes = Request::open("/hsm/v2/State/Components").bytes("T");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            "GET /hsm/v2/State/Components HTTP/1.1\r\nHost: 172.16.0.254:8081\r\nUser-Agent: ochami/0.9.1\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        );
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let mut text = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}rest"[..];
        let head = read_head(&mut text).unwrap();
        assert_eq!(head.lines().count(), 2);
        assert_eq!(read_body(&mut text, 2).unwrap(), "{}");
        assert_eq!(text, b"rest");
    }
}

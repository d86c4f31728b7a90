//! What stands between a rack and its site, and breaks it on demand: a proxy that passes requests on until it is told to misbehave.
//!
//! It speaks TLS under a certificate authority of its own, or plain HTTP. Each change takes effect at once: connections that were kept open end.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{SERVER, SITE};

/// Where it listens, at the rack's address. Where it sends those whom it redirects is the port behind [`QUIET_PORT`], where nobody listens.
pub const PORT: u16 = 8443;
/// Where a second one listens.
pub const QUIET_PORT: u16 = 8444;

/// What it does with a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conduct {
    /// Passes it on, and what is answered back.
    #[default]
    PassesOn,
    /// Does so once for each target, without validators in either direction, and answers from memory from then on.
    Replays,
    /// Answers with this status and body.
    Says(u16, &'static str),
    /// Answers with half of the right body and closes.
    Half,
    /// Answers 200 with a body of 1 GB, which it announces or not.
    Huge {
        /// Whether it says how long it is.
        announced: bool,
    },
    /// Says nothing at all, and keeps the connection.
    IsSilent,
    /// Closes the connection.
    Closes,
    /// Sends whoever asks somewhere else.
    Redirects,
    /// Shows a certificate that expired.
    ShowsExpired,
}

/// Whether it speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Plain HTTP.
    Http,
    /// TLS.
    Https,
}

/// A request that it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// Whether it was one for the case that something changed (If-None-Match).
    pub conditional: bool,
    /// What it was answered with; 0 when with nothing.
    pub status: u16,
}

/// A running one; its threads end with the process.
pub struct Scripted(Arc<Shared>);

struct Shared {
    /// Where the site is.
    site: SocketAddr,
    port: u16,
    conduct: Mutex<Conduct>,
    /// Counts changes of the conduct.
    change: AtomicU64,
    /// Connections, by the port of their other end.
    open: Mutex<HashMap<u16, TcpStream>>,
    asked: Mutex<Vec<Asked>>,
    kept: Mutex<HashMap<String, Reply>>,
    tls: Option<Tls>,
}

struct Tls {
    good: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
}

impl Scripted {
    /// Starts it before the site, at this port. With TLS the certificate to trust is `site-ca.pem` in the folder.
    pub fn start(port: u16, speaks: Speaks, dir: &Path) -> Result<Self> {
        let listener = TcpListener::bind((SERVER, port)).context("the port between rack and site")?;
        let shared = Arc::new(Shared {
            site: (SITE, 8081).into(),
            port,
            conduct: Mutex::default(),
            change: AtomicU64::new(0),
            open: Mutex::default(),
            asked: Mutex::default(),
            kept: Mutex::default(),
            tls: match speaks {
                Speaks::Http => None,
                Speaks::Https => Some(Tls::new(dir)?),
            },
        });
        let scripted = Self(Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Ok(scripted)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.0.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{SERVER}:{}", self.0.port)
    }

    /// From now on it does this.
    pub fn set(&self, conduct: Conduct) {
        *lock(&self.0.conduct) = conduct;
        self.0.change.fetch_add(1, Ordering::SeqCst);
        for stream in lock(&self.0.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The requests since the last time, in order.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.0.asked))
    }
}

struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let (port, own) = (stream.peer_addr()?.port(), stream.try_clone()?);
        lock(&self.open).insert(port, stream.try_clone()?);
        let done = self.speak(stream);
        lock(&self.open).remove(&port);
        let _ = own.shutdown(Shutdown::Both);
        done
    }

    fn speak(&self, stream: TcpStream) -> Result<()> {
        match &self.tls {
            None => self.converse(stream),
            Some(tls) => {
                let config = match *lock(&self.conduct) {
                    Conduct::ShowsExpired => &tls.expired,
                    _ => &tls.good,
                };
                self.converse(StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream))
            }
        }
    }

    fn converse(&self, stream: impl Read + Write) -> Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let request = Request::read(&mut stream)?;
            let mut asked = Asked {
                target: request.target.clone(),
                conditional: request.headers.contains_key("if-none-match"),
                status: 0,
            };
            let conduct = *lock(&self.conduct);
            let done = self.answer(conduct, request, stream.get_mut(), &mut asked);
            lock(&self.asked).push(asked);
            if done? == Then::Close {
                return Ok(());
            }
        }
    }

    fn answer(&self, conduct: Conduct, request: Request, to: &mut impl Write, asked: &mut Asked) -> Result<Then> {
        let reply = match conduct {
            Conduct::PassesOn | Conduct::ShowsExpired => self.pass_on(&request)?,
            Conduct::Replays => {
                let kept = lock(&self.kept).get(&request.target).cloned();
                match kept {
                    Some(reply) => reply,
                    None => {
                        let reply = self.pass_on(&request.without("if-none-match"))?.without_validators();
                        if asked.target == request.target && request.method == "GET" && reply.status == 200 {
                            lock(&self.kept).insert(request.target, reply.clone());
                        }
                        reply
                    }
                }
            }
            Conduct::Says(status, body) => Reply::json(status, body.into()),
            Conduct::Redirects => {
                let mut reply = Reply::json(302, Vec::new());
                let elsewhere = format!("http://{SERVER}:{}{}", QUIET_PORT + 1, request.target);
                reply.headers.insert("location".into(), elsewhere);
                reply
            }
            Conduct::Half => {
                let reply = self.pass_on(&request.without("if-none-match"))?;
                asked.status = reply.status;
                let bytes = reply.bytes();
                to.write_all(&bytes[..bytes.len() - reply.body.len() / 2])?;
                to.flush()?;
                return Ok(Then::Close);
            }
            Conduct::Huge { announced } => {
                asked.status = 200;
                huge(to, announced)?;
                return Ok(Then::Close);
            }
            Conduct::IsSilent => {
                let before = self.change.load(Ordering::SeqCst);
                while self.change.load(Ordering::SeqCst) == before {
                    thread::sleep(Duration::from_millis(20));
                }
                return Ok(Then::Close);
            }
            Conduct::Closes => return Ok(Then::Close),
        };
        asked.status = reply.status;
        to.write_all(&reply.bytes())?;
        to.flush()?;
        Ok(Then::GoOn)
    }

    /// The site's answer; none when the site is dead, and then the connection ends.
    fn pass_on(&self, request: &Request) -> Result<Reply> {
        let mut site = TcpStream::connect_timeout(&self.site, Duration::from_secs(2))?;
        site.set_read_timeout(Some(Duration::from_secs(10)))?;
        site.write_all(&request.bytes())?;
        let mut site = BufReader::new(site);
        let (line, headers) = head(&mut site)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status: u16 = status.with_context(|| format!("an answer without status: {line}"))?;
        let mut body = Vec::new();
        match headers.get("content-length") {
            Some(length) => {
                body.resize(length.parse()?, 0);
                site.read_exact(&mut body)?;
            }
            None if matches!(status, 204 | 304) => {}
            None => bail!("an answer without content-length: {line}"),
        }
        Ok(Reply { status, headers, body })
    }
}

impl Request {
    fn read(stream: &mut impl BufRead) -> Result<Self> {
        let (line, headers) = head(stream)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, target) = words.next().zip(words.next()).context("no request")?;
        let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Self {
            method,
            target,
            headers,
            body,
        })
    }

    fn without(&self, header: &str) -> Self {
        let mut headers = self.headers.clone();
        headers.remove(header);
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers,
            body: self.body.clone(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        bytes(
            &format!("{} {} HTTP/1.1", self.method, self.target),
            &self.headers,
            &self.body,
        )
    }
}

impl Reply {
    fn json(status: u16, body: Vec<u8>) -> Self {
        let headers = [
            ("content-type".to_owned(), "application/json".to_owned()),
            ("content-length".to_owned(), body.len().to_string()),
        ];
        Self {
            status,
            headers: headers.into(),
            body,
        }
    }

    fn without_validators(mut self) -> Self {
        for name in ["etag", "last-modified"] {
            self.headers.remove(name);
        }
        self
    }

    fn bytes(&self) -> Vec<u8> {
        bytes(&format!("HTTP/1.1 {} Scripted", self.status), &self.headers, &self.body)
    }
}

fn bytes(line: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// The first line, and the headers with lower-case names.
fn head(stream: &mut impl BufRead) -> Result<(String, BTreeMap<String, String>)> {
    let mut first = None;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        let line = line.trim_end();
        match (&first, line.split_once(':')) {
            (None, _) => first = Some(line.to_owned()),
            (Some(first), _) if line.is_empty() => return Ok((first.clone(), headers)),
            (_, Some((name, value))) => {
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            _ => bail!("a header without colon: {line}"),
        }
    }
}

/// The beginning of an array that does not end.
fn huge(to: &mut impl Write, announced: bool) -> Result<()> {
    const LENGTH: usize = 1_000_000_000;
    let row = br#"{"ID":"x1000c0s0b0n0","Type":"Node","State":"On"},"#;
    let part: Vec<u8> = row.iter().copied().cycle().take(100_000).collect();
    let length = if announced {
        format!("Content-Length: {LENGTH}\r\n")
    } else {
        "Connection: close\r\n".into()
    };
    to.write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}\r\n[").as_bytes())?;
    for _ in 0..LENGTH / part.len() {
        to.write_all(&part)?;
    }
    Ok(())
}

impl Tls {
    fn new(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(dir.join("site-ca.pem"), params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        let config = |until: i32| -> Result<Arc<ServerConfig>> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.subject_alt_names = vec![SanType::IpAddress(SERVER.into())];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            let key = KeyPair::generate()?;
            let chain = vec![CertificateDer::from_pem_slice(
                params.signed_by(&key, &issuer)?.pem().as_bytes(),
            )?];
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            Ok(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key)?))
        };
        Ok(Self {
            good: config(2120)?,
            expired: config(2021)?,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The certificates of listeners that speak TLS: read at the start, looked at again every few seconds, replaced without a restart.
//!
//! A pair on disk that cannot be used changes nothing: the one from before stays in service, and what is wrong is in the log, in
//! `bootd status` and counted. Never asks clients for certificates; never touches a connection that was made.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InvalidMessage, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Listener, Mistake, Tls};
use crate::metrics::Metrics;

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Bytes that a file may have.
const MOST: u64 = 1 << 20;

/// The pairs of all listeners.
#[derive(Default)]
pub struct Certificates {
    pairs: Vec<Pair>,
}

/// The certificate and key of a listener.
struct Pair {
    /// The listener's key in the configuration, such as `http.listener[2].tls`.
    key: String,
    files: Tls,
    in_service: ArcSwap<ServerConfig>,
    /// Of the files at the last look.
    seen: Mutex<Seen>,
    /// Why the pair on disk is not in service.
    trouble: ArcSwapOption<Mistake>,
    /// What is not as it should be with one that is.
    advice: ArcSwapOption<String>,
}

/// What tells that files have changed.
type Seen = Option<[u8; 32]>;

impl Certificates {
    /// Reads the pairs of all listeners, or lists what is wrong with them.
    pub fn open(config: &Config) -> Result<Self, ConfigError> {
        let (mut pairs, mut mistakes) = (Vec::new(), Vec::new());
        for (at, listener) in config.http.listeners.iter().enumerate() {
            let Some(files) = &listener.tls else { continue };
            match Pair::open(format!("http.listener[{at}].tls"), files) {
                Ok(pair) => pairs.push(pair),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        if mistakes.is_empty() {
            Ok(Self { pairs })
        } else {
            Err(ConfigError::Mistakes {
                path: config.path.clone(),
                mistakes,
            })
        }
    }

    /// What a new connection of this listener is offered; `None`: it speaks no TLS.
    pub(super) fn of(&self, listener: &Listener) -> Option<Arc<ServerConfig>> {
        let files = listener.tls.as_ref()?;
        let pair = self.pairs.iter().find(|pair| pair.files == *files)?;
        Some(pair.in_service.load_full())
    }

    /// What is not as it should be, for `bootd status` and `bootd check`.
    pub fn warnings(&self) -> Vec<String> {
        let of = |pair: &Pair| {
            let trouble = pair.trouble.load_full();
            let trouble = trouble.map(|trouble| format!("{trouble}; the pair from before stays in service"));
            let advice = pair.advice.load_full().map(|advice| advice.to_string());
            trouble.into_iter().chain(advice)
        };
        self.pairs.iter().flat_map(of).collect()
    }

    /// Takes what changed on disk into service. Reads files.
    pub fn look(&self, metrics: &Metrics) {
        for pair in &self.pairs {
            match pair.look() {
                Look::Same => {}
                Look::Replaced => {
                    metrics.done("http", "tls_pair");
                    tracing::info!(certificate = %pair.files.cert.display(), "a new certificate is in service");
                }
                Look::Wrong(mistake) => metrics.refused("http", "tls_pair", &mistake.key, &mistake.text),
            }
        }
        let wrong = self.pairs.iter().filter(|pair| pair.trouble.load().is_some()).count();
        metrics.set("http", "tls_pairs_wrong", i64::try_from(wrong).unwrap_or(i64::MAX));
    }

    /// Looks at the files again and again, until the end.
    pub async fn keep_fresh(self: Arc<Self>, metrics: Arc<Metrics>, shutdown: CancellationToken) {
        while !self.pairs.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            let (certificates, metrics) = (Arc::clone(&self), Arc::clone(&metrics));
            // Disks are slow at times, and this runtime answers nodes.
            let _ = tokio::task::spawn_blocking(move || certificates.look(&metrics)).await;
        }
    }
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// The files are as before, good or not.
    Same,
    /// They changed and are in service.
    Replaced,
    /// They changed and cannot be used.
    Wrong(Mistake),
}

impl Pair {
    fn open(key: String, files: &Tls) -> Result<Self, Mistake> {
        let read = Files::read(&key, files)?;
        let pair = Self {
            in_service: ArcSwap::from_pointee(read.offered(&key, files)?),
            seen: Mutex::new(Some(read.fingerprint())),
            trouble: ArcSwapOption::empty(),
            advice: ArcSwapOption::empty(),
            files: files.clone(),
            key,
        };
        pair.look_at_mode();
        Ok(pair)
    }

    fn look(&self) -> Look {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_mode();
        let (now, offered) = match Files::read(&self.key, &self.files) {
            Ok(read) if *seen == Some(read.fingerprint()) => return Look::Same,
            Ok(read) => (Some(read.fingerprint()), read.offered(&self.key, &self.files)),
            Err(mistake) => (None, Err(mistake)),
        };
        // Files that cannot be read come here at each look; it is said once.
        let said = self.trouble.load_full().filter(|_| now.is_none());
        *seen = now;
        match offered {
            Ok(offered) => {
                // A new configuration also forgets the sessions that began under the old certificate.
                self.in_service.store(Arc::new(offered));
                self.trouble.store(None);
                Look::Replaced
            }
            Err(mistake) if said.as_deref() == Some(&mistake) => Look::Same,
            Err(mistake) => {
                self.trouble.store(Some(Arc::new(mistake.clone())));
                Look::Wrong(mistake)
            }
        }
    }

    /// Whoever reads the key can be this box.
    fn look_at_mode(&self) {
        let mode = std::fs::metadata(&self.files.key).map(|metadata| metadata.permissions().mode());
        let open = mode.is_ok_and(|mode| mode & 0o007 != 0);
        let advice = open.then(|| {
            let path = self.files.key.display();
            format!(
                "{}.key: everybody on this machine may read {path}: chmod o= {path}",
                self.key
            )
        });
        self.advice.store(advice.map(Arc::new));
    }
}

/// The bytes of both files.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(key: &str, files: &Tls) -> Result<Self, Mistake> {
        Ok(Self {
            cert: read(&files.cert).map_err(|text| mistake(key, "cert", &files.cert, text))?,
            key: read(&files.key).map_err(|text| mistake(key, "key", &files.key, text))?,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.cert.len().to_le_bytes());
        digest.update(&self.cert);
        digest.update(&self.key);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.finish().as_ref());
        bytes
    }

    /// What connections are offered with this pair.
    fn offered(&self, key: &str, files: &Tls) -> Result<ServerConfig, Mistake> {
        let of_cert = |text: String| mistake(key, "cert", &files.cert, text);
        let of_key = |text: String| mistake(key, "key", &files.key, text);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.map_err(|error| of_cert(format!("not PEM: {error}")))?;
        if chain.is_empty() {
            return Err(of_cert("holds no certificate in PEM form".into()));
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => of_key("holds no private key in PEM form".into()),
            error => of_key(format!("not PEM: {error}")),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| of_cert(error.to_string()))?;
        let mut config =
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
                .map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => of_key("is not the key of the certificate".into()),
                    // What its provider says of a key that it cannot use.
                    rustls::Error::General(text) => of_key(text),
                    error => of_cert(format!("cannot be used: {error}")),
                })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("has more than {MOST} bytes"));
    }
    Ok(bytes)
}

fn mistake(key: &str, which: &str, path: &Path, text: String) -> Mistake {
    Mistake {
        key: format!("{key}.{which}"),
        text: format!("{}: {text}", path.display()),
    }
}

/// Why a client and this box do not speak TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoHandshake {
    /// The client took too long.
    #[error("the handshake took too long")]
    TooSlow,
    /// What came is no TLS: plain HTTP, most of the time.
    #[error("the client does not speak TLS")]
    Plain,
    /// They do not agree, or the client left.
    #[error("{0}")]
    Failed(std::io::Error),
}

impl NoHandshake {
    /// The metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::TooSlow => "tls_timeout",
            Self::Plain => "tls_not_spoken",
            Self::Failed(_) => "tls_handshake",
        }
    }
}

/// Begins to speak TLS, within this time.
pub(super) async fn handshake<I>(
    io: I,
    offered: Arc<ServerConfig>,
    within: Duration,
) -> Result<TlsStream<I>, NoHandshake>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let made = tokio::time::timeout(within, TlsAcceptor::from(offered).accept(io)).await;
    made.map_err(|_| NoHandshake::TooSlow)?.map_err(|error| {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => NoHandshake::Plain,
            _ => NoHandshake::Failed(error),
        }
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

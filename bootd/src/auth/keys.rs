//! The keys, and where they come from.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::check::{Refused, Rules, Trusted, check, has_scope};
use crate::config::{AuthConfig, Jwks};

/// The file of the own key pair, in `state_dir`.
const FILE: &str = "token-key.pk8";
/// Who signs with it, and for whom.
const OWN: &str = "bootd";
/// How often a file of keys is looked at, and a URL after a failure.
const SOON: Duration = Duration::from_secs(10);
/// How often a URL of keys is asked.
const LATER: Duration = Duration::from_secs(300);
/// Bytes that a set of keys may have.
const MOST_JWKS: usize = 1 << 20;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The own key pair cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The file is not a key pair.
    #[error(
        "{0} is not a key pair of bootd: {1}; move it away, and a new one is made (tokens made before are then refused)"
    )]
    NotAKey(PathBuf, String),
    /// No random numbers, no signature.
    #[error("the system's cryptography fails: {0}")]
    Crypto(String),
}

/// What a route wants of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// To read.
    Read,
    /// To change something.
    Write,
}

/// The keys that are trusted, and the one that signs.
pub struct Auth {
    config: AuthConfig,
    signing: EncodingKey,
    kid: String,
    point: Vec<u8>,
    trusted: ArcSwap<Vec<Trusted>>,
}

impl Auth {
    /// Reads the own key pair, or makes one. Keys of the site come with [`Auth::keep_fresh`].
    pub fn open(config: &AuthConfig, state_dir: &Path) -> Result<Self, AuthError> {
        let path = state_dir.join(FILE);
        let pair = match std::fs::read(&path) {
            Ok(pair) => pair,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path)?,
            Err(error) => return Err(AuthError::File(path, error)),
        };
        let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair);
        let point = match read {
            Ok(read) => read.public_key().as_ref().to_vec(),
            Err(error) => return Err(AuthError::NotAKey(path, error.to_string())),
        };
        // It names the key, so that one who has several knows which.
        let kid: String = point.iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
        let auth = Self {
            config: config.clone(),
            signing: EncodingKey::from_ec_der(&pair),
            kid,
            point,
            trusted: ArcSwap::default(),
        };
        auth.trust(None);
        Ok(auth)
    }

    /// The claims of a token, when it is good for this.
    pub fn check(&self, authorization: Option<&str>, wanted: Wanted) -> Result<Value, Refused> {
        let header = authorization.ok_or(Refused::Missing)?;
        let (scheme, token) = header.split_once(' ').ok_or(Refused::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refused::Missing);
        }
        let claims = check(token.trim(), &self.trusted.load(), unix_now())?;
        let scopes = match wanted {
            Wanted::Read => &self.config.read_scopes,
            Wanted::Write => &self.config.write_scopes,
        };
        if has_scope(&claims, scopes) {
            Ok(claims)
        } else {
            Err(Refused::Scope(scopes.join(", ")))
        }
    }

    /// The longest that a token may live which is made here.
    pub fn longest(&self) -> Duration {
        self.config.longest
    }

    /// Makes a token for an operator. It lives as long as asked for, and no longer than is configured.
    pub fn mint(&self, subject: &str, scopes: &[String], lifetime: Duration) -> Result<String, AuthError> {
        let now = unix_now();
        let lifetime = lifetime.min(self.config.longest).as_secs();
        let mut claims = json!({
            "iss": OWN, "aud": [OWN], "sub": subject, "iat": now, "nbf": now, "exp": now.saturating_add(lifetime),
        });
        if !scopes.is_empty() {
            claims["scope"] = scopes.join(" ").into();
        }
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, &claims, &self.signing).map_err(|error| AuthError::Crypto(error.to_string()))
    }

    /// Looks at the site's keys from time to time, until the end. What cannot be read changes nothing.
    pub async fn keep_fresh(&self, shutdown: CancellationToken) {
        let Some(jwks) = self.config.jwks.clone() else { return };
        let mut before = None;
        loop {
            let read = match &jwks {
                Jwks::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string()),
                Jwks::Url(url) => fetch(url, self.config.ca.as_deref()).await,
            };
            let set = read.and_then(|text| {
                let set: JwkSet = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                Ok((text, set))
            });
            let wait = match (set, &jwks) {
                (Ok((text, set)), _) => {
                    if before.as_ref() != Some(&text) {
                        let keys = self.trust(Some(&set));
                        tracing::info!(%jwks, keys, "keys for tokens");
                        before = Some(text);
                    }
                    if matches!(jwks, Jwks::File(_)) { SOON } else { LATER }
                }
                (Err(error), _) => {
                    tracing::warn!(%jwks, error, "keys for tokens cannot be read; those from before stay");
                    SOON
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Trusts the own key and those of a set; gives how many of the set can be used.
    fn trust(&self, set: Option<&JwkSet>) -> usize {
        let own = Rules {
            issuers: vec![OWN.into()],
            audiences: vec![OWN.into()],
        };
        let mut trusted = vec![Trusted::p256(&self.point, &self.kid, own)];
        trusted.extend(set.into_iter().flat_map(|set| Trusted::of_set(set, &self.config.rules)));
        let count = trusted.len() - 1;
        self.trusted.store(trusted.into());
        count
    }
}

/// Makes a key pair and writes it, whole or not at all, for nobody else to read.
fn make(path: &Path) -> Result<Vec<u8>, AuthError> {
    let failed = |error| AuthError::File(path.into(), error);
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|error| AuthError::Crypto(error.to_string()))?;
    let aside = path.with_extension("new");
    let _ = std::fs::remove_file(&aside);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed)?;
    file.write_all(pair.as_ref()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&aside, path).map_err(failed)?;
    tracing::info!(file = %path.display(), "made a key pair for tokens");
    Ok(pair.as_ref().to_vec())
}

async fn fetch(url: &str, ca: Option<&Path>) -> Result<Vec<u8>, String> {
    let mut client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy();
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).map_err(|error| format!("ca {}: {error}", ca.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?;
        client = client.tls_certs_only(certificates);
    }
    let client = client.build().map_err(|error| error.to_string())?;
    let mut response = client.get(url).send().await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + part.len() > MOST_JWKS {
            return Err(format!("more than {MOST_JWKS} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_pair_is_made_once_for_nobody_else_to_read_and_its_tokens_are_good_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = AuthConfig::default();
        let first = Auth::open(&config, dir.path()).unwrap();
        let token = first.mint("operator", &[], Duration::from_secs(60)).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Auth::open(&config, dir.path()).unwrap();
        let claims = second.check(Some(&format!("Bearer {token}")), Wanted::Write).unwrap();
        assert_eq!(claims["sub"], "operator");
        let other = Auth::open(&config, tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(
            other.check(Some(&format!("Bearer {token}")), Wanted::Read),
            Err(Refused::Signature)
        );
        std::fs::write(dir.path().join(FILE), b"garbage").unwrap();
        assert!(matches!(Auth::open(&config, dir.path()), Err(AuthError::NotAKey(..))));
    }

    #[test]
    fn a_token_lives_no_longer_than_is_configured_and_carries_the_scopes_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        let config = AuthConfig {
            longest: Duration::from_secs(100),
            write_scopes: vec!["write".into()],
            ..AuthConfig::default()
        };
        let auth = Auth::open(&config, dir.path()).unwrap();
        let header =
            |scopes: &[String]| format!("bearer {}", auth.mint("x", scopes, Duration::from_secs(9000)).unwrap());
        let claims = auth.check(Some(&header(&[])), Wanted::Read).unwrap();
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 100);
        assert!(matches!(
            auth.check(Some(&header(&[])), Wanted::Write),
            Err(Refused::Scope(_))
        ));
        assert!(auth.check(Some(&header(&["write".into()])), Wanted::Write).is_ok());
        assert_eq!(auth.check(None, Wanted::Read), Err(Refused::Missing));
        assert_eq!(auth.check(Some("Basic eDp5"), Wanted::Read), Err(Refused::Missing));
        assert_eq!(auth.check(Some("Bearer x.y"), Wanted::Read), Err(Refused::Malformed));
    }
}

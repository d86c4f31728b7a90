//! The own key pair, and all keys that are trusted with it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::check::{Refused, Rules, Trusted, check, has_scope};
use super::site::{self, Site};
use crate::config::{AuthConfig, Config, Jwks, Mistake};

/// The file of the own key pair, in `state_dir`.
const FILE: &str = "token-key.pk8";
/// Who signs with it, and for whom.
const OWN: &str = "bootd";
/// Bytes that the own key pair may have.
const MOST: u64 = 1 << 16;

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
    /// Others may read the key pair, so they may have made tokens with it.
    #[error(
        "{0} may be read by others than its owner (mode {1:03o}), and whoever reads it can make tokens: if nobody did, chmod 600 {0}; \
         else move it away, and a new one is made (tokens made before are then refused)"
    )]
    Open(PathBuf, u32),
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
    pub(super) config: AuthConfig,
    pub(super) site: Site,
    signing: EncodingKey,
    kid: String,
    point: Vec<u8>,
    trusted: ArcSwap<Vec<Trusted>>,
}

impl Auth {
    /// Reads the own key pair, or makes one, and the site's keys when they are in a file. All else comes with [`Auth::keep_fresh`].
    pub fn open(config: &AuthConfig, state_dir: &Path) -> Result<Self, AuthError> {
        let path = state_dir.join(FILE);
        let pair = match read(&path)? {
            Some(pair) => pair,
            None => make(&path)?,
        };
        let point = point(&path, &pair)?;
        // It names the key, so that one who has several knows which.
        let kid: String = point.iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
        let auth = Self {
            config: config.clone(),
            site: Site::default(),
            signing: EncodingKey::from_ec_der(&pair),
            kid,
            point,
            trusted: ArcSwap::default(),
        };
        auth.trust(None);
        // What is wrong with the file is told by the first look at it.
        if let Some(Jwks::File(path)) = &config.jwks
            && let Ok(set) = site::read(path).and_then(|text| site::set_of(&text))
        {
            auth.trust(Some(&set));
        }
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

    /// The public half of the own key as a set of keys (RFC 7517), for whoever is to trust the tokens that are made here. Keys of others are
    /// not in it: who trusts this box need not trust them.
    pub fn key_set(&self) -> Value {
        // An uncompressed point: a byte 4, then both coordinates (SEC 1 section 2.3.3).
        let coordinate = |skip: usize| {
            let bytes: Vec<u8> = self.point.iter().skip(skip).take(32).copied().collect();
            URL_SAFE_NO_PAD.encode(bytes)
        };
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": coordinate(1), "y": coordinate(33),
        }] })
    }

    /// The name of the own key; another key has another.
    pub fn key_id(&self) -> &str {
        &self.kid
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

    /// How many keys of the site are trusted.
    pub(super) fn of_site(&self) -> usize {
        self.trusted.load().len() - 1
    }

    /// Trusts the own key and those of a set; gives how many of the set can be used.
    pub(super) fn trust(&self, set: Option<&JwkSet>) -> usize {
        let own = Rules {
            issuers: vec![OWN.into()],
            audiences: vec![OWN.into()],
        };
        let mut trusted = vec![Trusted::p256(&self.point, &self.kid, own)];
        trusted.extend(set.into_iter().flat_map(|set| Trusted::of_set(set, &self.config.rules)));
        self.trusted.store(trusted.into());
        self.of_site()
    }
}

/// What is wrong with the files of keys, for `bootd check`. Makes nothing.
pub fn mistakes(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |key: &str, text: String| {
        let key = key.into();
        mistakes.push(Mistake { key, text });
    };
    let path = config.state_dir.join(FILE);
    let own = read(&path).and_then(|pair| pair.map(|pair| point(&path, &pair)).transpose());
    match own {
        // Whoever checks need not be who serves.
        Err(AuthError::File(_, error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(error) => wrong("server.state_dir", error.to_string()),
        Ok(_) => {}
    }
    if let Some(Jwks::File(path)) = &config.auth.jwks {
        let read = site::read(path).and_then(|text| site::set_of(&text));
        let usable = read.map(|set| Trusted::of_set(&set, &config.auth.rules).len());
        match usable {
            Ok(0) => wrong(
                "auth.jwks",
                format!("{}: holds no key that checks signatures", path.display()),
            ),
            Ok(_) => {}
            Err(error) => wrong("auth.jwks", format!("{}: {error}", path.display())),
        }
    }
    if let Some(error) = config.auth.ca.as_deref().and_then(|ca| site::certificates(ca).err()) {
        wrong("auth.ca", error);
    }
    mistakes
}

/// The own key pair, when there is one, and nobody else may read it.
fn read(path: &Path) -> Result<Option<Vec<u8>>, AuthError> {
    let failed = |error| AuthError::File(path.into(), error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Not tightened in silence: that would hide that the key may be known, and what it signs is believed for years.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuthError::Open(path.into(), mode));
    }
    let mut pair = Vec::new();
    file.take(MOST).read_to_end(&mut pair).map_err(failed)?;
    Ok(Some(pair))
}

/// The public half of a key pair.
fn point(path: &Path, pair: &[u8]) -> Result<Vec<u8>, AuthError> {
    match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair) {
        Ok(read) => Ok(read.public_key().as_ref().to_vec()),
        Err(error) => Err(AuthError::NotAKey(path.into(), error.to_string())),
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
            Err(Refused::UnknownKey)
        );
        std::fs::write(dir.path().join(FILE), b"garbage").unwrap();
        assert!(matches!(Auth::open(&config, dir.path()), Err(AuthError::NotAKey(..))));
    }

    #[test]
    fn who_trusts_the_set_of_keys_of_a_box_takes_its_tokens_and_no_others() {
        let (at_site, at_rack) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let site = Auth::open(&AuthConfig::default(), at_site.path()).unwrap();
        let other = Auth::open(&AuthConfig::default(), tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(site.key_set(), other.key_set());
        let keys = at_rack.path().join("site.jwks");
        std::fs::write(&keys, site.key_set().to_string()).unwrap();
        let config = AuthConfig {
            jwks: Some(Jwks::File(keys)),
            rules: Rules {
                issuers: Vec::new(),
                audiences: vec![OWN.into()],
            },
            ..AuthConfig::default()
        };
        let rack = Auth::open(&config, at_rack.path()).unwrap();
        let check = |by: &Auth| {
            let token = by.mint("operator", &[], Duration::from_secs(60)).unwrap();
            rack.check(Some(&format!("Bearer {token}")), Wanted::Write).map(drop)
        };
        assert_eq!(check(&site), Ok(()));
        assert_eq!(check(&rack), Ok(()));
        assert_eq!(check(&other), Err(Refused::UnknownKey));
        // The set is the rack's own key alone, and no half of it is secret.
        let set = rack.key_set();
        assert_eq!(set["keys"].as_array().unwrap().len(), 1);
        assert_eq!(set["keys"][0]["kid"], rack.key_id());
        assert!(set["keys"][0]["d"].is_null());
    }

    #[test]
    fn a_key_pair_that_others_may_read_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        Auth::open(&AuthConfig::default(), dir.path()).unwrap();
        for (mode, is_good) in [(0o640, false), (0o604, false), (0o620, false), (0o400, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match Auth::open(&AuthConfig::default(), dir.path()) {
                Ok(_) => assert!(is_good, "{mode:o}"),
                Err(error) => assert!(!is_good && error.to_string().contains("chmod 600"), "{mode:o}: {error}"),
            }
        }
    }

    #[test]
    fn check_names_the_key_of_each_file_of_keys_that_cannot_be_used_and_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[server]\naddress = \"172.16.0.254\"\nstate_dir = \"state\"\n[auth]\njwks = \"keys.json\"\n\
                    audiences = [\"smd\"]\nca = \"ca.pem\"\n";
        let config = crate::config::parse(text, &dir.path().join("bootd.toml")).unwrap();
        std::fs::create_dir(dir.path().join("state")).unwrap();
        let found = |keys: &str, ca: &str| {
            std::fs::write(dir.path().join("keys.json"), keys).unwrap();
            std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
            let mistakes: Vec<_> = mistakes(&config).iter().map(ToString::to_string).collect();
            mistakes
        };
        for (keys, says) in [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("{\"keys\": 1}", "invalid type"),
            ("{\"keys\": []}", "no key that checks"),
            (
                "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}",
                "no key that checks",
            ),
            (&"x".repeat(site::MOST + 1), "more than"),
        ] {
            let found = found(keys, "garbage");
            let [jwks, ca] = found.as_slice() else {
                panic!("{found:?}")
            };
            assert!(jwks.starts_with("auth.jwks: ") && jwks.contains(says), "{found:?}");
            assert!(ca.starts_with("auth.ca: "), "{found:?}");
        }
        std::fs::write(dir.path().join("state").join(FILE), "garbage").unwrap();
        let found = found("", "");
        assert!(
            found.iter().any(|text| text.starts_with("server.state_dir: ")),
            "{found:?}"
        );
        std::fs::remove_file(dir.path().join("state").join(FILE)).unwrap();
        mistakes(&config);
        assert!(!dir.path().join("state").join(FILE).exists());
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

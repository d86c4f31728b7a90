//! Who signs tokens: bootd's own key pair, or a site's identity provider whose key everybody at the site trusts.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The issuer of a site's tokens.
pub const ISSUER: &str = "https://idp.example.net";

/// A key pair of P-256.
pub struct Signer {
    /// The pair, as PKCS #8.
    pub key: Vec<u8>,
}

impl Signer {
    /// A new one.
    pub fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pair = pair.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            key: pair.as_ref().to_vec(),
        })
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let key = EncodingKey::from_ec_der(&self.key);
        encode(&Header::new(Algorithm::ES256), claims, &key).context("sign")
    }

    /// A token of a site's identity provider, good for ten minutes.
    pub fn site_token(&self) -> Result<String> {
        let now = now();
        self.sign(&json!({"iss": ISSUER, "aud": ["site"], "sub": "operator", "iat": now, "nbf": now, "exp": now + 600}))
    }

    /// Its public key, as an identity provider publishes it (JWKS).
    pub fn jwks(&self) -> Result<String> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key);
        let pair = pair.map_err(|error| anyhow::anyhow!("{error}"))?;
        // Uncompressed: a byte that says so, then both coordinates.
        let point = pair.public_key().as_ref();
        let [x, y] = [1..33, 33..65].map(|part| point.get(part).map(|part| URL_SAFE_NO_PAD.encode(part)));
        let (x, y) = x.zip(y).context("a point of P-256")?;
        Ok(json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "x": x, "y": y}]}).to_string())
    }
}

/// As `bootd token` makes them.
pub fn claims() -> Value {
    let now = now();
    json!({"iss": "bootd", "aud": ["bootd"], "sub": "operator", "iat": now, "nbf": now, "exp": now + 600})
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

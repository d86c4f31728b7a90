//! Who may not write: each write of each service, with each token that is not good.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::{Answer, Line, Request, Shown};
use bootd_tests::wire::Client;
use bootd_tests::{Rack, SERVER};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

const NODE: &str = "x1000c0s0b0n0";
const MAC: &str = "52:54:00:be:ef:01";

#[test]
fn every_write_with_a_token_that_is_not_good_is_refused_and_changes_nothing() {
    in_rack(|| {
        let rack = Rack::new()?;
        rack.write("bootd.toml", &rack.bare_config())?;
        let mut bootd = rack.start_bootd()?;
        let own = std::fs::read(rack.path("state/token-key.pk8")).context("bootd's key pair")?;
        let signer = Signer { key: own };
        let good = signer.sign(&claims())?;
        let mut line = Line::open()?;
        // A token that is made here is good when nothing is wrong with it; else the rest would prove nothing.
        set_up(&mut line, &good)?;
        let before = all(&mut line, &good)?;

        for (what, header) in not_good(&signer)? {
            for (method, target, body) in WRITES {
                let answer = ask(&mut line, method, target, body, header.as_deref())?;
                ensure!(
                    answer.status == 401,
                    "{method} {target} with {what}: {} {}",
                    answer.status,
                    answer.body
                );
                ensure!(
                    answer
                        .header("www-authenticate")
                        .is_some_and(|text| text.starts_with("Bearer")),
                    "{what}: {}",
                    answer.head
                );
            }
            // Reads that upstream leaves open stay open, whatever is shown; others do not.
            let answer = ask(&mut line, "GET", "/hsm/v2/State/Components", "", header.as_deref())?;
            ensure!(answer.status == 200, "an open read with {what}: {}", answer.status);
            for target in ["/boot/v1/bootparameters", "/hsm/v2/groups", "/cloud-init/admin/groups"] {
                let answer = ask(&mut line, "GET", target, "", header.as_deref())?;
                ensure!(answer.status == 401, "GET {target} with {what}: {}", answer.status);
            }
        }
        ensure!(all(&mut line, &good)? == before, "something was written");
        let log = std::fs::read_to_string(bootd.log())?;
        ensure!(!log.contains(&good), "a token is in the log");

        // What only nodes may say is not for an address that is none.
        let stranger = Client::plug(&rack)?;
        stranger.ip("addr add 172.16.0.77/24 dev cable0")?;
        let phone_home =
            format!("POST /cloud-init/phone-home/{NODE} HTTP/1.0\r\nHost: {SERVER}:8081\r\nContent-Length: 0\r\n\r\n");
        let (status, said) = stranger.http(&phone_home)?;
        ensure!(status == 403, "{status} {said}");
        bootd.must_run()
    });
}

/// Writes of the three services; each would change something.
const WRITES: [(&str, &str, &str); 24] = [
    (
        "POST",
        "/hsm/v2/State/Components",
        r#"{"Components":[{"ID":"x9c0s0b0n0","State":"On"}]}"#,
    ),
    (
        "PUT",
        "/hsm/v2/State/Components/x1000c0s0b0n0",
        r#"{"Component":{"ID":"x1000c0s0b0n0","State":"Off"},"Force":true}"#,
    ),
    ("PATCH", "/hsm/v2/State/Components/x1000c0s0b0n0/NID", r#"{"NID":7}"#),
    (
        "PATCH",
        "/hsm/v2/State/Components/BulkNID",
        r#"{"Components":[{"ID":"x1000c0s0b0n0","NID":7}]}"#,
    ),
    ("DELETE", "/hsm/v2/State/Components/x1000c0s0b0n0", ""),
    ("DELETE", "/hsm/v2/State/Components", ""),
    ("POST", "/hsm/v2/Inventory/RedfishEndpoints", r#"{"ID":"x9c0s0b0"}"#),
    ("DELETE", "/hsm/v2/Inventory/RedfishEndpoints", ""),
    (
        "POST",
        "/hsm/v2/Inventory/EthernetInterfaces",
        r#"{"MACAddress":"52:54:00:be:ef:09"}"#,
    ),
    (
        "PATCH",
        "/hsm/v2/Inventory/EthernetInterfaces/525400beef01",
        r#"{"Description":"mine"}"#,
    ),
    ("DELETE", "/hsm/v2/Inventory/EthernetInterfaces/525400beef01", ""),
    ("POST", "/hsm/v2/groups", r#"{"label":"mine","members":{}}"#),
    ("POST", "/hsm/v2/groups/compute/members", r#"{"id":"x1000c0s0b0n0"}"#),
    ("DELETE", "/hsm/v2/groups/compute", ""),
    (
        "POST",
        "/boot/v1/bootparameters",
        r#"{"macs":["52:54:00:be:ef:09"],"kernel":"http://evil/"}"#,
    ),
    (
        "PUT",
        "/boot/v1/bootparameters",
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://evil/"}"#,
    ),
    (
        "PATCH",
        "/boot/v1/bootparameters",
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://evil/"}"#,
    ),
    ("DELETE", "/boot/v1/bootparameters", r#"{"macs":["52:54:00:be:ef:01"]}"#),
    (
        "PUT",
        "/apis/bss/boot/v1/bootparameters",
        r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://evil/"}"#,
    ),
    (
        "POST",
        "/cloud-init/admin/cluster-defaults",
        r#"{"public-keys":["mine"]}"#,
    ),
    (
        "POST",
        "/cloud-init/admin/groups",
        r#"{"name":"mine","file":{"content":"","filename":""}}"#,
    ),
    (
        "PUT",
        "/cloud-init/admin/groups/compute",
        r#"{"name":"compute","file":{"content":"mine","filename":""}}"#,
    ),
    ("DELETE", "/cloud-init/admin/groups/compute", ""),
    (
        "PUT",
        "/cloud-init/admin/instance-info/x1000c0s0b0n0",
        r#"{"id":"x1000c0s0b0n0","local-hostname":"mine"}"#,
    ),
];

/// Authorization headers, each with one thing that is wrong.
fn not_good(own: &Signer) -> Result<Vec<(&'static str, Option<String>)>> {
    let other = Signer::new()?;
    let now = now();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let good = own.sign(&claims())?;
    let signed = |claims: &Value| anyhow::Ok(bearer(own.sign(claims)?));
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: Value| {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        bearer(format!("{header}.{}.", parts[1]))
    };
    // A shared secret that everybody knows: the public point of the key would be such a one.
    let secret = EncodingKey::from_secret(&own.key);
    Ok(vec![
        ("no token", None),
        ("an empty one", Some("Bearer ".into())),
        ("a password", Some("Basic YWRtaW46YWRtaW4=".into())),
        ("an opaque token", Some("Bearer 0123456789abcdef".into())),
        ("an expired token", signed(&with("exp", json!(now - 120)))?),
        ("a token without an end", signed(&with("exp", Value::Null))?),
        ("a token of tomorrow", signed(&with("nbf", json!(now + 86_400)))?),
        ("a wrong audience", signed(&with("aud", json!(["somebody-else"])))?),
        ("no audience", signed(&with("aud", Value::Null))?),
        ("a wrong issuer", signed(&with("iss", json!("https://evil.example")))?),
        ("no subject", signed(&with("sub", Value::Null))?),
        ("a wrong key", bearer(other.sign(&claims())?)),
        (
            "a token that was changed",
            bearer(format!(
                "{}.{}.{}",
                parts[0],
                URL_SAFE_NO_PAD.encode(with("sub", json!("root")).to_string()),
                parts[2]
            )),
        ),
        ("alg none", unsigned(json!({"alg": "none"}))),
        ("alg nOnE", unsigned(json!({"alg": "nOnE", "typ": "JWT"}))),
        ("no signature", unsigned(json!({"alg": "ES256"}))),
        (
            "a shared secret",
            bearer(encode(&Header::new(Algorithm::HS256), &claims(), &secret)?),
        ),
    ])
}

/// One row of each kind, so that each write has something to change.
fn set_up(line: &mut Line, token: &str) -> Result<()> {
    for (method, target, body) in [
        (
            "POST",
            "/hsm/v2/State/Components",
            format!(r#"{{"Components":[{{"ID":"{NODE}","State":"On","NID":1}}]}}"#),
        ),
        (
            "POST",
            "/hsm/v2/Inventory/EthernetInterfaces",
            format!(r#"{{"ComponentID":"{NODE}","MACAddress":"{MAC}","IPAddresses":[{{"IPAddress":"172.16.0.1"}}]}}"#),
        ),
        ("POST", "/hsm/v2/groups", r#"{"label":"compute","members":{}}"#.into()),
        (
            "PUT",
            "/boot/v1/bootparameters",
            format!(r#"{{"macs":["{MAC}"],"kernel":"http://k/"}}"#),
        ),
        (
            "POST",
            "/cloud-init/admin/cluster-defaults",
            r#"{"cluster-name":"demo"}"#.into(),
        ),
        (
            "PUT",
            "/cloud-init/admin/groups/compute",
            r##"{"name":"compute","file":{"content":"#cloud-config","filename":"","encoding":"plain"}}"##.into(),
        ),
    ] {
        let answer = ask(line, method, target, &body, Some(&format!("Bearer {token}")))?;
        ensure!((200..300).contains(&answer.status), "{method} {target}: {answer:?}");
    }
    Ok(())
}

/// What is stored, as far as it can be read.
fn all(line: &mut Line, token: &str) -> Result<Vec<(String, Value)>> {
    let meta_data = format!("/cloud-init/admin/impersonation/{NODE}/meta-data");
    let targets = [
        "/hsm/v2/State/Components",
        "/hsm/v2/Inventory/RedfishEndpoints",
        "/hsm/v2/Inventory/EthernetInterfaces",
        "/hsm/v2/groups",
        "/boot/v1/bootparameters",
        "/cloud-init/admin/cluster-defaults",
        "/cloud-init/admin/groups",
        meta_data.as_str(),
    ];
    targets
        .into_iter()
        .map(|target| {
            let answer = ask(line, "GET", target, "", Some(&format!("Bearer {token}")))?;
            ensure!(answer.status == 200, "{target}: {answer:?}");
            Ok((target.to_owned(), serde_saphyr::from_str(&answer.body)?))
        })
        .collect()
}

fn ask(line: &mut Line, method: &'static str, target: &str, body: &str, header: Option<&str>) -> Result<Answer> {
    let request = Request {
        shown: Shown::Nothing,
        ..Request::new(method, target, body)
    };
    let bytes = String::from_utf8(request.bytes(""))?;
    let bytes = match header {
        Some(header) => bytes.replacen("\r\n\r\n", &format!("\r\nAuthorization: {header}\r\n\r\n"), 1),
        None => bytes,
    };
    line.ask(bytes.as_bytes())
}

/// A key pair of P-256.
struct Signer {
    key: Vec<u8>,
}

impl Signer {
    fn new() -> Result<Self> {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pair = pair.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            key: pair.as_ref().to_vec(),
        })
    }

    fn sign(&self, claims: &Value) -> Result<String> {
        let key = EncodingKey::from_ec_der(&self.key);
        encode(&Header::new(Algorithm::ES256), claims, &key).context("sign")
    }
}

/// As `bootd token` makes them.
fn claims() -> Value {
    let now = now();
    json!({"iss": "bootd", "aud": ["bootd"], "sub": "operator", "iat": now, "nbf": now, "exp": now + 600})
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

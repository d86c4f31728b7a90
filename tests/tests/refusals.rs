//! Who may not write: each write of each service, with each token that is not good.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::{Answer, Line, Request, Shown};
use bootd_tests::signer::{Signer, claims, now};
use bootd_tests::wire::Client;
use bootd_tests::{Rack, SERVER};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

#[test]
fn writes_to_smd_with_a_token_that_is_not_good_are_refused_and_change_nothing() {
    in_rack(|| {
        refuses(&Service {
            set_up: &[
                (
                    "POST",
                    "/hsm/v2/State/Components",
                    r#"{"Components":[{"ID":"x1000c0s0b0n0","State":"On","NID":1}]}"#,
                ),
                (
                    "POST",
                    "/hsm/v2/Inventory/EthernetInterfaces",
                    r#"{"ComponentID":"x1000c0s0b0n0","MACAddress":"52:54:00:be:ef:01","IPAddresses":[{"IPAddress":"172.16.0.1"}]}"#,
                ),
                ("POST", "/hsm/v2/groups", r#"{"label":"compute","members":{}}"#),
            ],
            writes: &SMD_WRITES,
            open: &["/hsm/v2/State/Components", "/hsm/v2/Inventory/EthernetInterfaces"],
            closed: &["/hsm/v2/groups", "/hsm/v2/Inventory/RedfishEndpoints"],
        })
    });
}

#[test]
fn writes_to_bss_with_a_token_that_is_not_good_are_refused_and_change_nothing() {
    in_rack(|| {
        refuses(&Service {
            set_up: &[(
                "PUT",
                "/boot/v1/bootparameters",
                r#"{"macs":["52:54:00:be:ef:01"],"kernel":"http://k/"}"#,
            )],
            writes: &BSS_WRITES,
            open: &["/boot/v1/bootscript?mac=52:54:00:be:ef:01", "/boot/v1/dumpstate"],
            closed: &["/boot/v1/bootparameters"],
        })
    });
}

#[test]
fn writes_to_cloud_init_with_a_token_that_is_not_good_are_refused_and_change_nothing() {
    in_rack(|| {
        refuses(&Service {
            set_up: &[
                (
                    "POST",
                    "/cloud-init/admin/cluster-defaults",
                    r#"{"cluster-name":"demo"}"#,
                ),
                (
                    "PUT",
                    "/cloud-init/admin/groups/compute",
                    r##"{"name":"compute","file":{"content":"#cloud-config","filename":"","encoding":"plain"}}"##,
                ),
            ],
            writes: &CLOUD_INIT_WRITES,
            open: &["/cloud-init/version"],
            closed: &["/cloud-init/admin/cluster-defaults", "/cloud-init/admin/groups"],
        })
    });
}

#[test]
fn what_only_nodes_may_say_is_refused_from_an_address_that_is_no_nodes() {
    in_rack(|| {
        let rack = Rack::new()?;
        rack.write("bootd.toml", &rack.bare_config())?;
        let mut bootd = rack.start_bootd()?;
        let stranger = Client::plug(&rack)?;
        stranger.ip("addr add 172.16.0.77/24 dev cable0")?;
        for target in [
            "/cloud-init/phone-home/x1000c0s0b0n0",
            "/cloud-init/wg-init",
            "/boot/v1/hosts",
        ] {
            let request = format!("POST {target} HTTP/1.0\r\nHost: {SERVER}:8081\r\nContent-Length: 0\r\n\r\n");
            let (status, said) = stranger.http(&request)?;
            ensure!(status == 403, "{target}: {status} {said}");
        }
        bootd.must_run()
    });
}

/// A request: method, target, body.
type Row = (&'static str, &'static str, &'static str);

/// What is asked of a service.
struct Service {
    /// One row of each kind, so that each write has something to change.
    set_up: &'static [Row],
    /// Writes; each would change something.
    writes: &'static [Row],
    /// Reads that need no token.
    open: &'static [&'static str],
    /// Reads that need one.
    closed: &'static [&'static str],
}

fn refuses(service: &Service) -> Result<()> {
    let rack = Rack::new()?;
    rack.write("bootd.toml", &rack.bare_config())?;
    let mut bootd = rack.start_bootd()?;
    let signer = Signer {
        key: std::fs::read(rack.path("state/token-key.pk8")).context("bootd's key pair")?,
    };
    // A token that is made here is good when nothing is wrong with it; else the rest would prove nothing.
    let good = format!("Bearer {}", signer.sign(&claims())?);
    let mut line = Line::open()?;
    for (method, target, body) in service.set_up {
        let answer = ask(&mut line, method, target, body, Some(&good))?;
        ensure!((200..300).contains(&answer.status), "{method} {target}: {answer:?}");
    }
    let before = all(&mut line, service, &good)?;

    for (what, header) in not_good(&signer)? {
        for (method, target, body) in service.writes {
            let answer = ask(&mut line, method, target, body, header.as_deref())?;
            ensure!(answer.status == 401, "{method} {target} with {what}: {answer:?}");
            ensure!(
                answer
                    .header("www-authenticate")
                    .is_some_and(|text| text.starts_with("Bearer")),
                "{what}: {}",
                answer.head
            );
        }
        // What is open stays so, whatever is shown.
        for target in service.open {
            let answer = ask(&mut line, "GET", target, "", header.as_deref())?;
            ensure!(answer.status == 200, "GET {target} with {what}: {answer:?}");
        }
        for target in service.closed {
            let answer = ask(&mut line, "GET", target, "", header.as_deref())?;
            ensure!(answer.status == 401, "GET {target} with {what}: {answer:?}");
        }
    }
    ensure!(all(&mut line, service, &good)? == before, "something was written");
    let log = std::fs::read_to_string(bootd.log())?;
    ensure!(!log.contains(&good[7..]), "a token is in the log");
    bootd.must_run()
}

const SMD_WRITES: [Row; 14] = [
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
];

const BSS_WRITES: [Row; 5] = [
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
];

const CLOUD_INIT_WRITES: [Row; 5] = [
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

/// What is stored, as far as it can be read. Scripts, which have a query, also tell the time.
fn all(line: &mut Line, service: &Service, header: &str) -> Result<Vec<String>> {
    let targets = service.open.iter().chain(service.closed);
    targets
        .filter(|target| !target.contains('?'))
        .map(|target| {
            let answer = ask(line, "GET", target, "", Some(header))?;
            ensure!(answer.status == 200, "{target}: {answer:?}");
            Ok(answer.body)
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

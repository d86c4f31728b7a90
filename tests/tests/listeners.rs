//! Listeners of other kinds: TLS, and cloud-init and the old routes of BSS at the root.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::process::run;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, eventually_true};

const MORE: &str = r#"
[[http.listener]]
address = "0.0.0.0:8443"
serve = ["boot"]
tls = { cert = "cert.pem", key = "key.pem" }
[[http.listener]]
address = "0.0.0.0:27777"
serve = ["cloud-init"]
[[http.listener]]
address = "0.0.0.0:27778"
serve = ["boot", "bss-root"]
"#;

#[test]
fn a_listener_with_tls_says_so_in_scripts_and_takes_a_new_certificate_without_a_restart() {
    in_rack(|| {
        let rack = rack()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let script = "https://172.16.0.254:8443/boot/v1/bootscript?mac=52:54:00:be:ef:01";
        let said = curl(&client, &["--cacert", &path(&rack, "cert.pem"), script])?;
        ensure!(
            said.contains("\nchain https://172.16.0.254:8443/boot/v1/bootscript?mac="),
            "{said}"
        );
        // Writes want a token here, too.
        let components = "https://172.16.0.254:8443/hsm/v2/State/Components";
        let body = r#"{"Components":[{"ID":"x1000c0s0b0n0","State":"On"}]}"#;
        let status = curl(
            &client,
            &["-k", "-o", "/dev/null", "-w", "%{http_code}", "-d", body, components],
        )?;
        ensure!(status == "401", "{status}");

        std::fs::copy(rack.path("cert.pem"), rack.path("old.pem"))?;
        certificate(&rack)?;
        eventually_true(Duration::from_secs(20), "the new certificate is served", || {
            curl(&client, &["--cacert", &path(&rack, "cert.pem"), script]).is_ok()
        })?;
        ensure!(
            curl(&client, &["--cacert", &path(&rack, "old.pem"), script]).is_err(),
            "the old one is served"
        );
        bootd.must_run()
    });
}

#[test]
fn cloud_init_and_the_old_routes_of_bss_are_at_the_root_where_they_are_configured_and_nowhere_else() {
    in_rack(|| {
        let rack = rack()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let at = |url: &str| curl(&client, &["-w", "\n%{http_code}", url]);
        let own = at("http://172.16.0.254:27777/meta-data")?;
        ensure!(own.starts_with("instance-id: ") && own.ends_with("\n200"), "{own}");
        let both = at("http://172.16.0.254:27777/cloud-init/meta-data")?;
        ensure!(both == own, "{both}");
        let refused = at("http://172.16.0.254:27777/admin/groups")?;
        ensure!(refused.ends_with("\n401"), "{refused}");
        let old = at("http://172.16.0.254:27778/user-data")?;
        ensure!(old.starts_with("#cloud-config") && old.ends_with("\n200"), "{old}");
        for nowhere in [
            "http://172.16.0.254:8081/meta-data",
            "http://172.16.0.254:8081/user-data",
            "http://172.16.0.254:27777/boot/v1/bootscript?mac=52:54:00:be:ef:01",
        ] {
            let said = at(nowhere)?;
            ensure!(said.ends_with("\n404"), "{nowhere}: {said}");
        }
        bootd.must_run()
    });
}

/// A rack with these listeners.
fn rack() -> Result<Rack> {
    let rack = Rack::new()?;
    certificate(&rack)?;
    let bss = "name = \"bss\"\n";
    let config = rack.config();
    ensure!(config.contains(bss), "the configuration names no bss");
    let config = config.replace(bss, &format!("{bss}config.legacy_cloud_init = true\n"));
    rack.write(
        "bootd.toml",
        &config.replace("\n[admin]\n", &format!("{MORE}\n[admin]\n")),
    )?;
    Ok(rack)
}

/// A new certificate of its own authority, and its key.
fn certificate(rack: &Rack) -> Result<()> {
    let (key, cert) = (path(rack, "new-key.pem"), path(rack, "new-cert.pem"));
    let name = ["-subj", "/CN=rack", "-addext", "subjectAltName=IP:172.16.0.254"];
    let made = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let files = ["-keyout", &key, "-out", &cert];
    run("openssl", &[&made[..], &name[..], &files[..]].concat()).context("install the Debian package openssl")?;
    run("chmod", &["600", &key])?;
    std::fs::rename(key, rack.path("key.pem"))?;
    Ok(std::fs::rename(cert, rack.path("cert.pem"))?)
}

fn path(rack: &Rack, name: &str) -> String {
    rack.path(name).display().to_string()
}

fn curl(client: &Client, args: &[&str]) -> Result<String> {
    client.at(|| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "10"]).args(args).stdin(Stdio::null());
        let output = command.output().context("install the Debian package curl")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl: {} {}", output.status, error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

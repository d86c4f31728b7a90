//! Who shows a token, and who does not, at a listener that asks for them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::{Ochami, commands};
use bootd_tests::server;
use bootd_tests::wire::Client;
use bootd_tests::{Bootd, Rack, SERVER, SITE, Site, eventually_true};
use serde_json::Value;

const OPERATORS: &str = "/boot/v1/bootparameters";

#[test]
fn operators_show_tokens_that_survive_a_restart_and_nodes_need_none() {
    in_rack(|| {
        let rack = Rack::new()?;
        rack.write("bootd.toml", &rack.config().replace("auth = \"none\"\n", ""))?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let mut bootd = rack.start_bootd()?;
        let config = rack.path("bootd.toml").display().to_string();
        let output = server::command(&["token", "--subject", "me", "--ttl", "5m", "--config", &config])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let token = String::from_utf8(output.stdout)?.trim().to_owned();
        let ask = |header: &str| {
            client.http(&format!(
                "GET {OPERATORS} HTTP/1.1\r\nHost: {SERVER}:8081\r\n{header}Connection: close\r\n\r\n"
            ))
        };

        let (status, said) = ask("")?;
        ensure!(status == 401 && said.contains("bootd token"), "{status} {said}");
        let (status, said) = ask(&format!("Authorization: Bearer {token}x\r\n"))?;
        ensure!(
            status == 401 && said.contains("not signed by a trusted key"),
            "{status} {said}"
        );
        let good = format!("Authorization: Bearer {token}\r\n");
        let (status, said) = ask(&good)?;
        ensure!(status == 200, "{status} {said}");
        for open in ["/boot/v1/bootscript?mac=52:54:00:be:ef:01", "/cloud-init/meta-data"] {
            let (status, said) = client.get(open)?;
            ensure!(status == 200, "{open}: {status} {said}");
        }
        let log = std::fs::read_to_string(bootd.log())?;
        ensure!(!log.contains(&token), "the token is in the log");

        bootd.stop(Duration::from_secs(10))?;
        bootd.start_again()?;
        let (status, said) = ask(&good)?;
        ensure!(status == 200, "after a restart: {status} {said}");
        bootd.must_run()
    });
}

#[test]
fn a_rack_that_knows_the_keys_of_its_site_by_their_url_takes_the_tokens_that_the_site_makes_and_passes_them_on() {
    in_rack(|| {
        let rack = Rack::new()?;
        let site = Site::new(&rack)?;
        let upstream = site.start_bootd()?;
        site.fill()?;
        let of_site = token(&upstream)?;
        rack.write("site.token", &of_site)?;
        let config = site.rack_config(&rack);
        let (before, after) = config.split_once("[auth]").context("no [auth]")?;
        let (_, after) = after.split_once("[[").context("no table after [auth]")?;
        let keys = "/bootd/v1/keys";
        let auth = format!("[auth]\njwks = \"http://{SITE}:8081{keys}\"\naudiences = [\"bootd\"]\n");
        rack.write("bootd.toml", &format!("{before}{auth}[[{after}"))?;
        let mut bootd = rack.start_bootd()?;

        let (operator, nobody) = (Ochami::with_token(&of_site), Ochami::with_token(""));
        let shown: Value = serde_json::from_slice(&upstream.ask(&["token", "--keys"])?.stdout)?;
        ensure!(
            nobody.at(SITE).get(keys)?.json()? == shown,
            "the keys of the site are others: {shown}"
        );
        ensure!(
            nobody.get(keys)?.json()? != shown,
            "the rack gives the keys of the site as its own"
        );

        let second = Duration::from_secs(5);
        eventually_true(second, "the site's token is good at the rack", || {
            operator.get(OPERATORS).is_ok_and(|answer| answer.status == 200)
        })?;
        eventually_true(second, "the rack has mirrored its site", || {
            bootd
                .ask_json(&["nodes"])
                .is_ok_and(|view| view["nodes"].as_array().is_some_and(|nodes| nodes.len() >= 5))
        })?;
        operator.succeed(&commands::group_add("racked", "by the rack"))?;
        let there = site.ochami().get("/hsm/v2/groups/racked")?;
        ensure!(there.status == 200, "the site has no such group: {there:?}");
        // Trust goes one way.
        let of_rack = Ochami::with_token(&token(&bootd)?);
        let refused = of_rack.at(SITE).get(OPERATORS)?;
        ensure!(refused.status == 401, "{refused:?}");
        bootd.must_run()
    });
}

/// An operator's token.
fn token(bootd: &Bootd) -> Result<String> {
    let output = bootd.ask(&["token"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

//! Who shows a token, and who does not, at a listener that asks for them.

use std::time::Duration;

use anyhow::ensure;
use bootd_tests::namespace::in_rack;
use bootd_tests::server;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, SERVER};

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

//! Debian's own cloud-init, as it is on nodes, asks bootd for its configuration.

use std::process::Command;

use anyhow::{Context, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, data, prepare};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvb3RkIHRlc3RzIGtleSwgbm90IGEgc2VjcmV0 operator@site";

#[test]
fn cloud_init_of_debian_ends_done_with_the_key_in_place_and_the_hostname_set() {
    in_rack(|| {
        let rack = Rack::new()?;
        rack.write(
            "ci-defaults.yaml",
            &data::DEFAULTS.replace("<YOUR SSH KEY GOES HERE>", KEY),
        )?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        // The seed's own arguments, whose URL has no slash at its end: this cloud-init joins names to it as it is.
        let arguments = data::BOOT
            .lines()
            .find_map(|line| line.strip_prefix("params: '"))
            .context("params of the seed")?
            .trim_end_matches('\'');
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/image/cloud-init-node");
        let output = client.at(|| {
            Command::new("unshare")
                .args(["-mu", "--", "sh", script])
                .arg(prepare::cloud_init()?)
                .arg(rack.path("node"))
                .arg(arguments)
                .output()
                .context("start the node's cloud-init")
        })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}\n{report}", output.status);
        let part = |name: &str| {
            let text = said.split_once(&format!("--- {name}\n")).map_or("", |(_, rest)| rest);
            text.split("--- ").next().unwrap_or_default().trim().to_owned()
        };
        ensure!(part("status").starts_with("status: done"), "{report}");
        ensure!(part("status").contains("DataSourceNoCloudNet"), "{report}");
        ensure!(part("hostname") == "nid001", "{report}");
        ensure!(part("keys").contains(KEY), "{report}");
        ensure!(part("log").is_empty(), "{report}");
        bootd.must_run()
    });
}

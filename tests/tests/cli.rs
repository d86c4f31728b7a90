//! bootd's verbs as an operator calls them.

use std::process::Output;

use anyhow::{Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::server::command;
use bootd_tests::{Rack, data};

#[test]
fn check_accepts_the_rack_of_the_demo() {
    in_rack(|| {
        let rack = Rack::new()?;
        let output = check(&rack)?;
        ensure!(output.status.code() == Some(0), "{}: {}", output.status, said(&output));
        Ok(())
    });
}

#[test]
fn check_lists_every_mistake_with_its_key_and_exits_64() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = rack
            .config()
            .replace(
                "address = \"172.16.0.254\"\n",
                "address = \"172.16.0.300\"\nadress = \"172.16.0.254\"\n",
            )
            .replace("lease_time = \"1h\"", "lease_time = \"soon\"")
            .replace("first = \"172.16.0.200\"", "first = \"172.17.0.200\"")
            .replace("serve = [\"artifacts\"]", "serve = [\"artefacts\"]");
        rack.write("bootd.toml", &config)?;
        let output = check(&rack)?;
        let text = said(&output);
        ensure!(output.status.code() == Some(64), "{}: {text}", output.status);
        for key in [
            "server.address",
            "adress",
            "dhcp.lease_time",
            "dhcp.subnet[0].pool.first",
            "http.listener[1].serve",
        ] {
            ensure!(text.contains(key), "{key} is not in:\n{text}");
        }
        Ok(())
    });
}

#[test]
fn check_lists_mistakes_in_data_files_with_file_and_line_and_exits_64() {
    in_rack(|| {
        let rack = Rack::new()?;
        let nodes = data::NODES
            .replace("52:54:00:be:ef:02", "52:54:00:be:ef:01")
            .replace("x1000c0s0b3n0", "x1000c0s0banana");
        rack.write("nodes.yaml", &nodes)?;
        let output = check(&rack)?;
        let text = said(&output);
        ensure!(output.status.code() == Some(64), "{}: {text}", output.status);
        for (what, line) in [
            ("52:54:00:be:ef:01", "the duplicate MAC"),
            ("x1000c0s0banana", "the bad xname"),
        ] {
            ensure!(
                text.lines()
                    .any(|l| l.contains(what) && has_line_number(l, "nodes.yaml:")),
                "{line} with file and line is not in:\n{text}"
            );
        }
        Ok(())
    });
}

#[test]
fn explain_tells_all_that_a_node_would_get() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let config = rack.path("bootd.toml").display().to_string();
        let output = command(&[
            "explain",
            "--mac",
            "52:54:00:be:ef:01",
            "--arch",
            "x86_64-efi",
            "--config",
            &config,
        ])?;
        let text = said(&output);
        ensure!(output.status.success(), "{}: {text}", output.status);
        for part in [
            "172.16.0.1",
            "x1000c0s0b0n0",
            "ipxe-x86_64.efi",
            "#!ipxe",
            "vmlinuz-5.14.0-570.21.1.el9_6.x86_64",
            "initramfs-5.14.0-570.21.1.el9_6.x86_64.img",
            "rocky9.6-compute-base-rocky9",
            "nid001",
            "compute.yaml",
        ] {
            ensure!(text.contains(part), "{part} is not in:\n{text}");
        }
        let kernel = std::fs::metadata(rack.images.bucket().join(bootd_tests::prepare::KERNEL))?
            .len()
            .to_string();
        let digits: String = text.chars().filter(|c| !matches!(c, ',' | '_' | '\'')).collect();
        ensure!(
            digits.contains(&kernel) || digits.contains(" MB") || digits.contains(" MiB"),
            "no sizes in:\n{text}"
        );
        bootd.must_run()
    });
}

#[test]
fn nodes_and_plugins_are_listed_as_json() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let config = rack.path("bootd.toml").display().to_string();
        let output = command(&["nodes", "--json", "--config", &config])?;
        ensure!(output.status.success(), "{}", said(&output));
        let nodes: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let text = nodes.to_string();
        for n in 0..5 {
            ensure!(text.contains(&format!("x1000c0s0b{n}n0")), "node {n} is not in {text}");
        }
        let output = command(&["plugins", "--json", "--config", &config])?;
        ensure!(output.status.success(), "{}", said(&output));
        let plugins: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let text = plugins.to_string();
        for name in ["smd", "bss", "cloud-init"] {
            ensure!(text.contains(&format!("\"{name}\"")), "{name} is not in {text}");
        }
        bootd.must_run()
    });
}

fn check(rack: &Rack) -> Result<Output> {
    command(&["check", "--config", &rack.path("bootd.toml").display().to_string()])
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn has_line_number(line: &str, file: &str) -> bool {
    line.split(file)
        .skip(1)
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

//! Whole boots: virtual machines with UEFI firmware, from power-on to the login prompt, through bootd.

use std::time::Duration;

use anyhow::{Context, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::plugin::{build_c, exports};
use bootd_tests::{BOOT_LIMIT, Event, NODE_9, Rack, Stage, Step, data, eventually};

#[test]
fn a_node_boots_from_power_on_to_its_login_prompt() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let mut node = rack.power_on(1)?;
        let timeline = node.wait(Step::Login, BOOT_LIMIT)?;
        ensure!(
            timeline.missing().is_empty(),
            "steps not seen: {:?}",
            timeline.missing()
        );

        for stage in [Stage::Firmware, Stage::Ipxe, Stage::Os] {
            let address = rack.journal.find(node.from(), |entry| match &entry.event {
                Event::Address { mac, ip, stage: s } if *mac == node.mac() && *s == stage => Some(*ip),
                _ => None,
            });
            ensure!(address == Some([172, 16, 0, 1].into()), "{stage:?} got {address:?}");
        }
        // The name comes from cloud-init's meta-data: short-name, and the NID with nid-length digits.
        node.wait_console("nid001 login: ", Duration::ZERO)?;
        rack.journal
            .console(
                node.from(),
                1,
                "cloud-init include http://172.16.0.254:8081/cloud-init/compute.yaml fetched",
            )
            .context("the group's data did not come")?;
        eventually(Duration::from_secs(5), "bootd notes the phone-home", || {
            rack.journal
                .log(node.from(), "node phoned home", |fields| fields["hostname"] == "nid001")
        })?;

        node.type_text("testuser\r")?;
        node.wait_console("assword: ", Duration::from_secs(30))?;
        node.type_text("testuser\r")?;
        node.wait_console("$ ", Duration::from_secs(30))?;
        node.type_text("echo I am $(id -un) on $(hostname)\r")?;
        node.wait_console("I am testuser on nid001", Duration::from_secs(30))?;
        bootd.must_run()
    });
}

#[test]
fn two_nodes_boot_and_the_unknown_one_is_added_while_it_retries() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let mut known = rack.power_on(1)?;
        let mut unknown = rack.power_on(9)?;

        let timeline = unknown.wait(Step::Script, BOOT_LIMIT)?;
        ensure!(timeline.at(Step::Kernel).is_none(), "an unknown node got a kernel");
        let first = rack.journal.find(unknown.from(), |entry| match &entry.event {
            Event::Address { mac, ip, .. } if *mac == unknown.mac() => Some(*ip),
            _ => None,
        });
        let first = first.context("the unknown node got no address")?;
        ensure!(
            (200..=250).contains(&first.octets()[3]),
            "the unknown node's address {first} is not of the pool"
        );

        rack.write("nodes.yaml", &format!("{}\n{NODE_9}", data::NODES.trim_end()))?;
        let boot = format!("{}\n  - {}\n", data::BOOT.trim_end(), unknown.mac());
        rack.write("boot-compute.yaml", &boot)?;

        known.wait(Step::Login, BOOT_LIMIT)?;
        known.wait_console("nid001 login: ", Duration::ZERO)?;
        unknown.wait(Step::Login, BOOT_LIMIT)?;
        unknown.wait_console("nid009 login: ", Duration::ZERO)?;
        unknown.wait_console("address 172.16.0.9 ", Duration::ZERO)?;
        bootd.must_run()
    });
}

#[test]
fn the_node_of_a_plugin_in_plain_c_boots() {
    in_rack(|| {
        let rack = Rack::new()?;
        let file = build_c("plugins/example-c/example.c", &[], rack.path("libbootd_example_c.so"))?;
        ensure!(exports(&file)? == ["bootd_plugin_entry_v1"], "{:?}", exports(&file)?);
        // In the place of smd: no other plugin knows a node.
        let smd = format!(
            "name = \"smd\"\nconfig.nodes = \"{}\"\n",
            rack.path("nodes.yaml").display()
        );
        let config = rack.config();
        ensure!(config.contains(&smd), "no smd in the rack's configuration:\n{config}");
        let example = format!(
            "name = \"example-c\"\nfile = \"{}\"\n\
             config = {{ id = \"x1000c0s0b0n0\", mac = \"52:54:00:be:ef:01\", ip = \"172.16.0.1\" }}\n",
            file.display()
        );
        rack.write("bootd.toml", &config.replace(&smd, &example))?;
        let mut bootd = rack.start_bootd()?;
        let mut node = rack.power_on(1)?;
        node.wait(Step::Login, BOOT_LIMIT)?;
        node.wait_console("address 172.16.0.1 ", Duration::ZERO)?;
        let plugin = bootd.plugin("example-c")?;
        ensure!(plugin["state"] == "running" && plugin["version"] == "1.0", "{plugin:#}");
        bootd.must_run()
    });
}

#[test]
fn a_boot_survives_kill_minus_nine_of_bootd() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let mut node = rack.power_on(1)?;

        // Between the firmware's OFFER and its REQUEST.
        eventually(BOOT_LIMIT, "an offer to the firmware", || {
            rack.journal
                .log(node.from(), "dhcp reply", |fields| fields["kind"] == "offer")
        })?;
        bootd.kill_minus_nine();
        bootd.start_again()?;

        // While iPXE fetches what its script names; the script makes it try again.
        node.wait(Step::Script, BOOT_LIMIT)?;
        bootd.kill_minus_nine();
        bootd.start_again()?;

        // Before Linux has its address and its root image.
        node.wait(Step::Linux, BOOT_LIMIT)?;
        bootd.kill_minus_nine();
        bootd.start_again()?;

        node.wait(Step::Login, BOOT_LIMIT)?;
        node.wait_console("nid001 login: ", Duration::ZERO)?;
        bootd.must_run()
    });
}

#[test]
fn a_test_runs_inside_a_namespace_of_its_own() {
    in_rack(|| {
        let routes = std::fs::read_to_string("/proc/net/route").context("routes")?;
        ensure!(routes.lines().count() <= 1, "there are routes: {routes}");
        Ok(())
    });
}

//! Router solicitations: a boot with an answer and without one, and what an answer leaves behind; another router on the wire.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::{BOOT_LIMIT, Bootd, Machine, Rack, Step, eventually_true};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn an_answer_spares_ipxe_its_wait_for_a_router() {
    in_rack(|| {
        let rack = Rack::new()?;
        let boot = |number: u8, answered: bool| -> Result<Duration> {
            let with = format!("[dhcp]\nrouter_solicitations = {answered}\n");
            rack.write("bootd.toml", &rack.config().replace("[dhcp]\n", &with))?;
            let mut bootd = rack.start_bootd()?;
            let mut node = rack.power_on(number)?;
            let timeline = node.wait(Step::Script, BOOT_LIMIT)?;
            let (loader, script) = (timeline.at(Step::Loader), timeline.at(Step::Script));
            ensure!(was(&bootd, "answered")? == answered, "{}", bootd.metrics()?);
            bootd.stop(PATIENCE)?;
            let took = script.context("no script")? - loader.context("no loader")?;
            println!(
                "solicitations answered: {answered}; from loader to boot script {:.1} s, from power-on {:.1} s",
                took.as_secs_f32(),
                script.unwrap_or_default().as_secs_f32()
            );
            Ok(took)
        };
        let (without, with) = (boot(1, false)?, boot(2, true)?);
        // Measured as 12.5 s; other builds of iPXE wait less.
        ensure!(
            without > with + Duration::from_secs(6),
            "{without:?} without an answer, {with:?} with one"
        );
        Ok(())
    });
}

#[test]
fn an_answer_leaves_no_address_and_no_route_at_a_host() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let host = Machine::plug(&rack.network, "host")?;
        asks(&host)?;
        eventually_true(PATIENCE, "the host is answered", || {
            was(&bootd, "answered").unwrap_or(false)
        })?;
        // What it says is there at once, or not at all.
        let seen = seen(&host)?;
        ensure!(!seen.contains("proto ra") && !seen.contains("dynamic"), "{seen}");
        bootd.must_run()
    });
}

#[test]
fn what_is_promised_is_there_and_is_taken_back_at_the_end() {
    in_rack(|| {
        let rack = Rack::new()?;
        let config = format!(
            "{}\n[dhcp.router_advertisement]\nprefixes = [\"fd00:1::/64\"]\nlifetime = \"30m\"\n",
            rack.config()
        );
        rack.write("bootd.toml", &config)?;
        let mut bootd = rack.start_bootd()?;
        let host = Machine::plug(&rack.network, "host")?;
        asks(&host)?;
        eventually_true(PATIENCE, "the host has an address of the prefix, and a route", || {
            let seen = seen(&host).unwrap_or_default();
            seen.contains("inet6 fd00:1:") && seen.contains("default via fe80:")
        })?;
        bootd.stop(PATIENCE)?;
        eventually_true(PATIENCE, "the route goes with bootd", || {
            seen(&host).is_ok_and(|seen| !seen.contains("default via"))
        })
    });
}

#[test]
fn where_another_router_advertises_solicitations_are_left_to_it() {
    in_rack(|| {
        let rack = Rack::new()?;
        // The other router is a bootd on a machine of its own, which promises something.
        let other = Machine::plug(&rack.network, "other")?;
        let dir = rack.path("other");
        std::fs::create_dir(&dir)?;
        let own = dir.display().to_string();
        let config = rack
            .config()
            .replace(&format!("{}/state", rack.dir.display()), &format!("{own}/state"))
            .replace(&format!("{}/cache", rack.dir.display()), &format!("{own}/cache"))
            .replace("/admin.sock", "/other/admin.sock")
            .replace("\"br0\"", "\"other0\"")
            .replace("172.16.0.254", "172.16.0.253");
        other.ip("addr add 172.16.0.253/24 dev other0")?;
        std::fs::write(
            dir.join("bootd.toml"),
            format!("{config}\n[dhcp.router_advertisement]\nprefixes = [\"fd00:1::/64\"]\n"),
        )?;
        let mut second = Bootd::start_on(&other, &dir, &rack.journal)?;
        // Its interface has just come up: until it has made sure of its address there is no router.
        eventually_true(PATIENCE, "the other one advertises", || {
            was(&second, "unsolicited").unwrap_or(false)
        })?;
        let mut bootd = rack.start_bootd()?;
        let told = |bootd: &Bootd| -> Result<bool> {
            let status = bootd.ask_json(&["status"])?["warnings"].to_string();
            Ok(status.contains("advertises itself as a router"))
        };
        eventually_true(PATIENCE, "bootd knows of the other router", || {
            told(&bootd).unwrap_or(false)
        })?;
        let host = Machine::plug(&rack.network, "host")?;
        asks(&host)?;
        eventually_true(PATIENCE, "the host is left to it", || {
            was(&bootd, "left_to_router").unwrap_or(false)
        })?;
        ensure!(!was(&bootd, "answered")?, "{}", bootd.metrics()?);
        second.must_run()?;
        bootd.must_run()
    });
}

/// Has a host ask for routers, as Linux does when its interface comes up.
fn asks(host: &Machine) -> Result<()> {
    host.ip("link set host0 down")?;
    host.at(|| {
        for (name, value) in [("accept_ra", "1"), ("autoconf", "1"), ("forwarding", "0")] {
            let path = format!("/proc/sys/net/ipv6/conf/host0/{name}");
            std::fs::write(&path, value).with_context(|| path)?;
        }
        Ok(())
    })?;
    host.ip("link set host0 up")
}

/// The addresses and routes of a host.
fn seen(host: &Machine) -> Result<String> {
    host.at(|| {
        let addresses = bootd_tests::process::run("ip", &["-6", "addr", "show", "dev", "host0"])?;
        Ok(addresses + &bootd_tests::process::run("ip", &["-6", "route"])?)
    })
}

/// Whether this was done with a solicitation.
fn was(bootd: &Bootd, what: &str) -> Result<bool> {
    let label = format!("part=\"router_solicitation\",what=\"{what}\"");
    Ok(bootd
        .metrics()?
        .lines()
        .any(|line| line.contains(&label) && !line.ends_with(" 0")))
}

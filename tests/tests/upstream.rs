//! A rack in front of a site: it mirrors the site's SMD, BSS and cloud-init, leads its nodes to itself, and goes on when the site is gone or
//! says nonsense.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::commands::{self, Command, Image, xname};
use bootd_tests::ochami::{Answer, Ochami, Request};
use bootd_tests::scripted::{self, Conduct, Scripted, Speaks};
use bootd_tests::wire::{Client, DhcpSocket};
use bootd_tests::{
    BOOT_LIMIT, Bootd, Capture, Journal, Machine, Node, Rack, SERVER, SITE, Site, Step, eventually, eventually_true,
};
use serde_json::{Value, json};

const PLUGINS: [&str; 3] = ["smd", "bss", "cloud-init"];
const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const NODE_5: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 5];
const NODE_9: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 9];
/// A refresh each second, and what a machine with two processors may add.
const REFRESH: Duration = Duration::from_secs(5);
/// A site that is back is asked again after this at the latest, when a refresh is due each second.
const BACK_OFF: Duration = Duration::from_secs(30);

#[test]
fn a_node_boots_without_a_word_to_the_site_and_again_when_the_site_is_dead_and_the_rack_was_killed() {
    in_rack(|| {
        let rack = Rack::new()?;
        let site = Site::new(&rack)?;
        let mut upstream = site.start_bootd()?;
        site.fill()?;
        let mut bootd = start(&rack, &site)?;

        let node = boots(&rack).context("with its site")?;
        drop(node);

        upstream.kill_minus_nine();
        bootd.kill_minus_nine();
        bootd.start_again()?;
        let node = boots(&rack).context("with its site dead")?;
        drop(node);
        let status = status(&bootd)?;
        for plugin in PLUGINS {
            ensure!(status.names(plugin, "since"), "{plugin}: {status:?}");
        }

        upstream.start_again()?;
        let ochami = site.ochami();
        ochami.succeed(&commands::boot_params("set", Image::Debug))?;
        serves_script(
            BACK_OFF,
            "the site is back with other boot parameters",
            "/debug/vmlinuz",
        )?;
        ochami.succeed(&commands::boot_params("set", Image::Base))?;
        serves_script(REFRESH, "the site changed its boot parameters", "/base/vmlinuz")?;
        is_well(&bootd)?;
        bootd.must_run()
    });
}

#[test]
fn a_rack_that_starts_before_its_site_says_so_and_fills_itself_when_the_site_comes() {
    in_rack(|| {
        let rack = Rack::new()?;
        let site = Site::new(&rack)?;
        rack.write("bootd.toml", &site.rack_config(&rack))?;
        let mut bootd = rack.start_bootd()?;
        eventually_true(REFRESH, "each plugin says that its site is not there", || {
            status(&bootd).is_ok_and(|status| PLUGINS.iter().all(|plugin| status.names(plugin, "")))
        })?;
        let _upstream = site.start_bootd()?;
        site.fill()?;
        mirrored(&site, &site.operator(), BACK_OFF)?;
        is_well(&bootd)?;
        bootd.must_run()
    });
}

#[test]
fn an_inventory_that_shrinks_at_once_is_held_back_until_the_operator_accepts_it() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let site = Site::new(&rack)?;
        let _upstream = site.start_bootd()?;
        site.fill()?;
        let mut bootd = start(&rack, &site)?;

        // First none is left, so that there is no moment at which only a few are gone.
        let ochami = site.ochami();
        for target in [
            "/hsm/v2/State/Components",
            "/hsm/v2/Inventory/RedfishEndpoints",
            "/hsm/v2/Inventory/EthernetInterfaces",
        ] {
            ochami.run(&Command::new("", vec![Request::new("DELETE", target, "")]))?;
        }
        let component = format!(r#"{{"Components":[{{"ID":"{}","State":"On","NID":1}}]}}"#, xname(1));
        ochami.succeed(&Command::new(
            "",
            vec![Request::new("POST", "/hsm/v2/State/Components", component)],
        ))?;
        ochami.succeed(&commands::iface_add(
            &xname(1),
            "52:54:00:be:ef:01",
            "management",
            "172.16.0.1",
        ))?;

        let held = eventually(REFRESH, "what is lost is held back", || {
            status(&bootd).ok().filter(|status| status.names("smd", "held back"))
        })?;
        ensure!(held.names("smd", "since"), "{held:?}");
        ensure!(
            held.names("smd", "bootd nodes accept"),
            "nobody says what to do: {held:?}"
        );
        // Some refreshes later all are still there.
        std::thread::sleep(REFRESH);
        ensure!(nodes(&bootd)? == 5, "{} nodes", nodes(&bootd)?);
        ensure!(components(&site.operator())? == 5);
        leases(&socket, NODE_5, 5)?;

        let said = bootd.ask_json(&["nodes", "accept"])?;
        let accepted = said["accepted"].as_array().map_or(0, Vec::len);
        ensure!(accepted > 0 && said["left"] == json!([]), "{said:#}");
        let log = std::fs::read_to_string(bootd.log())?;
        let lines = log.matches("the operator accepts what was held back").count();
        ensure!(lines == accepted, "{lines} lines in the log of {said:#}");
        eventually_true(REFRESH, "what the site says is taken", || {
            nodes(&bootd).is_ok_and(|nodes| nodes == 1)
        })?;
        ensure!(components(&site.operator())? == 1);
        leases(&socket, NODE_1, 1)?;
        is_well(&bootd)?;
        bootd.must_run()
    });
}

#[test]
fn whatever_nonsense_a_site_says_the_rack_serves_what_it_had_and_says_since_when() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let socket = client.dhcp_socket()?;
        let site = Site::new(&rack)?;
        let _upstream = site.start_bootd()?;
        site.fill()?;
        let quiet = Quiet::start(&rack, &site)?;
        let scripted = Scripted::start(scripted::PORT, Speaks::Https, &rack.dir)?;
        let ca = format!("config.ca = \"{}\"\n", rack.path("site-ca.pem").display());
        rack.write("bootd.toml", &site.rack_config_with(&rack, &scripted.url(), &ca))?;
        let mut bootd = rack.start_bootd()?;
        mirrored(&site, &site.operator(), REFRESH)?;
        let serves = || serves_all(&bootd, &client, &socket, &site.operator());
        serves().context("before anything happens")?;
        let before = bootd.memory_kib("VmRSS")?;

        for (what, conduct, says) in NONSENSE {
            scripted.set(conduct);
            let seen = eventually(BACK_OFF, "each plugin says what is wrong", || {
                let status = status(&bootd).ok()?;
                let all = PLUGINS.iter().all(|plugin| status.names(plugin, says));
                all.then_some(status)
            })
            .with_context(|| format!("{what}: {:?}", status(&bootd)))?;
            for plugin in PLUGINS {
                ensure!(seen.names(plugin, "since"), "{what}: {plugin}: {seen:?}");
            }
            serves().with_context(|| format!("{what}: {seen:?}"))?;
            stale_answers_say_so(&site.operator()).with_context(|| what.to_owned())?;
            scripted.set(Conduct::PassesOn);
            is_well(&bootd).with_context(|| format!("after {what}"))?;
            serves().with_context(|| format!("after {what}"))?;
        }
        // Of each service at most 64 MiB are read of a body, and room for as much again is made while it grows.
        let most = bootd.memory_kib("VmHWM")?;
        ensure!(
            most < before + 3 * 2 * 64 * 1024,
            "{before} KiB in memory at first, {most} KiB at most"
        );
        eventually_true(BACK_OFF, "memory is given back", || {
            bootd.memory_kib("VmRSS").is_ok_and(|now| now < before + 32 * 1024)
        })
        .with_context(|| {
            format!(
                "{before} KiB in memory at first, {:?} at last",
                bootd.memory_kib("VmRSS")
            )
        })?;
        quiet.has_served(&site)?;
        bootd.must_run()
    });
}

/// What it is called, what the site does, and what `bootd status` says of each plugin beside since when.
const NONSENSE: [(&str, Conduct, &str); 12] = [
    (
        "500",
        Conduct::Says(500, r#"{"title":"Internal Server Error","status":500}"#),
        "status 500",
    ),
    (
        "an error with status 200",
        Conduct::Says(
            200,
            r#"{"type":"about:blank","title":"Internal Server Error","detail":"database is gone","status":500}"#,
        ),
        "not understood",
    ),
    ("[]", Conduct::Says(200, "[]"), ""),
    ("null", Conduct::Says(200, "null"), ""),
    (
        "garbage",
        Conduct::Says(200, "<html><body>It works!</body></html>"),
        "no JSON",
    ),
    ("half a body", Conduct::Half, ""),
    ("1 GB", Conduct::Huge { announced: true }, "bytes"),
    ("1 GB without a word of it", Conduct::Huge { announced: false }, "bytes"),
    ("a connection that closes", Conduct::Closes, ""),
    ("a redirect", Conduct::Redirects, "status 302"),
    ("an expired certificate", Conduct::ShowsExpired, "xpired"),
    (
        "a token that is refused",
        Conduct::Says(401, r#"{"title":"Unauthorized","status":401}"#),
        "token is refused",
    ),
];

/// A second rack at the same site, which from some moment on says nothing at all to it. Until that is noticed takes half a minute, in which
/// the first rack hears all the rest.
struct Quiet {
    bootd: Bootd,
    scripted: Scripted,
    before: Vec<(&'static str, Value)>,
    _machine: Machine,
    _journal: Journal,
}

impl Quiet {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 252);

    fn start(rack: &Rack, site: &Site) -> Result<Self> {
        let machine = Machine::plug(&rack.network, "quiet")?;
        machine.ip(&format!("addr add {}/24 brd + dev quiet0", Self::ADDRESS))?;
        let scripted = Scripted::start(scripted::QUIET_PORT, Speaks::Http, &rack.dir)?;
        let dir = rack.path("quiet");
        std::fs::create_dir(&dir)?;
        let (all, own) = (rack.dir.display().to_string(), dir.display().to_string());
        let config = site
            .rack_config_with(rack, "SITE", "")
            .replace("[\"br0\"]", "[]")
            .replace(&SERVER.to_string(), &Self::ADDRESS.to_string())
            .replace("SITE", &scripted.url());
        let config = ["state", "cache", "admin.sock"].iter().fold(config, |config, name| {
            config.replace(&format!("{all}/{name}"), &format!("{own}/{name}"))
        });
        std::fs::write(dir.join("bootd.toml"), config)?;
        let journal = Journal::new();
        let bootd = Bootd::start_on(&machine, &dir, &journal)?;
        let operator = site.operator().at(Self::ADDRESS);
        mirrored(site, &operator, REFRESH)?;
        let before = self::all(&operator)?;
        scripted.set(Conduct::IsSilent);
        Ok(Self {
            bootd,
            scripted,
            before,
            _machine: machine,
            _journal: journal,
        })
    }

    /// It is noticed, what was there is served, and all is well when the site speaks again.
    fn has_served(mut self, site: &Site) -> Result<()> {
        let operator = site.operator().at(Self::ADDRESS);
        ensure!(all(&operator)? == self.before, "something else is served");
        let seen = eventually(
            Duration::from_secs(45),
            "each plugin says that the site is silent",
            || {
                status(&self.bootd)
                    .ok()
                    .filter(|status| PLUGINS.iter().all(|plugin| status.names(plugin, "since")))
            },
        )
        .with_context(|| format!("{:?}", status(&self.bootd)))?;
        ensure!(all(&operator)? == self.before, "something else is served: {seen:?}");
        ensure!(nodes(&self.bootd)? == 5, "{} nodes", nodes(&self.bootd)?);
        self.scripted.set(Conduct::PassesOn);
        is_well(&self.bootd)?;
        ensure!(all(&operator)? == self.before, "something else is served at last");
        self.bootd.must_run()
    }
}

#[test]
fn writes_go_to_the_site_with_the_callers_token_and_are_there_at_once() {
    in_rack(|| {
        let rack = Rack::new()?;
        let site = Site::new(&rack)?;
        let mut upstream = site.start_bootd()?;
        site.fill()?;
        // No refresh brings what is written.
        let rare = site.rack_config(&rack).replace("refresh_s = 1\n", "refresh_s = 600\n");
        rack.write("bootd.toml", &rare)?;
        let mut bootd = rack.start_bootd()?;
        let (rack_side, site_side) = (site.operator(), site.ochami());
        mirrored(&site, &rack_side, REFRESH)?;

        let stranger = Ochami::with_token("nobody's");
        for write in writes() {
            let before = all(&site_side)?;
            let refused = stranger.run(&write)?;
            ensure!(refused[0].status == 401, "{write:?}: {refused:?}");
            ensure!(all(&site_side)? == before, "{write:?} changed something");

            let answers = rack_side.succeed(&write).with_context(|| format!("{write:?}"))?;
            let there = all(&site_side)?;
            ensure!(there != before, "{write:?} changed nothing: {answers:?}");
            let here = all(&rack_side)?;
            ensure!(here == there, "{write:?}\n--- here\n{here:#?}\n--- there\n{there:#?}");
        }
        // What the site refuses is refused here, in its words.
        let again = commands::iface_add("x1000c0s0b8n0", "52:54:00:be:ef:09", "management", "172.16.0.9");
        let refused = rack_side.run(&again)?;
        ensure!(refused[0].status == 409, "{refused:?}");

        upstream.kill_minus_nine();
        let before = all(&rack_side)?;
        for write in [
            commands::component_delete(&xname(1)),
            commands::boot_params("set", Image::Base),
            commands::defaults_set(),
        ] {
            let refused: Vec<Answer> = rack_side.run(&write)?;
            ensure!(matches!(refused[0].status, 502 | 504), "{write:?}: {refused:?}");
            ensure!(!refused[0].body.is_empty(), "{write:?}: no word of why");
        }
        ensure!(all(&rack_side)? == before, "something changed with the site dead");
        let log = std::fs::read_to_string(bootd.log())?;
        ensure!(!log.contains(rack_side.token()), "a token is in the log");
        bootd.must_run()
    });
}

#[test]
fn a_node_that_the_site_learned_a_moment_ago_gets_its_address_and_its_script_at_once() {
    in_rack(|| {
        let rack = Rack::new()?;
        let client = Client::plug(&rack)?;
        let socket = client.dhcp_socket()?;
        let site = Site::new(&rack)?;
        let _upstream = site.start_bootd()?;
        site.fill()?;
        // No refresh brings the node.
        let rare = site.rack_config(&rack).replace("refresh_s = 1\n", "refresh_s = 600\n");
        rack.write("bootd.toml", &rare)?;
        let mut bootd = rack.start_bootd()?;
        mirrored(&site, &site.operator(), REFRESH)?;
        // A stranger that nobody knows gets an address of the pool.
        let lease = socket.lease([0x52, 0x54, 0, 0xbe, 0xef, 0x77], REFRESH)?;
        ensure!(lease.yiaddr.octets()[3] >= 200, "{}", lease.yiaddr);

        let ochami = site.ochami();
        ochami.succeed(&commands::component_add("x1000c0s0b8n0", 9))?;
        ochami.succeed(&commands::iface_add(
            "x1000c0s0b8n0",
            "52:54:00:be:ef:09",
            "management",
            "172.16.0.9",
        ))?;
        let parameters = format!(
            r#"{{"macs":["52:54:00:be:ef:09"],"kernel":"http://{SITE}:9000/boot-images/nine","params":"console=ttyS0",{}"#,
            commands::NO_CLOUD_INIT
        );
        ochami.succeed(&Command::new(
            "",
            vec![Request::new("PUT", "/boot/v1/bootparameters", parameters)],
        ))?;
        let start = Instant::now();
        leases(&socket, NODE_9, 9)?;
        ensure!(
            start.elapsed() < Duration::from_secs(2),
            "it took {:?}",
            start.elapsed()
        );
        // Its first script may tell it to ask again.
        let led_here = format!("http://{SERVER}:9000/boot-images/nine");
        eventually_true(REFRESH, "the node's own script", || {
            script(9).is_ok_and(|script| script.contains(&led_here))
        })
        .with_context(|| format!("{:?}", script(9)))?;
        bootd.must_run()
    });
}

/// A bootd at the rack that has mirrored the site.
fn start(rack: &Rack, site: &Site) -> Result<Bootd> {
    rack.write("bootd.toml", &site.rack_config(rack))?;
    let bootd = rack.start_bootd()?;
    mirrored(site, &site.operator(), REFRESH)?;
    Ok(bootd)
}

/// Waits until a rack says the same as its site.
fn mirrored(site: &Site, rack_side: &Ochami, within: Duration) -> Result<()> {
    let there = all(&site.ochami())?;
    eventually_true(within, "the rack has mirrored the site", || {
        all(rack_side).is_ok_and(|here| here == there)
    })
    .with_context(|| format!("{:#?}\n--- instead of ---\n{there:#?}", all(rack_side)))
}

/// Node 1 boots until its login prompt, and speaks to the rack's server and never to the site.
fn boots(rack: &Rack) -> Result<Node> {
    let capture = Capture::of(NODE_1)?;
    let mut node = rack.power_on(1)?;
    let timeline = node.wait(Step::Login, BOOT_LIMIT)?;
    node.wait_console("nid001 login: ", Duration::ZERO)?;
    ensure!(
        timeline.missing().is_empty(),
        "steps not seen: {:?}",
        timeline.missing()
    );
    let spoken_to = capture.spoken_to();
    ensure!(
        spoken_to.get(&SERVER).is_some_and(|packets| *packets > 10),
        "{spoken_to:?}"
    );
    ensure!(
        !spoken_to.contains_key(&SITE),
        "the node spoke to the site: {spoken_to:?}"
    );
    Ok(node)
}

/// What `bootd status` says is not as it should be.
#[derive(Debug)]
struct Status(Vec<String>);

impl Status {
    /// Whether something is wrong with a plugin, and says this.
    fn names(&self, plugin: &str, says: &str) -> bool {
        let begins = format!("plugin {plugin}: ");
        self.0
            .iter()
            .any(|line| line.starts_with(&begins) && line.contains(says))
    }
}

fn status(bootd: &Bootd) -> Result<Status> {
    let status = bootd.ask_json(&["status"])?;
    let warnings = status["warnings"].as_array().context("warnings")?;
    Ok(Status(
        warnings.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    ))
}

/// Waits until nothing is wrong any more with the plugins.
fn is_well(bootd: &Bootd) -> Result<()> {
    eventually_true(BACK_OFF, "nothing is wrong any more", || {
        status(bootd).is_ok_and(|status| !PLUGINS.iter().any(|plugin| status.names(plugin, "")))
    })
    .with_context(|| format!("{:?}", status(bootd)))
}

/// How many nodes the inventory holds, without their BMCs.
fn nodes(bootd: &Bootd) -> Result<usize> {
    let view = bootd.ask_json(&["nodes"])?;
    let rows = view["nodes"].as_array().context("nodes")?;
    Ok(rows.iter().filter(|row| row["kind"] == "Node").count())
}

fn components(ochami: &Ochami) -> Result<usize> {
    let found = ochami.get("/hsm/v2/State/Components?type=Node")?.json()?;
    Ok(found["Components"].as_array().map_or(0, Vec::len))
}

fn leases(socket: &DhcpSocket, mac: [u8; 6], last: u8) -> Result<()> {
    let reply = socket.lease(mac, Duration::from_secs(5))?;
    let wanted = Ipv4Addr::new(172, 16, 0, last);
    ensure!(reply.yiaddr == wanted, "address {} instead of {wanted}", reply.yiaddr);
    Ok(())
}

fn script(node: u8) -> Result<String> {
    let mac = format!("52:54:00:be:ef:{node:02x}");
    let answer = Ochami::with_token("").run(&commands::boot_script(&mac))?;
    ensure!(answer[0].status == 200, "{answer:?}");
    Ok(answer[0].body.clone())
}

fn serves_script(within: Duration, what: &str, says: &str) -> Result<()> {
    eventually_true(within, what, || script(1).is_ok_and(|script| script.contains(says)))
        .with_context(|| script(1).unwrap_or_default())
}

/// Everything that the tutorial's nodes need, as they need it.
fn serves_all(bootd: &Bootd, client: &Client, socket: &DhcpSocket, rack_side: &Ochami) -> Result<()> {
    ensure!(nodes(bootd)? == 5, "{} nodes", nodes(bootd)?);
    ensure!(components(rack_side)? == 5, "{} components", components(rack_side)?);
    leases(socket, NODE_1, 1)?;
    let script = script(1)?;
    let led_here = format!("http://{SERVER}:9000/boot-images/efi-images/compute/base/vmlinuz");
    ensure!(script.contains(&led_here), "{script}");
    for (path, says) in [
        ("/cloud-init/meta-data", "nid001"),
        ("/cloud-init/vendor-data", "compute.yaml"),
        ("/cloud-init/compute.yaml", "ssh_authorized_keys"),
    ] {
        let (status, text) = client.get(path)?;
        ensure!(status == 200 && text.contains(says), "{path}: {status} {text}");
        ensure!(!text.contains(&SITE.to_string()), "{path} leads to the site: {text}");
    }
    Ok(())
}

/// Whoever asks for a collection learns that it is not of today.
fn stale_answers_say_so(rack_side: &Ochami) -> Result<()> {
    for target in [
        "/hsm/v2/State/Components",
        "/boot/v1/bootparameters",
        "/cloud-init/admin/cluster-defaults",
    ] {
        let answer = rack_side.get(target)?;
        let warning = answer.header("warning").unwrap_or_default();
        ensure!(warning.starts_with("110 "), "{target}: {}", answer.head);
    }
    Ok(())
}

/// Writes to each of the three services, in an order in which each finds what it needs.
fn writes() -> Vec<Command> {
    let new = "x1000c0s0b8n0";
    let patched = json!({"Description": "in slot 9"}).to_string();
    vec![
        commands::component_add(new, 9),
        commands::iface_add(new, "52:54:00:be:ef:09", "management", "172.16.0.9"),
        Command::new(
            "",
            vec![Request::new(
                "PATCH",
                "/hsm/v2/Inventory/EthernetInterfaces/525400beef09",
                patched,
            )],
        ),
        commands::member_add("compute", new),
        commands::group_add("storage", "disks"),
        commands::group_delete("storage"),
        commands::boot_params("set", Image::Debug),
        Command::new(
            "",
            vec![Request::new(
                "POST",
                "/cloud-init/admin/cluster-defaults",
                r#"{"cluster-name":"other","base-url":"http://172.16.0.253:8081/cloud-init"}"#,
            )],
        ),
        commands::ci_group_delete("compute"),
        commands::ci_group_set(),
        commands::component_delete(&xname(5)),
    ]
}

/// All that a server says of its data, without the times of its rows.
fn all(ochami: &Ochami) -> Result<Vec<(&'static str, Value)>> {
    let targets = [
        "/hsm/v2/State/Components",
        "/hsm/v2/Inventory/EthernetInterfaces",
        "/hsm/v2/groups",
        "/boot/v1/bootparameters",
        "/cloud-init/admin/cluster-defaults",
        "/cloud-init/admin/groups",
    ];
    let read = |target| -> Result<(&'static str, Value)> {
        let answer = ochami.get(target)?;
        ensure!(answer.status == 200, "{target}: {answer:?}");
        let mut value = answer.json()?;
        for row in value.as_array_mut().into_iter().flatten() {
            if let Some(row) = row.as_object_mut() {
                row.remove("LastUpdate");
            }
        }
        Ok((target, value))
    };
    targets.into_iter().map(read).collect()
}

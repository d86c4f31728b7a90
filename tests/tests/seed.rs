//! The tutorial's second phase, command by command, against bootd without a line of local data.
//!
//! The outputs are those that the tutorial shows, where it and the tools agree; where not, the contract's 1.8 decides.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::commands::{self, Command, Image, xname};
use bootd_tests::ochami::recorder::{self, Recorder};
use bootd_tests::ochami::{Ochami, Request, Shown};
use bootd_tests::wire::{self, Client, Reply};
use bootd_tests::{BOOT_LIMIT, Event, Rack, SERVER, Stage, Step, data, eventually};
use serde_json::{Value, json};

const NODE: &str = "x1000c0s0b0n0";
const MACS: [&str; 5] = [
    "52:54:00:be:ef:01",
    "52:54:00:be:ef:02",
    "52:54:00:be:ef:03",
    "52:54:00:be:ef:04",
    "52:54:00:be:ef:05",
];
const NODE_1: [u8; 6] = [0x52, 0x54, 0, 0xbe, 0xef, 1];
const BASE_URL: &str = "http://172.16.0.254:8081/cloud-init";
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_tutorials_commands_get_the_tutorials_outputs() {
    in_rack(|| {
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let ochami = Ochami::log_in(&rack)?;
        services_say_that_they_run(&ochami)?;
        nothing_is_there(&ochami)?;

        let answers = ochami.succeed(&commands::discover())?;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        ensure!(statuses == [204, 201, 201, 201, 201, 201, 201], "{statuses:?}");
        the_inventory_is_the_seeds(&ochami)?;

        let set = ochami.one(&commands::boot_params("set", Image::Debug))?;
        ensure!(set.status == 200 && set.body.is_empty(), "{set:?}");
        the_boot_parameters_are(&ochami, Image::Debug)?;
        ochami.succeed(&commands::boot_params("set", Image::Base))?;
        the_boot_parameters_are(&ochami, Image::Base)?;
        let added = ochami.run(&commands::boot_params("add", Image::Debug))?;
        ensure!(added[0].status == 400, "add over what is there: {added:?}");
        the_boot_parameters_are(&ochami, Image::Base)?;

        cloud_init_is_set_and_shown(&ochami)?;

        // All of it again, after a power cut.
        bootd.kill_minus_nine();
        bootd.start_again()?;
        the_inventory_is_the_seeds(&ochami)?;
        the_boot_parameters_are(&ochami, Image::Base)?;
        let id = the_meta_data_is_merged(&ochami)?;
        ensure!(
            the_meta_data_is_merged(&ochami)? == id,
            "the instance id is not the same"
        );
        bootd.must_run()
    });
}

#[test]
fn commands_beside_the_tutorial_change_what_they_name_and_nothing_else() {
    in_rack(|| {
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let ochami = Ochami::log_in(&rack)?;

        let answers = ochami.succeed(&commands::discover_overwrite())?;
        ensure!(answers.len() == 12, "{}", answers.len());
        the_inventory_is_the_seeds(&ochami)?;

        // A sixth node by hand; the program tells no NID, so that the server makes one.
        let new = "x1000c0s0b8n0";
        ochami.succeed(&commands::component_add(new, 9))?;
        let component = ochami.json(&commands::component_get_one("-x", new))?;
        for (key, value) in [
            ("ID", json!(new)),
            ("Type", json!("Node")),
            ("State", json!("Ready")),
            ("Role", json!("Compute")),
            ("Enabled", json!(true)),
            ("Arch", json!("X86")),
        ] {
            ensure!(component[key] == value, "{key}: {component}");
        }
        ensure!(component["NID"].is_u64(), "{component}");
        let iface = commands::iface_add(new, "52:54:00:BE:EF:09", "management", "172.16.0.9");
        let made = ochami.one(&iface)?;
        ensure!(
            made.status == 201 && made.json()? == json!({"URI": "/hsm/v2/Inventory/EthernetInterfaces/525400beef09"}),
            "{made:?}"
        );
        ensure!(
            ochami.run(&iface)?[0].status == 409,
            "a second interface with the same MAC"
        );
        let found = ochami.json(&commands::iface_get(Some("52:54:00:be:ef:09")))?;
        ensure!(
            found[0]["ComponentID"] == new
                && found[0]["Type"] == "Node"
                && found[0]["MACAddress"] == "52:54:00:be:ef:09"
                && found[0]["IPAddresses"] == json!([{"IPAddress": "172.16.0.9", "Network": "management"}]),
            "{found}"
        );

        ensure!(ochami.one(&commands::member_add("compute", new))?.status == 201);
        ensure!(ochami.run(&commands::member_add("compute", new))?[0].status == 409);
        let members = ochami.json(&commands::members("compute"))?;
        ensure!(members["ids"].as_array().map(Vec::len) == Some(6), "{members}");
        ensure!(
            ochami.one(&commands::group_add("storage", "disks"))?.json()? == json!([{"URI": "/hsm/v2/groups/storage"}])
        );
        ensure!(ochami.run(&commands::group_add("storage", "disks"))?[0].status == 409);
        ensure!(ochami.one(&commands::group_update("storage", "tapes"))?.status == 204);
        let groups = ochami.json(&commands::read("smd group get", "/hsm/v2/groups"))?;
        let storage = groups
            .as_array()
            .and_then(|all| all.iter().find(|one| one["label"] == "storage"));
        ensure!(storage.is_some_and(|one| one["description"] == "tapes"), "{groups}");
        ochami.succeed(&commands::group_delete("storage"))?;
        ensure!(ochami.run(&commands::group_delete("storage"))?[0].status == 404);

        // A component that goes leaves its groups, and nothing else goes.
        let deleted = ochami.json(&commands::component_delete(new))?;
        ensure!(
            deleted["code"] == 0 && deleted["message"] == "deleted 1 entry",
            "{deleted}"
        );
        ensure!(ochami.run(&commands::component_get_one("-x", new))?[0].status == 404);
        the_inventory_of_nodes_is_the_seeds(&ochami)?;
        let members = ochami.json(&commands::members("compute"))?;
        ensure!(members["ids"].as_array().map(Vec::len) == Some(5), "{members}");

        // Boot parameters: added once, updated, some of them read, deleted.
        let added = ochami.one(&commands::boot_params("add", Image::Debug))?;
        ensure!(added.status == 201 && added.body.is_empty(), "{added:?}");
        ensure!(added.header("BSS-Referral-Token").is_some(), "{}", added.head);
        ochami.succeed(&commands::boot_params("update", Image::Base))?;
        the_boot_parameters_are(&ochami, Image::Base)?;
        let two = ochami.json(&commands::boot_params_get(&MACS[..2]))?;
        ensure!(
            two.as_array().map(Vec::len) == Some(1) && two[0]["macs"] == json!(MACS[..2]),
            "{two}"
        );
        ochami.succeed(&commands::boot_params_delete(Image::Base))?;
        let none = ochami.run(&commands::boot_params_get(&MACS[..1]))?;
        ensure!(none[0].status == 404, "{none:?}");
        let updated = ochami.run(&commands::boot_params("update", Image::Base))?;
        ensure!(updated[0].status == 404, "an update of what is not there: {updated:?}");

        // Groups of cloud-init: with base64, which comes decoded to nodes and as it was to operators.
        ochami.succeed(&Command::new(
            "cloud-init group set",
            vec![Request::new(
                "PUT",
                "/cloud-init/admin/groups/compute",
                r#"{"name":"compute","file":{"content":"I2Nsb3VkLWNvbmZpZwpwYWNrYWdlczogW10K","filename":"","encoding":"base64"}}"#,
            )],
        ))?;
        let kept = ochami.json(&commands::ci_group_get())?;
        ensure!(
            kept["file"]["content"] == "I2Nsb3VkLWNvbmZpZwpwYWNrYWdlczogW10K",
            "{kept}"
        );
        let shown = ochami.one(&commands::ci_node_group(NODE, "compute"))?;
        ensure!(shown.body == "#cloud-config\npackages: []\n", "{}", shown.body);
        ochami.succeed(&commands::ci_group_delete("compute"))?;
        ensure!(ochami.json(&commands::ci_groups())? == json!({}));
        ensure!(ochami.run(&commands::ci_group_get())?[0].status == 404);
        let shown = ochami.one(&commands::ci_node_group(NODE, "compute"))?;
        ensure!(shown.body.trim_end() == "#cloud-config", "{}", shown.body);
        bootd.must_run()
    });
}

#[test]
fn a_node_asks_dhcp_tftp_the_boot_script_the_images_and_cloud_init_as_the_tutorial_shows() {
    in_rack(|| {
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let ochami = Ochami::log_in(&rack)?;
        set_all(&ochami)?;
        let node = Client::plug(&rack)?;

        let lease = node.dhcp_socket()?.lease(NODE_1, PATIENCE)?;
        ensure!(
            lease.yiaddr == std::net::Ipv4Addr::new(172, 16, 0, 1),
            "{}",
            lease.yiaddr
        );
        ensure!(lease.option(54) == Some(&SERVER.octets()[..]), "the server's address");
        ensure!(lease.option(12) == Some(&b"nid0001"[..]), "{:?}", lease.option(12));
        ensure!(boot_file(&lease) == "ipxe-x86_64.efi", "{}", boot_file(&lease));

        // iPXE, which says what it is, is told the script's place.
        let xid = wire::xid();
        let socket = node.dhcp_socket()?;
        socket.send(&wire::message(wire::DISCOVER, xid, NODE_1, b"\x4d\x04iPXE"))?;
        let url = boot_file(&socket.receive(xid, PATIENCE)?);
        ensure!(
            url == "http://172.16.0.254:8081/boot/v1/bootscript?mac=52:54:00:be:ef:01",
            "{url}"
        );

        node.ip("addr add 172.16.0.1/24 dev cable0")?;
        ensure!(node.tftp("ipxe-x86_64.efi")?.len() > 100_000);
        let config = String::from_utf8(node.tftp("config.ipxe")?)?;
        ensure!(config.starts_with("#!ipxe"), "{config}");
        let (status, script) = node.get("/boot/v1/bootscript?mac=52:54:00:be:ef:01")?;
        ensure!(status == 200 && script.starts_with("#!ipxe\n"), "{status} {script}");
        let kernel = format!(
            "kernel --name kernel {} initrd=initrd {} xname={NODE} nid=1 BOOTIF=01-52-54-00-be-ef-01 || goto boot_retry",
            Image::Base.kernel(),
            Image::Base.params(),
        );
        ensure!(script.lines().any(|line| line == kernel), "not\n{kernel}\nin\n{script}");
        let initrd = format!("initrd --name initrd {} || goto boot_retry", Image::Base.initrd());
        ensure!(script.lines().any(|line| line == initrd), "{script}");
        ensure!(
            script.contains("chain http://172.16.0.254:8081/boot/v1/bootscript?mac=52:54:00:be:ef:01"),
            "{script}"
        );

        // The images, as iPXE and dracut read them from what was S3.
        for key in [Image::Base.kernel(), Image::Base.initrd()] {
            let path = key
                .strip_prefix("http://172.16.0.254:9000")
                .context("a URL of the bucket")?;
            let on_disk = fs::read(rack.images.bucket().join(path.trim_start_matches("/boot-images/")))?;
            ensure!(
                artifact(&node, path)? == on_disk,
                "{path} is not what lies in the bucket"
            );
        }

        let (status, meta) = node.get("/cloud-init/meta-data")?;
        ensure!(
            status == 200 && meta.contains("local-hostname: compute1\n"),
            "{status} {meta}"
        );
        ensure!(meta.contains("local_ipv4: 172.16.0.1\n"), "{meta}");
        let (status, user) = node.get("/cloud-init/user-data")?;
        ensure!(status == 200 && user.trim_end() == "#cloud-config", "{status} {user}");
        let (status, vendor) = node.get("/cloud-init/vendor-data")?;
        ensure!(
            status == 200 && vendor == format!("#include\n{BASE_URL}/compute.yaml\n"),
            "{status} {vendor}"
        );
        let (status, group) = node.get("/cloud-init/compute.yaml")?;
        ensure!(status == 200 && group == content()?, "{status} {group}");
        let (status, said) = node.get("/cloud-init/no-group-of-it.yaml")?;
        ensure!(status == 404, "{status} {said}");

        // An address of nobody: nothing to tell it.
        node.ip("addr flush dev cable0")?;
        node.ip("addr add 172.16.0.77/24 dev cable0")?;
        let (status, said) = node.get("/cloud-init/meta-data")?;
        ensure!(status == 422 && said.is_empty(), "{status} {said}");
        let (status, said) = node.get("/cloud-init/compute.yaml")?;
        ensure!(status == 500, "{status} {said}");
        bootd.must_run()
    });
}

#[test]
fn a_component_that_is_posted_while_its_machine_asks_boots_to_the_login_prompt() {
    in_rack(|| {
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let ochami = Ochami::log_in(&rack)?;
        let mut node = rack.power_on(1)?;
        let timeline = node.wait(Step::Script, BOOT_LIMIT)?;
        ensure!(timeline.at(Step::Kernel).is_none(), "an unknown node got a kernel");

        set_group_and_defaults(&ochami)?;
        ochami.succeed(&commands::boot_params("set", Image::Base))?;
        ochami.succeed(&commands::discover())?;
        node.wait(Step::Login, BOOT_LIMIT)?;
        node.wait_console("nid001 login: ", Duration::ZERO)?;
        let address = rack.journal.find(node.from(), |entry| match &entry.event {
            Event::Address { mac, ip, stage } if *mac == node.mac() && *stage == Stage::Os => Some(*ip),
            _ => None,
        });
        ensure!(address == Some([172, 16, 0, 1].into()), "{address:?}");
        eventually(PATIENCE, "bootd notes the phone-home", || {
            rack.journal
                .log(node.from(), "node phoned home", |fields| fields["hostname"] == "nid001")
        })?;
        bootd.must_run()
    });
}

/// The program itself: `OCHAMI=/path/to/ochami cargo test --test seed -- --ignored`.
#[test]
#[ignore = "needs the program ochami; its path is in the variable OCHAMI"]
fn the_real_ochami_sends_what_the_other_tests_replay_and_shows_what_the_tutorial_shows() {
    in_rack(|| {
        let program = std::env::var_os("OCHAMI").context("OCHAMI=/path/to/ochami is not set")?;
        let rack = bare_rack()?;
        let mut bootd = rack.start_bootd()?;
        let recorder = Recorder::start()?;
        let real = Real {
            program: program.into(),
            ochami: Ochami::log_in(&rack)?,
            recorder,
            rack: &rack,
        };
        real.configure()?;

        ensure!(real.run(&commands::discover())?.is_empty());
        let components: Value = serde_json::from_str(&real.run(&commands::component_get())?)?;
        ensure!(nodes_of(&components)? == seeds_nodes(), "{components}");
        ensure!(real.run(&commands::boot_params("set", Image::Debug))?.is_empty());
        real.run(&commands::boot_params("set", Image::Base))?;
        let shown: Value = serde_json::from_str(&real.run(&commands::boot_params_get(&[]))?)?;
        ensure!(shown == boot_parameters(Image::Base), "{shown}");
        real.run(&commands::defaults_set())?;
        let shown: Value = serde_json::from_str(&real.run(&commands::defaults_get())?)?;
        ensure!(shown == seeds_defaults(), "{shown}");
        real.run(&commands::ci_group_set())?;
        let shown = real.run(&commands::ci_group_get())?;
        ensure!(shown.trim_end() == content()?.trim_end(), "{shown}");
        let rendered = real.run(&commands::ci_render(NODE))?;
        ensure!(
            rendered.contains("ssh_authorized_keys: ['<YOUR SSH KEY GOES HERE>']"),
            "{rendered}"
        );
        real.run(&commands::ci_node_set())?;
        let shown: Value = serde_saphyr::from_str(&real.run(&commands::ci_node_get("meta-data", NODE))?)?;
        meta_data_is_the_seeds(&shown[0])?;
        let vendor = real.run(&commands::ci_node_get("vendor-data", NODE))?;
        ensure!(
            vendor.trim_end() == format!("#include\n{BASE_URL}/compute.yaml"),
            "{vendor}"
        );
        real.run(&commands::ci_node_get("user-data", NODE))?;
        real.run(&commands::ci_node_group(NODE, "compute"))?;
        for (words, target, shown) in READS {
            let reads = match shown {
                Shown::Token => commands::read(words, target),
                Shown::Nothing => commands::read_openly(words, target),
            };
            real.run(&reads)?;
        }
        real.run(&commands::boot_params("update", Image::Base))?;
        real.run(&commands::boot_params_get(&MACS[..2]))?;
        real.run(&commands::boot_script(MACS[0]))?;
        real.run(&commands::component_get_one("-n", "1"))?;
        real.run(&commands::iface_get(Some(MACS[0])))?;
        real.run(&commands::component_add("x1000c0s0b8n0", 9))?;
        real.run(&commands::iface_add(
            "x1000c0s0b8n0",
            "52:54:00:be:ef:09",
            "management",
            "172.16.0.9",
        ))?;
        real.run(&commands::member_add("compute", "x1000c0s0b8n0"))?;
        real.run(&commands::members("compute"))?;
        real.run(&commands::component_delete("x1000c0s0b8n0"))?;
        real.run(&commands::boot_params_delete(Image::Base))?;
        real.run(&commands::ci_group_delete("compute"))?;
        bootd.must_run()
    });
}

/// Reads that change nothing and whose answers have to be JSON.
const READS: [(&str, &str, Shown); 9] = [
    ("smd service status", "/hsm/v2/service/ready", Shown::Nothing),
    ("bss service status", "/boot/v1/service/status", Shown::Nothing),
    ("bss hosts get", "/boot/v1/hosts", Shown::Nothing),
    ("bss dumpstate", "/boot/v1/dumpstate", Shown::Nothing),
    ("bss history", "/boot/v1/endpoint-history", Shown::Nothing),
    ("smd group get", "/hsm/v2/groups", Shown::Token),
    ("smd group membership", "/hsm/v2/memberships", Shown::Token),
    ("smd rfe get", "/hsm/v2/Inventory/RedfishEndpoints", Shown::Token),
    ("smd compep get", "/hsm/v2/Inventory/ComponentEndpoints", Shown::Token),
];

/// A rack without local data that asks for tokens.
fn bare_rack() -> Result<Rack> {
    let rack = Rack::new()?;
    for file in [
        "nodes.yaml",
        "boot-compute.yaml",
        "ci-defaults.yaml",
        "ci-group-compute.yaml",
    ] {
        fs::remove_file(rack.path(file))?;
    }
    rack.write("bootd.toml", &rack.bare_config())?;
    Ok(rack)
}

fn services_say_that_they_run(ochami: &Ochami) -> Result<()> {
    let ready = ochami.json(&commands::read_openly("smd service status", "/hsm/v2/service/ready"))?;
    ensure!(ready == json!({"code": 0, "message": "HSM is healthy"}), "{ready}");
    let status = ochami.json(&commands::read_openly("bss service status", "/boot/v1/service/status"))?;
    ensure!(status == json!({"bss-status": "running"}), "{status}");
    let version = ochami.json(&commands::read_openly(
        "cloud-init service status",
        "/cloud-init/version",
    ))?;
    ensure!(version.is_object(), "{version}");
    Ok(())
}

/// What is empty is an empty list where jq goes over it.
fn nothing_is_there(ochami: &Ochami) -> Result<()> {
    ensure!(ochami.json(&commands::component_get())? == json!({"Components": []}));
    ensure!(ochami.json(&commands::iface_get(None))? == json!([]));
    ensure!(ochami.json(&commands::read("smd group get", "/hsm/v2/groups"))? == json!([]));
    ensure!(ochami.one(&commands::boot_params_get(&[]))?.body.trim() == "null");
    ensure!(ochami.json(&commands::defaults_get())? == json!({}));
    ensure!(ochami.json(&commands::ci_groups())? == json!({}));
    ensure!(ochami.run(&commands::component_get_one("-x", NODE))?[0].status == 404);
    ensure!(ochami.run(&commands::component_get_one("-n", "1"))?[0].status == 404);
    Ok(())
}

fn set_group_and_defaults(ochami: &Ochami) -> Result<()> {
    let set = ochami.one(&commands::defaults_set())?;
    ensure!(set.status == 201 && set.body.is_empty(), "{set:?}");
    let set = ochami.one(&commands::ci_group_set())?;
    ensure!(set.status == 201, "{set:?}");
    Ok(())
}

fn set_all(ochami: &Ochami) -> Result<()> {
    ochami.succeed(&commands::discover())?;
    ochami.succeed(&commands::boot_params("set", Image::Base))?;
    set_group_and_defaults(ochami)?;
    ochami.succeed(&commands::ci_node_set())?;
    Ok(())
}

fn the_inventory_is_the_seeds(ochami: &Ochami) -> Result<()> {
    the_inventory_of_nodes_is_the_seeds(ochami)?;
    let components = ochami.json(&commands::component_get())?;
    let all = components["Components"].as_array().context("a list")?;
    let bmcs: Vec<&Value> = all.iter().filter(|one| one["Type"] == "NodeBMC").collect();
    ensure!(bmcs.len() == 5 && all.len() == 10, "{components}");

    let ifaces = ochami.json(&commands::iface_get(None))?;
    let ifaces = ifaces.as_array().context("a bare list")?;
    ensure!(ifaces.len() == 10, "{ifaces:?}");
    for n in 1..=5u8 {
        let iface = |mac: &str| ifaces.iter().find(|one| one["MACAddress"] == mac);
        let own = iface(MACS[usize::from(n) - 1]).context("the node's interface")?;
        ensure!(
            own["ComponentID"] == xname(n).as_str()
                && own["ID"] == format!("525400beef0{n}").as_str()
                && own["Type"] == "Node"
                && own["Description"] == format!("Interface 0 for compute{n}").as_str()
                && own["IPAddresses"][0]["IPAddress"] == format!("172.16.0.{n}").as_str(),
            "{own}"
        );
        let bmc = iface(&format!("de:ca:fc:0f:fe:e{n}")).context("the BMC's interface")?;
        ensure!(
            bmc["Type"] == "NodeBMC" && bmc["IPAddresses"][0]["IPAddress"] == format!("172.16.0.10{n}").as_str(),
            "{bmc}"
        );
    }

    let groups = ochami.json(&commands::read("smd group get", "/hsm/v2/groups"))?;
    ensure!(
        groups.as_array().map(Vec::len) == Some(1)
            && groups[0]["label"] == "compute"
            && groups[0]["description"] == "The compute group",
        "{groups}"
    );
    let members = ochami.json(&commands::members("compute"))?;
    ensure!(
        members == json!({"ids": (1..=5).map(xname).collect::<Vec<_>>()}),
        "{members}"
    );
    let endpoints = ochami.json(&commands::read("smd rfe get", "/hsm/v2/Inventory/RedfishEndpoints"))?;
    ensure!(
        endpoints["RedfishEndpoints"].as_array().map(Vec::len) == Some(5),
        "{endpoints}"
    );
    let endpoints = ochami.json(&commands::read(
        "smd compep get",
        "/hsm/v2/Inventory/ComponentEndpoints",
    ))?;
    ensure!(
        endpoints["ComponentEndpoints"].as_array().map(Vec::len) == Some(10),
        "{endpoints}"
    );
    let memberships = ochami.json(&commands::read("smd group membership", "/hsm/v2/memberships"))?;
    let of_node = memberships
        .as_array()
        .and_then(|all| all.iter().find(|one| one["id"] == NODE));
    ensure!(
        of_node.is_some_and(|one| one["groupLabels"] == json!(["compute"])),
        "{memberships}"
    );
    Ok(())
}

fn the_inventory_of_nodes_is_the_seeds(ochami: &Ochami) -> Result<()> {
    let components = ochami.json(&commands::component_get())?;
    ensure!(nodes_of(&components)? == seeds_nodes(), "{components:#}");
    let first = ochami.json(&commands::component_get_one("-x", NODE))?;
    ensure!(first == seeds_nodes()[0], "{first}");
    let fifth = ochami.json(&commands::component_get_one("-n", "5"))?;
    ensure!(fifth == seeds_nodes()[4], "{fifth}");
    Ok(())
}

/// `.Components[] | select(.Type == "Node")`
fn nodes_of(components: &Value) -> Result<Vec<Value>> {
    let all = components["Components"].as_array().context("Components is no list")?;
    Ok(all.iter().filter(|one| one["Type"] == "Node").cloned().collect())
}

fn seeds_nodes() -> Vec<Value> {
    let node =
        |n: u8| json!({"Enabled": true, "ID": xname(n), "NID": n, "Role": "Compute", "State": "On", "Type": "Node"});
    (1..=5).map(node).collect()
}

fn the_boot_parameters_are(ochami: &Ochami, image: Image) -> Result<()> {
    let shown = ochami.json(&commands::boot_params_get(&[]))?;
    ensure!(
        shown == boot_parameters(image),
        "{shown:#}\nis not\n{:#}",
        boot_parameters(image)
    );
    Ok(())
}

fn boot_parameters(image: Image) -> Value {
    json!([{
        "cloud-init": {
            "meta-data": null,
            "phone-home": {
                "fqdn": "", "hostname": "", "instance_id": "", "pub_key_dsa": "", "pub_key_ecdsa": "", "pub_key_rsa": "",
            },
            "user-data": null,
        },
        "initrd": image.initrd(),
        "kernel": image.kernel(),
        "macs": MACS,
        "params": image.params(),
    }])
}

fn cloud_init_is_set_and_shown(ochami: &Ochami) -> Result<()> {
    set_group_and_defaults(ochami)?;
    let shown = ochami.json(&commands::defaults_get())?;
    ensure!(shown == seeds_defaults(), "{shown}");

    let kept = ochami.json(&commands::ci_group_get())?;
    ensure!(
        kept["name"] == "compute"
            && kept["description"] == "compute config"
            && kept["file"]["encoding"] == "plain"
            && kept["file"]["content"] == content()?.as_str(),
        "{kept:#}"
    );

    // The program renders what it got with what it got second.
    let answers = ochami.succeed(&commands::ci_render(NODE))?;
    let meta: Value = serde_saphyr::from_str(&answers[1].body)?;
    let keys = &meta["instance_data"]["v1"]["public_keys"];
    let keys: Vec<String> = serde_json::from_value(keys.clone()).context("public_keys is no list of texts")?;
    let rendered = answers[0].body.replace(
        "{{ ds.meta_data.instance_data.v1.public_keys }}",
        &format!("['{}']", keys.join("', '")),
    );
    ensure!(
        rendered
            == "## template: jinja\n#cloud-config\nmerge_how:\n- name: list\n  settings: [append]\n- name: dict\n  settings: \
                [no_replace, recurse_list]\nusers:\n  - name: root\n    ssh_authorized_keys: ['<YOUR SSH KEY GOES HERE>']\n\
                disable_root: false\n",
        "{rendered}"
    );

    // The hostname is the NID's until the node is given one; the instance stays the same.
    ensure!(
        meta["local-hostname"] == "nid001" && meta["hostname"] == "nid001",
        "{meta}"
    );
    let set = ochami.one(&commands::ci_node_set())?;
    ensure!(set.status == 201, "{set:?}");
    let id = the_meta_data_is_merged(ochami)?;
    ensure!(meta["instance-id"] == id.as_str(), "{id} was {meta}");

    let vendor = ochami.one(&commands::ci_node_get("vendor-data", NODE))?;
    ensure!(
        vendor.body == format!("#include\n{BASE_URL}/compute.yaml\n"),
        "{}",
        vendor.body
    );
    let user = ochami.one(&commands::ci_node_get("user-data", NODE))?;
    ensure!(user.body.trim_end() == "#cloud-config", "{}", user.body);
    let group = ochami.one(&commands::ci_node_group(NODE, "compute"))?;
    ensure!(group.body == content()?, "{}", group.body);
    let unknown = ochami.run(&commands::ci_node_get("meta-data", "x9c0s0b0n0"))?;
    ensure!(
        unknown[0].status == 404 && unknown[0].body.trim_end() == "node x9c0s0b0n0 not found in SMD",
        "{unknown:?}"
    );
    Ok(())
}

/// Gives the instance id.
fn the_meta_data_is_merged(ochami: &Ochami) -> Result<String> {
    let answer = ochami.one(&commands::ci_node_get("meta-data", NODE))?;
    meta_data_is_the_seeds(&serde_saphyr::from_str(&answer.body)?)?;
    let keys: Vec<&str> = answer
        .body
        .lines()
        .filter(|line| !line.starts_with([' ', '-']))
        .filter_map(|line| line.split(':').next())
        .collect();
    let order = [
        "instance-id",
        "local-hostname",
        "hostname",
        "cluster-name",
        "instance_data",
    ];
    ensure!(keys == order, "{}", answer.body);
    let id = answer.body.lines().find_map(|line| line.strip_prefix("instance-id: "));
    Ok(id.context("an instance-id")?.to_owned())
}

/// Exactly the keys that the tutorial shows.
fn meta_data_is_the_seeds(meta: &Value) -> Result<()> {
    let id = meta["instance-id"].as_str().context("no instance-id")?;
    let hex = id.strip_prefix("i-").unwrap_or_default();
    ensure!(
        hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
        "{id}"
    );
    let wanted = json!({
        "cluster-name": "demo",
        "hostname": "nid001",
        "instance-id": id,
        "instance_data": {"v1": {
            "instance_id": id,
            "local_ipv4": "172.16.0.1",
            "public_keys": ["<YOUR SSH KEY GOES HERE>"],
            "vendor_data": {
                "cloud_init_base_url": BASE_URL,
                "cluster_name": "demo",
                "groups": {"compute": {"Description": "compute config"}},
                "version": "1.0",
            },
        }},
        "local-hostname": "compute1",
    });
    ensure!(*meta == wanted, "{meta:#}\nis not\n{wanted:#}");
    Ok(())
}

fn seeds_defaults() -> Value {
    json!({
        "base-url": BASE_URL,
        "cluster-name": "demo",
        "nid-length": 3,
        "public-keys": ["<YOUR SSH KEY GOES HERE>"],
        "short-name": "nid",
    })
}

/// The content of the seed's group.
fn content() -> Result<String> {
    let groups: Value = serde_saphyr::from_str(data::GROUP)?;
    let content = groups[0]["file"]["content"].as_str();
    Ok(content.context("the seed's group has no content")?.to_owned())
}

/// What an answer says is to be fetched next.
fn boot_file(reply: &Reply) -> String {
    let field = reply.option(67).or_else(|| reply.bytes.get(108..236));
    let text = String::from_utf8_lossy(field.unwrap_or_default());
    text.trim_end_matches('\0').to_owned()
}

/// An object of the bucket, read by the node.
fn artifact(node: &Client, path: &str) -> Result<Vec<u8>> {
    use std::io::{Read, Write};
    node.at(|| {
        let mut stream = std::net::TcpStream::connect((SERVER, 9000))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {SERVER}:9000\r\n\r\n")?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        ensure!(
            bytes.starts_with(b"HTTP/1.") && bytes.get(9..12) == Some(b"200"),
            "{path}: no 200"
        );
        let head = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("a head")?;
        Ok(bytes.split_off(head + 4))
    })
}

/// The program, whose requests pass the recorder.
struct Real<'a> {
    program: std::path::PathBuf,
    ochami: Ochami,
    recorder: Recorder,
    rack: &'a Rack,
}

impl Real<'_> {
    fn configure(&self) -> Result<()> {
        self.rack.write("nodes.yaml", data::NODES)?;
        self.rack.write("boot-compute.yaml", data::BOOT)?;
        let debug = data::BOOT.replace("/base/", "/debug/").replace("-base-", "-debug-");
        self.rack.write("boot-compute-debug.yaml", &debug)?;
        self.rack.write("ci-defaults.yaml", data::DEFAULTS)?;
        let config = format!(
            "log:\n  format: json\n  level: warning\ntimeout: 30s\ndefault-cluster: demo\nclusters:\n- name: demo\n  cluster:\n    \
             uri: http://{SERVER}:{}\n    enable-auth: true\n",
            recorder::PORT
        );
        self.rack.write("ochami.yaml", &config)?;
        Ok(())
    }

    /// Runs a command; it must succeed and have sent what the replay sends. Gives what it wrote to its standard output.
    fn run(&self, command: &Command) -> Result<String> {
        let dir = self.rack.dir.display().to_string();
        let shown = command.words.join(" ");
        let output = std::process::Command::new(&self.program)
            .arg("--config")
            .arg(self.rack.path("ochami.yaml"))
            .args(command.words.iter().map(|word| word.replace("{dir}", &dir)))
            .env("HOME", &self.rack.dir)
            .env("DEMO_ACCESS_TOKEN", self.ochami.token())
            .stdin(std::process::Stdio::null())
            .output()
            .with_context(|| format!("start {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ochami {shown}: {} {said}", output.status);
        let sent: Vec<String> = self.recorder.take().iter().map(|request| comparable(request)).collect();
        let replayed: Vec<String> = command
            .requests
            .iter()
            .map(|request| comparable(&String::from_utf8_lossy(&request.bytes(self.ochami.token()))))
            .collect();
        ensure!(
            sent == replayed,
            "ochami {shown} sent\n{sent:#?}\nand not\n{replayed:#?}"
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// A request without what differs from build to build and from run to run: the program's version, and UUIDs.
fn comparable(request: &str) -> String {
    let lines = request
        .split("\r\n")
        .map(|line| match line.starts_with("User-Agent: ochami/") {
            true => "User-Agent: ochami",
            false => line,
        });
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.to_lowercase().find("\"uuid\":\"") {
        let start = at + 8;
        out.push_str(&rest[..start]);
        rest = rest.get(start + 36..).unwrap_or_default();
    }
    out + rest
}

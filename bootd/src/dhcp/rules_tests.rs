//! Rules and scopes, from the text of a configuration to the options of a reply.

use std::path::Path;

use bootd_sdk::wire::Node;
use dhcproto::v4::OptionCode;

use super::super::v4::answer::{Verdict, Why, answer};
use super::super::v4::options::find;
use super::super::v4::policy::Policy;
use super::super::v4::rehearsal::{Outcome, Rehearsal};
use super::super::v4::request::{HEADER, parse};
use super::super::v4::testing::{Client, Sent, mac, node, receiving, snapshot};
use crate::config;

/// Configuration B of the contract, with more text.
fn policy(more: &str) -> Policy {
    let text = format!(
        "[server]\ninterfaces = [\"veth0\"]\naddress = \"172.16.0.254\"\n[dhcp]\ndomain = \"openchami.cluster\"\n{more}\n\
         [[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\nrouters = [\"172.16.0.254\"]\ndns = [\"172.16.0.254\"]\n"
    );
    Policy::new(&config::parse(&text, Path::new("bootd.toml")).unwrap())
}

fn bmc(number: u8, id: &str) -> Node {
    Node {
        id: id.into(),
        nid: None,
        kind: "NodeBMC".into(),
        ..node(number, &[&format!("172.16.0.{number}")])
    }
}

/// What node 1 gets, of which there are a BMC (2) and another node (3).
fn ask(policy: &Policy, client: Client) -> Result<Sent, Why> {
    let mut first = node(1, &["172.16.0.1"]);
    first.id = "x1000c0s3b0n0".into();
    first.groups = vec!["compute".into()];
    let nodes = snapshot([first, bmc(2, "x1000c0s3b0"), node(3, &["172.16.0.130"])]);
    let packet = client.discover();
    match answer(&parse(&packet).unwrap(), policy, &nodes, &receiving()) {
        Verdict::Reply(reply) => Ok(Sent::of(&reply)),
        Verdict::Ignore(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn name(policy: &Policy, number: u8) -> Option<String> {
    let sent = ask(policy, Client::new(number)).unwrap();
    sent.option(12).map(|name| String::from_utf8(name).unwrap())
}

#[test]
fn the_first_rule_that_fits_ends_it_unless_it_says_continue() {
    let rules = "[[dhcp.rule]]\ntype = [\"Node\"]\nhostname = \"a{02d}\"\nrouters = [\"172.16.0.1\"]\n\
                 [[dhcp.rule]]\nhostname = \"b\"\nrouters = [\"172.16.0.2\"]\n[[dhcp.rule]]\nhostname = \"c\"\n";
    let ends = policy(rules);
    assert_eq!(name(&ends, 1).as_deref(), Some("a01.openchami.cluster"));
    assert_eq!(name(&ends, 2).as_deref(), Some("b.openchami.cluster"));
    assert_eq!(ask(&ends, Client::new(1)).unwrap().option(3), Some(vec![172, 16, 0, 1]));
    let goes_on = policy(&rules.replacen("hostname = \"a{02d}\"", "hostname = \"a\"\ncontinue = true", 1));
    assert_eq!(name(&goes_on, 1).as_deref(), Some("b.openchami.cluster"));
    assert_eq!(
        ask(&goes_on, Client::new(1)).unwrap().option(3),
        Some(vec![172, 16, 0, 2])
    );
}

#[test]
fn a_rule_that_continues_leaves_what_a_later_one_does_not_say() {
    let both = policy(
        "[[dhcp.rule]]\nhostname = \"a\"\nrouters = [\"172.16.0.1\"]\noptions = { mtu = 1400 }\ncontinue = true\n\
         [[dhcp.rule]]\noptions = { ntp = [\"10.0.0.1\"] }\n",
    );
    let sent = ask(&both, Client::new(1)).unwrap();
    assert_eq!(sent.option(12).as_deref(), Some(&b"a.openchami.cluster"[..]));
    assert_eq!(sent.option(3), Some(vec![172, 16, 0, 1]));
    assert_eq!(
        (sent.option(26), sent.option(42)),
        (Some(vec![5, 120]), Some(vec![10, 0, 0, 1]))
    );
}

#[test]
fn a_rule_that_ignores_stops_at_once_though_others_acted() {
    let ignoring = policy(
        "[[dhcp.rule]]\nhostname = \"a\"\ncontinue = true\n[[dhcp.rule]]\nid = [\"x1000c0s[0-3]b0n0\"]\nignore = true\n",
    );
    assert_eq!(ask(&ignoring, Client::new(1)).unwrap_err(), Why::ByRule);
    assert!(ask(&ignoring, Client::new(2)).is_ok());
}

#[test]
fn each_criterion_must_fit() {
    let plain = || Client::new(1);
    let firmware = || plain().option(93, &[0, 7]).option(60, b"PXEClient:Arch:00007");
    let relayed = || {
        plain()
            .giaddr([172, 16, 0, 253])
            .option(82, &[1, 5, b'r', b'a', b'c', b'k', b'1', 2, 2, 0xab, 0])
    };
    for (criterion, client, fits) in [
        ("type = [\"NodeBMC\", \"Node\"]", plain(), true),
        ("type = [\"NodeBMC\"]", plain(), false),
        ("type = [\"node\"]", plain(), false),
        ("id = [\"x1000c0s3b0n0\"]", plain(), true),
        ("id = [\"x1000c0s[0-2]b0n0\"]", plain(), false),
        ("group = [\"compute\"]", plain(), true),
        ("group = [\"io\"]", plain(), false),
        ("subnet = [\"172.16.0.0/25\"]", plain(), true),
        ("subnet = [\"172.16.0.128/25\"]", plain(), false),
        ("mac = [\"02:00:00:*\"]", plain(), true),
        ("mac = [\"02:00:01:*\"]", plain(), false),
        ("arch = [\"x86_64-efi\"]", firmware(), true),
        ("arch = [\"arm64-efi\"]", firmware(), false),
        ("arch = [\"x86_64-efi\"]", plain(), false),
        ("vendor_class = [\"PXEClient*\"]", firmware(), true),
        ("vendor_class = [\"PXEClient*\"]", plain(), false),
        ("user_class = [\"iPXE\"]", plain().option(77, b"\x04iPXE"), true),
        ("user_class = [\"iPXE\"]", plain().option(77, b"iPXE"), true),
        ("user_class = [\"iPXE\"]", plain(), false),
        ("circuit_id = [\"rack*\"]", relayed(), true),
        ("circuit_id = [\"rack*\"]", plain(), false),
        ("remote_id = [\"0xab00\"]", relayed(), true),
        ("remote_id = [\"0xab\"]", relayed(), false),
        ("type = [\"Node\"]\ngroup = [\"io\"]", plain(), false),
    ] {
        let sent = ask(
            &policy(&format!("[[dhcp.rule]]\n{criterion}\nhostname = \"fits\"\n")),
            client,
        )
        .unwrap();
        let name = sent.option(12).unwrap();
        assert_eq!(name.starts_with(b"fits"), fits, "{criterion}");
    }
}

#[test]
fn domains_are_appended_as_the_rule_says() {
    let of = |rule: &str| name(&policy(&format!("[[dhcp.rule]]\nhostname = \"n\"\n{rule}\n")), 1).unwrap();
    assert_eq!(of(""), "n.openchami.cluster");
    assert_eq!(of("domain = \"r\""), "n.r");
    assert_eq!(
        of("domain = \"r\"\ndomain_append = [\"global\"]"),
        "n.openchami.cluster"
    );
    assert_eq!(
        of("domain = \"r\"\ndomain_append = [\"rule\", \"global\"]"),
        "n.r.openchami.cluster"
    );
    assert_eq!(
        of("domain = \"r\"\ndomain_append = [\"global\", \"rule\"]"),
        "n.openchami.cluster.r"
    );
    assert_eq!(of("domain_append = [\"rule\"]"), "n");
    assert_eq!(of("domain = \"r\"\ndomain_append = []"), "n");
}

#[test]
fn who_no_rule_names_is_called_by_its_type() {
    let names = policy("hostnames = { NodeBMC = \"bmc{04d}\", \"*\" = \"unknown-{04d}\" }\n");
    assert_eq!(name(&names, 1).as_deref(), Some("unknown-0001.openchami.cluster"));
    // The number of a controller is its node's: no two have the same name.
    assert_eq!(name(&names, 2).as_deref(), Some("bmc0001.openchami.cluster"));
    assert_eq!(name(&policy(""), 1).as_deref(), Some("nid0001.openchami.cluster"));
    assert_eq!(name(&policy(""), 2), None);
    assert_eq!(
        name(&policy("hostnames = { \"*\" = \"{id}\" }\n"), 2).as_deref(),
        Some("x1000c0s3b0.openchami.cluster")
    );
}

#[test]
fn the_mask_of_the_cidr_that_holds_the_address_is_given() {
    let rule = "[[dhcp.rule]]\nsubnet = [\"10.0.0.0/8\", \"172.16.0.0/17\"]\nnetmask = \"subnet\"\n";
    assert_eq!(
        ask(&policy(rule), Client::new(1)).unwrap().option(1),
        Some(vec![255, 255, 128, 0])
    );
    let later = format!("{rule}continue = true\n[[dhcp.rule]]\nnetmask = \"255.255.0.0\"\n");
    assert_eq!(
        ask(&policy(&later), Client::new(1)).unwrap().option(1),
        Some(vec![255, 255, 0, 0])
    );
}

#[test]
fn a_rule_names_loader_and_script_and_the_inventory_has_the_last_word() {
    let rules = policy("[[dhcp.rule]]\nloader = \"own.efi\"\nscript = \"http://10.0.0.1/s\"\n");
    let file = |client| ask(&rules, client).unwrap().option(67);
    assert_eq!(
        file(Client::new(1).option(93, &[0, 7])).as_deref(),
        Some(&b"own.efi"[..])
    );
    assert_eq!(
        file(Client::new(1).option(77, b"iPXE")).as_deref(),
        Some(&b"http://10.0.0.1/s"[..])
    );
    let mut node = node(1, &["172.16.0.1"]);
    node.boot.loader = Some("nodes.efi".into());
    let nodes = snapshot([node]);
    let packet = Client::new(1).option(93, &[0, 7]).discover();
    let request = parse(&packet).unwrap();
    let Verdict::Reply(reply) = answer(&request, &rules, &nodes, &receiving()) else {
        panic!("no reply");
    };
    assert_eq!(Sent::of(&reply).option(67).as_deref(), Some(&b"nodes.efi"[..]));
}

#[test]
fn the_later_scope_wins_code_by_code() {
    let global = "options = { mtu = 1500, \"43\" = \"01\", \"224\" = \"01\", \"225\" = \"01\" }\n";
    let rule = "[[dhcp.rule]]\noptions = { \"224\" = \"02\", \"225\" = \"02\" }\n";
    let mut node = node(1, &["172.16.0.1"]);
    node.options = [(225, "03".into()), (54, "00".into()), (12, "6e".into())].into();
    let (policy, nodes) = (policy(&format!("{global}{rule}")), snapshot([node]));
    let packet = Client::new(1).option(55, &[3]).discover();
    let request = parse(&packet).unwrap();
    let Verdict::Reply(reply) = answer(&request, &policy, &nodes, &receiving()) else {
        panic!("no reply");
    };
    let sent = Sent::of(&reply);
    assert_eq!([43, 224, 225].map(|code| sent.option(code).unwrap()), [[1], [2], [3]]);
    assert_eq!(sent.option(12).as_deref(), Some(&b"n"[..]));
    // Neither MTU nor name servers were asked for.
    assert_eq!((sent.option(26), sent.option(6)), (None, None));
    assert_eq!(sent.codes(), [1, 3, 12, 17, 43, 51, 53, 54, 224, 225]);
    assert_eq!(sent.option(54), Some(vec![172, 16, 0, 254]));
}

#[test]
fn the_mac_of_a_client_is_text_as_rules_have_it() {
    assert_eq!(&super::text(mac(0x1f)), b"02:00:00:00:00:1f");
}

#[test]
fn a_rule_for_every_type_is_for_nodes_only() {
    let text = "[server]\ninterfaces = [\"veth0\"]\naddress = \"172.16.0.254\"\n\
         [[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\nrouters = [\"172.16.0.254\"]\n\
         pool = { first = \"172.16.0.200\", last = \"172.16.0.202\" }\n\
         [[dhcp.rule]]\ntype = [\"*\"]\nrouters = [\"172.16.0.253\"]\n";
    let config = config::parse(text, Path::new("bootd.toml")).unwrap();
    let nodes = snapshot([bmc(2, "x1000c0s3b0"), node(3, &["172.16.0.130"])]);
    let mut rehearsal = Rehearsal::new(&config, std::sync::Arc::new(nodes), receiving());
    for (number, router) in [(2, 253), (3, 253), (9, 254)] {
        let Outcome::Sent(sent) = rehearsal.packet(&Client::new(number).discover()) else {
            panic!("{number}")
        };
        let routers = find(&sent.packet[HEADER..], OptionCode::Router);
        assert_eq!(routers.as_deref(), Some(&[172, 16, 0, router][..]), "{number}");
    }
}

use std::net::SocketAddrV4;

use super::super::v4::testing::{config, mac, node, snapshot};
use super::*;
use crate::config::{DhcpOption, Pool, When};

/// Nodes 1 to 3 in 172.16.0.0/24, 4 and 5 in 10.1.0.0/24.
fn rack() -> Arc<Snapshot> {
    let nodes = (1..=5).map(|number| match number {
        1..=3 => node(number, &[&format!("172.16.0.{number}")]),
        _ => node(number, &[&format!("10.1.0.{number}")]),
    });
    Arc::new(snapshot(nodes))
}

/// What differs, what it was and will be, and for whom.
type Line = (String, Option<String>, Option<String>, Vec<Mac>);

fn told(old: &Config, new: &Config, recent: &[Asked]) -> Vec<Line> {
    let differences = compare(old, new, &rack(), recent, &[]);
    let groups = differences.groups.into_iter();
    groups
        .map(|group| {
            let who = group.who.iter().map(|who| who.mac).collect();
            (group.what, group.old, group.new, who)
        })
        .collect()
}

/// The DISCOVER of a client, as it came on the interface of 172.16.0.254.
fn asked(client: u8) -> Asked {
    Asked {
        mac: mac(client),
        stage: Stage::Os,
        bytes: discover(mac(client), None, Stage::Os),
        peer: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        receiving: Receiving {
            addresses: vec![[172, 16, 0, 254].into()],
            link: None,
        },
    }
}

#[test]
fn the_same_configuration_gives_nobody_anything_else() {
    assert_eq!(told(&config(), &config(), &[asked(1), asked(9)]), []);
}

#[test]
fn a_changed_router_is_for_exactly_the_nodes_of_its_subnet() {
    let (old, mut new) = (config(), config());
    new.dhcp.subnets[0].routers = vec![[172, 16, 0, 1].into()];
    let before = old.dhcp.subnets[0].routers.first().map(ToString::to_string);
    assert_eq!(
        told(&old, &new, &[]),
        [(
            "routers".into(),
            before,
            Some("172.16.0.1".into()),
            vec![mac(1), mac(2), mac(3)]
        )]
    );
}

#[test]
fn clients_of_a_pool_that_asked_lately_are_told_and_their_addresses_do_not_differ_by_accident() {
    let (old, mut new) = (config(), config());
    let strangers = [asked(20), asked(21), asked(22)];
    assert_eq!(told(&old, &new, &strangers), []);
    new.dhcp.subnets[0].pool = Some(Pool {
        first: [172, 16, 0, 210].into(),
        ..old.dhcp.subnets[0].pool.clone().unwrap()
    });
    new.dhcp.subnets[0].pool.as_mut().unwrap().last = [172, 16, 0, 220].into();
    let told = told(&old, &new, &strangers);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        told[0],
        (
            "address".into(),
            Some("one of 172.16.0.200 to 172.16.0.207".into()),
            Some("one of 172.16.0.210 to 172.16.0.220".into()),
            vec![mac(20), mac(21), mac(22)]
        )
    );
}

#[test]
fn who_is_not_answered_any_more_is_told_so_once() {
    let (old, mut new) = (config(), config());
    new.dhcp.ignore.insert(mac(4));
    let told = told(&old, &new, &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    let (what, old, new, who) = &told[0];
    assert_eq!(
        (what.as_str(), old.as_deref(), who),
        ("answer", Some("OFFER"), &vec![mac(4)])
    );
    assert!(new.as_deref().unwrap().starts_with("none ("), "{new:?}");
}

#[test]
fn what_only_one_stage_gets_is_told_with_it() {
    let (old, mut new) = (config(), config());
    new.dhcp.script_url = Some("http://10.9.9.9/script".into());
    let differences = compare(&old, &new, &rack(), &[], &[]);
    let files: Vec<&Group> = differences
        .groups
        .iter()
        .filter(|group| group.what == "boot file")
        .collect();
    assert!(
        !files.is_empty() && files.iter().all(|group| group.stages == ["ipxe"]),
        "{files:?}"
    );
    assert_eq!(differences.nodes, 5);
}

#[test]
fn an_option_without_a_name_is_told_by_its_number() {
    let (old, mut new) = (config(), config());
    new.dhcp.options.set(DhcpOption::new(200, When::Always, &[1, 2]));
    let told = told(&old, &new, &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].2.as_deref()), ("option 200", Some("0102")));
    assert_eq!(told[0].3.len(), 5);
}

#[test]
fn lines_of_a_text_that_differ_are_told_for_all_who_get_them() {
    let mut differences = Differences::default();
    for number in [1, 2] {
        differences.lines(&format!("x{number}"), mac(number), "boot script", "a\nb\nc", "a\nB\nc");
    }
    differences.sort();
    assert_eq!(differences.groups.len(), 1);
    let group = &differences.groups[0];
    assert_eq!((group.old.as_deref(), group.new.as_deref()), (Some("b"), Some("B")));
    assert_eq!(group.who.len(), 2);
}

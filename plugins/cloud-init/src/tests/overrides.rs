//! What is different about a node, from the document that the site made for it.

use crate::book::{Book, Documents};
use crate::mirror::{self, Part, WrongShape};
use crate::model::Instance;
use crate::overrides::{Asked, Read, read};

use super::*;

/// As the site's server writes it (contract 4.3).
const SITES: &str = "instance-id: i-3903b323
local-hostname: login
hostname: nid001
cluster-name: demo
instance_data:
    v1:
        availability_zone: \"\"
        instance_id: i-3903b323
        instance_type: big
        local_ipv4: 172.16.0.1
        cloud_provider: site
        public_keys:
            - k1
            - own
        vendor_data:
            version: \"1.0\"
            cloud_init_base_url: http://10.0.0.1:8081/cloud-init
            cluster_name: demo
            groups:
                compute:
                    Description: c
";

fn documents() -> Documents {
    let said = mirror::defaults(super::mirror::DEFAULTS).unwrap();
    mirror::draft(&Book::default(), Part::Defaults, &said)
        .done()
        .0
        .documents
}

fn told(text: &str) -> Result<Read, WrongShape> {
    read(&documents(), &compute1(), Asked::ByName, text)
}

#[test]
fn only_what_differs_is_the_nodes_own_and_its_instance_id_always() {
    let own = Instance {
        id: "x1000c0s0b0n0".into(),
        instance_id: Some("i-3903b323".into()),
        local_hostname: Some("login".into()),
        instance_type: Some("big".into()),
        public_keys: vec!["own".into()],
        ..Instance::default()
    };
    assert_eq!(told(SITES), Ok(Read::Override(Box::new(own.clone()))));
    let other = SITES
        .replace("cluster-name: demo", "cluster-name: two")
        .replace("nid001", "b")
        .replace("10.0.0.1:8081/cloud-init", "own/ci/")
        .replace("cloud_provider: site", "cloud_provider: mine\n        region: r");
    let own = Instance {
        hostname: Some("b".into()),
        cluster_name: Some("two".into()),
        cloud_provider: Some("mine".into()),
        region: Some("r".into()),
        cloud_init_base_url: Some("http://own/ci".into()),
        ..own
    };
    assert_eq!(told(&other), Ok(Read::Override(Box::new(own))));
}

#[test]
fn what_this_box_writes_it_reads_back_as_it_was() {
    let own = Instance {
        id: "x1000c0s0b0n0".into(),
        instance_id: Some("0x10".into()),
        hostname: Some("on".into()),
        region: Some("r2".into()),
        public_keys: vec!["k2".into(), "k3: #".into()],
        ..Instance::default()
    };
    let mut site = documents();
    site.instances.insert(own.id.clone(), own.clone().into());
    let text = site.meta_data(&compute1(), "http://10.0.0.1:8081/cloud-init");
    assert_eq!(told(&text), Ok(Read::Override(Box::new(own))));
}

#[test]
fn a_document_made_of_other_defaults_says_nothing_yet() {
    for (from, to) in [
        ("            - k1\n", ""),
        ("cloud_provider: site", "cloud_provider: \"\""),
        ("cluster-name: demo", "cluster-name: \"\""),
    ] {
        assert_eq!(told(&SITES.replace(from, to)), Ok(Read::OtherDefaults), "{from}");
    }
}

#[test]
fn the_document_of_another_node_is_not_taken() {
    let by = |ip: &str, text: &str| read(&documents(), &compute1(), Asked::ByAddress(ip.parse().unwrap()), text);
    assert!(matches!(by("172.16.0.1", SITES), Ok(Read::Override(_))));
    assert!(
        matches!(by("172.16.0.9", SITES), Ok(Read::Override(_))),
        "the first address, not the one that asked"
    );
    assert_eq!(
        by("172.16.0.1", &SITES.replace("172.16.0.1", "172.16.0.2")),
        Ok(Read::AnotherNodes)
    );
    assert_eq!(
        by("172.16.0.1", &SITES.replace("local_ipv4: 172.16.0.1", "x: y")),
        Ok(Read::AnotherNodes)
    );
}

#[test]
fn what_is_no_meta_data_is_nothing_to_take() {
    let half = &SITES[..SITES.len() - 80];
    let no_id = SITES.replace("instance-id: i-3903b323", "instance-id: \"\"");
    let keys = SITES.replace("            - k1\n            - own\n", "            k1: own\n");
    let host = SITES.replace("login", "'a b'");
    let long = SITES.replace("big", &"x".repeat(300));
    let twice = SITES.replace("hostname: nid001", "hostname: nid001\nhostname: nid002");
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "404 page not found\n",
        "#cloud-config",
        half,
        &no_id,
        &keys,
        &host,
        &long,
        &twice,
    ] {
        assert!(told(text).is_err(), "{text}");
    }
}

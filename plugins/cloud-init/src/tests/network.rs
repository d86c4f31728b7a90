//! The network configuration.

use super::*;

#[test]
fn a_network_configuration_has_the_addresses_of_the_named_networks_and_dhcp_for_the_rest() {
    let networks = json!({"hsn": {"prefix": 16, "mtu": 9000, "gateway": "10.0.0.1"}});
    let (_, plugin) = start(json!({"network_config": networks}));
    let mut node = compute1();
    node.interfaces.push(Interface {
        mac: Mac([0xbe, 0xef, 0, 0, 0, 1]),
        ips: vec![
            Address {
                network: "hsn".into(),
                ip: "10.0.1.1".parse().unwrap(),
            },
            Address {
                network: "hsn".into(),
                ip: "fd00::1".parse().unwrap(),
            },
        ],
    });
    let answer = plugin.get("/cloud-init/network-config", Some(node)).unwrap();
    assert!(answer.keep);
    assert_eq!(
        serde_saphyr::from_str::<Value>(&answer.body).unwrap(),
        json!({"version": 2, "ethernets": {
            "nic0": {"match": {"macaddress": "52:54:00:be:ef:01"}, "dhcp4": true},
            "nic1": {
                "match": {"macaddress": "be:ef:00:00:00:01"}, "addresses": ["10.0.1.1/16", "fd00::1/64"], "mtu": 9000,
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}],
            },
        }})
    );
    assert_eq!(get(&plugin, "/cloud-init/network-config", None).0, 404);
    let path = "/cloud-init/admin/impersonation/x1000c0s0b0n0/network-config";
    assert_eq!(get(&plugin, path, None).0, 200);
}

#[test]
fn a_prefix_that_no_address_has_is_a_mistake_of_the_settings() {
    let config = json!({"network_config": {"hsn": {"prefix": 33}}});
    let error = FakeHost::new().start::<CloudInit>(config).err().unwrap();
    assert!(
        error.is_bad_argument && error.text.contains("a prefix has at most 32 bits"),
        "{error}"
    );
}

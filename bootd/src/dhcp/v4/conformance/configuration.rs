//! What the configuration may say, and what it may not.

use super::*;

/// B with another pool.
fn with_pool(says: &'static str, first: &str, last: &str) -> Case {
    let pool = format!("pool = {{ first = \"{first}\", last = \"{last}\" }}\n");
    case("1.6 I", says).instead("dns =", &format!("{pool}dns ="))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        with_pool("a pool outside of its subnet is refused", "10.0.0.1", "172.16.0.9")
            .refused("dhcp.subnet[0].pool.first"),
        with_pool(
            "a pool that ends before it begins is refused",
            "172.16.0.9",
            "172.16.0.8",
        )
        .refused("dhcp.subnet[0].pool.last"),
        with_pool(
            "a pool that holds the server is refused",
            "172.16.0.250",
            "172.16.0.254",
        )
        .refused("dhcp.subnet[0].pool"),
        with_pool(
            "a pool with the subnet's broadcast address is refused",
            "172.16.0.250",
            "172.16.0.255",
        )
        .refused("dhcp.subnet[0].pool.last"),
        case("1.6 I", "subnets that overlap, and with them their pools, are refused")
            .config("[[dhcp.subnet]]\ncidr = \"172.16.0.128/25\"\n")
            .refused("dhcp.subnet[1].cidr: overlaps dhcp.subnet[0]"),
        case("1.3 I", "a router outside of the subnet is refused")
            .instead("routers = [\"172.16.0.254\"]", "routers = [\"10.0.0.1\"]")
            .refused("dhcp.subnet[0].routers[0]"),
        case("1.1 M", "an unknown key is refused, by name")
            .keys("[dhcp]", "leese_time = \"1h\"")
            .refused("leese_time"),
    ]
}

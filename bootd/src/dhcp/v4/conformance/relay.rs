//! Clients behind relays, and several subnets.

use super::super::testing::{Client, node};
use super::*;

const RELAY: [u8; 4] = [10, 1, 0, 253];
const NEAR: [u8; 4] = [172, 16, 0, 253];
const SERVER_IP: [u8; 4] = [172, 16, 0, 254];

/// Two subnets, a pool in the second one, and a node in both.
fn two(rule: &'static str, says: &'static str) -> Case {
    case(rule, says)
        .config(SECOND)
        .config("pool = { first = \"10.1.0.10\", last = \"10.1.0.11\", lease_time = \"5m\" }\n")
        .nodes([node(1, &["172.16.0.1", "10.1.0.1"]), node(2, &["172.16.0.2"])])
}

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).giaddr(RELAY);
    vec![
        two("2.5 M", "behind a relay a node gets its address in the relay's subnet, and the subnet's options").packet(
            client().discover(),
            offer([10, 1, 0, 1])
                .to(relay(RELAY))
                .with(1, [255, 255, 255, 0])
                .with(3, [10, 1, 0, 254])
                .with(54, SERVER_IP)
                .siaddr(SERVER_IP),
        ),
        two("2.3 M", "a relayed reply goes to the relay whatever else the packet says")
            .packet(client().unicast().discover(), offer([10, 1, 0, 1]).to(relay(RELAY)))
            .packet(client().ciaddr([10, 1, 0, 1]).request(), ack([10, 1, 0, 1]).to(relay(RELAY))),
        two("2.3 I", "a relayed refusal names the relay, has the server, the client's and the relay's options, and is to be broadcast")
            .packet(
                client().unicast().option(50, &[10, 1, 0, 9]).option(61, b"me").option(82, &[1, 1, 9]).request(),
                nak()
                    .to(relay(RELAY))
                    .at(10, &[0x80, 0])
                    .at(24, &RELAY)
                    .codes(&[53, 54, 61, 82])
                    .with(82, [1, 1, 9]),
            ),
        two("2.5 M", "the address of another subnet is refused behind a relay")
            .packet(client().option(50, &[172, 16, 0, 1]).request(), nak().to(relay(RELAY))),
        two("2.2 I", "INFORM through a relay is answered through it").packet(
            client().ciaddr([10, 1, 0, 1]).send(8),
            ack([0; 4]).to(relay(RELAY)).without(51),
        ),
        two("2.5 M", "a node without an address in the relay's subnet is served by its pool")
            .packet(Client::new(2).giaddr(RELAY).discover(), offer([10, 1, 0, 10]).with(51, 300u32.to_be_bytes())),
        two("2.5 I", "a relay of no served subnet gets silence, for known nodes too")
            .packet(Client::new(1).giaddr([192, 0, 2, 1]).discover(), silence("relay_not_served"))
            .packet(Client::new(9).giaddr([192, 0, 2, 1]).discover(), silence("relay_not_served")),
        two("2.3 I", "an address that no relay can have gets silence: replies would go there")
            .packet(Client::new(1).giaddr([255; 4]).discover(), silence("bad_relay_address"))
            .packet(Client::new(1).giaddr([10, 1, 0, 255]).discover(), silence("bad_relay_address"))
            .packet(Client::new(1).giaddr([127, 0, 0, 1]).discover(), silence("bad_relay_address"))
            .packet(Client::new(1).giaddr([224, 0, 0, 1]).discover(), silence("bad_relay_address"))
            .packet(Client::new(1).giaddr(SERVER_IP).discover(), silence("bad_relay_address")),
        two("2.3 I", "option 82, sub-option 5, selects another link than the relay's address").packet(
            Client::new(1).giaddr(NEAR).option(82, &[5, 4, 10, 1, 0, 0]).discover(),
            offer([10, 1, 0, 1]).to(relay(NEAR)).with(3, [10, 1, 0, 254]).with(82, [5, 4, 10, 1, 0, 0]),
        ),
        two("2.3 I", "a selected link of no served subnet gets silence").packet(
            Client::new(1).giaddr(NEAR).option(82, &[5, 4, 192, 0, 2, 0]).discover(),
            silence("relay_not_served"),
        ),
        two("2.3 I", "a sub-option 5 of another length selects nothing").packet(
            Client::new(1).giaddr(NEAR).option(82, &[5, 2, 10, 1]).discover(),
            offer([172, 16, 0, 1]).with(82, [5, 2, 10, 1]),
        ),
        two("2.1 M", "relay information that is cut off inside comes back as it came")
            .packet(client().option(82, &[1, 9, 7]).discover(), offer([10, 1, 0, 1]).with(82, [1, 9, 7])),
        two("2.3 I", "option 82 without a relay is only echoed")
            .packet(Client::new(1).option(82, &[5, 4, 10, 1, 0, 0]).discover(), offer([172, 16, 0, 1]).to(EVERYONE)),
        two("2.5 I", "a renewal comes without its relay: the address in use says which subnet")
            .packet(
                Client::new(1).unicast().ciaddr([10, 1, 0, 1]).request(),
                ack([10, 1, 0, 1]).to(unicast([10, 1, 0, 1])).with(3, [10, 1, 0, 254]),
            ),
        two("2.6 I", "a stranger behind a relay is leased an address of the relay's subnet")
            .packet(Client::new(9).giaddr(RELAY).discover(), offer([10, 1, 0, 10]).to(relay(RELAY)))
            .packet(
                Client::new(9).giaddr(RELAY).option(50, &[10, 1, 0, 10]).option(54, &SERVER_IP).request(),
                ack([10, 1, 0, 10]).to(relay(RELAY)).with(51, 300u32.to_be_bytes()),
            ),
        two("2.6 I", "a stranger behind a relay of a subnet without a pool gets silence")
            .packet(Client::new(9).giaddr(NEAR).discover(), silence("no_pool")),
        two("2.6 I", "a stranger that moved behind another relay is refused its old address")
            .packet(Client::new(9).giaddr(RELAY).option(50, &[10, 1, 0, 10]).request(), ack([10, 1, 0, 10]))
            .packet(Client::new(9).giaddr(RELAY).option(50, &[172, 16, 0, 200]).request(), nak().to(relay(RELAY))),
        two("2.5 I", "the server of a subnet can be another address of the box")
            .instead("cidr = \"10.1.0.0/24\"", "cidr = \"10.1.0.0/24\"\nserver = \"10.1.0.254\"")
            .packet(
                client().option(93, &[0, 0]).discover(),
                offer([10, 1, 0, 1]).siaddr([10, 1, 0, 254]).with(54, [10, 1, 0, 254]).with(17, "10.1.0.254"),
            )
            .packet(client().option(54, &[10, 1, 0, 254]).request(), ack([10, 1, 0, 1])),
    ]
}

//! Clients that the inventory does not know: leases of a pool, from their first packet to their end.

use super::super::testing::{Client, node};
use super::*;

const FIRST: [u8; 4] = [172, 16, 0, 200];
const SECOND_ONE: [u8; 4] = [172, 16, 0, 201];
const THIRD: [u8; 4] = [172, 16, 0, 202];
const SERVER_IP: [u8; 4] = [172, 16, 0, 254];

/// Configuration B+: a pool of three addresses for five minutes each.
fn pool(rule: &'static str, says: &'static str) -> Case {
    case(rule, says).instead("dns =", &format!("{POOL}dns ="))
}

/// The REQUEST that takes an offer.
fn takes(number: u8, ip: [u8; 4]) -> Vec<u8> {
    Client::new(number).option(50, &ip).option(54, &SERVER_IP).request()
}

fn renews(number: u8, ip: [u8; 4]) -> Vec<u8> {
    Client::new(number).unicast().ciaddr(ip).request()
}

fn releases(number: u8, ip: [u8; 4]) -> Vec<u8> {
    Client::new(number).ciaddr(ip).option(54, &SERVER_IP).send(7)
}

fn declines(number: u8, ip: [u8; 4]) -> Vec<u8> {
    Client::new(number).option(50, &ip).option(54, &SERVER_IP).send(4)
}

pub(super) fn cases() -> Vec<Case> {
    let asks = |number: u8| Client::new(number).discover();
    let minutes = |n: u32| (n * 60).to_be_bytes();
    vec![
        pool(
            "2.6 I",
            "a stranger is offered the lowest free address and has it with its first REQUEST",
        )
        .packet(
            asks(9),
            offer(FIRST).with(51, minutes(5)).with(54, SERVER_IP).siaddr(SERVER_IP),
        )
        .packet(takes(9, FIRST), ack(FIRST).with(51, minutes(5))),
        pool("2.6 I", "a REQUEST that is sent again is acknowledged again")
            .packet(asks(9), offer(FIRST))
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(asks(9), offer(FIRST))
            .packet(takes(9, FIRST), ack(FIRST)),
        pool(
            "2.6 M",
            "a stranger has no host name, the options of the subnet, and the server in option 17",
        )
        .packet(
            asks(9),
            offer(FIRST)
                .codes(&[1, 3, 6, 17, 51, 53, 54])
                .with(17, "172.16.0.254")
                .with(6, SERVER_IP),
        ),
        pool("2.6 M", "a stranger's firmware gets its loader").packet(
            Client::new(9).option(93, &[0, 0]).discover(),
            offer(FIRST).with(67, "undionly.kpxe"),
        ),
        pool("2.6 I", "a stranger's iPXE gets a script with its first packet").packet(
            Client::new(9).option(77, b"iPXE").discover(),
            offer(FIRST).with(67, "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:09"),
        ),
        pool("2.6 I", "an offered address is kept for its client until it asks")
            .packet(asks(9), offer(FIRST))
            .packet(asks(8), offer(SECOND_ONE))
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(8, SECOND_ONE), ack(SECOND_ONE)),
        pool("2.6 I", "an offer that nobody takes is free again after a while")
            .packet(asks(9), offer(FIRST))
            .packet(asks(8), offer(SECOND_ONE))
            .packet(asks(7), offer(THIRD))
            .pass(60)
            .packet(asks(6), offer(FIRST)),
        pool("2.6 M", "an exhausted pool gives nothing")
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(8, SECOND_ONE), ack(SECOND_ONE))
            .packet(takes(7, THIRD), ack(THIRD))
            .packet(asks(6), silence("pool_exhausted")),
        pool(
            "6.3.6 I",
            "a lease ends by itself and its address is somebody else's then",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(takes(8, SECOND_ONE), ack(SECOND_ONE))
        .packet(takes(7, THIRD), ack(THIRD))
        .pass(301)
        .packet(asks(6), offer(FIRST))
        .packet(takes(6, FIRST), ack(FIRST))
        .packet(renews(9, FIRST), nak().to(EVERYONE)),
        pool("6.3.6 I", "a renewed lease does not end")
            .packet(takes(9, FIRST), ack(FIRST))
            .pass(200)
            .packet(renews(9, FIRST), ack(FIRST).to(unicast(FIRST)).with(51, minutes(5)))
            .pass(200)
            .packet(takes(8, FIRST), nak())
            .packet(renews(9, FIRST), ack(FIRST)),
        pool("2.6 I", "a rebinding client, which asks everybody, keeps its address")
            .packet(takes(9, FIRST), ack(FIRST))
            .pass(280)
            .packet(Client::new(9).ciaddr(FIRST).request(), ack(FIRST)),
        pool(
            "2.6 I",
            "a client that comes back after its lease gets the same address as long as nobody needed it",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(takes(8, SECOND_ONE), ack(SECOND_ONE))
        .pass(3600)
        .packet(asks(8), offer(SECOND_ONE))
        .packet(asks(9), offer(FIRST)),
        pool("2.2 I", "RELEASE gets no reply and frees the address at once")
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(8, SECOND_ONE), ack(SECOND_ONE))
            .packet(takes(7, THIRD), ack(THIRD))
            .packet(releases(8, SECOND_ONE), silence("released"))
            .packet(asks(6), offer(SECOND_ONE)),
        pool("2.2 I", "RELEASE of somebody else's address changes nothing")
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(releases(8, FIRST), silence("not_our_lease"))
            .packet(renews(9, FIRST), ack(FIRST)),
        pool("2.2 I", "a declined address rests, and its client gets another one")
            .packet(asks(9), offer(FIRST))
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(declines(9, FIRST), silence("declined"))
            .packet(asks(9), offer(SECOND_ONE))
            .packet(Client::new(8).option(50, &FIRST).discover(), offer(THIRD)),
        pool(
            "2.2 I",
            "DECLINE of an address that the client does not have changes nothing",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(declines(8, FIRST), silence("not_our_lease"))
        .packet(renews(9, FIRST), ack(FIRST)),
        pool("2.6 I", "the address that a client asks for is given when it is free")
            .packet(Client::new(9).option(50, &THIRD).discover(), offer(THIRD))
            .packet(Client::new(8).option(50, &THIRD).discover(), offer(FIRST))
            .packet(
                Client::new(7).option(50, &[172, 16, 0, 66]).discover(),
                offer(SECOND_ONE),
            ),
        pool(
            "2.6 I",
            "a client of the pool is refused an address outside of its subnet",
        )
        .packet(takes(9, [10, 9, 9, 9]), nak().to(EVERYONE)),
        pool(
            "2.6 I",
            "an address of the subnet that no pool holds is not for us to refuse",
        )
        .packet(
            Client::new(9).option(50, &[172, 16, 0, 66]).request(),
            silence("not_our_lease"),
        ),
        pool("2.6 I", "two clients never have one address")
            .packet(takes(9, FIRST), ack(FIRST))
            .packet(takes(8, FIRST), nak()),
        pool("2.2 I", "a client that takes another server's offer leaves ours")
            .packet(asks(9), offer(FIRST))
            .packet(
                Client::new(9)
                    .option(50, &[172, 16, 0, 9])
                    .option(54, &[172, 16, 0, 3])
                    .request(),
                silence("other_server"),
            )
            .packet(asks(8), offer(SECOND_ONE))
            .packet(asks(7), offer(THIRD))
            .packet(asks(6), offer(FIRST)),
        pool(
            "2.6 I",
            "a diskless Linux keeps its address though its client identifier is another one at each boot",
        )
        .packet(
            Client::new(9).option(61, &[1, 2, 0, 0, 0, 0, 9]).discover(),
            offer(FIRST),
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(Client::new(9).option(61, &[255, 1, 1, 1]).discover(), offer(FIRST))
        .packet(Client::new(9).option(61, &[255, 2, 2, 2]).discover(), offer(FIRST)),
        pool(
            "2.6 I",
            "a stranger that became a node is refused its lease, and gets the inventory's address",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .publish([node(1, &["172.16.0.1"]), node(9, &["172.16.0.9"])])
        .packet(renews(9, FIRST), nak().to(EVERYONE))
        .packet(asks(9), offer([172, 16, 0, 9]).with(12, "nid0009.openchami.cluster"))
        .packet(takes(9, [172, 16, 0, 9]), ack([172, 16, 0, 9]))
        .packet(asks(8), offer(SECOND_ONE)),
        pool(
            "2.6 I",
            "a node that left the inventory is a stranger, and is refused the address that was its own",
        )
        .publish([])
        .packet(asks(1), offer(FIRST))
        .packet(takes(1, FIRST), ack(FIRST)),
        pool(
            "2.6 I",
            "an address that the inventory gives to a node is not of the pool any more",
        )
        .nodes([node(1, &["172.16.0.1"]), node(2, &["172.16.0.200"])])
        .packet(asks(9), offer(SECOND_ONE))
        .packet(takes(8, FIRST), nak())
        .packet(asks(2), offer(FIRST)),
        pool(
            "2.6 I",
            "a leased address that becomes a node's is refused to its holder",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .publish([node(1, &["172.16.0.1"]), node(2, &["172.16.0.200"])])
        .packet(renews(9, FIRST), nak())
        .packet(asks(9), offer(SECOND_ONE)),
        pool("2.2 I", "INFORM of a stranger is not answered").packet(
            Client::new(9).ciaddr([172, 16, 0, 66]).send(8),
            silence("inform_of_unknown"),
        ),
        pool(
            "2.2 I",
            "INFORM of who has a lease gets an ACK without address and lease time",
        )
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(
            Client::new(9).unicast().ciaddr(FIRST).send(8),
            ack([0; 4]).to(unicast(FIRST)).without(51).with(3, SERVER_IP),
        )
        .packet(
            Client::new(9).unicast().ciaddr(SECOND_ONE).send(8),
            silence("inform_of_unknown"),
        )
        .pass(301)
        .packet(
            Client::new(9).unicast().ciaddr(FIRST).send(8),
            silence("inform_of_unknown"),
        ),
        pool("2.2 I", "a REQUEST of a stranger that names no address gets silence")
            .packet(Client::new(9).request(), silence("no_address_named")),
        case("2.2 I", "a stranger without a pool gets silence instead of 0.0.0.0")
            .packet(Client::new(9).discover(), silence("no_pool"))
            .packet(Client::new(9).option(50, &FIRST).request(), silence("no_pool")),
        pool(
            "2.6 I",
            "an address that somebody uses who never asked is not offered, and rests",
        )
        .occupy(FIRST)
        .packet(asks(9), offer(SECOND_ONE))
        .packet(asks(8), offer(THIRD))
        .packet(asks(7), silence("probed_in_vain")),
        pool("2.6 I", "a lease that its client renews is not probed")
            .packet(takes(9, FIRST), ack(FIRST))
            .occupy(FIRST)
            .packet(renews(9, FIRST), ack(FIRST))
            .packet(asks(9), offer(FIRST)),
        pool(
            "2.6 I",
            "where the configuration says so a lease is its client identifier's",
        )
        .keys("[dhcp]", "bind_to = \"client-id\"")
        .packet(Client::new(9).option(61, b"one").discover(), offer(FIRST))
        .packet(Client::new(9).option(61, b"two").discover(), offer(SECOND_ONE))
        .packet(Client::new(8).option(61, b"one").discover(), offer(FIRST)),
        pool(
            "2.6 M",
            "where the configuration says so each renewal is refused, and the client boots again",
        )
        .config("[compat]\nbootloop_nak = \"always\"\n")
        .packet(asks(9), offer(FIRST))
        .packet(takes(9, FIRST), ack(FIRST))
        .packet(renews(9, FIRST), nak())
        .packet(asks(9), offer(SECOND_ONE))
        .packet(takes(9, SECOND_ONE), ack(SECOND_ONE)),
        pool("2.6 I", "a client on another wire than the pool's gets silence")
            .plug(&[[192, 168, 7, 1]])
            .packet(asks(9), silence("no_pool")),
    ]
}

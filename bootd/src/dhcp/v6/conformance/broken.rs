//! Packets that are none, and messages that must not be answered.

use super::super::testing::Client;
use super::*;

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).ia(7, &[]);
    let other = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0xaa];
    vec![
        case("2.8 M", "SOLICIT that names a server gets no answer, even this one")
            .message(client().for_server().solicit(), silence("server_named"))
            .message(client().option(2, &other).solicit(), silence("server_named")),
        case("2.8 M", "CONFIRM and REBIND that name a server get no answer")
            .message(client().for_server().send(4), silence("server_named"))
            .message(client().for_server().send(6), silence("server_named")),
        case(
            "2.8 M",
            "REQUEST and RENEW that name no server, or another one, get no answer",
        )
        .message(client().send(3), silence("no_server_named"))
        .message(client().send(5), silence("no_server_named"))
        .message(client().option(2, &other).send(3), silence("other_server"))
        .message(client().option(2, &other).send(5), silence("other_server")),
        case(
            "2.8 M",
            "RELEASE and DECLINE that name no server, or another one, get no answer",
        )
        .message(client().send(8), silence("no_server_named"))
        .message(client().send(9), silence("no_server_named"))
        .message(client().option(2, &other).send(8), silence("other_server"))
        .message(client().option(2, &other).send(9), silence("other_server")),
        case("2.8 M", "INFORMATION-REQUEST that names another server gets no answer")
            .message(Client::new(1).option(2, &other).send(11), silence("other_server")),
        case("2.8 M", "messages of servers and of nobody get no answer")
            .message(client().send(2), silence("message_type"))
            .message(client().send(7), silence("message_type"))
            .message(client().send(10), silence("message_type"))
            .message(client().send(200), silence("message_type")),
        case("2.8 M", "a client without a DUID gets no address")
            .message(Client::nameless().ia(7, &[]).solicit(), silence("no_client_id"))
            .message(Client::nameless().ia(7, &[]).request(), silence("no_client_id")),
        case("8415 16.12", "INFORMATION-REQUEST with an address in it gets no answer")
            .message(client().send(11), silence("address_in_information_request")),
        case("bad input", "a DUID of 0 and of 200 bytes is refused")
            .message(
                Client::nameless().option(1, &[]).solicit(),
                silence("bad_option_length"),
            )
            .message(
                Client::nameless().option(1, &[7; 200]).solicit(),
                silence("bad_option_length"),
            )
            .message(Client::nameless().option(1, &[7; 128]).send(11), reply()),
        case("bad input", "an option whose length leads behind the end is refused")
            .message(client().raw(&[0, 8, 0, 9, 1]).solicit(), silence("truncated_option")),
        case("bad input", "bytes behind the last option are refused")
            .message(client().raw(&[0, 8]).solicit(), silence("loose_bytes")),
        case("bad input", "a thousand options without a value cost nothing")
            .message(client().raw(&[0, 99, 0, 0].repeat(1000)).solicit(), advertise()),
        case("bad input", "associations within associations are not looked into").message(
            Client::new(1)
                .option(
                    3,
                    &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..], &option(3, &[0; 12])].concat(),
                )
                .solicit(),
            advertise().lease(7, &[("fd00::1", 3600)]),
        ),
        case("bad input", "more associations than a client has are refused").message(
            (0..17).fold(Client::new(1), |client, id| client.ia(id, &[])).solicit(),
            silence("too_many_ias"),
        ),
        case("bad input", "a packet of a few bytes is refused")
            .only(Way::Direct)
            .packet("fe80::1", vec![1, 2, 3], silence("too_short"))
            .packet("fe80::1", vec![12; 20], silence("too_short"))
            .packet("fe80::1", vec![12; 34], silence("nothing_relayed")),
        case(
            "bad input",
            "who is not on the link and not behind a relay must be in a served subnet, since the answer goes there",
        )
        .only(Way::Direct)
        .packet("2001:db8::1", client().solicit(), silence("from_elsewhere"))
        .packet("::", client().solicit(), silence("from_elsewhere"))
        .packet("fd00::1", client().renew(), reply().lease(7, &[("fd00::1", 3600)])),
    ]
}

//! Readers: layers, options, and who a client is.

use super::super::testing::{Client, ia, link_local, option, part, relayed, vendor_class};
use super::*;

const MAC_1: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn read(packet: &[u8]) -> Request<'_> {
    parse(packet, link_local(1)).unwrap()
}

fn bad(packet: &[u8]) -> BadPacket {
    parse(packet, link_local(1)).unwrap_err()
}

#[test]
fn a_message_is_read_through_as_many_relays_as_there_may_be() {
    let mut packet = Client::new(1).ia(7, &["fd00::1"]).solicit();
    for hop in 0..32 {
        packet = relayed(&packet, hop, "fd00::fe", link_local(hop + 1), &option(18, &[hop]));
    }
    let request = read(&packet);
    assert_eq!((request.kind, request.relays.len()), (Kind::Solicit, 32));
    let hops: Vec<u8> = request.relays.iter().map(|relay| relay.hop_count).collect();
    assert!(hops.iter().copied().eq((0..32).rev()), "{hops:?}");
    assert_eq!(request.nearest.as_ref().unwrap().interface_id, Some(&[0][..]));
    assert_eq!(
        request.named().collect::<Vec<_>>(),
        ["fd00::1".parse::<Ipv6Addr>().unwrap()]
    );
    let packet = relayed(&packet, 32, "fd00::fe", link_local(1), &[]);
    assert_eq!(bad(&packet), BadPacket::TooManyRelays);
}

#[test]
fn a_link_is_what_the_nearest_relay_with_one_says() {
    let inner = relayed(&Client::new(1).solicit(), 0, "::", link_local(1), &[]);
    let middle = relayed(&inner, 1, "fd00:1::fe", link_local(2), &[]);
    let outer = relayed(&middle, 2, "fd00:2::fe", link_local(3), &[]);
    assert_eq!(read(&outer).link, Some("fd00:1::fe".parse().unwrap()));
    assert_eq!(read(&inner).link, None);
    assert_eq!(read(&Client::new(1).solicit()).link, None);
}

#[test]
fn a_hardware_address_is_the_relay_s_word_then_the_link_s_then_the_client_s() {
    let duid_2 = Client::nameless().option(1, &[0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 2]);
    assert_eq!(read(&duid_2.clone().solicit()).mac(), Some(MAC_1));
    let random: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    let of = |from| parse(&duid_2.clone().solicit(), from).unwrap().mac();
    assert_eq!(of(random), Some(Mac([2, 0, 0, 0, 0, 2])));
    // An address of the link says who has it; one of a network may be of a relay that hides.
    assert_eq!(of("fd00::ff:fe00:1".parse().unwrap()), Some(Mac([2, 0, 0, 0, 0, 2])));
    let seen = option(79, &[0, 1, 2, 0, 0, 0, 0, 3]);
    let told = relayed(&duid_2.clone().solicit(), 0, "fd00::fe", link_local(1), &seen);
    assert_eq!(read(&told).mac(), Some(Mac([2, 0, 0, 0, 0, 3])));
    // The relay that is nearest to the client knows; what one behind it saw is that relay.
    let twice = relayed(
        &relayed(&duid_2.clone().solicit(), 0, "fd00::fe", link_local(1), &[]),
        1,
        "::",
        link_local(9),
        &seen,
    );
    assert_eq!(read(&twice).mac(), Some(MAC_1));
    let uuid = Client::nameless().option(1, &[0, 4, 1, 2, 3]).solicit();
    assert_eq!(parse(&uuid, random).unwrap().mac(), None);
    let group = Client::nameless().option(1, &[0, 3, 0, 1, 1, 0, 0, 0, 0, 1]).solicit();
    assert_eq!(parse(&group, random).unwrap().mac(), None);
}

#[test]
fn who_has_no_hardware_address_is_still_somebody_in_particular() {
    let random: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    let of = |duid: &[u8]| {
        let packet = Client::nameless().option(1, duid).solicit();
        parse(&packet, random).unwrap().sender()
    };
    assert_eq!(of(&[0, 4, 1]), of(&[0, 4, 1]));
    assert_ne!(of(&[0, 4, 1]), of(&[0, 4, 2]));
}

#[test]
fn what_is_cut_off_is_refused_with_its_reason() {
    assert_eq!(bad(&[]), BadPacket::TooShort(0));
    assert_eq!(bad(&[1, 0, 0]), BadPacket::TooShort(3));
    assert_eq!(bad(&[12; 33]), BadPacket::TooShort(33));
    assert_eq!(bad(&[12; 34]), BadPacket::NothingRelayed);
    let of = |bytes: &[u8]| bad(&Client::new(1).raw(bytes).solicit());
    assert_eq!(of(&[0, 8, 0, 2, 0]), BadPacket::TruncatedOption(8));
    assert_eq!(of(&[0, 8, 0]), BadPacket::LooseBytes);
    let mut cut = relayed(&Client::new(1).solicit(), 0, "fd00::fe", link_local(1), &[]);
    cut.pop();
    assert_eq!(bad(&cut), BadPacket::TruncatedOption(9));
    let in_ia = |options: &[u8]| of(&option(3, &[&ia(1, &[])[..], options].concat()));
    assert_eq!(in_ia(&[0, 5, 0, 24, 0]), BadPacket::TruncatedOption(5));
    assert_eq!(in_ia(&option(5, &[0; 23])), BadPacket::BadOption(5, 23));
    assert_eq!(
        of(&option(25, &[&[0; 12], &option(26, &[0; 24])[..]].concat())),
        BadPacket::BadOption(26, 24)
    );
}

#[test]
fn lengths_that_mean_nothing_are_refused() {
    for (code, length) in [
        (1, 0),
        (1, 129),
        (1, 200),
        (2, 0),
        (2, 129),
        (3, 11),
        (4, 3),
        (25, 11),
        (6, 3),
        (16, 3),
        (39, 0),
    ] {
        let packet = Client::nameless().option(code, &vec![0; length]).solicit();
        assert_eq!(bad(&packet), BadPacket::BadOption(code, length));
    }
    for length in [1, 128] {
        read(&Client::nameless().option(1, &vec![0; length]).solicit());
    }
}

#[test]
fn options_that_never_end_and_too_many_ias_cost_nothing() {
    let empty = Client::new(1).raw(&[0, 99, 0, 0].repeat(2000)).solicit();
    assert_eq!(read(&empty).client_id.map(<[u8]>::len), Some(10));
    let many = (0..16).fold(Client::new(1), |client, id| client.ia(id, &[]));
    assert_eq!(read(&many.clone().solicit()).ias().count(), 16);
    assert_eq!(bad(&many.ia(17, &[]).solicit()), BadPacket::TooManyIas);
}

#[test]
fn of_an_option_that_is_there_twice_the_first_counts() {
    let packet = Client::new(1).option(1, &[0, 4, 9]).asks(&[23]).asks(&[59]).solicit();
    let request = read(&packet);
    assert_eq!(request.client_id.map(<[u8]>::len), Some(10));
    assert!(request.lists(OptionCode::DomainNameServers) && !request.lists(OptionCode::OptBootfileUrl));
}

#[test]
fn classes_are_lists_of_texts() {
    let packet = Client::new(1)
        .option(15, &[part("a"), part("iPXE")].concat())
        .option(16, &vendor_class("HTTPClient:Arch:00016"))
        .option(61, &[0, 16, 0, 7])
        .solicit();
    let request = read(&packet);
    assert!(request.is_ipxe() && request.boots_by_http() && !request.boots_by_pxe());
    assert_eq!(request.vendor(), Some([0, 0, 1, 0x57]));
    assert_eq!((request.arch, request.arch_too_short), (Some(16), false));
    let plain = Client::new(1).option(15, b"iPXE").option(61, &[7]).solicit();
    assert!(read(&plain).is_ipxe() && read(&plain).arch_too_short);
    let cut = Client::new(1).option(15, &[0, 9, b'i']).solicit();
    assert!(!read(&cut).is_ipxe());
}

#[test]
fn what_is_no_client_s_message_is_not_looked_into() {
    for kind in [0, 2, 7, 10, 13, 14, 255] {
        assert_eq!(read(&[kind, 0, 0, 0, 9]).kind, Kind::Other(kind));
    }
}

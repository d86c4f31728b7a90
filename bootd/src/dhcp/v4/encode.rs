//! A reply as bytes.

use super::reply::Reply;
use super::request::{HEADER, MAGIC_COOKIE};

/// The packet: header, options, and zeros up to the 300 bytes that BOOTP clients and some relays insist on.
pub fn encode(reply: &Reply) -> Vec<u8> {
    let mut packet = Vec::with_capacity(512);
    packet.extend_from_slice(&[2, reply.htype, reply.hlen, 0]);
    packet.extend_from_slice(&reply.xid.to_be_bytes());
    packet.extend_from_slice(&[0; 2]); // secs
    packet.extend_from_slice(&reply.flags.to_be_bytes());
    packet.extend_from_slice(&[0; 4]); // ciaddr
    packet.extend_from_slice(&reply.yiaddr.octets());
    packet.extend_from_slice(&reply.siaddr.octets());
    packet.extend_from_slice(&reply.giaddr.octets());
    packet.extend_from_slice(&reply.chaddr);
    packet.extend_from_slice(&[0; 64]); // sname
    packet.extend_from_slice(reply.file.as_bytes());
    packet.resize(HEADER - MAGIC_COOKIE.len(), 0); // the rest of file; it has 127 bytes at most
    packet.extend_from_slice(&MAGIC_COOKIE);
    reply.options.write(&mut packet);
    packet.resize(packet.len().max(MINIMUM), 0);
    packet
}

/// The least length of a reply.
pub const MINIMUM: usize = 300;

//! The bytes of a reply, in as many relays' layers as its request came in.
//!
//! Options come in the order of their codes, but for those that name who speaks and what it is about, which come first. Never fails; a reply
//! that is too long for a datagram comes out empty, which only a configuration can bring about.

use std::fmt::Write;
use std::net::Ipv6Addr;

use dhcproto::v6::{MessageType, OptionCode, Status};
use smallvec::SmallVec;

use super::reply::{Grant, Reply, ReplyKind, Said6};
use super::request::{HTTP_CLIENT, IaKind, Kind, Request};
use crate::config::{Option6, When};
use crate::dhcp::rules::Name;
use crate::dhcp::v4::boot::Stage;

/// Writes a reply over what is in `packet`.
pub fn encode(reply: &Reply<'_>, packet: &mut Vec<u8>) {
    packet.clear();
    let mut out = Out { packet, whole: true };
    // A layer's length is known only when all within it is written.
    let mut open = SmallVec::<[usize; 4]>::new();
    for relay in reply.request.relays.iter() {
        out.packet.push(MessageType::RelayRepl.into());
        out.packet.push(relay.hop_count);
        out.packet.extend_from_slice(&relay.link.octets());
        out.packet.extend_from_slice(&relay.peer.octets());
        let echoed = [
            (OptionCode::InterfaceId, relay.interface_id),
            (OptionCode::RemoteId, relay.remote_id),
            (OptionCode::RelayPort, relay.port),
        ];
        for (code, value) in echoed {
            if let Some(value) = value {
                out.bytes(code, value);
            }
        }
        open.push(out.begin(OptionCode::RelayMsg));
    }
    out.message(reply);
    for at in open.into_iter().rev() {
        out.end(at);
    }
    if !out.whole || out.packet.len() > MOST {
        packet.clear();
    }
}

/// Bytes of a datagram's payload.
const MOST: usize = 65_507;

/// A packet that grows.
struct Out<'p> {
    packet: &'p mut Vec<u8>,
    /// Each length fits its field so far.
    whole: bool,
}

impl Out<'_> {
    fn message(&mut self, reply: &Reply<'_>) {
        let request = reply.request;
        self.packet.push(reply.kind.message_type().into());
        self.packet.extend_from_slice(&request.xid);
        if let Some(id) = request.client_id {
            self.bytes(OptionCode::ClientId, id);
        }
        self.bytes(OptionCode::ServerId, reply.server_id);
        if let Some(status) = reply.status {
            self.status(status);
        }
        let keeps = matches!(request.kind, Kind::Renew | Kind::Rebind);
        for (ia, said) in &reply.ias {
            let at = self.begin(ia.kind.code());
            self.packet.extend_from_slice(&ia.id);
            match said {
                Said6::Has(ip, seconds) => {
                    self.number(seconds / 2);
                    // Three quarters, without the sum that is too much.
                    self.number(seconds / 4 * 3 + seconds % 4 * 3 / 4);
                    self.address(*ip, *seconds);
                    // Who wishes for another one just gets this one.
                    let over = ia.addresses().filter(|named| named != ip && keeps);
                    for over in over {
                        self.address(over, 0);
                    }
                }
                Said6::Nothing(status) => {
                    if ia.kind != IaKind::Temporary {
                        self.number(0);
                        self.number(0);
                    }
                    self.status(*status);
                }
            }
            self.end(at);
        }
        let granting = request.rapid_commit && request.kind == Kind::Solicit;
        if granting && reply.kind == ReplyKind::Reply {
            self.bytes(OptionCode::RapidCommit, &[]);
        }
        if let Some(grant) = &reply.grant {
            self.grant(grant, request);
        }
    }

    fn grant(&mut self, grant: &Grant<'_>, request: &Request<'_>) {
        if let Some(preference) = grant.preference {
            self.bytes(OptionCode::Preference, &[preference]);
        }
        // EDK2 takes only answers that say they are for it (UEFI 2.10, section 24.7.3.1).
        if grant.booting.by_http
            && let Some(vendor) = request.vendor()
        {
            let at = self.begin(OptionCode::VendorClass);
            self.packet.extend_from_slice(&vendor);
            self.packet.extend_from_slice(&(HTTP_CLIENT.len() as u16).to_be_bytes());
            self.packet.extend_from_slice(HTTP_CLIENT);
            self.end(at);
        }
        self.scopes(grant, request);
        if let Some(name) = &grant.name {
            self.name(name, request);
        }
        let Some(file) = &grant.booting.file else { return };
        let at = self.begin(OptionCode::OptBootfileUrl);
        // Writing into a vector cannot fail.
        let _ = write!(Text(self.packet), "{file}");
        self.end(at);
        let params = grant.boot_params;
        if !params.is_empty() && grant.booting.stage != Stage::Ipxe && request.lists(OptionCode::OptBootfileParam) {
            self.bytes(OptionCode::OptBootfileParam, params);
        }
    }

    /// Options of the subnet and of the rules, ascending; of one code the later scope's.
    fn scopes(&mut self, grant: &Grant<'_>, request: &Request<'_>) {
        let sets = || {
            let of_rules = grant.said.rules.iter().map(|rule| &rule.options6);
            std::iter::once(&grant.subnet.options).chain(of_rules)
        };
        let mut next = Some(0);
        while let Some(from) = next {
            let codes = sets().flat_map(|set| set.iter().map(|option| option.code));
            let Some(code) = codes.filter(|code| *code >= from).min() else {
                return;
            };
            // The last scope with this code; each set has it once.
            let last = sets().filter_map(|set| set.get(code)).next_back();
            if let Some(option) = last.filter(|option| is_wanted(option, request)) {
                self.packet.extend_from_slice(&option.wire);
            }
            next = code.checked_add(1);
        }
    }

    /// Option 39: flags, then the name in the form of DNS, with its end when it has a domain (RFC 4704, section 4.2).
    fn name(&mut self, name: &Name<'_>, request: &Request<'_>) {
        let at = self.begin(OptionCode::ClientFqdn);
        // Nobody here changes the DNS. Who asks for that is told that it is not done (S is overridden: O).
        let asks = request
            .fqdn
            .and_then(|value| value.first())
            .is_some_and(|flags| flags & 1 != 0);
        self.packet.push(if asks { 2 } else { 0 });
        let mut text = SmallVec::<[u8; 128]>::new();
        let _ = write!(Text(&mut text), "{name}");
        // Longer ones are no names; the configuration allows none.
        text.truncate(253);
        let mut count = 0_usize;
        for label in text.split(|byte| *byte == b'.').filter(|label| !label.is_empty()) {
            let label = label.get(..63).unwrap_or(label);
            self.packet.push(label.len() as u8);
            self.packet.extend_from_slice(label);
            count += 1;
        }
        if count > 1 {
            self.packet.push(0);
        }
        self.end(at);
    }

    fn address(&mut self, ip: Ipv6Addr, seconds: u32) {
        let at = self.begin(OptionCode::IAAddr);
        self.packet.extend_from_slice(&ip.octets());
        self.number(seconds);
        self.number(seconds);
        self.end(at);
    }

    fn status(&mut self, status: Status) {
        let at = self.begin(OptionCode::StatusCode);
        self.packet.extend_from_slice(&u16::from(status).to_be_bytes());
        self.packet.extend_from_slice(text_of(status).as_bytes());
        self.end(at);
    }

    fn number(&mut self, number: u32) {
        self.packet.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, code: OptionCode, value: &[u8]) {
        let at = self.begin(code);
        self.packet.extend_from_slice(value);
        self.end(at);
    }

    /// Begins an option. Says where its length is.
    fn begin(&mut self, code: OptionCode) -> usize {
        self.packet.extend_from_slice(&u16::from(code).to_be_bytes());
        self.packet.extend_from_slice(&[0, 0]);
        self.packet.len() - 2
    }

    /// Ends the option whose length is there.
    fn end(&mut self, at: usize) {
        let length = u16::try_from(self.packet.len().saturating_sub(at + 2));
        match (length, self.packet.get_mut(at..at + 2)) {
            (Ok(length), Some(field)) => field.copy_from_slice(&length.to_be_bytes()),
            _ => self.whole = false,
        }
    }
}

fn is_wanted(option: &Option6, request: &Request<'_>) -> bool {
    option.when == When::Always || request.lists(option.code.into())
}

/// What a status says to people who look at packets.
fn text_of(status: Status) -> &'static str {
    match status {
        Status::NoAddrsAvail => "no address for this client here",
        Status::NoPrefixAvail => "prefixes are not delegated here",
        Status::NoBinding => "this client has nothing here",
        Status::NotOnLink => "the address is not one of this client here",
        _ => "",
    }
}

/// Where text is written to.
struct Text<'p, B>(&'p mut B);

impl<B: Extend<u8>> Write for Text<'_, B> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend(text.bytes());
        Ok(())
    }
}

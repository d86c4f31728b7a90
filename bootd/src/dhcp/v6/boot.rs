//! Which file a client fetches next over IPv6: its loader, or its boot script, as a whole URL (RFC 5970).
//!
//! Decides as [`v4::boot`](crate::dhcp::v4::boot) does, by what the client says in options 15, 16 and 61. Pure.

use std::net::Ipv6Addr;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Boot;
use dhcproto::v6::OptionCode;

use super::policy::Policy;
use super::request::Request;
use crate::config::Arch;
use crate::dhcp::rules::{Asks, Said};
use crate::dhcp::v4::boot::{BootFile, Booting, Note, Place, Stage, Whose};
use crate::dhcp::v4::policy::Base;

/// The stage of who sent this.
pub fn stage_of(request: &Request<'_>) -> Stage {
    if request.is_ipxe() {
        Stage::Ipxe
    } else if request.arch.is_some() || request.boots_by_pxe() || request.boots_by_http() {
        Stage::Firmware
    } else {
        Stage::Os
    }
}

/// Whether option 59 is for who sent this: it lists it, or says what only who boots says.
pub fn wants_file(request: &Request<'_>) -> bool {
    request.lists(OptionCode::OptBootfileUrl) || request.arch.is_some() || request.user_class.is_some()
}

/// Decides for a client. `server`: this box, as the client sees it; `None`: nobody knows.
pub fn booting<'a>(
    request: &Request<'_>,
    policy: &'a Policy,
    mac: Option<Mac>,
    server: Option<Ipv6Addr>,
    whose: Whose<'a>,
    said: &Said<'a>,
) -> Booting<'a> {
    let stage = stage_of(request);
    let by_http = stage == Stage::Firmware && request.boots_by_http();
    let client = Client {
        request,
        policy,
        mac,
        server,
        by_http,
        arch: request.arch(false),
    };
    let boot = match whose {
        Whose::Node(boot) => Some(boot),
        Whose::Unknown | Whose::Bootless => None,
    };
    let wants = wants_file(request);
    let nbp = policy.nbp.as_deref().filter(|_| wants).map(BootFile::As);
    // Who is in the inventory has a file of its own first; for all others CoreDHCP's nbp ends it.
    let early = nbp.filter(|_| boot.is_none());
    let found = match stage {
        _ if early.is_some() || !wants || whose == Whose::Bootless => Ok(None),
        Stage::Ipxe => client.script(boot, said),
        Stage::Firmware => client.loader(boot, said),
        Stage::Os => Ok(None),
    };
    let note = found.err();
    let too_short = request.arch_too_short.then_some(Note::ArchTooShort);
    Booting {
        stage,
        arch: client.arch,
        file: found.unwrap_or_default().or(nbp),
        from: None,
        by_http,
        note: note.or(too_short),
    }
}

/// What is known of a client when its file is looked for.
struct Client<'r, 'a> {
    request: &'r Request<'r>,
    policy: &'a Policy,
    mac: Option<Mac>,
    server: Option<Ipv6Addr>,
    by_http: bool,
    arch: Option<Arch>,
}

impl<'a> Client<'_, 'a> {
    /// The node's own, else the rule's, else, of those that nobody knows, what the configuration has for them, else the usual one.
    fn script(&self, boot: Option<&'a Boot>, said: &Said<'a>) -> Result<Option<BootFile<'a>>, Note> {
        let own = boot.and_then(|boot| boot.script.as_deref());
        let unknown = self.policy.unknown_script.as_deref().filter(|_| boot.is_none());
        if let Some(script) = own.or_else(|| said.script()).or(unknown) {
            return self.whole(script).map(Some);
        }
        let Some(mac) = self.mac else { return Ok(None) };
        match (&self.policy.script_url, &self.policy.boot) {
            (Some(url), _) => Ok(Some(BootFile::ScriptAt(url, mac))),
            (None, Some(boot)) => Ok(Some(BootFile::Script(self.place(boot)?, mac))),
            (None, None) => Err(Note::NoScriptUrl),
        }
    }

    fn loader(&self, boot: Option<&'a Boot>, said: &Said<'a>) -> Result<Option<BootFile<'a>>, Note> {
        let own = boot.and_then(|boot| boot.loader.as_deref());
        let name = match (own.or_else(|| said.loader()), self.arch, self.request.arch) {
            (Some(name), ..) => name,
            (None, Some(arch), _) if self.policy.loaders.contains(&arch) => arch.file_name(),
            (None, Some(arch), _) => return Err(Note::NoLoader(arch)),
            (None, None, Some(code)) => return Err(Note::UnknownArch(code)),
            (None, None, None) => return Ok(None),
        };
        if !self.by_http || name.contains("://") {
            return self.whole(name).map(Some);
        }
        let base = self.policy.loaders_at.as_ref().ok_or(Note::NoLoaderUrl)?;
        Ok(Some(BootFile::Loader(self.place(base)?, name)))
    }

    /// A URL as it is; a name for TFTP as a URL.
    fn whole(&self, name: &'a str) -> Result<BootFile<'a>, Note> {
        if name.contains("://") {
            return Ok(BootFile::As(name));
        }
        let server = self.server.ok_or(Note::NoServerAddress)?;
        Ok(BootFile::Tftp(server, self.policy.tftp_port, name))
    }

    fn place(&self, base: &'a Base) -> Result<Place<'a>, Note> {
        let server = match (base, self.server) {
            (_, Some(server)) => server,
            (Base::At(_), None) => Ipv6Addr::UNSPECIFIED,
            (Base::OfServer { .. }, None) => return Err(Note::NoServerAddress),
        };
        let server = server.into();
        Ok(Place { base, server })
    }
}

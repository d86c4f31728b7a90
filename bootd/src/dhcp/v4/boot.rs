//! Which file a client fetches next: its loader, or its boot script.
//!
//! A client's stage is read from what it says about itself; the architecture from option 93 (RFC 4578, IANA's list). Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Boot;
use dhcproto::v4::OptionCode;
use serde::Serialize;

use super::policy::{Base, Policy};
use super::request::Request;
use crate::config::Arch;
use crate::dhcp::rules::Said;

/// How far a client's boot is. All of them get the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A PXE ROM or UEFI: it fetches a loader.
    Firmware,
    /// iPXE: it fetches the boot script.
    Ipxe,
    /// An operating system, or a BMC: it wants an address.
    Os,
}

impl Stage {
    /// What it is called in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "ipxe",
            Self::Os => "os",
        }
    }

    /// The stage of who sent this. `strict`: iPXE is known as upstream knows it, and UEFI HTTP Boot is not.
    pub fn of(request: &Request<'_>, strict: bool) -> Self {
        if strict {
            return match (&*request.user_class, request.arch) {
                (IPXE, _) => Self::Ipxe,
                (_, Some(_)) => Self::Firmware,
                (_, None) => Self::Os,
            };
        }
        if request.ipxe {
            Self::Ipxe
        } else if request.arch.is_some() || request.vendor_class.starts_with(b"PXEClient") || request.boots_by_http() {
            Self::Firmware
        } else {
            Self::Os
        }
    }
}

/// Something about a reply that is worth counting: the client gets an address, and no loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Option 93 is too short for a value.
    ArchTooShort,
    /// Nobody here knows this architecture.
    UnknownArch(u16),
    /// The configuration has no loader for this architecture.
    NoLoader(Arch),
    /// The client boots by HTTP, and no listener serves loaders.
    NoLoaderUrl,
    /// The client is iPXE over IPv6, and nothing says where a boot script is that it can reach.
    NoScriptUrl,
    /// The client is to be given a URL with this box's IPv6 address, and the receiving interface has none.
    NoServerAddress,
}

impl Note {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::ArchTooShort => "architecture_too_short",
            Self::UnknownArch(_) => "architecture_unknown",
            Self::NoLoader(_) => "no_loader",
            Self::NoLoaderUrl => "no_loader_url",
            Self::NoScriptUrl => "no_script_url",
            Self::NoServerAddress => "no_server_address",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArchTooShort => f.write_str("option 93 (61) is too short for an architecture"),
            Self::UnknownArch(code) => write!(f, "there is no loader for architecture {code} of option 93 (61)"),
            Self::NoLoader(arch) => write!(f, "the configuration has no loader for {arch}"),
            Self::NoLoaderUrl => f.write_str("it boots by HTTP, and no HTTP listener that it reaches serves loaders"),
            Self::NoScriptUrl => f.write_str(
                "there is no boot script that it reaches over IPv6: have an HTTP listener with \"boot\" on [::], or set dhcp6.script_url",
            ),
            Self::NoServerAddress => {
                f.write_str("the interface has no IPv6 address that it could be given; set dhcp6.subnet.server")
            }
        }
    }
}

/// What a client fetches. It is text only once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile<'a> {
    /// A name for TFTP, or a whole URL.
    As(&'a str),
    /// A name for TFTP, where the client is to be given a whole URL: this box, and the port unless it is the usual one.
    Tftp(Ipv6Addr, Option<u16>, &'a str),
    /// A loader, by HTTP.
    Loader(Place<'a>, &'a str),
    /// This box's boot script for a client.
    Script(Place<'a>, Mac),
    /// The boot script for a client, at a URL that its address is appended to.
    ScriptAt(&'a str, Mac),
}

/// An HTTP listener of this box, as a client reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Where it is.
    pub base: &'a Base,
    /// This box, where `base` does not say it.
    pub server: IpAddr,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            Base::At(url) => f.write_str(url),
            Base::OfServer { scheme, port } => write!(f, "{scheme}://{}", SocketAddr::new(self.server, *port)),
        }
    }
}

impl fmt::Display for BootFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(name) => f.write_str(name),
            // EDK2 takes no URL with the usual port in it.
            Self::Tftp(server, None, name) => write!(f, "tftp://[{server}]/{}", name.trim_start_matches('/')),
            Self::Tftp(server, Some(port), name) => {
                write!(f, "tftp://[{server}]:{port}/{}", name.trim_start_matches('/'))
            }
            Self::Loader(at, name) => write!(f, "{at}/loaders/{name}"),
            Self::Script(at, mac) => write!(f, "{at}/boot/v1/bootscript?mac={mac}"),
            Self::ScriptAt(url, mac) => write!(f, "{url}{mac}"),
        }
    }
}

/// What a client is told about its boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booting<'a> {
    /// How far it is.
    pub stage: Stage,
    /// Its architecture, as far as we know it.
    pub arch: Option<Arch>,
    /// What it fetches next.
    pub file: Option<BootFile<'a>>,
    /// From where, when that is another server than this box: option 66.
    pub from: Option<&'a str>,
    /// It is UEFI HTTP Boot, which takes only answers that say so.
    pub by_http: bool,
    /// Why there is no loader.
    pub note: Option<Note>,
}

/// Whose boot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// A node of the inventory, which says this about its boot.
    Node(&'a Boot),
    /// Nobody that we know.
    Unknown,
    /// Nobody that we know, and upstream gives it no boot file.
    Bootless,
}

/// Decides for a client. `server`: this box, as the client sees it.
pub fn booting<'a>(
    request: &Request<'_>,
    policy: &'a Policy,
    mac: Mac,
    server: Ipv4Addr,
    whose: Whose<'a>,
    said: &Said<'a>,
) -> Booting<'a> {
    let stage = Stage::of(request, policy.strict);
    let by_http = !policy.strict && stage == Stage::Firmware && request.boots_by_http();
    let client = Client {
        request,
        policy,
        mac,
        server,
        by_http,
        arch: request.arch.and_then(|code| arch_of(code, by_http, policy.strict)),
    };
    let boot = match whose {
        Whose::Node(boot) => Some(boot),
        Whose::Unknown | Whose::Bootless => None,
    };
    // Who is in the inventory has a file of its own first; for all others CoreDHCP's nbp ends it.
    let nbp = policy.nbp.as_ref().filter(|_| request.wants(OptionCode::BootfileName));
    let early = nbp.filter(|_| boot.is_none());
    // Upstream's plugin `range`, which has no script, gives an address and no file.
    let is_ranges = policy.strict && boot.is_none() && policy.unknown.script.is_none();
    let (file, note) = match stage {
        _ if early.is_some() => (None, None),
        _ if whose == Whose::Bootless || is_ranges => (None, None),
        Stage::Ipxe => (client.script(boot, said), None),
        Stage::Firmware => match client.loader(boot, said) {
            Ok(file) => (file, None),
            Err(note) => (None, Some(note)),
        },
        Stage::Os => (None, None),
    };
    let late = nbp.filter(|_| file.is_none());
    Booting {
        stage,
        arch: client.arch,
        file: file.or(late.map(|nbp| BootFile::As(&nbp.file))),
        from: late.and_then(|nbp| nbp.server.as_deref()),
        by_http,
        note: note.or(request.arch_too_short.then_some(Note::ArchTooShort)),
    }
}

/// The architecture of a value of option 93. Those from 15 on are the same ones, booting by HTTP; they mean it only when option 60 says so.
/// `strict`: none but those that upstream knows.
pub fn arch_of(code: u16, by_http: bool, strict: bool) -> Option<Arch> {
    match code {
        9 | 15.. if strict => None,
        0 => Some(Arch::X86Bios),
        6 => Some(Arch::I386Efi),
        // 9 is EBC in IANA's list and x64 in older ones; the firmwares that send it are x64.
        7 | 9 => Some(Arch::X86_64Efi),
        10 => Some(Arch::Arm32Efi),
        11 => Some(Arch::Arm64Efi),
        15 if by_http => Some(Arch::I386Efi),
        16 | 17 if by_http => Some(Arch::X86_64Efi),
        18 if by_http => Some(Arch::Arm32Efi),
        19 if by_http => Some(Arch::Arm64Efi),
        20 if by_http => Some(Arch::X86Bios),
        _ => None,
    }
}

/// The value of option 93 that a PXE client of this architecture sends.
pub fn code_of(arch: Arch) -> u16 {
    match arch {
        Arch::X86Bios => 0,
        Arch::I386Efi => 6,
        Arch::X86_64Efi => 7,
        Arch::Arm32Efi => 10,
        Arch::Arm64Efi => 11,
    }
}

/// What is known of a client when its file is looked for.
struct Client<'r, 'a> {
    request: &'r Request<'r>,
    policy: &'a Policy,
    mac: Mac,
    server: Ipv4Addr,
    by_http: bool,
    arch: Option<Arch>,
}

impl<'a> Client<'_, 'a> {
    /// The node's own, else the rule's, else, of those that nobody knows, what the configuration has for them, else the usual one.
    fn script(&self, boot: Option<&'a Boot>, said: &Said<'a>) -> Option<BootFile<'a>> {
        let own = boot.and_then(|boot| boot.script.as_deref());
        let unknown = self.policy.unknown.script.as_deref().filter(|_| boot.is_none());
        if let Some(script) = own.or_else(|| said.script()).or(unknown) {
            return Some(BootFile::As(script));
        }
        match (&self.policy.script_url, &self.policy.boot) {
            (Some(url), _) => Some(BootFile::ScriptAt(url, self.mac)),
            (None, Some(boot)) => Some(BootFile::Script(self.place(boot), self.mac)),
            (None, None) => None,
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
            return Ok(Some(BootFile::As(name)));
        }
        let base = self.policy.loaders_at.as_ref().ok_or(Note::NoLoaderUrl)?;
        Ok(Some(BootFile::Loader(self.place(base), name)))
    }

    fn place(&self, base: &'a Base) -> Place<'a> {
        let server = self.server.into();
        Place { base, server }
    }
}

/// What upstream knows iPXE by: all of option 77.
const IPXE: &[u8] = b"iPXE";

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::super::testing::{Client, SERVER, mac, policy};
    use super::*;

    /// The file, and all else.
    fn of(client: Client) -> (Option<String>, Stage, bool, Option<Note>) {
        with(client, &Boot::default())
    }

    fn with(client: Client, boot: &Boot) -> (Option<String>, Stage, bool, Option<Note>) {
        let (packet, policy) = (client.discover(), policy());
        let request = parse(&packet).unwrap();
        let got = booting(&request, &policy, mac(1), SERVER, Whose::Node(boot), &Said::default());
        (got.file.map(|file| file.to_string()), got.stage, got.by_http, got.note)
    }

    #[test]
    fn each_architecture_gets_its_loader() {
        for (code, file) in [
            (0, Some("undionly.kpxe")),
            (6, Some("ipxe-i386.efi")),
            (7, Some("ipxe-x86_64.efi")),
            (9, Some("ipxe-x86_64.efi")),
            (11, Some("ipxe-arm64.efi")),
            (16, None),
            (27, None),
            (0x0700, None),
        ] {
            let (got, _, _, note) = of(Client::new(1).option(93, &u16::to_be_bytes(code)));
            assert_eq!(got.as_deref(), file, "architecture {code}");
            assert_eq!(note, file.is_none().then_some(Note::UnknownArch(code)));
        }
    }

    #[test]
    fn http_clients_get_the_url_of_their_loader() {
        for (code, file) in [
            (15, "ipxe-i386.efi"),
            (16, "ipxe-x86_64.efi"),
            (17, "ipxe-x86_64.efi"),
            (19, "ipxe-arm64.efi"),
            (20, "undionly.kpxe"),
        ] {
            let client = Client::new(1).option(93, &u16::to_be_bytes(code));
            let (got, _, by_http, _) = of(client.option(60, b"HTTPClient:Arch:00016:UNDI:003001"));
            assert_eq!(got, Some(format!("http://172.16.0.254:8081/loaders/{file}")));
            assert!(by_http);
        }
    }

    #[test]
    fn an_architecture_without_configured_loader_is_noted() {
        let (file, _, _, note) = of(Client::new(1).option(93, &[0, 10]));
        assert_eq!((file, note), (None, Some(Note::NoLoader(Arch::Arm32Efi))));
        let (_, stage, _, note) = of(Client::new(1).option(93, &[0]));
        assert_eq!((stage, note), (Stage::Os, Some(Note::ArchTooShort)));
    }

    #[test]
    fn nobody_is_given_a_script_that_nobody_serves() {
        let packet = Client::new(1).option(77, b"iPXE").discover();
        let request = parse(&packet).unwrap();
        let mut policy = policy();
        (policy.boot, policy.script_url) = (None, None);
        let got = booting(&request, &policy, mac(1), SERVER, Whose::Unknown, &Said::default());
        assert_eq!((got.file, got.stage), (None, Stage::Ipxe));
    }

    #[test]
    fn the_inventory_has_the_last_word_on_loader_and_script() {
        let boot = Boot {
            loader: Some("own.efi".into()),
            script: Some("http://elsewhere/script".into()),
        };
        let of = |client: Client| with(client, &boot).0;
        assert_eq!(of(Client::new(1).option(93, &[0, 27])).as_deref(), Some("own.efi"));
        assert_eq!(
            of(Client::new(1).option(77, b"iPXE")).as_deref(),
            Some("http://elsewhere/script")
        );
        assert_eq!(of(Client::new(1)), None);
    }
}

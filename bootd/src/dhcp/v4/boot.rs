//! Which file a client fetches next: its loader, or its boot script.
//!
//! A client's stage is read from what it says about itself; the architecture from option 93 (RFC 4578, IANA's list). Pure.

use std::fmt;

use bootd_sdk::mac::Mac;
use bootd_sdk::wire::Boot;
use serde::Serialize;

use super::policy::Policy;
use super::request::Request;
use crate::config::Arch;

/// How far a client's boot is. All of them get the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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

    /// The stage of who sent this.
    pub fn of(request: &Request<'_>) -> Self {
        if request.ipxe {
            Self::Ipxe
        } else if request.arch.is_some()
            || request.vendor_class.starts_with(b"PXEClient")
            || request.vendor_class.starts_with(HTTP_CLIENT)
        {
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
}

impl Note {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::ArchTooShort => "architecture_too_short",
            Self::UnknownArch(_) => "architecture_unknown",
            Self::NoLoader(_) => "no_loader",
            Self::NoLoaderUrl => "no_loader_url",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArchTooShort => f.write_str("option 93 is too short for an architecture"),
            Self::UnknownArch(code) => write!(f, "there is no loader for architecture {code} of option 93"),
            Self::NoLoader(arch) => write!(f, "the configuration has no loader for {arch}"),
            Self::NoLoaderUrl => f.write_str("it boots by HTTP, and no HTTP listener serves loaders"),
        }
    }
}

/// What a client fetches. It is text only once it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile<'a> {
    /// A name for TFTP, or a whole URL.
    As(&'a str),
    /// A loader, by HTTP.
    Loader {
        /// Where loaders are.
        url: &'a str,
        /// Its name there.
        name: &'a str,
    },
    /// This box's boot script for a client.
    Script {
        /// Where boot scripts are.
        url: &'a str,
        /// The client.
        mac: Mac,
    },
}

impl fmt::Display for BootFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::As(name) => f.write_str(name),
            Self::Loader { url, name } => write!(f, "{url}/{name}"),
            Self::Script { url, mac } => write!(f, "{url}/boot/v1/bootscript?mac={mac}"),
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
    /// It is UEFI HTTP Boot, which takes only answers that say so.
    pub by_http: bool,
    /// Why there is no loader.
    pub note: Option<Note>,
}

/// Decides for a client; `boot` is what the inventory says about it.
pub fn booting<'a>(request: &Request<'_>, policy: &'a Policy, mac: Mac, boot: Option<&'a Boot>) -> Booting<'a> {
    let stage = Stage::of(request);
    let by_http = stage == Stage::Firmware && request.vendor_class.starts_with(HTTP_CLIENT);
    let arch = request.arch.and_then(|code| arch_of(code, by_http));
    let (file, note) = match stage {
        Stage::Ipxe => (Some(script(policy, mac, boot)), None),
        Stage::Firmware => match loader(request, policy, arch, by_http, boot) {
            Ok(file) => (file, None),
            Err(note) => (None, Some(note)),
        },
        Stage::Os => (None, None),
    };
    Booting {
        stage,
        arch,
        file,
        by_http,
        note: note.or(request.arch_too_short.then_some(Note::ArchTooShort)),
    }
}

/// The architecture of a value of option 93. Those from 15 on are the same ones, booting by HTTP; they mean it only when option 60 says so.
pub fn arch_of(code: u16, by_http: bool) -> Option<Arch> {
    match code {
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

fn script<'a>(policy: &'a Policy, mac: Mac, boot: Option<&'a Boot>) -> BootFile<'a> {
    match boot.and_then(|boot| boot.script.as_deref()) {
        Some(script) => BootFile::As(script),
        None => BootFile::Script {
            url: &policy.boot_url,
            mac,
        },
    }
}

fn loader<'a>(
    request: &Request<'_>,
    policy: &'a Policy,
    arch: Option<Arch>,
    by_http: bool,
    boot: Option<&'a Boot>,
) -> Result<Option<BootFile<'a>>, Note> {
    let name = match (boot.and_then(|boot| boot.loader.as_deref()), arch, request.arch) {
        (Some(name), ..) => name,
        (None, Some(arch), _) if policy.loaders.contains(&arch) => arch.file_name(),
        (None, Some(arch), _) => return Err(Note::NoLoader(arch)),
        (None, None, Some(code)) => return Err(Note::UnknownArch(code)),
        (None, None, None) => return Ok(None),
    };
    if !by_http || name.contains("://") {
        return Ok(Some(BootFile::As(name)));
    }
    let url = policy.loaders_url.as_deref().ok_or(Note::NoLoaderUrl)?;
    Ok(Some(BootFile::Loader { url, name }))
}

/// How option 60 of UEFI HTTP Boot begins, and what its answer must hold.
pub(super) const HTTP_CLIENT: &[u8] = b"HTTPClient";

#[cfg(test)]
mod tests {
    use super::super::request::parse;
    use super::super::testing::{Client, mac, policy};
    use super::*;

    /// The file, and all else.
    fn of(client: Client) -> (Option<String>, Stage, bool, Option<Note>) {
        with(client, &Boot::default())
    }

    fn with(client: Client, boot: &Boot) -> (Option<String>, Stage, bool, Option<Note>) {
        let (packet, policy) = (client.discover(), policy());
        let got = booting(&parse(&packet).unwrap(), &policy, mac(1), Some(boot));
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

//! What clients boot: loaders by architecture, the boot script for iPXE, UEFI HTTP Boot.

use super::super::testing::{Client, node};
use super::*;

const OWN: [u8; 4] = [172, 16, 0, 1];
const SCRIPT: &str = "http://172.16.0.254:8081/boot/v1/bootscript?mac=02:00:00:00:00:01";

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1);
    let pxe = |arch: u16| Client::new(1).option(93, &arch.to_be_bytes()).discover();
    let http = |arch: u16| {
        let client = Client::new(1).option(93, &arch.to_be_bytes());
        client
            .option(60, format!("HTTPClient:Arch:{arch:05}:UNDI:003001").as_bytes())
            .discover()
    };
    let by_tftp = |file: &str| offer(OWN).with(67, file).without(60);
    let by_http = |file: &str| {
        offer(OWN)
            .with(60, "HTTPClient")
            .with(67, format!("http://172.16.0.254:8081/loaders/{file}"))
    };
    let mut own = node(1, &["172.16.0.1"]);
    own.boot.loader = Some("own.efi".into());
    own.boot.script = Some("http://elsewhere/script".into());
    vec![
        case("2.4 M", "a BIOS gets undionly.kpxe").packet(pxe(0), by_tftp("undionly.kpxe")),
        case("2.4 M", "32-bit UEFI gets ipxe-i386.efi").packet(pxe(6), by_tftp("ipxe-i386.efi")),
        case("2.4 M", "64-bit UEFI gets ipxe-x86_64.efi").packet(pxe(7), by_tftp("ipxe-x86_64.efi")),
        case("2.4 I", "the EBC that many 64-bit firmwares send gets ipxe-x86_64.efi")
            .packet(pxe(9), by_tftp("ipxe-x86_64.efi")),
        case("2.4 M", "32-bit ARM gets ipxe-arm32.efi").packet(pxe(10), by_tftp("ipxe-arm32.efi")),
        case("2.4 M", "64-bit ARM gets ipxe-arm64.efi").packet(pxe(11), by_tftp("ipxe-arm64.efi")),
        case("2.4 I", "HTTP Boot of 32-bit x86 gets a URL").packet(http(15), by_http("ipxe-i386.efi")),
        case(
            "2.4 I",
            "HTTP Boot of 64-bit x86 gets a URL, and hears that it speaks to an HTTP server",
        )
        .packet(http(16), by_http("ipxe-x86_64.efi")),
        case("2.4 I", "HTTP Boot of 32-bit ARM gets a URL").packet(http(18), by_http("ipxe-arm32.efi")),
        case("2.4 I", "HTTP Boot of 64-bit ARM gets a URL").packet(http(19), by_http("ipxe-arm64.efi")),
        case(
            "2.4 M",
            "an architecture of HTTP Boot without HTTPClient in option 60 gets no boot file",
        )
        .packet(pxe(16), offer(OWN).without(67).without(60)),
        case(
            "2.4 M",
            "another architecture gets a complete reply without a boot file",
        )
        .packet(
            pxe(27),
            offer(OWN)
                .without(67)
                .with(12, "nid0001.openchami.cluster")
                .with(51, 3600u32.to_be_bytes()),
        ),
        case(
            "2.4 M",
            "who says no architecture gets a complete reply without a boot file",
        )
        .packet(
            client().discover(),
            offer(OWN).codes(&[1, 3, 6, 12, 17, 51, 53, 54]).file(""),
        ),
        case("2.4 M", "of several architectures the first one counts").packet(
            client().option(93, &[0, 11, 0, 7, 0, 0]).discover(),
            by_tftp("ipxe-arm64.efi"),
        ),
        case("2.4 M", "iPXE in plain user class gets its script")
            .packet(client().option(77, b"iPXE").discover(), offer(OWN).with(67, SCRIPT)),
        case("2.4 I", "iPXE in a user class of RFC 3004 gets its script").packet(
            client().option(77, b"\x03foo\x04iPXE").option(93, &[0, 7]).discover(),
            offer(OWN).with(67, SCRIPT),
        ),
        case("2.4 I", "iPXE that shows only its own option 175 gets its script").packet(
            client().option(175, &[0xb1, 1, 1]).option(93, &[0, 7]).discover(),
            offer(OWN).with(67, SCRIPT),
        ),
        case("2.4 M", "another user class is not iPXE's").packet(
            client().option(77, b"iPXElike").option(93, &[0, 7]).discover(),
            by_tftp("ipxe-x86_64.efi"),
        ),
        case(
            "2.4 I",
            "the boot file is in the header too, for ROMs that look only there",
        )
        .packet(pxe(7), offer(OWN).file("ipxe-x86_64.efi")),
        case("2.4 I", "the TFTP server's name is told to who asks").packet(
            client().option(93, &[0, 7]).option(55, &[66, 67]).discover(),
            offer(OWN).with(66, "172.16.0.254").with(67, "ipxe-x86_64.efi"),
        ),
        case("2.4 M", "the TFTP server is in siaddr, and in option 17 as text")
            .packet(pxe(0), offer(OWN).siaddr([172, 16, 0, 254]).with(17, "172.16.0.254")),
        case(
            "2.4 I",
            "a node's own loader and script come before those of its architecture",
        )
        .nodes([own])
        .packet(pxe(7), by_tftp("own.efi"))
        .packet(http(16), by_http("own.efi"))
        .packet(
            client().option(77, b"iPXE").discover(),
            offer(OWN).with(67, "http://elsewhere/script"),
        ),
        case(
            "2.4 I",
            "without a listener for loaders HTTP Boot gets an address and no boot file",
        )
        .config("[[http.listener]]\naddress = \"0.0.0.0:8081\"\nserve = [\"boot\"]\nauth = \"none\"\n")
        .packet(http(16), offer(OWN).without(67)),
    ]
}

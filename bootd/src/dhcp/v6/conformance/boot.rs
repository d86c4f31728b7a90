//! Boot files: options 59 and 60, UEFI HTTP Boot.

use super::super::testing::{Client, part, vendor_class};
use super::*;
use crate::dhcp::v4::testing::node;

pub(super) fn cases() -> Vec<Case> {
    let client = || Client::new(1).ia(7, &[]);
    let pxe = |arch: u16| {
        client()
            .option(61, &arch.to_be_bytes())
            .option(62, &[1, 3, 1])
            .option(16, &vendor_class(&format!("PXEClient:Arch:{arch:05}:UNDI:003001")))
            .asks(&[59, 60, 23, 39])
    };
    let http = |arch: u16| {
        let class = vendor_class(&format!("HTTPClient:Arch:{arch:05}:UNDI:003001"));
        client()
            .option(61, &arch.to_be_bytes())
            .option(16, &class)
            .asks(&[59, 60, 23])
    };
    let ipxe = || {
        client()
            .option(15, &part("iPXE"))
            .option(61, &[0, 7])
            .asks(&[59, 60, 23])
    };
    let script = "http://[fd00::fe]:8081/boot/v1/bootscript?mac=02:00:00:00:00:01";
    vec![
        case("2.8 I", "PXE gets the URL of its architecture's loader by TFTP")
            .message(
                pxe(7).solicit(),
                advertise()
                    .file("tftp://[fd00::fe]/ipxe-x86_64.efi")
                    .without(60)
                    .without(16),
            )
            .message(pxe(11).request(), reply().file("tftp://[fd00::fe]/ipxe-arm64.efi"))
            .message(pxe(9).request(), reply().file("tftp://[fd00::fe]/ipxe-x86_64.efi")),
        case(
            "2.8 I",
            "who says its architecture gets its loader without listing option 59",
        )
        .message(
            client().option(61, &[0, 7]).solicit(),
            advertise().file("tftp://[fd00::fe]/ipxe-x86_64.efi"),
        ),
        case(
            "2.8 I",
            "UEFI HTTP Boot gets the URL of its loader, and the vendor class that says that it is for it",
        )
        .message(
            http(16).solicit(),
            advertise()
                .file("http://[fd00::fe]:8081/loaders/ipxe-x86_64.efi")
                .with(16, vendor_class("HTTPClient")),
        ),
        case("2.8 M", "iPXE gets its boot script").message(ipxe().solicit(), advertise().file(script)),
        case(
            "2.8 M",
            "iPXE that sends a user class and lists nothing gets its boot script",
        )
        .message(client().option(15, &part("iPXE")).solicit(), advertise().file(script)),
        case(
            "2.8 I",
            "an operating system gets no boot file, even when it lists option 59",
        )
        .message(client().asks(&[59]).solicit(), advertise().without(59))
        .message(client().solicit(), advertise().without(59)),
        case(
            "2.8 I",
            "an architecture that nobody knows is counted, and gets an address",
        )
        .message(
            pxe(27).solicit(),
            advertise()
                .lease(7, &[("fd00::1", 3600)])
                .without(59)
                .note(Some("architecture_unknown")),
        ),
        case("2.8 I", "an option 61 that is too short is no architecture").message(
            client().option(61, &[7]).asks(&[59]).solicit(),
            advertise().without(59).note(Some("architecture_too_short")),
        ),
        case(
            "2.8 I",
            "RENEW of firmware and INFORMATION-REQUEST tell the boot file, too",
        )
        .message(pxe(7).renew(), reply().file("tftp://[fd00::fe]/ipxe-x86_64.efi"))
        .message(
            Client::new(1).option(61, &[0, 7]).asks(&[59]).send(11),
            reply().file("tftp://[fd00::fe]/ipxe-x86_64.efi").without(3),
        ),
        case("2.8 I", "TFTP on another port is in the URL, the usual one is not")
            .config("[tftp]\nport = 6969\n")
            .message(
                pxe(7).solicit(),
                advertise().file("tftp://[fd00::fe]:6969/ipxe-x86_64.efi"),
            ),
        case(
            "2.8 I",
            "a configured URL of boot scripts wins, with or without a query",
        )
        .keys("[dhcp6]", "script_url = \"http://[fd00::5]/s?a=1\"")
        .message(
            ipxe().solicit(),
            advertise().file("http://[fd00::5]/s?a=1&mac=02:00:00:00:00:01"),
        ),
        case(
            "2.8 I",
            "the URL of boot scripts for IPv4 serves where DHCPv6 has none of its own",
        )
        .keys("[dhcp]", "script_url = \"http://rack1/s\"")
        .message(
            ipxe().solicit(),
            advertise().file("http://rack1/s?mac=02:00:00:00:00:01"),
        ),
        case(
            "2.8 I",
            "where IPv6 reaches no boot listener there is no boot script, and that is counted",
        )
        .instead("[::]:8081", "0.0.0.0:8081")
        .message(ipxe().solicit(), advertise().without(59).note(Some("no_script_url")))
        .message(http(16).solicit(), advertise().without(59).note(Some("no_loader_url"))),
        case("2.8 I", "a listener on one address is named by that")
            .instead("[::]:8081", "[fd00::8]:8082")
            .message(
                ipxe().solicit(),
                advertise().file("http://[fd00::8]:8082/boot/v1/bootscript?mac=02:00:00:00:00:01"),
            ),
        case("2.8 I", "the server of a subnet is in the URLs of its clients")
            .instead(
                "prefix = \"fd00::/64\"",
                "prefix = \"fd00::/64\"\nserver = \"fd00::aa\"",
            )
            .message(pxe(7).solicit(), advertise().file("tftp://[fd00::aa]/ipxe-x86_64.efi")),
        case("2.8 I", "the inventory has the last word on loader and script")
            .nodes([{
                let mut node = node(1, &["fd00::1"]);
                node.boot.loader = Some("own.efi".into());
                node.boot.script = Some("http://elsewhere/script".into());
                node
            }])
            .message(pxe(27).solicit(), advertise().file("tftp://[fd00::fe]/own.efi"))
            .message(ipxe().solicit(), advertise().file("http://elsewhere/script")),
        case(
            "1.3 M",
            "nbp is the boot file of who lists option 59 and has no other, with its parameters",
        )
        .keys(
            "[dhcp6]",
            "nbp = \"http://[fd00::9]/x.efi\"\nboot_params = [\"root=/dev/x\", \"ro\"]",
        )
        .message(
            client().asks(&[59, 60]).solicit(),
            advertise()
                .file("http://[fd00::9]/x.efi")
                .with(60, [part("root=/dev/x"), part("ro")].concat()),
        )
        .message(client().asks(&[59]).solicit(), advertise().without(60))
        .message(client().asks(&[60]).solicit(), advertise().without(59).without(60))
        .message(pxe(7).solicit(), advertise().file("tftp://[fd00::fe]/ipxe-x86_64.efi")),
        case(
            "2.8 I",
            "on an interface without an address nobody is given a URL, and that is counted",
        )
        .only(Way::Direct)
        .plug(&["fe80::ff:fe00:fe"])
        .message(
            pxe(7).solicit(),
            advertise().without(59).note(Some("no_server_address")),
        ),
    ]
}

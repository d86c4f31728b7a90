//! The scripts that bootd makes itself. Their consoles are all that somebody in front of a node sees, so each says who speaks and what it
//! waits for; none gives up: a node that cannot boot yet asks again, gently, until it can.

use crate::config::Config;

/// `default`: what bootloop's clients get (contract 4). Always this, byte for byte.
pub(super) const DEFAULT: &str = "#!ipxe\nreboot\n";

/// `config.ipxe`: what OpenCHAMI's iPXE fetches by TFTP after its own DHCP; `filename` is then the boot script's URL, or `default`.
pub(super) const CONFIG: &str = "#!ipxe
:start
isset ${filename} || goto nothing
echo bootd: ${netX/mac} boots from ${filename}
chain ${filename} || goto failed
exit
:failed
echo bootd: ${filename} failed (${errno}), trying again in 10 seconds
sleep 10
goto start
:nothing
echo bootd: DHCP named nothing to boot, asking again in 10 seconds
sleep 10
dhcp || goto nothing
goto start
";

/// `autoexec.ipxe`: what a stock iPXE fetches right after its start, maybe before DHCP, maybe with a cached answer whose `filename` is iPXE
/// itself. So it has DHCP anew before it chains anything, and over IPv4 never `filename`. Over IPv6 that is the way to this box on the client's
/// link, which only the answer of DHCPv6 knows.
pub(super) fn autoexec(config: &Config) -> String {
    let four = !config.dhcp.subnets.is_empty() || config.dhcp6.is_none();
    let mut script = "#!ipxe\n:start\n".to_owned();
    if four {
        let next = if config.dhcp6.is_some() { "six" } else { "no_address" };
        let url = format!("{}${{netX/mac}}", config.script_url_for());
        script += &format!("dhcp || goto {next}\n{}", boots_from(&url));
    }
    if config.dhcp6.is_some() {
        let url = config.script_url6_for().map(|url| format!("{url}${{netX/mac}}"));
        let url = url.as_deref().unwrap_or("${filename}");
        script += &format!(
            ":six\nifconf --configurator ipv6 || goto no_address\n{}",
            boots_from(url)
        );
    }
    script + AGAIN
}

fn boots_from(url: &str) -> String {
    format!("echo bootd: ${{netX/mac}} boots from {url}\nchain {url} || goto failed\nexit\n")
}

const AGAIN: &str = ":failed
echo bootd: no boot script (${errno}), trying again in 10 seconds
sleep 10
goto start
:no_address
echo bootd: no address by DHCP (${errno}), trying again in 10 seconds
sleep 10
goto start
";

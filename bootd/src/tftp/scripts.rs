//! The scripts that bootd makes itself. Their consoles are all that somebody in front of a node sees, so each says who speaks and what it
//! waits for; none gives up: a node that cannot boot yet asks again, gently, until it can.

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
/// itself. So it never chains `filename`.
pub(super) fn autoexec(script_url: &str) -> String {
    format!(
        "#!ipxe
:start
dhcp || goto no_address
echo bootd: ${{netX/mac}} boots from {script_url}${{netX/mac}}
chain {script_url}${{netX/mac}} || goto failed
exit
:failed
echo bootd: no boot script (${{errno}}), trying again in 10 seconds
sleep 10
goto start
:no_address
echo bootd: no address by DHCP (${{errno}}), trying again in 10 seconds
sleep 10
goto start
"
    )
}

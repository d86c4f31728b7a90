//! What must not use the heap does not.

#[path = "../src/bench/mod.rs"]
#[allow(dead_code, clippy::print_stderr, reason = "most of it only measures")]
mod bench;

use anyhow::{Result, ensure};
use bench::dhcp_core::{Core, Kind, packet};

#[test]
fn an_answer_to_a_known_node_takes_nothing_from_the_heap_but_its_buffer() -> Result<()> {
    let core = Core::new()?;
    let mut buffer = Vec::with_capacity(1024);
    for kind in [Kind::Firmware, Kind::Ipxe, Kind::Linux] {
        for n in 0..100 {
            let packet = packet(kind, n);
            let mut answered = false;
            let taken = bench::allocations::during(|| answered = core.answer(&packet, &mut buffer));
            ensure!(answered && taken == 0, "{taken} for a packet of {kind:?}");
        }
    }
    // And one that cannot but use it is counted.
    let taken = bench::allocations::during(|| buffer = Vec::with_capacity(2048));
    ensure!(taken == 1, "{taken}");
    Ok(())
}

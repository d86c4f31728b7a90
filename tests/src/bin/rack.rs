//! `rack`: boots virtual nodes from power-on to their login prompt and shows what happens.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's output is its purpose")]

use anyhow::Result;
use bootd_tests::{BOOT_LIMIT, Rack, Step, namespace, peer::Peer};

fn main() -> Result<()> {
    namespace::enter()?;
    let mut rack = Rack::new()?;
    rack.keep();
    println!("{}", rack.dir.display());
    let _peer = Peer::start(&rack)?;
    let mut node = rack.power_on(1)?;
    let timeline = node.watch(Step::Login, BOOT_LIMIT, |step, at| println!("{:7.1} s  {}", at.as_secs_f32(), step.words()))?;
    println!("{}", timeline.table());
    node.type_text("testuser\n")?;
    node.wait_console("assword:", std::time::Duration::from_secs(20))?;
    node.type_text("testuser\n")?;
    node.wait_console("$ ", std::time::Duration::from_secs(20))?;
    Ok(())
}

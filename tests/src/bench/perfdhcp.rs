//! later
use super::{Options, Table};
/// Runs it.
pub fn run(_: &Options) -> anyhow::Result<Table> {
    Ok(Table::default())
}

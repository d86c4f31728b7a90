//! Who this server is: its DUID (RFC 8415, section 11).
//!
//! Where the configuration has none, one of random bytes is made at the first start and kept in the store, so that clients find the same server
//! after a restart, whatever becomes of its interfaces.

use smallvec::SmallVec;

use crate::state::{Row, Store, StoreError, Write};

/// A DUID, 1 to 128 bytes.
pub type Duid = SmallVec<[u8; 20]>;

/// That of the last run, or a new one. Waits for the disk when it is new.
pub(crate) fn kept(store: &Store) -> Result<Duid, StoreError> {
    if let Some(text) = store.scan(TABLE, KEY)?.get(KEY) {
        match crate::config::hex_bytes(text) {
            Some(bytes) if bytes.len() == LENGTH => return Ok(bytes.into()),
            _ => tracing::warn!(text, "the server's DHCPv6 identity is unreadable; a new one is made"),
        }
    }
    let mut duid = of_nobody();
    let bytes = duid.get_mut(KIND.len()..).unwrap_or_default();
    aws_lc_rs::rand::fill(bytes).map_err(|_| StoreError::Failed("there are no random numbers".into()))?;
    let text = duid.iter().map(|byte| format!("{byte:02x}")).collect();
    let row = Row {
        table: TABLE.into(),
        key: KEY.into(),
    };
    store.write_and_wait(Write {
        put: vec![(row, text)],
        ..Write::default()
    })?;
    Ok(duid)
}

/// One that no server has.
pub(crate) fn of_nobody() -> Duid {
    let mut duid = Duid::from_slice(&KIND);
    duid.resize(LENGTH, 0);
    duid
}

/// A DUID of a UUID (RFC 6355).
const KIND: [u8; 2] = [0, 4];
const LENGTH: usize = 18;
const TABLE: &str = "dhcp6";
const KEY: &str = "server_id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let first = kept(&store).unwrap();
        assert_eq!((first.len(), &first[..2]), (18, &[0, 4][..]));
        assert_ne!(first, of_nobody());
        assert_eq!(kept(&store).unwrap(), first);
    }
}

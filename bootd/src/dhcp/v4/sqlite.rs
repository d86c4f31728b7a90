//! CoreDHCP's SQLite files of leases, those of its plugins `range` and `bootloop`: read, and written so that CoreDHCP takes them.
//!
//! One table, `leases4` (contract 1.6). What is read is whatever years of CoreDHCP left there: each row that makes no sense is named and left
//! out, and of several rows of one client the last is believed, as CoreDHCP does. A file is written beside the old one and takes its place
//! when it is on the disk: there is never half a file. Knows nothing of pools.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bootd_sdk::mac::Mac;
use bootd_sdk::text::shown;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::request::host_name;

/// A lease as CoreDHCP keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub mac: Mac,
    /// The address.
    pub ip: Ipv4Addr,
    /// Seconds since 1970.
    pub expires_unix: u64,
    /// What the client calls itself.
    pub host_name: Option<String>,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// One lease a client, and one an address.
    pub leases: Vec<Kept>,
    /// What is left out.
    pub left_out: Vec<LeftOut>,
}

/// A row that is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {why}")]
pub struct LeftOut {
    /// Its number in the file.
    pub row: i64,
    /// Why.
    pub why: Why,
}

/// Why a row is left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Not six bytes: CoreDHCP keeps clients whose address is longer, or none, and cannot read some of them again itself.
    #[error("'{0}' is not a MAC address of 6 bytes")]
    Mac(String),
    /// No address.
    #[error("'{0}' is not an IPv4 address")]
    Ip(String),
    /// A later row is about the same client.
    #[error("{0} has a later row")]
    Superseded(Mac),
    /// A later row has the same address.
    #[error("a later row gives {0} to another client")]
    Twice(Ipv4Addr),
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// SQLite.
    #[error("{0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
    /// The file system.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// It holds something else.
    #[error(
        "{0}: there is a file that holds no leases of CoreDHCP; it is left alone: choose another name, or move it away"
    )]
    NotLeases(PathBuf),
    /// More than anybody has.
    #[error("{0}: more than {MOST} leases")]
    TooMany(PathBuf),
}

/// Reads a file. It is not changed, except that what a CoreDHCP that was killed left half done is undone first.
pub fn read(path: &Path) -> Result<Found, SqliteError> {
    let failed = |error| SqliteError::Sqlite(path.into(), error);
    let file = open(path).map_err(failed)?;
    if !has_leases(&file).map_err(failed)? {
        return Err(SqliteError::NotLeases(path.into()));
    }
    let found = rows(&file).map_err(failed)?;
    found.ok_or_else(|| SqliteError::TooMany(path.into()))
}

fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
        .or_else(|_| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    // Nothing in the file's own schema is run.
    file.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(file)
}

/// Whether there is the table. A view of its name may have rows without end.
fn has_leases(file: &Connection) -> Result<bool, rusqlite::Error> {
    let sql =
        "select count(*) from sqlite_schema where name = 'leases4' and type = 'table' and sql like 'create table%'";
    file.query_row(sql, [], |row| row.get::<_, i64>(0))
        .map(|count| count == 1)
}

/// `None`: too many.
fn rows(file: &Connection) -> Result<Option<Found>, rusqlite::Error> {
    let mut found = Found::default();
    let mut leases: HashMap<Mac, (i64, Kept)> = HashMap::new();
    let mut statement = file.prepare("select rowid, mac, ip, expiry, hostname from leases4 order by rowid")?;
    let mut rows = statement.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        if count > MOST {
            return Ok(None);
        }
        let number: i64 = row.get(0)?;
        let mut leave_out = |row, why| found.left_out.push(LeftOut { row, why });
        let (mac, ip) = (text(row.get_ref(1)?), text(row.get_ref(2)?));
        let Ok(mac) = mac.parse::<Mac>() else {
            leave_out(number, Why::Mac(shown(&mac)));
            continue;
        };
        let Ok(ip) = ip.parse::<Ipv4Addr>() else {
            leave_out(number, Why::Ip(shown(&ip)));
            continue;
        };
        let kept = Kept {
            mac,
            ip,
            expires_unix: seconds(row.get_ref(3)?),
            host_name: host_name(&text(row.get_ref(4)?)),
        };
        if let Some((earlier, _)) = leases.insert(mac, (number, kept)) {
            leave_out(earlier, Why::Superseded(mac));
        }
    }
    let mut leases: Vec<(i64, Kept)> = leases.into_values().collect();
    leases.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let mut taken = std::collections::HashSet::new();
    for (row, kept) in leases {
        if taken.insert(kept.ip) {
            found.leases.push(kept);
        } else {
            let why = Why::Twice(kept.ip);
            found.left_out.push(LeftOut { row, why });
        }
    }
    found.leases.sort_by_key(|kept| kept.ip);
    found.left_out.sort_by_key(|left_out| left_out.row);
    Ok(Some(found))
}

/// The declared type of the text columns makes SQLite keep what looks like a number as one: a host that is called 007 is 7 for ever.
fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn seconds(value: ValueRef<'_>) -> u64 {
    match value {
        ValueRef::Integer(number) => u64::try_from(number).unwrap_or_default(),
        ValueRef::Real(number) => number as u64,
        other => text(other).trim().parse().unwrap_or_default(),
    }
}

/// Writes a file in the place of the one that is there, if any. One that holds anything but leases of CoreDHCP is left alone.
pub fn write(path: &Path, leases: &[Kept]) -> Result<(), SqliteError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(SqliteError::File(path.into(), error)),
        Ok(there) if there.is_file() && there.len() == 0 => {}
        Ok(there) if there.is_file() && open(path).and_then(|file| has_leases(&file)).unwrap_or_default() => {}
        Ok(_) => return Err(SqliteError::NotLeases(path.into())),
    }
    let beside = path.with_added_extension("new");
    let written = write_beside(path, &beside, leases);
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn write_beside(path: &Path, beside: &Path, leases: &[Kept]) -> Result<(), SqliteError> {
    let failed = |error| SqliteError::File(path.into(), error);
    // CoreDHCP's own place for it is /tmp: nothing is followed there.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mode = std::fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(beside)
        .map_err(failed)?;
    fill(beside, leases).map_err(|error| SqliteError::Sqlite(path.into(), error))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    // A journal of the old file would be taken for one of the new.
    for extension in ["-journal", "-wal", "-shm"] {
        let mut journal = path.as_os_str().to_owned();
        journal.push(extension);
        let _ = std::fs::remove_file(journal);
    }
    std::fs::rename(beside, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

fn fill(path: &Path, leases: &[Kept]) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    let mut file = Connection::open_with_flags(path, flags)?;
    // Nobody sees the file before it is whole.
    file.pragma_update(None, "journal_mode", "OFF")?;
    file.pragma_update(None, "synchronous", "OFF")?;
    let transaction = file.transaction()?;
    transaction.execute(SCHEMA, [])?;
    {
        let mut insert =
            transaction.prepare("insert into leases4 (mac, ip, expiry, hostname) values (?1, ?2, ?3, ?4)")?;
        for kept in leases {
            let (mac, ip) = (kept.mac.to_string(), kept.ip.to_string());
            let expires = i64::try_from(kept.expires_unix).unwrap_or(i64::MAX);
            let name = kept.host_name.as_deref().unwrap_or_default();
            insert.execute((mac, ip, expires, name))?;
        }
    }
    transaction.commit()
}

/// The most leases that are read: those of all pools of a large site.
const MOST: usize = 1_000_000;
/// As CoreDHCP makes it.
const SCHEMA: &str = "create table if not exists leases4 (mac string not null, ip string not null, expiry int, \
                      hostname string not null, primary key (mac, ip))";

#[cfg(test)]
mod tests {
    use super::super::testing::mac;
    use super::*;

    fn kept(number: u8, ip: [u8; 4], host_name: Option<&str>) -> Kept {
        Kept {
            mac: mac(number),
            ip: ip.into(),
            expires_unix: 1_700_000_000,
            host_name: host_name.map(Into::into),
        }
    }

    fn file(folder: &tempfile::TempDir, rows: &[&str]) -> PathBuf {
        let path = folder.path().join("coredhcp.db");
        let file = Connection::open(&path).unwrap();
        file.execute(SCHEMA, []).unwrap();
        for row in rows {
            file.execute(&format!("insert into leases4 values ({row})"), [])
                .unwrap();
        }
        path
    }

    #[test]
    fn a_view_is_no_table_and_a_name_does_nothing_to_a_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(
            &folder,
            &["'02:00:00:00:00:01', '172.16.0.200', 1, char(27) || '[31mx' || char(10) || 'y'"],
        );
        assert_eq!(read(&path).unwrap().leases[0].host_name.as_deref(), Some("[31mxy"));
        let view = folder.path().join("view.db");
        let endless = "create view leases4 as with recursive c(x) as (select 1 union all select x + 1 from c) \
                       select x as rowid, x as mac, x as ip, x as expiry, x as hostname from c";
        Connection::open(&view).unwrap().execute(endless, []).unwrap();
        assert!(matches!(read(&view), Err(SqliteError::NotLeases(_))));
        assert!(matches!(write(&view, &[]), Err(SqliteError::NotLeases(_))));
    }

    #[test]
    fn what_is_written_is_read_again_and_looks_like_upstreams() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.db");
        std::fs::write(&path, "not a database").unwrap();
        assert!(matches!(write(&path, &[]), Err(SqliteError::NotLeases(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let leases = [
            kept(0xab, [172, 16, 0, 200], Some("pi")),
            kept(2, [172, 16, 0, 201], None),
        ];
        write(&path, &leases).unwrap();
        assert_eq!(read(&path).unwrap().leases, leases);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let file = Connection::open(&path).unwrap();
        let row = file.query_row(
            "select mac, ip, expiry, hostname from leases4 where ip like '%200'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        );
        let row: (String, String, i64, String) = row.unwrap();
        assert_eq!(
            row,
            (
                "02:00:00:00:00:ab".into(),
                "172.16.0.200".into(),
                1_700_000_000,
                "pi".into()
            )
        );
        // Written over by an empty one, with nothing left beside it.
        write(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), Found::default());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn bad_rows_are_named_and_the_others_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(
            &folder,
            &[
                "'02:00:00:00:00:01', '172.16.0.201', 1, 'old'",
                "'', '172.16.0.202', 1, ''",
                "'02:00:00:00:00:02:00:00', '172.16.0.203', 1, ''",
                "'02:00:00:00:00:03', 'fe80::1', 1, ''",
                "'02-00-00-00-00-04', '172.16.0.204', 'soon', '0042'",
                "'02:00:00:00:00:01', '172.16.0.205', 1700000000, 'new'",
                "'02:00:00:00:00:05', '172.16.0.206', null, ''",
                "'02:00:00:00:00:06', '172.16.0.206', -5, x'ff'",
            ],
        );
        let found = read(&path).unwrap();
        let leases: Vec<_> = found
            .leases
            .iter()
            .map(|kept| {
                (
                    kept.mac.0[5],
                    kept.ip.octets()[3],
                    kept.expires_unix,
                    kept.host_name.as_deref(),
                )
            })
            .collect();
        let expected = [
            (4, 204, 0, Some("42")),
            (1, 205, 1_700_000_000, Some("new")),
            (6, 206, 0, Some("\u{fffd}")),
        ];
        assert_eq!(leases, expected);
        let left_out: Vec<String> = found.left_out.iter().map(ToString::to_string).collect();
        let expected = [
            "row 1: 02:00:00:00:00:01 has a later row",
            "row 2: '' is not a MAC address of 6 bytes",
            "row 3: '02:00:00:00:00:02:00:00' is not a MAC address of 6 bytes",
            "row 4: 'fe80::1' is not an IPv4 address",
            "row 7: a later row gives 172.16.0.206 to another client",
        ];
        assert_eq!(left_out, expected);
    }

    #[test]
    fn a_file_that_is_none_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coredhcp.db");
        assert!(read(&path).is_err() && !path.exists());
        std::fs::write(&path, "nonsense").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("coredhcp.db"));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read(&path), Err(SqliteError::NotLeases(_))));
        // Nobody's link is followed.
        let target = folder.path().join("target");
        std::fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, path.with_added_extension("new")).unwrap();
        write(&path, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
    }
}

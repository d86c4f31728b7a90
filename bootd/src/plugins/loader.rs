//! Brings a plugin's shared object into the process, and checks that it is one.
//!
//! The file is opened once; owner and mode are those of the open file; its bytes are copied into a sealed memfd, and that is loaded. So
//! nothing can change between the check and the loading, each load has a path of its own (the dynamic linker matches by name), and a
//! folder mounted noexec does not matter. Nothing is ever unmapped: thread-locals and statics of a plugin may live on.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootd_abi as abi;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::config::PluginConfig;

/// Why a plugin is out of service.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("{} is not there (looked in {}): build or install it, or set plugin.file", .0, .1)]
    Missing(String, String),
    /// The file cannot be read or copied.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// Somebody else could have written the file.
    #[error("{0} {1}")]
    Permissions(PathBuf, String),
    /// The dynamic linker refuses it.
    #[error("{0} cannot be loaded: {1}")]
    Link(PathBuf, String),
    /// It is not a bootd plugin of this version; names the field.
    #[error("{0} is not a plugin for this bootd: {1}")]
    Abi(PathBuf, String),
    /// Its settings in bootd.toml are wrong; the plugin's own words.
    #[error("{0}")]
    Settings(String),
    /// `init` failed; the plugin's own words.
    #[error("its init failed: {0}")]
    Init(String),
    /// `init` answered something that is not a setup.
    #[error("its init answered what is not understood: {0}")]
    Setup(String),
    /// A route is malformed or another plugin's.
    #[error("its route '{0}' cannot be served: {1}")]
    BadRoute(String, String),
    /// The system has no thread left.
    #[error("no thread can be started for it: {0}")]
    Thread(std::io::Error),
    /// `init` does not return.
    #[error("its init has not returned within {0:?}")]
    InitHangs(Duration),
    /// The file is the one that was refused before.
    #[error("{0}")]
    Again(Arc<Self>),
    /// Too many of its instances never came back.
    #[error("{0} instances of it hang; they are left behind, and bootd must be restarted to be rid of them")]
    TooManyHang(usize),
}

impl LoadError {
    /// The metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing(..) => "load_missing",
            Self::Read(..) => "load_read",
            Self::Permissions(..) => "load_permissions",
            Self::Link(..) => "load_link",
            Self::Abi(..) => "load_abi",
            Self::Settings(_) => "load_settings",
            Self::Init(_) => "load_init",
            Self::Setup(_) => "load_setup",
            Self::BadRoute(..) => "load_route",
            Self::Thread(_) => "load_thread",
            Self::InitHangs(_) => "init_hangs",
            Self::Again(error) => error.label(),
            Self::TooManyHang(_) => "too_many_hang",
        }
    }
}

/// The file of a configured plugin.
pub(super) fn find(plugin: &PluginConfig, dirs: &[PathBuf]) -> Result<PathBuf, LoadError> {
    if let Some(file) = &plugin.file {
        return if file.exists() {
            Ok(file.clone())
        } else {
            Err(LoadError::Missing(file.display().to_string(), "plugin.file".into()))
        };
    }
    let name = format!("libbootd_{}.so", plugin.name.replace('-', "_"));
    let found = dirs.iter().map(|dir| dir.join(&name)).find(|file| file.exists());
    found.ok_or_else(|| {
        let looked: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        LoadError::Missing(name, looked.join(", "))
    })
}

/// What tells one file from another in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    owner: u32,
    /// Seconds and nanoseconds of its last change, contents and attributes alike.
    changed: (i64, i64),
}

impl Identity {
    /// That of the file at a path, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::read(&metadata))
    }

    fn read(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            owner: metadata.uid(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A plugin in the process.
pub(super) struct Loaded {
    /// The file that it came from.
    pub(super) identity: Identity,
    /// Valid for the process's life.
    pub(super) table: &'static abi::Plugin,
    /// What gave the table.
    pub(super) entry: abi::Entry,
    /// What is mapped. Open for ever: the number of its descriptor is part of the path that the linker remembers.
    mapped: Arc<ManuallyDrop<File>>,
}

/// Loads a file. One that holds the same bytes as `before` is not mapped a second time: a reload that changes nothing costs no memory.
pub(super) fn load(path: &Path, before: Option<&Loaded>) -> Result<Loaded, LoadError> {
    let read = |error: std::io::Error| LoadError::Read(path.into(), error);
    // A FIFO must not hold up the start: it opens at once and is refused below.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    check_owner(path, &metadata)?;
    let identity = Identity::read(&metadata);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(read)?;
    // A file that is written over while it is read is none of the two.
    let after = Identity::read(&file.metadata().map_err(read)?);
    if after != identity || after.size != bytes.len() as u64 {
        return Err(LoadError::Link(path.into(), "the file changes while it is read".into()));
    }
    let same = before.filter(|before| holds(&before.mapped, &bytes));
    let (entry, table, mapped) = match same {
        Some(before) => (before.entry, before.table, Arc::clone(&before.mapped)),
        None => link(path, &bytes)?,
    };
    Ok(Loaded {
        identity,
        table,
        entry,
        mapped,
    })
}

/// Whether a file holds just these bytes.
fn holds(file: &File, bytes: &[u8]) -> bool {
    let mut there = vec![0; bytes.len()];
    let is_as_long = file
        .metadata()
        .is_ok_and(|metadata| metadata.len() == bytes.len() as u64);
    is_as_long && file.read_exact_at(&mut there, 0).is_ok() && there == bytes
}

/// Maps the bytes, for ever, and finds the table.
fn link(path: &Path, bytes: &[u8]) -> Result<(abi::Entry, &'static abi::Plugin, Arc<ManuallyDrop<File>>), LoadError> {
    let read = |error: std::io::Error| LoadError::Read(path.into(), error);
    check_whole(bytes).map_err(|text| LoadError::Link(path.into(), text.into()))?;
    let memfd = rustix::fs::memfd_create("bootd-plugin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| read(error.into()))?;
    let mut copy = File::from(memfd);
    copy.write_all(bytes).map_err(read)?;
    seal(&copy).map_err(read)?;
    let link = |error: libloading::Error| LoadError::Link(path.into(), linker_text(&error));
    // SAFETY: constructors of the library run now; plugins are trusted code, of an owner that was checked above.
    let library = unsafe {
        Library::open(
            Some(format!("/proc/self/fd/{}", copy.as_raw_fd())),
            RTLD_NOW | RTLD_LOCAL,
        )
    }
    .map_err(link)?;
    // Both live for ever, whatever comes: the mapping, and the number of the descriptor, which is part of the name by which the linker
    // knows it. A library that the linker keeps by itself, as it does with many in C++, would else be taken for the next one.
    let library = ManuallyDrop::new(library);
    let copy = Arc::new(ManuallyDrop::new(copy));
    // SAFETY: the symbol's name carries its type's version.
    let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()) };
    let entry = match entry {
        Ok(entry) => *entry,
        Err(error) => {
            let text = format!("the symbol {} is missing ({})", abi::ENTRY_SYMBOL, linker_text(&error));
            return Err(LoadError::Abi(path.into(), text));
        }
    };
    // SAFETY: the entry function has no side effects and reads only the head of the table it is shown.
    let table = unsafe { entry(&raw const VERSION_CHECK) };
    let table = check_table(table).map_err(|field| LoadError::Abi(path.into(), field))?;
    Ok((entry, table, copy))
}

/// What the entry function is shown: a host without services.
static VERSION_CHECK: abi::Host = super::services::bare_table();

/// The dynamic linker's own words, without the name of the function that said them.
fn linker_text(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// The dynamic linker maps what the headers say and dies of SIGBUS when the file is shorter, as after a copy on a full disk. So every
/// part of a 64-bit ELF file that is loaded must be there. Anything that is no such file is left to the linker, which says so.
fn check_whole(bytes: &[u8]) -> Result<(), &'static str> {
    const CUT_OFF: &str = "the file is cut off: copy it again";
    let number = |at: usize, size: usize| -> Option<u64> {
        let mut value = [0; 8];
        value[..size].copy_from_slice(bytes.get(at..at.checked_add(size)?)?);
        Some(u64::from_le_bytes(value))
    };
    // Magic, 64 bit, little-endian.
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return Ok(());
    }
    let header = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let (headers, size, count) = header().ok_or(CUT_OFF)?;
    for n in 0..count {
        let part = || {
            let at = usize::try_from(headers.checked_add(n.checked_mul(size)?)?).ok()?;
            number(at.checked_add(8)?, 8)?.checked_add(number(at.checked_add(0x20)?, 8)?)
        };
        let end = part().ok_or(CUT_OFF)?;
        if end > bytes.len() as u64 {
            return Err(CUT_OFF);
        }
    }
    Ok(())
}

/// No more writing, by anybody. The kernel may be busy with the pages for a moment.
fn seal(file: &File) -> std::io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for _ in 0..50 {
        match rustix::fs::fcntl_add_seals(file, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(10)),
            done => return done.map_err(Into::into),
        }
    }
    Err(rustix::io::Errno::BUSY.into())
}

fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), LoadError> {
    let refuse = |text: String| Err(LoadError::Permissions(path.into(), text));
    if !metadata.is_file() {
        return refuse("is not a regular file".into());
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != me {
        return refuse(format!(
            "belongs to user {}, not to root or user {me}: chown it",
            metadata.uid()
        ));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o022 != 0 {
        return refuse(format!(
            "may be written by others (mode {:03o}): chmod go-w it",
            mode & 0o777
        ));
    }
    Ok(())
}

/// Checks a table field by field; the error names the field.
fn check_table(table: *const abi::Plugin) -> Result<&'static abi::Plugin, String> {
    if table.is_null() {
        return Err(format!(
            "its entry function refuses this bootd (ABI {}.{})",
            abi::MAJOR,
            abi::MINOR
        ));
    }
    // SAFETY: an entry function of this name returns a table that lives as long as the process; its head is in every version.
    let (magic, major, size) = unsafe { ((*table).magic, (*table).major, (*table).size) };
    if magic != abi::MAGIC {
        return Err(format!("magic is {magic:#x}, not {:#x}", abi::MAGIC));
    }
    if major != abi::MAJOR {
        return Err(format!("major is {major}, not {}", abi::MAJOR));
    }
    // Minor 0 is the first: a table of any minor has at least its fields.
    if size < std::mem::size_of::<abi::Plugin>() {
        return Err(format!(
            "size is {size}, at least {} is needed",
            std::mem::size_of::<abi::Plugin>()
        ));
    }
    // SAFETY: `size` covers the whole struct.
    let table = unsafe { &*table };
    if table.init.is_none() {
        return Err("init is NULL".into());
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(mode: u32, bytes: &[u8]) -> LoadError {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libbootd_x.so");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        load(&path, None).err().unwrap()
    }

    #[test]
    fn a_file_that_others_may_write_is_not_loaded() {
        for mode in [0o777, 0o775, 0o757] {
            let error = refused(mode, b"\x7fELF");
            assert!(
                matches!(&error, LoadError::Permissions(_, text) if text.contains("chmod go-w")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_shared_object_is_named_as_such() {
        for bytes in [&b""[..], b"not an ELF file", b"\x7fELF\x02\x01\x01"] {
            assert!(matches!(refused(0o755, bytes), LoadError::Link(..)));
        }
    }

    #[test]
    fn a_shared_object_that_is_cut_off_anywhere_does_not_end_bootd() {
        let libc = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"].map(Path::new);
        let Some(libc) = libc.into_iter().find(|path| path.exists()) else {
            return;
        };
        let whole = std::fs::read(libc).unwrap();
        for length in [7, 63, 100, 1000, 4096, whole.len() / 2] {
            let error = refused(0o755, &whole[..length]);
            assert!(matches!(&error, LoadError::Link(..)), "{length}: {error}");
        }
    }

    #[test]
    fn a_shared_object_without_the_entry_symbol_is_not_a_plugin() {
        let libc = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"].map(Path::new);
        let Some(libc) = libc.into_iter().find(|path| path.exists()) else {
            return;
        };
        let error = load(libc, None).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("the symbol bootd_plugin_entry_v1 is missing"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_named_with_the_folders_that_were_looked_in() {
        let plugin = PluginConfig {
            name: "cloud-init".into(),
            file: None,
            mode: crate::config::Mode::Local,
            config: serde_json::Value::Null,
        };
        let error = find(&plugin, &["/nowhere".into(), "/neither".into()]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("libbootd_cloud_init.so is not there (looked in /nowhere, /neither)"),
            "{error}"
        );
    }
}

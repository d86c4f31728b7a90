//! The table of files that nodes fetch first: name to bytes, complete and immutable once loaded.
//!
//! TFTP and `/loaders/` of HTTP both serve from here, under one name policy: backslashes are slashes, slashes that lead or repeat mean nothing, what
//! remains must be in the table. No request touches the file system, so there is nothing to climb out of. What is read at start is confined
//! to [`Tftp::root`] (symlinks out of it are refused) and bounded in bytes, files and depth; what is left out is named.
//!
//! [`Tftp::root`]: crate::config::Tftp

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::scripts;
use crate::config::{Arch, Config, Loader};

/// Every file that may be asked for.
#[derive(Debug, Default)]
pub struct Files {
    files: BTreeMap<String, File>,
    left_out: Vec<LeftOut>,
}

/// A file of the table.
#[derive(Debug, Clone)]
pub struct File {
    /// Its content.
    pub bytes: Bytes,
    /// What it is.
    pub kind: Kind,
    /// A strong entity tag, with its quotes: the same content has the same tag, on any bootd of this build.
    pub etag: String,
}

/// Kinds of files; a metric label each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The loader of an architecture.
    Loader,
    /// A script that bootd made.
    Script,
    /// A file of the configured folder.
    File,
}

/// A loader that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Whose loader.
    pub arch: Arch,
    /// Where it should be.
    pub file: PathBuf,
    /// Why it cannot be read.
    pub why: String,
}

/// A file of the folder that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The file.
    pub file: PathBuf,
    /// Why not.
    pub why: String,
}

/// Why a name gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No name.
    Empty,
    /// More than 512 bytes.
    TooLong,
    /// NUL or another control character.
    Control,
    /// A `..` segment.
    Dots,
    /// No such file.
    Unknown,
}

impl Files {
    /// Reads what the configuration names, and says which loaders that are worth a word are missing.
    ///
    /// A file of the folder goes before a loader that the configuration does not name, and before a generated script; a loader that it names
    /// goes before the folder; `default` is always bootd's own.
    pub fn load(config: &Config) -> (Self, Vec<Missing>) {
        let mut reading = Reading::default();
        reading.folder(&config.tftp.root);

        let mut missing = Vec::new();
        for (&arch, loader) in &config.tftp.loaders {
            if !loader.configured && reading.files.contains_key(arch.file_name()) {
                continue;
            }
            match reading.read(&loader.file) {
                Ok(bytes) => reading.insert(arch.file_name(), bytes, Kind::Loader),
                Err(why) if worth_a_word(arch, loader) => missing.push(Missing {
                    arch,
                    file: loader.file.clone(),
                    why,
                }),
                Err(_) => {}
            }
        }

        reading.insert("default", scripts::DEFAULT.into(), Kind::Script);
        let autoexec = || ("autoexec.ipxe", scripts::autoexec(config));
        let autoexec = config.tftp.autoexec.then(autoexec);
        for (name, text) in [("config.ipxe", scripts::CONFIG.to_owned())]
            .into_iter()
            .chain(autoexec)
        {
            if !reading.files.contains_key(name) {
                reading.insert(name, text.into(), Kind::Script);
            }
        }

        for LeftOut { file, why } in &reading.left_out {
            tracing::warn!(file = %file.display(), %why, "tftp file left out");
        }
        let Reading { files, left_out, .. } = reading;
        (Self { files, left_out }, missing)
    }

    /// A table of just these.
    pub fn of<N: Into<String>, B: Into<Bytes>>(files: impl IntoIterator<Item = (N, B)>) -> Self {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (name.into(), File::new(bytes.into(), Kind::File)))
            .collect();
        Self {
            files,
            left_out: Vec::new(),
        }
    }

    /// The content of the file of this name, as a client wrote the name.
    pub fn get(&self, name: &str) -> Result<Bytes, Refused> {
        self.find(name).map(|file| file.bytes.clone())
    }

    /// The file of this name, as a client wrote the name.
    pub fn find(&self, name: &str) -> Result<&File, Refused> {
        let name = plain(name)?;
        self.files.get(&name).ok_or(Refused::Unknown)
    }

    /// Names and files, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file))
    }

    /// The files of the folder that are not served.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
}

impl File {
    fn new(bytes: Bytes, kind: Kind) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        let etag = format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish());
        Self { bytes, kind, etag }
    }
}

impl Kind {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Script => "script",
            Self::File => "file",
        }
    }
}

impl Refused {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty_name",
            Self::TooLong => "long_name",
            Self::Control => "control_in_name",
            Self::Dots => "dots_in_name",
            Self::Unknown => "no_such_file",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name is empty",
            Self::TooLong => "the name is longer than 512 bytes",
            Self::Control => "the name has a control character",
            Self::Dots => "the name has a `..` segment",
            Self::Unknown => "there is no such file",
        })
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arch, file, why } = self;
        write!(f, "no loader for {arch}: {}: {why}; ", file.display())?;
        if file.starts_with("/usr/lib/ipxe") {
            write!(f, "install Debian's package ipxe, or set tftp.loaders.{arch}")
        } else {
            write!(f, "put one there, or set tftp.loaders.{arch}")
        }
    }
}

/// The name as the table has it.
fn plain(name: &str) -> Result<String, Refused> {
    if name.len() > NAME_LIMIT {
        return Err(Refused::TooLong);
    }
    if name.chars().any(char::is_control) {
        return Err(Refused::Control);
    }
    let name = name.replace('\\', "/");
    if name.split('/').any(|segment| segment == "..") {
        return Err(Refused::Dots);
    }
    // Some firmware writes two for one, some that it means its own folder.
    let segments = name.split('/').filter(|segment| !matches!(*segment, "" | "."));
    let name = segments.collect::<Vec<_>>().join("/");
    if name.is_empty() {
        return Err(Refused::Empty);
    }
    Ok(name)
}

/// The usual places of the less usual architectures' loaders are empty on most machines; nobody wants to hear of it.
fn worth_a_word(arch: Arch, loader: &Loader) -> bool {
    loader.configured || matches!(arch, Arch::X86_64Efi | Arch::X86Bios)
}

/// The table while it is being read.
#[derive(Default)]
struct Reading {
    files: BTreeMap<String, File>,
    left_out: Vec<LeftOut>,
    total: u64,
    seen: usize,
}

impl Reading {
    fn insert(&mut self, name: &str, bytes: Bytes, kind: Kind) {
        self.files.insert(name.to_owned(), File::new(bytes, kind));
    }

    fn leave_out(&mut self, file: &Path, why: impl Into<String>) {
        self.left_out.push(LeftOut {
            file: file.into(),
            why: why.into(),
        });
    }

    /// Every file under this folder, which need not exist.
    fn folder(&mut self, root: &Path) {
        match fs::canonicalize(root) {
            Ok(root) => self.entries(&root, &root, "", DEPTH),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.leave_out(root, error.to_string()),
        }
    }

    fn entries(&mut self, root: &Path, folder: &Path, prefix: &str, depth: usize) {
        let mut entries: Vec<_> = match fs::read_dir(folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
            Err(error) => return self.leave_out(folder, error.to_string()),
        };
        entries.sort();
        for entry in entries {
            let file = folder.join(&entry);
            self.seen += 1;
            if self.seen > FILES_LIMIT {
                return self.leave_out(folder, format!("more than {FILES_LIMIT} files"));
            }
            let Some(name) = entry.to_str().map(|entry| format!("{prefix}{entry}")) else {
                self.leave_out(&file, "the name is not UTF-8");
                continue;
            };
            if let Err(refused) = plain(&name) {
                self.leave_out(&file, refused.to_string());
                continue;
            }
            self.entry(root, &file, &name, depth);
        }
    }

    fn entry(&mut self, root: &Path, file: &Path, name: &str, depth: usize) {
        let real = match fs::canonicalize(file) {
            Ok(real) if real.starts_with(root) => real,
            Ok(real) => return self.leave_out(file, format!("leads out of the folder, to {}", real.display())),
            Err(error) => return self.leave_out(file, error.to_string()),
        };
        if real.is_dir() {
            match depth.checked_sub(1) {
                Some(depth) => self.entries(root, &real, &format!("{name}/"), depth),
                None => self.leave_out(file, format!("more than {DEPTH} folders deep")),
            }
            return;
        }
        match self.read(&real) {
            Ok(bytes) => self.insert(name, bytes, Kind::File),
            Err(why) => self.leave_out(file, why),
        }
    }

    /// A regular file's content, within the bounds.
    fn read(&mut self, path: &Path) -> Result<Bytes, String> {
        // Without O_NONBLOCK a FIFO in the folder would hold the start of the rack.
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| error.to_string())?;
        let metadata = file.metadata().map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err("not a regular file".into());
        }
        if metadata.len() > FILE_LIMIT {
            return Err(format!("larger than {} MiB", FILE_LIMIT >> 20));
        }
        if self.total + metadata.len() > TOTAL_LIMIT {
            return Err(format!("the files together are larger than {} MiB", TOTAL_LIMIT >> 20));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        // The file may be growing while we read it; the bound holds all the same.
        file.take(metadata.len())
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        self.total += bytes.len() as u64;
        Ok(bytes.into())
    }
}

/// Longest name, as a client wrote it.
const NAME_LIMIT: usize = 512;
/// Largest file.
const FILE_LIMIT: u64 = 64 << 20;
/// All files together.
const TOTAL_LIMIT: u64 = 512 << 20;
/// Files and folders looked at.
const FILES_LIMIT: usize = 4096;
/// Folders below the root.
const DEPTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::testing::config;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_are_looked_up_and_never_walked() {
        let files = Files::of([("ipxe.efi", "loader"), ("EFI/boot.efi", "nested")]);
        let nested = [
            "EFI/boot.efi",
            "/EFI/boot.efi",
            "\\EFI\\boot.efi",
            "\\\\EFI\\boot.efi",
            "//EFI/boot.efi",
            "EFI//boot.efi",
            "\\\\EFI\\\\boot.efi",
            "./EFI/./boot.efi",
            "EFI/boot.efi/",
        ];
        for name in nested {
            assert_eq!(files.get(name), Ok(Bytes::from("nested")), "{name}");
        }
        let refused = [
            ("", Refused::Empty),
            ("/", Refused::Empty),
            ("./", Refused::Empty),
            ("./../ipxe.efi", Refused::Dots),
            ("\\", Refused::Empty),
            ("../etc/passwd", Refused::Dots),
            ("..\\etc\\passwd", Refused::Dots),
            ("EFI/../ipxe.efi", Refused::Dots),
            ("ipxe.efi/..", Refused::Dots),
            ("ipxe.efi\0", Refused::Control),
            ("ipxe.efi\n", Refused::Control),
            ("ipxe.efi\u{85}", Refused::Control),
            ("/etc/passwd", Refused::Unknown),
            ("IPXE.EFI", Refused::Unknown),
            ("EFI", Refused::Unknown),
            ("%2e%2e/etc/passwd", Refused::Unknown),
        ];
        for (name, why) in refused {
            assert_eq!(files.get(name), Err(why), "{name:?}");
        }
        assert_eq!(files.get(&"a".repeat(513)), Err(Refused::TooLong));
        assert_eq!(files.get(&"a".repeat(512)), Err(Refused::Unknown));
    }

    #[test]
    fn the_folder_is_served_with_its_subfolders_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b/c/d/e")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(root.join("plain.efi"), "plain").unwrap();
        fs::write(root.join("default"), "not this one").unwrap();
        fs::write(root.join("config.ipxe"), "the site's").unwrap();
        fs::write(root.join("a/b/nested"), "nested").unwrap();
        fs::write(root.join("a/b/c/d/e/deep"), "deep").unwrap();
        symlink("plain.efi", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink(dir.path(), root.join("outside-folder")).unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();

        let (files, _) = Files::load(&config(&root));
        assert_eq!(files.get("plain.efi"), Ok(Bytes::from("plain")));
        assert_eq!(files.get("inside"), Ok(Bytes::from("plain")));
        assert_eq!(files.get("a\\b\\nested"), Ok(Bytes::from("nested")));
        assert_eq!(files.get("config.ipxe"), Ok(Bytes::from("the site's")));
        assert_eq!(files.get("default"), Ok(Bytes::from("#!ipxe\nreboot\n")));
        for name in ["outside", "outside-folder/secret", "dangling", "a/b/c/d/e/deep"] {
            assert_eq!(files.get(name), Err(Refused::Unknown), "{name}");
        }
        let left_out: Vec<_> = files.left_out().iter().map(|l| l.file.clone()).collect();
        for name in ["outside", "outside-folder", "dangling"] {
            let file = root.canonicalize().unwrap().join(name);
            assert!(left_out.contains(&file), "{name} in {left_out:?}");
        }
    }

    #[test]
    fn the_scripts_are_there_without_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (files, missing) = Files::load(&config(&dir.path().join("nowhere")));
        assert_eq!(missing, []);
        let autoexec = files.get("autoexec.ipxe").unwrap();
        let autoexec = str::from_utf8(&autoexec).unwrap();
        assert!(autoexec.contains("chain http://127.0.0.1:8081/boot/v1/bootscript?mac=${netX/mac} ||"));
        assert!(!autoexec.contains("${filename}"));
        assert!(files.get("config.ipxe").unwrap().starts_with(b"#!ipxe\n"));
    }

    #[test]
    fn autoexec_goes_by_the_families_that_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let autoexec =
            |config: &Config| String::from_utf8(Files::load(config).0.get("autoexec.ipxe").unwrap().to_vec()).unwrap();
        assert!(!autoexec(&config).contains("ipv6"));
        let mut six = crate::config::Dhcp6::default();
        config.dhcp6 = Some(six.clone());
        let alone = autoexec(&config);
        assert!(
            alone.starts_with("#!ipxe\n:start\n:six\nifconf --configurator ipv6 || goto no_address\n"),
            "{alone}"
        );
        assert!(
            alone.contains("\nchain ${filename} || goto failed\n") && !alone.contains("http"),
            "{alone}"
        );
        six.script_url = Some("http://[fd00::1]/s?x=1".into());
        config.dhcp6 = Some(six);
        assert!(autoexec(&config).contains("\nchain http://[fd00::1]/s?x=1&mac=${netX/mac} || goto failed\n"));
        config.dhcp.subnets = crate::dhcp::v4::testing::config().dhcp.subnets;
        let both = autoexec(&config);
        assert!(both.starts_with("#!ipxe\n:start\ndhcp || goto six\n"), "{both}");
        assert!(both.contains("\nexit\n:six\nifconf"), "{both}");
    }

    #[test]
    fn a_missing_loader_is_named_when_it_matters() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir.path().join("nowhere"));
        for (arch, configured) in [
            (Arch::X86_64Efi, false),
            (Arch::Arm32Efi, false),
            (Arch::Arm64Efi, true),
        ] {
            let file = dir.path().join(arch.name());
            config.tftp.loaders.insert(arch, Loader { file, configured });
        }
        let (_, missing) = Files::load(&config);
        let archs: Vec<_> = missing.iter().map(|missing| missing.arch).collect();
        assert_eq!(archs, [Arch::X86_64Efi, Arch::Arm64Efi]);
        let text = missing[0].to_string();
        assert!(
            text.ends_with("put one there, or set tftp.loaders.x86_64-efi"),
            "{text}"
        );
        let usual = Missing {
            file: "/usr/lib/ipxe/ipxe.efi".into(),
            ..missing[0].clone()
        };
        let text = usual.to_string();
        assert!(
            text.ends_with("install Debian's package ipxe, or set tftp.loaders.x86_64-efi"),
            "{text}"
        );
    }

    #[test]
    fn a_configured_loader_goes_before_the_folder_and_the_folder_before_a_usual_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("loader"), "loader").unwrap();
        let mut config = config(&root);
        for (arch, configured) in [(Arch::X86_64Efi, true), (Arch::X86Bios, false)] {
            fs::write(root.join(arch.file_name()), "folder").unwrap();
            let file = dir.path().join("loader");
            config.tftp.loaders.insert(arch, Loader { file, configured });
        }
        let (files, missing) = Files::load(&config);
        assert_eq!(missing, []);
        assert_eq!(files.get("ipxe-x86_64.efi"), Ok(Bytes::from("loader")));
        assert_eq!(files.find("ipxe-x86_64.efi").unwrap().kind, Kind::Loader);
        assert_eq!(files.get("undionly.kpxe"), Ok(Bytes::from("folder")));
    }

    #[test]
    fn the_tag_follows_the_content() {
        let files = Files::of([("a", "one"), ("b", "one"), ("c", "two")]);
        let tag = |name| files.find(name).unwrap().etag.clone();
        assert_eq!(tag("a"), tag("b"));
        assert_ne!(tag("a"), tag("c"));
    }
}

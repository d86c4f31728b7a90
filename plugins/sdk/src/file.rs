//! Data files that people edit while the plugin runs.
//!
//! A [`Watched`] file is looked at cheaply (modification time, size, inode) and read again only when it may be another. It keeps the last text.
//! A file that cannot be read is a [`Mistake`], never an empty file. [`crate::sources`] turns several into one piece of
//! data. Nothing here writes, locks or waits.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer};

use crate::wire::Mistake;

/// Larger files are refused: no list of a rack's nodes is that long.
pub const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What is added to a plugin's health while changed files have mistakes.
pub const UNTIL_RIGHT: &str = "; the files changed since, and count when their mistakes are gone";

/// A file, and its text at the last look.
pub struct Watched {
    path: PathBuf,
    name: String,
    stamp: Option<Stamp>,
    text: Result<String, String>,
}

/// What a file looks like from outside.
#[derive(PartialEq, Eq, Clone, Copy)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
    device: u64,
}

impl Watched {
    /// A file that was never looked at.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            name: path.display().to_string(),
            path,
            stamp: None,
            text: Err("has not been read yet".into()),
        }
    }

    /// Its path, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks again. `true`: its text, or why there is none, is another than at the last look.
    pub fn look(&mut self) -> bool {
        let stamp = stamp(&self.path);
        if stamp.is_some() && stamp == self.stamp && stamp.is_some_and(Stamp::is_settled) {
            return false;
        }
        let text = read(&self.path);
        self.stamp = stamp;
        let changed = text != self.text;
        if changed {
            self.text = text;
        }
        changed
    }

    /// The text at the last look, or the mistake that there is none.
    pub fn text(&self) -> Result<&str, Mistake> {
        self.text.as_deref().map_err(|text| Mistake {
            file: self.name.clone(),
            line: 0,
            text: text.clone(),
        })
    }
}

impl Stamp {
    /// A file written in the last moments may be written again within the same tick of its clock: its stamp says nothing yet.
    fn is_settled(self) -> bool {
        let age = self.modified.map(|at| SystemTime::now().duration_since(at));
        matches!(age, Some(Ok(age)) if age > Duration::from_secs(2))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        length: metadata.len(),
        inode: metadata.ino(),
        device: metadata.dev(),
    })
}

fn read(path: &Path) -> Result<String, String> {
    let text = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such file; create it, or take it out of bootd's configuration".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "bootd may not read it; let its user read it".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Opening a pipe would wait for its writer, and a device has no end.
    if !fs::metadata(path).map_err(text)?.is_file() {
        return Err("is not a file".into());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(text)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(text)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("is larger than {MOST_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        format!("is not UTF-8 text (line {line})")
    })
}

/// A setting that is one path or a list of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl Paths {
    /// The paths, relative ones below a folder.
    pub fn below(&self, folder: &Path) -> Vec<PathBuf> {
        self.0.iter().map(|path| folder.join(path)).collect()
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Paths;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a path or a list of paths")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Paths, E> {
                Ok(Paths(vec![text.into()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element()? {
                    paths.push(path);
                }
                Ok(Paths(paths))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let mut file = Watched::new(&path);
        assert!(file.look());
        assert!(file.text().unwrap_err().text.contains("no such file"));
        assert!(!file.look());
        fs::write(&path, "one").unwrap();
        assert!(file.look());
        assert!(!file.look());
        fs::write(&path, "two").unwrap();
        assert!(file.look(), "same size, perhaps the same tick");
        assert_eq!(file.text().unwrap(), "two");
        fs::write(dir.path().join("b"), "two").unwrap();
        fs::rename(dir.path().join("b"), &path).unwrap();
        assert!(!file.look(), "another file with the same text is no change");
        fs::write(&path, b"ok\n\xff").unwrap();
        assert!(file.look());
        assert!(file.text().unwrap_err().text.contains("line 2"));
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Watched::new(dir.path());
        file.look();
        assert_eq!(file.text().unwrap_err().text, "is not a file");
    }

    #[test]
    fn one_path_or_several_are_paths() {
        let read = |value| serde_json::from_value::<Paths>(value);
        assert_eq!(read("/a".into()).unwrap(), Paths(vec!["/a".into()]));
        assert_eq!(
            read(serde_json::json!(["/a", "b"])).unwrap(),
            Paths(vec!["/a".into(), "b".into()])
        );
        assert!(
            read(3.into())
                .unwrap_err()
                .to_string()
                .contains("a path or a list of paths")
        );
    }
}

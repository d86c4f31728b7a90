//! Files of its own for one program: what lies at fixed places, such as `/root_ca` and `/tftpboot`, without a word on the host's disk.
//!
//! The program sees the machine's folders, with a `/tmp`, some folders more and an `/etc/hosts` of its own. All of it is mounted in a mount
//! namespace that only this program is in: whoever deletes the rack's folder from outside finds an empty one there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Rack;
use crate::process::Child;

/// A program's files.
pub struct Root {
    dir: PathBuf,
    shared: Vec<PathBuf>,
}

impl Root {
    /// The machine's folders and the rack's. `/etc/hosts` gets these lines.
    pub fn new(rack: &Rack, hosts: &str) -> Result<Self> {
        let dir = rack.path("root");
        for folder in ["", "top", "more"] {
            fs::create_dir(dir.join(folder)).with_context(|| format!("make {}", dir.join(folder).display()))?;
        }
        fs::write(dir.join("hosts"), format!("127.0.0.1 localhost\n{hosts}\n"))?;
        fs::write(dir.join("enter"), ENTER)?;
        Ok(Self {
            dir,
            shared: vec![rack.dir.clone()],
        })
    }

    /// A file that the program finds at this absolute path. Of its first folder the program sees nothing that the machine has there.
    pub fn add(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.dir.join("more").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))
    }

    /// A command for [`Child::spawn`] that runs a program there.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Child::command("unshare");
        command
            .args(["-m", "--", "sh"])
            .arg(self.dir.join("enter"))
            .arg(&self.dir);
        let beside = program.parent().context("a folder of the program")?;
        for folder in self.shared.iter().map(PathBuf::as_path).chain([beside]) {
            command.arg(folder);
        }
        command.arg("--").arg(program);
        Ok(command)
    }
}

/// `enter <dir> <shared folder>… -- <program> <argument>…`
const ENTER: &str = r#"set -e
dir=$1; shift
top=$dir/top
mount -t tmpfs tmpfs "$top"
for entry in /*; do
    if [ -e "$dir/more$entry" ]; then
        continue
    elif [ -L "$entry" ]; then
        cp -P "$entry" "$top$entry"
    elif [ "$entry" = /tmp ]; then
        mkdir "$top/tmp"
    elif [ -d "$entry" ]; then
        mkdir "$top$entry"
        mount --rbind "$entry" "$top$entry"
    fi
done
while [ "$1" != -- ]; do
    if [ ! -d "$top$1" ]; then
        mkdir -p "$top$1"
        mount --bind "$1" "$top$1"
    fi
    shift
done
shift
cp -R "$dir/more/." "$top"
mount --bind "$dir/hosts" "$top/etc/hosts"
exec chroot "$top" "$@"
"#;

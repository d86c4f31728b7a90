//! The boot images: Debian's cloud kernel, an initramfs and a small root image of busybox, built once and kept.
//!
//! They lie in a folder `boot-images` under exactly the keys that the seed's `boot-compute.yaml` names, so that this
//! file is used verbatim. The folder's name has a digest of all that goes in; a change makes a new one. Nothing needs
//! root: neither archive has an owner other than root written into it, whoever builds it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The key of the kernel in the bucket.
pub const KERNEL: &str = "efi-images/compute/base/vmlinuz-5.14.0-570.21.1.el9_6.x86_64";
/// The key of the initramfs.
pub const INITRAMFS: &str = "efi-images/compute/base/initramfs-5.14.0-570.21.1.el9_6.x86_64.img";
/// The key of the root image.
pub const ROOT: &str = "compute/base/rocky9.6-compute-base-rocky9";

/// The built images.
#[derive(Debug, Clone)]
pub struct Images {
    dir: PathBuf,
}

impl Images {
    /// Builds them, or takes those that were built before.
    pub fn prepare() -> Result<Self> {
        let cache = cache_dir()?;
        let kernel = Kernel::find(&cache)?;
        let busybox = busybox()?;
        let dir = cache.join(format!("images-{:016x}", digest(&kernel, &busybox)?));
        if dir.join("boot-images").join(ROOT).exists() {
            return Ok(Self { dir });
        }
        let aside = cache.join(format!("making-{}", std::process::id()));
        let _ = fs::remove_dir_all(&aside);
        build(&aside, &kernel, &busybox).context("build the boot images")?;
        // Somebody else may have been faster; theirs is as good.
        if fs::rename(&aside, &dir).is_err() {
            let _ = fs::remove_dir_all(&aside);
        }
        ensure!(
            dir.join("boot-images").join(ROOT).exists(),
            "no boot images in {}",
            dir.display()
        );
        Ok(Self { dir })
    }

    /// The folder that is the bucket `boot-images`.
    pub fn bucket(&self) -> PathBuf {
        self.dir.join("boot-images")
    }
}

/// Where built things are kept: `rack` in the target folder that holds this program, else in the user's cache.
pub fn cache_dir() -> Result<PathBuf> {
    let me = std::env::current_exe().context("path of this program")?;
    let target = me
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists() || folder.ends_with("target"))
        .map(|target| target.join("rack"));
    let user = || {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .map(|base| base.join("bootd-rack"))
    };
    let dir = match std::env::var_os("BOOTD_RACK_CACHE") {
        Some(dir) => Some(PathBuf::from(dir)),
        None => target.or_else(user),
    };
    let dir = dir.context("no folder for the boot images; set BOOTD_RACK_CACHE")?;
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}

/// Where Debian's cloud-init and what it needs lie unpacked.
pub fn cloud_init() -> Result<PathBuf> {
    let folder = cache_dir()?.join("cloud-init");
    if !folder.join("usr/bin/cloud-init").exists() {
        bail!("{} holds no cloud-init; tests/install test gets it", folder.display());
    }
    Ok(folder)
}

/// The program of Debian's atftpd.
pub fn atftpd() -> Result<PathBuf> {
    let program = cache_dir()?.join("atftpd/usr/sbin/atftpd");
    if !program.exists() {
        bail!("there is no {}; tests/install bench gets it", program.display());
    }
    Ok(program)
}

/// A Debian that boots diskless, made by `tests/image/debian-root`: `vmlinuz`, `initramfs.img` and `root.squashfs`.
pub fn debian() -> Result<PathBuf> {
    let folder = cache_dir()?.join("debian");
    if !folder.join("root.squashfs").exists() {
        bail!("{} holds no root image; tests/install long makes it", folder.display());
    }
    Ok(folder)
}

/// The program of an S3 server over a folder (`s3s-fs`).
pub fn s3_server() -> Result<PathBuf> {
    let program = cache_dir()?.with_file_name("tools").join("bin/s3s-fs");
    if !program.exists() {
        bail!("there is no {}; tests/install long gets it", program.display());
    }
    Ok(program)
}

/// A cloud kernel and its modules: the installed one, or one that was extracted from its package into the cache.
struct Kernel {
    image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    fn find(cache: &Path) -> Result<Self> {
        let mut found = Vec::new();
        for base in [Path::new("/"), &cache.join("kernel")] {
            for entry in fs::read_dir(base.join("boot")).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(version) = name.strip_prefix("vmlinuz-").filter(|v| v.ends_with("-cloud-amd64")) else {
                    continue;
                };
                let modules = [base.join("lib/modules"), base.join("usr/lib/modules")]
                    .map(|folder| folder.join(version))
                    .into_iter()
                    .find(|folder| folder.join("kernel").is_dir());
                if let Some(modules) = modules
                    && File::open(entry.path()).is_ok()
                {
                    let age = version
                        .split(|c: char| !c.is_ascii_digit())
                        .map(|n| n.parse().unwrap_or(0))
                        .collect();
                    let image = entry.path();
                    found.push((age, Self { image, modules }));
                }
            }
        }
        found.sort_by(|(a, _): &(Vec<u32>, Self), (b, _)| a.cmp(b));
        match found.pop() {
            Some((_, kernel)) => Ok(kernel),
            None => bail!("no readable kernel vmlinuz-*-cloud-amd64 with its modules; tests/install gets one"),
        }
    }

    /// The files of these modules and of all that they need, in the order in which to load them.
    fn module_files(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let dep = self.modules.join("modules.dep");
        let text = match fs::read_to_string(&dep) {
            Ok(text) => text,
            // A package that was only extracted has no such list; busybox makes one elsewhere.
            Err(_) => self.dependencies()?,
        };
        let builtin = fs::read_to_string(self.modules.join("modules.builtin")).unwrap_or_default();
        let mut order: Vec<PathBuf> = Vec::new();
        for name in wanted {
            if builtin.lines().any(|line| module_name(line) == *name) {
                continue;
            }
            let line = text.lines().find_map(|line| {
                let (module, needs) = line.split_once(':')?;
                (module_name(module) == *name).then_some((module, needs))
            });
            let (module, needs) = line.with_context(|| format!("module {name} is not in {}", dep.display()))?;
            // modules.dep lists the farthest dependency last.
            for file in needs.split_whitespace().rev().chain([module]) {
                let file = self.modules.join(file);
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }

    fn dependencies(&self) -> Result<String> {
        let base = self.modules.ancestors().nth(3).context("folder of the modules")?;
        let version = self.modules.file_name().context("folder of the modules")?;
        for program in ["depmod", "/sbin/depmod", "/usr/sbin/depmod"] {
            let output = Command::new(program)
                .arg("-n")
                .arg("-b")
                .arg(base)
                .arg(version)
                .output();
            if let Ok(output) = output
                && output.status.success()
            {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                return Ok(text
                    .lines()
                    .take_while(|line| !line.starts_with("# "))
                    .collect::<Vec<_>>()
                    .join("\n"));
            }
        }
        bail!(
            "{} has no modules.dep, and there is no depmod to make one",
            self.modules.display()
        )
    }
}

/// `virtio_net` of `kernel/drivers/net/virtio_net.ko.xz`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// What the node needs: its interface, the root image's file systems, and randomness.
const MODULES: [&str; 7] = [
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "af_packet",
    "loop",
    "squashfs",
    "overlay",
];

/// A change in how images are built that shows in none of their inputs.
const RECIPE: u32 = 1;

const INIT: &str = include_str!("../image/init");
const UDHCPC: &str = include_str!("../image/udhcpc");
const RC: &str = include_str!("../image/rc");
const CLOUD_INIT: &str = include_str!("../image/cloud-init-client");
const INITTAB: &str = "::sysinit:/etc/rc\nttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100\n";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ntestuser:x:1000:1000:testuser:/home/testuser:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\ntestuser:x:1000:\n";
/// The password of `testuser` is `testuser`; root has none.
const SHADOW: &str = "root:*:19000:0:99999:7:::\n\
    testuser:$6$bootddemo$jA4nxhCMHSO9O3nviHOKJIMn5WrFMUqroQlBtokN0YJKi3WJFnQTyK1GWAgjbcSk6Xzew0X8TwtphOCTxzV2k/:19000:0:99999:7:::\n";
const ISSUE: &str = "\nThe root image of bootd's virtual rack. Log in as testuser, password testuser.\n\n";

fn busybox() -> Result<PathBuf> {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists());
    found.context("no busybox: install the Debian package busybox-static")
}

fn digest(kernel: &Kernel, busybox: &Path) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    RECIPE.hash(&mut hasher);
    [INIT, UDHCPC, RC, CLOUD_INIT, INITTAB, PASSWD, GROUP, SHADOW, ISSUE].hash(&mut hasher);
    for path in [&kernel.image, busybox] {
        let meta = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
        (path, meta.len(), meta.mtime()).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn build(dir: &Path, kernel: &Kernel, busybox: &Path) -> Result<()> {
    let bucket = dir.join("boot-images");
    for key in [KERNEL, ROOT] {
        fs::create_dir_all(bucket.join(key).parent().context("key without folder")?)?;
    }
    fs::copy(&kernel.image, bucket.join(KERNEL)).context("copy the kernel")?;
    let tree = dir.join("initramfs");
    initramfs_tree(&tree, kernel, busybox)?;
    pack_initramfs(&tree, &bucket.join(INITRAMFS))?;
    fs::remove_dir_all(&tree)?;
    let tree = dir.join("root");
    root_tree(&tree, busybox)?;
    pack_root(&tree, &bucket.join(ROOT))?;
    Ok(fs::remove_dir_all(&tree)?)
}

fn initramfs_tree(tree: &Path, kernel: &Kernel, busybox: &Path) -> Result<()> {
    fs::create_dir_all(tree.join("bin"))?;
    fs::create_dir_all(tree.join("modules"))?;
    place(&tree.join("bin/busybox"), &fs::read(busybox)?, 0o755)?;
    place(&tree.join("init"), INIT.as_bytes(), 0o755)?;
    place(&tree.join("udhcpc"), UDHCPC.as_bytes(), 0o755)?;
    let mut order = String::new();
    for file in kernel.module_files(&MODULES)? {
        let name = format!("{}.ko", module_name(&file.to_string_lossy()));
        place(&tree.join("modules").join(&name), &unpacked(&file)?, 0o644)?;
        order.push_str(&name);
        order.push('\n');
    }
    place(&tree.join("modules/order"), order.as_bytes(), 0o644)
}

fn root_tree(tree: &Path, busybox: &Path) -> Result<()> {
    for folder in [
        "bin",
        "dev",
        "etc",
        "home/testuser",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "var",
    ] {
        fs::create_dir_all(tree.join(folder))?;
    }
    symlink("bin", tree.join("sbin"))?;
    place(&tree.join("bin/busybox"), &fs::read(busybox)?, 0o755)?;
    let list = Command::new(busybox)
        .arg("--list")
        .output()
        .context("ask busybox for its commands")?;
    for name in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", tree.join("bin").join(name))?;
    }
    let etc = tree.join("etc");
    place(&etc.join("inittab"), INITTAB.as_bytes(), 0o644)?;
    place(&etc.join("rc"), RC.as_bytes(), 0o755)?;
    place(&etc.join("cloud-init-client"), CLOUD_INIT.as_bytes(), 0o755)?;
    place(&etc.join("passwd"), PASSWD.as_bytes(), 0o644)?;
    place(&etc.join("group"), GROUP.as_bytes(), 0o644)?;
    place(&etc.join("shadow"), SHADOW.as_bytes(), 0o600)?;
    place(&etc.join("issue"), ISSUE.as_bytes(), 0o644)
}

fn place(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| format!("chmod {}", path.display()))
}

/// A module as the kernel loads it; distributions compress them.
fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|ext| ext.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(file).with_context(|| format!("read {}", file.display())),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("start {program}; install the Debian package of that name"))?;
    ensure!(output.status.success(), "{program} cannot read {}", file.display());
    Ok(output.stdout)
}

fn pack_initramfs(tree: &Path, to: &Path) -> Result<()> {
    let mut names = BTreeSet::new();
    list(tree, Path::new(""), &mut names)?;
    let archive = to.with_extension("cpio");
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--owner=+0:+0", "--quiet", "--null"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(File::create(&archive)?)
        .spawn()
        .context("start cpio; install the Debian package cpio")?;
    {
        let mut stdin = cpio.stdin.take().context("cpio's input")?;
        for name in &names {
            stdin.write_all(name.to_string_lossy().as_bytes())?;
            stdin.write_all(&[0])?;
        }
    }
    ensure!(cpio.wait()?.success(), "cpio failed");
    let status = Command::new("gzip")
        .args(["-6", "-n", "-c"])
        .arg(&archive)
        .stdout(File::create(to)?)
        .status();
    ensure!(status.context("start gzip")?.success(), "gzip failed");
    fs::remove_file(&archive)?;
    Ok(())
}

/// All files and folders, folders before what is in them.
fn list(tree: &Path, folder: &Path, names: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(tree.join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(tree, &name, names)?;
        }
        names.insert(name);
    }
    Ok(())
}

fn pack_root(tree: &Path, to: &Path) -> Result<()> {
    let aside = to.with_extension("new");
    let output = Command::new("mksquashfs")
        .arg(tree)
        .arg(&aside)
        .args([
            "-all-root",
            "-noappend",
            "-no-progress",
            "-quiet",
            "-comp",
            "gzip",
            "-processors",
            "2",
        ])
        .output()
        .context("start mksquashfs; install the Debian package squashfs-tools")?;
    ensure!(
        output.status.success(),
        "mksquashfs failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    // Last, since its presence says that all images are complete.
    fs::rename(&aside, to)?;
    Ok(())
}

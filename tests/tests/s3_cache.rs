//! A rack whose images come from an S3 service with keys, and that boots from what it keeps when this service is gone.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::ochami::Ochami;
use bootd_tests::{BOOT_LIMIT, Bootd, Rack, Step, eventually_true, prepare, s3cmd};
use hyper_util::rt::TokioIo;
use serde_json::Value;

#[test]
fn a_node_boots_from_the_cache_alone_when_the_s3_service_is_gone_and_bootd_was_restarted() {
    in_rack(|| {
        let rack = Rack::new()?;
        let service = Service::start(&rack.path("s3"))?;
        the_tutorials_objects_are_put(&rack)?;
        rack.write("bootd.toml", &config_with_keys(&rack)?)?;
        let mut bootd = rack.start_bootd()?;
        ensure!(kept(&bootd)?.is_empty(), "{:?}", kept(&bootd)?);

        // No node asks for anything: that their boot parameters are set is enough.
        Ochami::log_in(&rack)?.tell_the_tutorial()?;
        all_is_here(&bootd)?;
        let here = kept(&bootd)?;
        ensure!(here == everything(&rack)?, "{here:?}");

        drop(service);
        ensure!(TcpStream::connect(S3).is_err(), "the S3 service still answers");
        bootd.stop(Duration::from_secs(20))?;
        bootd.start_again()?;
        ensure!(kept(&bootd)? == here, "{:?}", kept(&bootd)?);
        all_is_here(&bootd)?;

        let mut node = rack.power_on(1)?;
        let timeline = node.wait(Step::Login, BOOT_LIMIT)?;
        ensure!(
            timeline.at(Step::RootImage).is_some(),
            "the root image was not read here"
        );
        node.wait_console("nid001 login: ", Duration::ZERO)?;
        let read = objects(&bootd)?;
        ensure!(
            read.iter().all(|object| object["hits"].as_u64() > Some(0)) && kept(&bootd)? == here,
            "{read:?}"
        );
        bootd.must_run()
    });
}

/// Kernel, initramfs and root image under the keys that the tutorial gives them; who has not the keys puts and reads nothing.
fn the_tutorials_objects_are_put(rack: &Rack) -> Result<()> {
    let host = S3.to_string();
    let s3cmd = |args: &[&str]| -> Result<()> {
        let said = s3cmd::run(&host, KEYS, args)?;
        ensure!(said.good, "s3cmd {}: {}", args.join(" "), said.text);
        Ok(())
    };
    s3cmd(&["mb", "s3://boot-images"])?;
    for key in IMAGES {
        let file = rack.images.bucket().join(key);
        let file = file.to_str().context("a path that is UTF-8")?;
        s3cmd(&["put", file, &format!("s3://boot-images/{key}")])?;
    }
    let stranger = s3cmd::run(&host, (KEYS.0, "guessed"), &["ls", "s3://boot-images"])?;
    ensure!(!stranger.good, "a wrong key is good: {}", stranger.text);
    Ok(())
}

/// The rack's configuration, its images in the S3 service, the keys to that in a file.
fn config_with_keys(rack: &Rack) -> Result<String> {
    let keys = rack.write("s3.credentials", &format!("{}\n{}\n", KEYS.0, KEYS.1))?;
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600))?;
    let folder = format!("dir = \"{}\"", rack.images.bucket().display());
    let config = rack.bare_config();
    ensure!(config.contains(&folder), "the configuration has another origin");
    let service = format!("endpoint = \"http://{S3}\"\ncredentials = \"{}\"", keys.display());
    Ok(config.replace(&folder, &service))
}

/// Paths and lengths of what is there whole, as `bootd cache ls` tells. It may be old: nobody can tell when the service is gone.
fn kept(bootd: &Bootd) -> Result<Vec<(String, u64)>> {
    let mut kept: Vec<(String, u64)> = objects(bootd)?
        .iter()
        .filter(|object| object["state"] == "kept" || object["state"] == "stale")
        .filter_map(|object| Some((object["path"].as_str()?.to_owned(), object["len"].as_u64()?)))
        .collect();
    kept.sort();
    Ok(kept)
}

fn objects(bootd: &Bootd) -> Result<Vec<Value>> {
    let mut view = bootd.ask_json(&["cache", "ls"])?;
    match view["objects"].take() {
        Value::Array(objects) => Ok(objects),
        other => bail!("no objects: {other}"),
    }
}

/// What must be kept.
fn everything(rack: &Rack) -> Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for key in IMAGES {
        let len = fs::metadata(rack.images.bucket().join(key))?.len();
        all.push((format!("/boot-images/{key}"), len));
    }
    all.sort();
    Ok(all)
}

/// All that the boot parameters name, as `bootd status` tells soon after they are set, or bootd is started.
fn all_is_here(bootd: &Bootd) -> Result<()> {
    let status = || -> Result<String> { Ok(String::from_utf8_lossy(&bootd.ask(&["status"])?.stdout).into_owned()) };
    eventually_true(FETCHED, "bootd says that all boot files are here", || {
        status().is_ok_and(|text| text.contains("boot files: all 3 are here: nodes boot without their origins"))
    })
    .with_context(|| status().unwrap_or_default())
}

/// An S3 service over a folder, for those who have its keys. It is gone when this is dropped.
struct Service {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Service {
    fn start(folder: &Path) -> Result<Self> {
        fs::create_dir(folder)?;
        let files = s3s_fs::FileSystem::new(folder).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let mut service = s3s::service::S3ServiceBuilder::new(files);
        service.set_auth(s3s::auth::SimpleAuth::from_single(KEYS.0, KEYS.1));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(S3))?;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

const IMAGES: [&str; 3] = [prepare::KERNEL, prepare::INITRAMFS, prepare::ROOT];
const KEYS: (&str, &str) = ("BOOTDTESTS", "the secret of the tests");
const S3: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9009));
const FETCHED: Duration = Duration::from_secs(60);

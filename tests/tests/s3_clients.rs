//! S3's own clients at the artifacts listener: they list and read as from the site's store, and hear where to write.

use std::fs;

use anyhow::{Context, ensure};
use bootd_tests::namespace::in_rack;
use bootd_tests::wire::Client;
use bootd_tests::{Rack, s3cmd};

#[test]
fn s3cmd_lists_and_reads_and_is_told_where_to_write() {
    in_rack(|| {
        let rack = Rack::new()?;
        let mut bootd = rack.start_bootd()?;
        let client = Client::plug(&rack)?;
        client.ip("addr add 172.16.0.1/24 dev cable0")?;
        let s3cmd = |args: &[&str]| client.at(|| s3cmd::run("172.16.0.254:9000", ("any", "any"), args));

        let buckets = s3cmd(&["ls"])?;
        ensure!(buckets.good && buckets.text.contains("s3://boot-images"), "{buckets:?}");
        let top = s3cmd(&["ls", "s3://boot-images"])?;
        ensure!(
            top.text.contains("DIR") && top.text.contains("s3://boot-images/compute/"),
            "{top:?}"
        );
        // As the tutorial looks at what it has put there.
        let all = s3cmd(&["ls", "-Hr", "s3://boot-images"])?;
        let keys: Vec<&str> = all
            .text
            .split_whitespace()
            .filter(|word| word.starts_with("s3://"))
            .collect();
        let kernel = keys
            .iter()
            .find(|key| key.contains("/vmlinuz-"))
            .context(all.text.clone())?;
        ensure!(keys.iter().any(|key| key.contains("compute/base/")), "{keys:?}");

        let got = rack.path("kernel");
        let read = s3cmd(&["get", kernel, &got.display().to_string()])?;
        ensure!(read.good, "{read:?}");
        let there = rack
            .images
            .bucket()
            .join(kernel.trim_start_matches("s3://boot-images/"));
        ensure!(fs::read(&got)? == fs::read(there)?, "{kernel} is another file");

        for write in [
            &["put", &*got.display().to_string(), "s3://boot-images/other"][..],
            &["del", kernel],
            &["mb", "s3://boot-images"],
        ] {
            let refused = s3cmd(write)?;
            ensure!(
                !refused.good && refused.text.contains("403 (AccessDenied)"),
                "{refused:?}"
            );
            ensure!(refused.text.contains("are written to its origin"), "{refused:?}");
        }
        bootd.must_run()
    });
}

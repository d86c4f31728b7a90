//! Mistakes are found, all of them; defaults are what conf/bootd.toml says.

use std::path::Path;

use super::{Arch, ConfigError, parse};

const SMALLEST: &str =
    "[server]\ninterfaces = [\"br0\"]\naddress = \"172.16.0.254\"\n[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\n";

fn mistakes(text: &str) -> Vec<String> {
    match parse(text, Path::new("/etc/bootd/bootd.toml")) {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes.iter().map(ToString::to_string).collect(),
        other => panic!("expected mistakes, got {other:?}"),
    }
}

#[test]
fn the_smallest_configuration_gets_every_default() {
    let config = parse(SMALLEST, Path::new("/etc/bootd/bootd.toml")).unwrap();
    assert_eq!(config.boot_url(), "http://172.16.0.254:8081");
    assert_eq!(config.state_dir, Path::new("/var/lib/bootd"));
    assert_eq!(config.dhcp.lease_time.as_secs(), 3600);
    assert_eq!(
        config.tftp.loaders[&Arch::X86_64Efi].file,
        Path::new("/usr/lib/ipxe/ipxe.efi")
    );
    assert_eq!(config.http.listeners.len(), 2);
}

#[test]
fn the_shipped_configuration_is_good_and_its_defaults_are_the_real_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/bootd.toml");
    let shipped = parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let smallest = parse(SMALLEST, Path::new("/etc/bootd/bootd.toml")).unwrap();
    assert_eq!(shipped.http.listeners, smallest.http.listeners);
    assert_eq!(shipped.http.plugin_deadline, smallest.http.plugin_deadline);
    assert_eq!(shipped.tftp.loaders, smallest.tftp.loaders);
    assert_eq!(
        (shipped.tftp.port, shipped.tftp.blksize),
        (smallest.tftp.port, smallest.tftp.blksize)
    );
    assert_eq!(
        (shipped.state_dir, shipped.cache_dir),
        (smallest.state_dir, smallest.cache_dir)
    );
    assert_eq!(shipped.admin_socket, smallest.admin_socket);
    assert_eq!(shipped.auth, smallest.auth);
    assert_eq!(shipped.cache, smallest.cache);
    assert_eq!(shipped.plugins.len(), 3);
}

#[test]
fn a_site_that_is_this_box_itself_is_a_mistake() {
    let with =
        |url: &str| format!("{SMALLEST}[[plugin]]\nname = \"smd\"\nmode = \"upstream\"\nconfig.url = \"{url}\"\n");
    let wrong = mistakes(&with("http://172.16.0.254:8081/"));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains(".config.url: is this box itself"), "{wrong:?}");
    for good in [
        "http://172.16.0.1:8081",
        "http://172.16.0.254:8082",
        "https://site.example.net:8443",
    ] {
        assert!(parse(&with(good), Path::new("/etc/bootd/bootd.toml")).is_ok(), "{good}");
    }
}

#[test]
fn the_shipped_configuration_of_a_rack_is_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/rack.toml");
    let rack = parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    assert!(rack.plugins.iter().all(|plugin| plugin.mode == super::Mode::Upstream));
    assert_eq!(rack.plugins.len(), 3);
}

#[test]
fn keys_of_a_site_need_to_know_whose_tokens_are_meant() {
    let with = |auth: &str| format!("{SMALLEST}[auth]\n{auth}");
    let wrong = mistakes(&with("jwks = \"keys.json\"\nlongest = \"soon\"\n"));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong.iter().any(|text| text.starts_with("auth.audiences: missing")));
    let good = with("jwks = \"keys.json\"\naudiences = [\"smd\"]\n");
    let auth = parse(&good, Path::new("/etc/bootd/bootd.toml")).unwrap().auth;
    assert_eq!(auth.jwks, Some(super::Jwks::File("/etc/bootd/keys.json".into())));
}

#[test]
fn every_mistake_is_listed_at_once_with_its_key() {
    let text = r#"
        colour = "blue"
        [server]
        interfaces = "br0"
        adress = "172.16.0.254"
        [dhcp]
        lease_time = "soon"
        [[dhcp.subnet]]
        cidr = "172.16.0.0/24"
        routers = ["10.0.0.1"]
        pool = { first = "172.16.0.250", last = "172.16.0.200", size = 3 }
        [[dhcp.subnet]]
        cidr = "172.16.0.128/25"
        [[http.listener]]
        address = "everywhere"
        serve = ["boot", "coffee"]
        [[origin]]
        bucket = "a"
        [[plugin]]
        name = "smd"
        mode = "sideways"
    "#;
    let found = mistakes(text);
    for key in [
        "colour:",
        "server.interfaces:",
        "server.adress:",
        "server.address:",
        "dhcp.lease_time:",
        "dhcp.subnet[0].routers[0]:",
        "dhcp.subnet[0].pool.size:",
        "dhcp.subnet[0].pool.last:",
        "dhcp.subnet[1].cidr:",
        "http.listener[0].address:",
        "http.listener[0].serve[1]:",
        "origin[0]:",
        "plugin[0].mode:",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(key)),
            "{key} is not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 13, "{found:#?}");
}

#[test]
fn the_size_of_the_cache_is_a_number_of_bytes_with_its_unit() {
    let with = |size: &str| format!("{SMALLEST}[cache]\nsize = \"{size}\"\n");
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("512MiB", 512 << 20),
        ("40 GiB", 40 << 30),
        ("2TiB", 2 << 40),
    ] {
        let config = parse(&with(text), Path::new("bootd.toml")).unwrap();
        assert_eq!(config.cache.size, Some(bytes), "{text}");
    }
    assert_eq!(parse(SMALLEST, Path::new("bootd.toml")).unwrap().cache.size, None);
    for text in ["", "GiB", "80%", "40GB", "-1", "1.5GiB", "99999999999999TiB"] {
        let [mistake] = mistakes(&with(text)).try_into().unwrap();
        assert!(mistake.starts_with("cache.size: "), "{mistake}");
    }
}

#[test]
fn text_that_is_not_toml_is_named_with_its_line() {
    assert_eq!(mistakes("[server]\naddress = \n").len(), 1);
    assert!(mistakes("[server]\naddress = \n")[0].starts_with("line 2: not TOML"));
}

#[test]
fn urls_of_a_bucket_lead_to_the_artifacts_listener() {
    let text = format!(
        "{SMALLEST}[[origin]]\nbucket = \"boot-images\"\nendpoint = \"http://s3.site:9000/\"\nfrom = [\"s3://\", \"http://172.16.0.254:9000\"]\n"
    );
    let config = parse(&text, Path::new("bootd.toml")).unwrap();
    let rewrites = config.rewrites("172.16.0.254");
    let from: Vec<&str> = rewrites.iter().map(|r| r.from.as_str()).collect();
    assert_eq!(
        from,
        [
            "s3://boot-images/",
            "http://172.16.0.254:9000/boot-images/",
            "http://s3.site:9000/boot-images/"
        ]
    );
    assert!(rewrites.iter().all(|r| r.to == "http://172.16.0.254:9000/boot-images/"));
}

#[test]
fn a_box_that_answers_no_dhcp_may_serve_artifacts_alone() {
    let listener = "[[http.listener]]\naddress = \"0.0.0.0:9000\"\nserve = [\"artifacts\"]\n";
    let proxy = format!("[server]\naddress = \"172.16.0.254\"\n{listener}");
    parse(&proxy, Path::new("bootd.toml")).unwrap();
    let rack = mistakes(&format!("{SMALLEST}{listener}"));
    assert_eq!(
        rack,
        ["http.listener: none serves \"boot\", so no node would get a boot script"]
    );
}

#[test]
fn a_listener_says_what_it_serves_and_with_which_pair_it_speaks_tls() {
    let listener = |rest: &str| {
        format!("[server]\naddress = \"172.16.0.254\"\n[[http.listener]]\naddress = \"0.0.0.0:8443\"\n{rest}\n")
    };
    let config = |rest: &str| parse(&listener(rest), Path::new("/etc/bootd/bootd.toml")).unwrap();
    let good = config("serve = [\"boot\", \"cloud-init\"]\ntls = { cert = \"rack.pem\", key = \"/keys/rack.pem\" }");
    let tls = good.http.listeners[0].tls.clone().unwrap();
    assert_eq!(tls.cert, Path::new("/etc/bootd/rack.pem"));
    assert_eq!(tls.key, Path::new("/keys/rack.pem"));
    assert_eq!(good.boot_url(), "https://172.16.0.254:8443");
    assert_eq!(
        config("serve = [\"boot\", \"bss-root\"]").http.listeners[0].services(),
        "boot, bss-root"
    );
    for (rest, key) in [
        (
            "serve = [\"cloud-init\", \"bss-root\"]",
            "http.listener[0].serve: cloud-init and bss-root both",
        ),
        (
            "serve = [\"artifacts\", \"cloud-init\"]",
            "http.listener[0].serve: artifacts own",
        ),
        (
            "serve = [\"bss\"]",
            "http.listener[0].serve[0]: 'bss' is not one of boot, loaders",
        ),
        (
            "serve = [\"boot\"]\ntls = { cert = \"x\" }",
            "http.listener[0].tls.key: missing",
        ),
        (
            "serve = [\"boot\"]\ntls = { key = \"x\" }",
            "http.listener[0].tls.cert: missing",
        ),
        (
            "serve = [\"boot\"]\ntls = { cert = \"\", key = \"x\" }",
            "http.listener[0].tls.cert: an empty path",
        ),
        (
            "serve = [\"boot\"]\ntls = { cert = \"x\", key = \"x\", ca = \"x\" }",
            "http.listener[0].tls.ca: no such key",
        ),
        ("serve = [\"boot\"]\ntls = true", "http.listener[0].tls: invalid type"),
    ] {
        let [mistake] = mistakes(&listener(rest)).try_into().unwrap();
        assert!(mistake.starts_with(key), "{mistake}");
    }
}

#[test]
fn nodes_are_given_urls_without_tls_where_there_is_a_listener_for_them() {
    let listeners = |order: [&str; 2]| {
        let listener = |it: &&str| format!("[[http.listener]]\nserve = [\"boot\"]\naddress = {it}\n");
        let text = format!(
            "[server]\naddress = \"172.16.0.254\"\n{}",
            order.iter().map(listener).collect::<String>()
        );
        parse(&text, Path::new("bootd.toml")).unwrap().boot_url()
    };
    let (plain, tls) = (
        "\"0.0.0.0:8081\"",
        "\"0.0.0.0:8443\"\ntls = { cert = \"x\", key = \"x\" }",
    );
    assert_eq!(listeners([tls, plain]), "http://172.16.0.254:8081");
    assert_eq!(listeners([plain, tls]), "http://172.16.0.254:8081");
}

//! Mistakes are found, all of them; defaults are what conf/bootd.toml says.

use std::path::Path;

use super::{Arch, ConfigError, Credentials, Source, parse};

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
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn a_bucket_has_several_origins_with_a_prefix_each_and_keys_from_one_place() {
    let text = &format!(
        r#"{SMALLEST}
        [[http.listener]]
        address = "172.16.0.254:8081"
        serve = ["boot"]
        [[http.listener]]
        address = "172.16.0.254:9000"
        serve = ["artifacts"]
        [[origin]]
        bucket = "b"
        endpoint = "http://s3:9000"
        credentials = "keys"
        profile = "rack"
        [[origin]]
        bucket = "b"
        prefix = "efi/"
        endpoint = "http://other:9000"
        credentials_from = "instance"
    "#
    );
    let config = parse(text, Path::new("/etc/bootd/bootd.toml")).unwrap();
    let endpoint = |key: &str| match &config.origin_of("b", key).unwrap().source {
        Source::S3 {
            endpoint, credentials, ..
        } => (endpoint.clone(), credentials.clone()),
        other => panic!("{other}"),
    };
    let file = Credentials::File("/etc/bootd/keys".into(), Some("rack".into()));
    assert_eq!(endpoint("ef"), ("http://s3:9000".into(), file));
    assert_eq!(endpoint("efi/x"), ("http://other:9000".into(), Credentials::Instance));
    assert!(config.origin_of("c", "efi/x").is_none());
    let rewrites = config.rewrites("172.16.0.254");
    let is_there = rewrites
        .iter()
        .any(|rewrite| rewrite.from == "http://other:9000/b/efi/" && rewrite.to == "http://172.16.0.254:9000/b/efi/");
    assert!(is_there, "{rewrites:?}");

    for (from, to, key) in [
        (
            "prefix = \"efi/\"",
            "prefix = \"\"",
            "origin[1].bucket: is origin[0]'s already",
        ),
        ("prefix = \"efi/\"", "prefix = \"/efi/\"", "origin[1].prefix:"),
        ("prefix = \"efi/\"", "prefix = \"a/../\"", "origin[1].prefix:"),
        ("\"instance\"", "\"heaven\"", "origin[1].credentials_from:"),
        ("credentials = \"keys\"", "", "origin[0].profile: goes with credentials"),
        (
            "profile = \"rack\"",
            "credentials_from = \"environment\"",
            "origin[0].credentials_from:",
        ),
    ] {
        let found = mistakes(&text.replace(from, to));
        assert!(found.len() == 1 && found[0].starts_with(key), "{to}: {found:#?}");
    }
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

/// The smallest configuration with more after it.
fn more(text: &str) -> Result<super::Config, ConfigError> {
    parse(&format!("{SMALLEST}{text}"), Path::new("/etc/bootd/bootd.toml"))
}

fn wrong(text: &str) -> Vec<String> {
    mistakes(&format!("{SMALLEST}{text}"))
}

#[test]
fn an_interface_is_named_or_chosen_by_a_pattern_or_its_address() {
    let text = "[server]\ninterfaces = [\"eth1\", \"vlan*\", \"*\", \"172.16.0.254\"]\n[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\n";
    let config = parse(text, Path::new("bootd.toml")).unwrap();
    assert_eq!(config.address, None);
    let ip: std::net::IpAddr = "172.16.0.254".parse().unwrap();
    let means: Vec<bool> = config.interfaces.iter().map(|s| s.means("vlan7", [ip])).collect();
    assert_eq!(means, [false, true, true, true]);
    let bad = text.replace("vlan*", "a/b").replace("eth1", "%eth1");
    assert_eq!(mistakes(&bad).len(), 2);
    assert_eq!(mistakes("[server]\naddress = \"0.0.0.0\"\n").len(), 1);
}

#[test]
fn options_are_encoded_by_name_and_by_number() {
    let text = r#"
        [dhcp]
        options = { mtu = 9000, ntp = ["10.0.0.1", "10.0.0.2"], search = ["a.example", "b"], static_routes = ["10.0.0.0/8 via 172.16.0.1", "0.0.0.0/0 via 172.16.0.2"], time_offset = -3600, "43" = "01:04 ac", "224" = "00" }
    "#;
    let options = more(text).unwrap().dhcp.options;
    let value = |code| options.get(code).unwrap().value();
    assert_eq!(value(26), [0x23, 0x28]);
    assert_eq!(value(42), [10, 0, 0, 1, 10, 0, 0, 2]);
    assert_eq!(value(119), b"\x01a\x07example\0\x01b\0");
    assert_eq!(value(121), [8, 10, 172, 16, 0, 1, 0, 172, 16, 0, 2]);
    assert_eq!(value(2), (-3600i32).to_be_bytes());
    assert_eq!(&*options.get(43).unwrap().wire, [43, 3, 1, 4, 0xac]);
    let codes: Vec<u8> = options.iter().map(|option| option.code).collect();
    assert_eq!(codes, [2, 26, 42, 43, 119, 121, 224]);
    let long = more(&format!("[dhcp]\noptions = {{ \"224\" = \"{}\" }}", "aa".repeat(300))).unwrap();
    let option = long.dhcp.options.get(224).unwrap().clone();
    assert_eq!((option.wire.len(), option.value().len()), (304, 300));
}

#[test]
fn an_option_that_cannot_be_is_named_with_its_scope() {
    for (option, says) in [
        ("mtu = 60", "dhcp.options.mtu: 60 is not between 68 and 65535"),
        ("mtu = \"x\"", "dhcp.options.mtu: invalid type"),
        ("\"54\" = \"00\"", "dhcp.options.54: option 54 is the protocol's own"),
        ("\"82\" = \"00\"", "dhcp.options.82: option 82 is the protocol's own"),
        ("\"255\" = \"00\"", "dhcp.options.255: option 255"),
        ("\"256\" = \"00\"", "dhcp.options.256: no such option"),
        ("colour = \"00\"", "dhcp.options.colour: no such option"),
        ("\"43\" = \"0\"", "dhcp.options.43: '0' is not hexadecimal"),
        ("\"43\" = \"\"", "dhcp.options.43: '' is not hexadecimal"),
        (
            "netmask = \"255.0.255.0\"",
            "dhcp.options.netmask: '255.0.255.0' is not a netmask",
        ),
        ("ntp = []", "dhcp.options.ntp: an empty value"),
        (
            "search = [\"a..b\"]",
            "dhcp.options.search: 'a..b' is not a domain name",
        ),
        (
            "static_routes = [\"10.0.0.0/8\"]",
            "dhcp.options.static_routes: '10.0.0.0/8' is not a route",
        ),
        (
            "mtu = 1500, \"26\" = \"0000\"",
            "dhcp.options.mtu: option 26 is there by name and by number",
        ),
    ] {
        let found = wrong(&format!("[dhcp]\noptions = {{ {option} }}"));
        assert!(found.len() == 1 && found[0].starts_with(says), "{option}: {found:?}");
    }
}

#[test]
fn a_subnet_for_everything_else_needs_a_netmask_and_may_hold_the_others() {
    let config = more("[[dhcp.subnet]]\ncidr = \"0.0.0.0/0\"\nnetmask = \"255.255.0.0\"\n").unwrap();
    let [first, all] = config.dhcp.subnets.as_slice() else {
        panic!()
    };
    assert_eq!(
        (first.netmask, first.server),
        (Some([255, 255, 255, 0].into()), config.address)
    );
    assert!(all.is_catch_all() && all.contains([9, 9, 9, 9].into()));
    assert_eq!(
        (all.netmask, all.broadcast()),
        (Some([255, 255, 0, 0].into()), [255; 4].into())
    );
    assert!(all.are_neighbours([10, 1, 2, 3].into(), [10, 1, 9, 9].into()));
    assert!(!all.are_neighbours([10, 1, 2, 3].into(), [10, 2, 9, 9].into()));
    let found = wrong("[[dhcp.subnet]]\ncidr = \"0.0.0.0/0\"\n");
    assert!(found[0].starts_with("dhcp.subnet[1].netmask: missing"), "{found:?}");
}

#[test]
fn subnets_nest_when_they_say_so_and_pools_never_overlap() {
    let inner = "[[dhcp.subnet]]\ncidr = \"172.16.0.128/25\"\nnested = true\n";
    assert!(more(inner).is_ok());
    assert!(wrong(&inner.replace("true", "false"))[0].starts_with("dhcp.subnet[1].cidr: overlaps dhcp.subnet[0]"));
    let same = wrong("[[dhcp.subnet]]\ncidr = \"172.16.0.0/24\"\nnested = true\n");
    assert!(same[0].starts_with("dhcp.subnet[1].cidr: overlaps"), "{same:?}");
    let pool = "pool = { first = \"172.16.0.200\", last = \"172.16.0.210\" }\n";
    let found = wrong(&format!("{pool}{inner}{pool}"));
    assert!(
        found[0].starts_with("dhcp.subnet[1].pool: 172.16.0.200 to 172.16.0.210 overlaps"),
        "{found:?}"
    );
    for (pool, says) in [
        (
            "first = \"172.16.1.1\", last = \"172.16.1.9\"",
            "dhcp.subnet[0].pool.first: 172.16.1.1 is not a host address of",
        ),
        (
            "first = \"172.16.0.9\", last = \"172.16.0.1\"",
            "dhcp.subnet[0].pool.last: 172.16.0.1 is before",
        ),
        (
            "first = \"172.16.0.250\", last = \"172.16.0.254\"",
            "dhcp.subnet[0].pool: holds 172.16.0.254, which is bootd's own",
        ),
    ] {
        let found = wrong(&format!("pool = {{ {pool} }}"));
        assert!(found[0].starts_with(says), "{found:?}");
    }
}

#[test]
fn a_rule_has_criteria_and_does_something() {
    let text = r#"
        [[dhcp.rule]]
        name = "compute"
        type = ["Node"]
        id = ["X1000c0s[0-3]b0n0"]
        subnet = ["10.0.0.7/8"]
        mac = ["02-00-00:*"]
        hostname = "c{03d}"
        domain_append = ["rule", "global"]
        netmask = "subnet"
        routers = ["10.0.0.1"]
        continue = true
        log = "debug"
        [[dhcp.rule]]
        group = ["old"]
        ignore = true
    "#;
    let [first, second] = more(text).unwrap().dhcp.rules.try_into().unwrap();
    assert_eq!((first.name.as_str(), second.name.as_str()), ("compute", "rule[1]"));
    assert!(first.criteria.ids[0].fits(b"x1000c0s2b0n0") && first.criteria.macs[0].fits(b"02:00:00:00:00:01"));
    assert_eq!(first.criteria.subnets[0].to_string(), "10.0.0.0/8");
    assert!(first.goes_on && first.mask_of_subnet && second.ignore && !second.goes_on);
    assert_eq!(first.options.get(3).unwrap().value(), [10, 0, 0, 1]);
    for (rule, says) in [
        ("type = [\"Node\"]", "dhcp.rule[0]: does nothing"),
        (
            "hostname = \"a b\"",
            "dhcp.rule[0].hostname: 'a b': ' ' is not a letter",
        ),
        (
            "hostname = \"a\"\nid = [\"x[9-1]\"]",
            "dhcp.rule[0].id[0]: 'x[9-1]': brackets",
        ),
        (
            "hostname = \"a\"\narch = [\"vax\"]",
            "dhcp.rule[0].arch[0]: 'vax': no such architecture",
        ),
        ("netmask = \"subnet\"", "dhcp.rule[0].netmask: \"subnet\" is the mask"),
        (
            "netmask = \"255.0.255.0\"",
            "dhcp.rule[0].netmask: '255.0.255.0' is not a netmask",
        ),
        (
            "hostname = \"a\"\ndomain_append = [\"both\"]",
            "dhcp.rule[0].domain_append[0]: 'both'",
        ),
        (
            "ignore = true\nlog = \"loud\"",
            "dhcp.rule[0].log: 'loud' is not one of",
        ),
        (
            "ignore = true\nid_set = 1",
            "dhcp.rule[0].id_set: no such key; there are name, type,",
        ),
        ("options = { mtu = 1 }", "dhcp.rule[0].options.mtu: 1 is not"),
        (
            "ignore = true\nsubnet = [\"10.0.0.0\"]",
            "dhcp.rule[0].subnet[0]: '10.0.0.0'",
        ),
    ] {
        let found = wrong(&format!("[[dhcp.rule]]\n{rule}\n"));
        assert!(found.len() == 1 && found[0].starts_with(says), "{rule}: {found:?}");
    }
}

#[test]
fn what_is_about_other_clients_has_its_defaults_and_its_mistakes() {
    let dhcp = more("").unwrap().dhcp;
    assert_eq!((dhcp.threads, dhcp.rate_limit, dhcp.probe.as_millis()), (1, 64, 300));
    assert_eq!(dhcp.hostnames["Node"].to_string(), "nid{04d}");
    let text = r#"
        [dhcp]
        ipv6_only = "0s"
        probe = "0s"
        nbp = "tftp://10.0.0.1:69/pxe/lpxelinux.0"
        ignore = ["02-00-00-00-00-01"]
        hostnames = { "*" = "unknown-{04d}" }
        bind_to = "client-id"
        script_url = "http://10.0.0.1/boot?x=1"
        [dhcp.hosts]
        file = "hosts.txt"
        [dhcp.unknown]
        autoconfigure = "AutoConfigure"
        script = "default"
        [compat]
        strict = true
        bootloop_nak = "always"
        import_leases = [{ file = "/tmp/coredhcp.db" }]
        [tftp]
        address = "0.0.0.0"
        [http]
        listener = []
    "#;
    let config = more(text).unwrap();
    let dhcp = &config.dhcp;
    let nbp = dhcp.nbp.as_ref().unwrap();
    assert_eq!(
        (nbp.server.as_deref(), nbp.file.as_str()),
        (Some("10.0.0.1:69"), "/pxe/lpxelinux.0")
    );
    let hosts = dhcp.hosts.as_ref().unwrap();
    assert_eq!(
        (hosts.file.as_path(), hosts.lease_time.as_secs()),
        (Path::new("/etc/bootd/hosts.txt"), 3600)
    );
    assert!(dhcp.probe.is_zero() && dhcp.ipv6_only.is_some() && dhcp.ignore.len() == 1);
    assert!(config.http.listeners.is_empty() && config.compat.strict);
    assert_eq!(config.compat.import_leases, [Path::new("/tmp/coredhcp.db")]);
    let url = more("[dhcp]\nnbp = \"http://10.0.0.1/x\"").unwrap().dhcp.nbp.unwrap();
    assert_eq!((url.server, url.file.as_str()), (None, "http://10.0.0.1/x"));
    for (text, says) in [
        ("[dhcp]\nnbp = \"pxelinux.0\"", "dhcp.nbp: "),
        ("[dhcp]\nthreads = 0", "dhcp.threads: 0 is not"),
        ("[dhcp]\nprobe = \"5s\"", "dhcp.probe: longer"),
        (
            "[dhcp.router_advertisement]\nlifetime = \"10s\"",
            "dhcp.router_advertisement.lifetime: shorter",
        ),
        (
            "[dhcp.router_advertisement]\nprefixes = [\"fd00::1/64\"]",
            "dhcp.router_advertisement.prefixes[0]: 'fd00::1/64': has bits",
        ),
        (
            "[dhcp.router_advertisement]\nprefixes = [\"fd00::/48\"]",
            "dhcp.router_advertisement.prefixes[0]: 'fd00::/48': not 64",
        ),
        (
            "[dhcp.router_advertisement]\nprefixes = [\"fe80::/64\"]",
            "dhcp.router_advertisement.prefixes[0]: 'fe80::/64': no prefix",
        ),
        (
            "[dhcp.router_advertisement]\nprefixes = [\"fd00::/64\", \"fd00::/64\"]",
            "dhcp.router_advertisement.prefixes[1]: is there already",
        ),
        (
            "[dhcp]\nrouter_solicitations = false\n[dhcp.router_advertisement]\nlifetime = \"1h\"",
            "dhcp.router_advertisement: nothing of it is sent",
        ),
        ("[dhcp]\nport = 0", "dhcp.port: 0 is no port"),
        ("[dhcp6]\nport = 0", "dhcp6.port: 0 is no port"),
        ("[dhcp6]\ninterfaces = []", "dhcp6.interfaces: empty"),
        ("[tftp]\nport = 0", "tftp.port: 0 is no port"),
        (
            "[dhcp]\nbind_to = \"duid\"",
            "dhcp.bind_to: 'duid' is not one of \"mac\", \"client-id\"",
        ),
        ("[dhcp]\nignore = [\"x\"]", "dhcp.ignore[0]: 'x'"),
        (
            "[dhcp]\nhostnames = { Node = \"nid{x}\" }",
            "dhcp.hostnames.Node: 'nid{x}'",
        ),
        (
            "[dhcp]\nscript_url = \"bootscript\"",
            "dhcp.script_url: 'bootscript' is not a URL",
        ),
        ("[dhcp.hosts]\nrefresh = true", "dhcp.hosts.file: missing"),
        (
            "[dhcp.unknown]\nautoconfigure = \"2\"",
            "dhcp.unknown.autoconfigure: '2' is not one of",
        ),
        ("[compat]\nbootloop_nak = \"never\"", "compat.bootloop_nak: 'never'"),
        (
            "[compat]\nimport_leases = [{}]",
            "compat.import_leases[0].file: missing",
        ),
    ] {
        let found = wrong(text);
        assert!(found.len() == 1 && found[0].starts_with(says), "{text}: {found:?}");
    }
}

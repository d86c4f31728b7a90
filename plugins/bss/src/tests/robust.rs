//! Nothing that a client sends panics, or is answered with 5xx.

use super::*;

#[test]
fn no_mutation_of_a_request_panics_on_any_route() {
    let (_, bss) = start(json!({"legacy_cloud_init": true, "boot": data("boot-compute.yaml")}));
    let routes = bss.setup.routes.clone();
    let seeds: Vec<Vec<u8>> = [
        r#"mac=52:54:00:be:ef:01&retry=3&arch=x86_64&json=1"#,
        r#"name=x1000c0s0b0n0,Default&nid=1,2&key=a.b&endpoint=bootscript"#,
        r#"{"hosts":["x1000c0s0b0n0"],"macs":["52:54:00:be:ef:01"],"nids":[1],"kernel":"http://h/{{xname}}","initrd":"{{kernel}}.img","params":"ro {{nid}} ${x}"}"#,
        r#"{"macs":["52:54:00:be:ef:02"],"params":"a","cloud-init":{"meta-data":{"a":{"b":1}},"user-data":null,"phone-home":{"fqdn":"x"}}}"#,
        "- kernel: http://h/k\n  macs:\n  - 52:54:00:be:ef:01\n  cloud-init: {meta-data: {a: 1}}\n",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec();
    let mut turn = 0usize;
    bootd_sdk::fake::mutations(&seeds, 6000, |text| {
        turn += 1;
        let route = &routes[turn % routes.len()];
        let request = Request {
            method: route.method.clone(),
            path: route.prefix.clone(),
            query: text.chars().filter(|c| !c.is_control()).collect(),
            body: text.into(),
            node: turn.is_multiple_of(2).then(|| node(1)),
            scheme: "http".into(),
            host: "h".into(),
            ..Request::default()
        };
        let answer = bss.handle(&request).unwrap();
        assert!(
            answer.status < 500,
            "{} {} {text}: {}",
            route.method,
            route.prefix,
            answer.body
        );
        if let Some(line) = answer.body.strip_prefix("#!ipxe\n") {
            let known = [
                "kernel --name kernel ",
                "initrd --name initrd ",
                "boot || ",
                ":boot_retry",
                "sleep ",
                "chain http",
            ];
            assert!(
                line.lines()
                    .all(|line| line.is_empty() || known.iter().any(|known| line.starts_with(known))),
                "{line}"
            );
        }
    });
    // What such requests stored can be exported, and taken back.
    let exported = bss.get("/bootd/v1/export/bss", None).unwrap().body;
    let (_, other) = start(json!({}));
    let imported = send(&other, "POST", "/bootd/v1/import/bss", &exported);
    assert_eq!(imported.status, 204, "{}\n{exported}", imported.body);
    assert_eq!(list(&other, ""), list(&bss, ""));
}

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

fn export(smd: &Instance) -> String {
    send(smd, "GET", "/bootd/v1/export/smd", "").body
}

#[test]
fn an_export_is_taken_back_by_an_import_and_by_a_nodes_file() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/nodes.yaml");
    let host = FakeHost::new();
    let smd = host.start::<Smd>(json!({"nodes": data})).unwrap();
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/groups/compute",
            json!({"description": "a: \"b\" #c", "tags": ["t"]})
        ),
        204
    );
    assert_eq!(
        status(
            &smd,
            "POST",
            "/partitions",
            json!({"name": "p1", "members": {"ids": ["x1000c0s0b0n0"]}})
        ),
        201
    );
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/State/Components/x1000c0s0b1n0/Enabled",
            json!({"Enabled": false})
        ),
        204
    );
    let text = export(&smd);
    let (other, imported) = empty();
    let answer = send(&imported, "POST", "/bootd/v1/import/smd", &text);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(export(&imported), text);
    let sorted = |host: &FakeHost| {
        let mut nodes = host.published();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    };
    assert_eq!(sorted(other), sorted(host));
    assert_eq!(get(&imported, "/groups"), get(&smd, "/groups"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    fs::write(&path, &text).unwrap();
    let third = FakeHost::new();
    let _smd = third.start::<Smd>(json!({"nodes": path})).unwrap();
    assert_eq!(third.health().mistakes, []);
    assert_eq!(sorted(third), sorted(host));
}

#[test]
fn an_import_with_mistakes_changes_nothing_and_tells_each_with_its_line() {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1)]);
    let text = "nodes:\n- {xname: x0c0s1b0n0, nid: 2, interfaces: []}\n- {xname: bad, nid: 3, interfaces: []}\ngroups:\n- {label: 'a b'}\n";
    let (status, detail) = {
        let answer = send(&smd, "POST", "/bootd/v1/import/smd", text);
        (answer.status, answer.body)
    };
    assert!(
        status == 400 && detail.contains("import:3: xname: 'bad'") && detail.contains("import:5: label: 'a b'"),
        "{detail}"
    );
    let absent = "nodes: []\ngroups:\n- {label: a, members: [x0c0s0b0n0, x9c0s0b0n0]}\n";
    assert_eq!(send(&smd, "POST", "/bootd/v1/import/smd", absent).status, 400);
    assert_eq!(get(&smd, "/groups"), json!([]));
    assert_eq!(host.published().len(), 1);
    assert_eq!(send(&smd, "POST", "/bootd/v1/import/smd", "nodes: [").status, 400);
}

#[test]
fn what_a_client_wrote_of_the_files_rows_outlives_a_restart_and_the_rows_departure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.yaml");
    let node = |n: u32| {
        format!(
            "- {{name: c{n}, nid: {n}, xname: x0c0s{n}b0n0, group: g, interfaces: [{{mac_addr: '52:54:00:00:00:0{n}'}}]}}\n"
        )
    };
    fs::write(&path, format!("nodes:\n{}{}{}", node(1), node(2), node(3))).unwrap();
    let host = FakeHost::new();
    let start = || host.start::<Smd>(json!({"nodes": path})).unwrap();
    let smd = start();
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/State/Components/x0c0s1b0n0/Role",
            json!({"Role": "Storage"})
        ),
        204
    );
    drop(smd);
    let smd = start();
    assert_eq!(
        published(host, "x0c0s1b0n0").unwrap().role,
        "Storage",
        "an unchanged row of the file is not written again"
    );
    fs::write(&path, format!("nodes:\n{}", node(3).replace("c3", "other"))).unwrap();
    host.sleeps(3);
    assert!(smd.run());
    assert_eq!(
        ids(&smd, "/State/Components"),
        ["x0c0s1b0n0", "x0c0s3b0n0"],
        "a client wrote the first since"
    );
    assert_eq!(published(host, "x0c0s3b0n0").unwrap().name, "other");
    assert_eq!(
        get(&smd, "/groups/g/members"),
        json!({"ids": ["x0c0s1b0n0", "x0c0s3b0n0"]})
    );
    let rest: Vec<_> = host
        .stored()
        .into_keys()
        .filter(|key| key.contains("x0c0s2b0n0"))
        .collect();
    assert_eq!(rest, [""; 0]);
}

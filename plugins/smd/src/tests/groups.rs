use serde_json::{Value, json};

use super::*;

fn with_nodes() -> (&'static FakeHost, Instance) {
    let (host, smd) = empty();
    nodes(&smd, &[("x0c0s0b0n0", 1), ("x0c0s1b0n0", 2), ("x0c0s2b0n0", 3)]);
    (host, smd)
}

#[test]
fn a_group_is_made_shown_and_reaches_the_inventory() {
    let (host, smd) = with_nodes();
    let body = json!({"label": "Compute", "description": "d", "tags": ["A"], "members": {"ids": ["x0c0s1b0n0", "X0c0s0b0n0"]}});
    let answer = send(&smd, "POST", "/groups", &body.to_string());
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (201, r#"[{"URI":"/hsm/v2/groups/compute"}]"#)
    );
    let row = json!({"label": "compute", "description": "d", "tags": ["a"], "members": {"ids": ["x0c0s0b0n0", "x0c0s1b0n0"]}});
    assert_eq!(get(&smd, "/groups"), json!([row]));
    assert_eq!(get(&smd, "/groups/Compute"), row);
    assert_eq!(get(&smd, "/groups?group=compute&tag=a"), json!([row]));
    assert_eq!(get(&smd, "/groups?tag=b"), json!([]));
    assert_eq!(get(&smd, "/groups/labels"), json!(["compute"]));
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().groups, ["compute"]);
    let smd = again(host);
    assert_eq!(get(&smd, "/groups/compute"), row);
    assert_eq!(
        get(&smd, "/memberships/x0c0s0b0n0"),
        json!({"id": "x0c0s0b0n0", "groupLabels": ["compute"], "partitionName": ""})
    );
    assert_eq!(get(&smd, "/memberships?group=compute").as_array().unwrap().len(), 2);
    assert_eq!(get(&smd, "/memberships").as_array().unwrap().len(), 3);
    assert_eq!(status(&smd, "DELETE", "/groups/compute", Value::Null), 200);
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().groups, [""; 0]);
}

#[test]
fn a_label_that_is_taken_and_ids_that_stand_twice_are_refused_with_409() {
    let (_host, smd) = with_nodes();
    assert_eq!(
        status(&smd, "POST", "/groups", json!({"label": "a", "members": {}})),
        201
    );
    let detail =
        "operation would conflict with an existing group that has the same label or duplicate ids found in request.";
    assert_eq!(
        refused(&smd, "POST", "/groups", json!({"label": "A"})),
        (409, detail.into())
    );
    let twice = json!({"label": "b", "members": {"ids": ["x0c0s0b0n0", "x0c0s0b0n0"]}});
    assert_eq!(refused(&smd, "POST", "/groups", twice), (409, detail.into()));
}

#[test]
fn a_member_of_another_exclusive_group_is_refused_with_409() {
    let (_host, smd) = with_nodes();
    let group = |label: &str, ids: Value| json!({"label": label, "exclusiveGroup": "E", "members": {"ids": ids}});
    assert_eq!(status(&smd, "POST", "/groups", group("a", json!(["x0c0s0b0n0"]))), 201);
    let detail = "operation would conflict with an existing member in another exclusive group.";
    assert_eq!(
        refused(&smd, "POST", "/groups", group("b", json!(["x0c0s1b0n0", "x0c0s0b0n0"]))),
        (409, detail.into())
    );
    assert_eq!(status(&smd, "GET", "/groups/b", Value::Null), 404);
    assert_eq!(status(&smd, "POST", "/groups", group("b", json!([]))), 201);
    assert_eq!(
        refused(&smd, "POST", "/groups/b/members", json!({"id": "x0c0s0b0n0"})),
        (409, detail.into())
    );
    assert_eq!(
        refused(&smd, "PUT", "/groups/b/members", json!({"ids": ["x0c0s0b0n0"]})),
        (409, detail.into())
    );
    assert_eq!(get(&smd, "/groups/a")["exclusiveGroup"], "e");
}

#[test]
fn what_a_group_cannot_be_is_refused() {
    let (_host, smd) = with_nodes();
    let invalid = "couldn't validate group: group or partition field has invalid characters";
    for body in [
        json!({"label": ""}),
        json!({"label": "a b"}),
        json!({"label": "a", "tags": ["ä"]}),
        json!({"label": "a/b"}),
    ] {
        assert_eq!(refused(&smd, "POST", "/groups", body), (400, invalid.into()));
    }
    let absent = json!({"label": "a", "members": {"ids": ["x9c0s0b0n0"]}});
    assert!(
        refused(&smd, "POST", "/groups", absent)
            .1
            .contains("linked component does not exist")
    );
    let wrong = json!({"label": "a", "members": {"ids": ["nobody"]}});
    assert_eq!(
        refused(&smd, "POST", "/groups", wrong),
        (400, "invalid xname ID: nobody".into())
    );
    assert_eq!(
        refused(&smd, "GET", "/groups?group=a%20b", Value::Null),
        (400, "Invalid group label.".into())
    );
    assert_eq!(
        refused(&smd, "GET", "/groups/none", Value::Null),
        (404, "No such group: none".into())
    );
    assert_eq!(get(&smd, "/groups"), json!([]));
}

#[test]
fn a_patch_changes_texts_and_adds_members_and_never_takes_one() {
    let (_host, smd) = with_nodes();
    assert_eq!(
        status(
            &smd,
            "POST",
            "/groups",
            json!({"label": "a", "description": "d", "members": {"ids": ["x0c0s0b0n0"]}})
        ),
        201
    );
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/groups/a",
            json!({"label": "a", "description": "e", "tags": ["t"], "members": {}})
        ),
        204
    );
    assert_eq!(
        status(
            &smd,
            "PATCH",
            "/groups/a",
            json!({"members": {"ids": ["x0c0s1b0n0", "x0c0s0b0n0"]}})
        ),
        204
    );
    let row =
        json!({"label": "a", "description": "e", "tags": ["t"], "members": {"ids": ["x0c0s0b0n0", "x0c0s1b0n0"]}});
    assert_eq!(get(&smd, "/groups/a"), row);
    assert_eq!(
        refused(&smd, "PATCH", "/groups/a", json!({"members": {}})),
        (400, "Request must have at least one patch field.".into())
    );
    assert_eq!(
        refused(&smd, "PATCH", "/groups/b", json!({"description": ""})),
        (404, "no such group.".into())
    );
}

#[test]
fn members_come_one_by_one_and_are_set_and_go() {
    let (host, smd) = with_nodes();
    assert_eq!(status(&smd, "POST", "/groups", json!({"label": "a"})), 201);
    let answer = send(&smd, "POST", "/groups/a/members", r#"{"id":"x0c0s0b0n0"}"#);
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (201, r#"[{"URI":"/hsm/v2/groups/a/members/x0c0s0b0n0"}]"#)
    );
    assert_eq!(
        refused(&smd, "POST", "/groups/a/members", json!({"id": "x0c0s0b0n0"})).0,
        409
    );
    assert_eq!(
        refused(&smd, "POST", "/groups/b/members", json!({"id": "x0c0s0b0n0"})),
        (404, "No such group: b".into())
    );
    assert_eq!(
        refused(&smd, "POST", "/groups/a/members", json!({"id": "y"})),
        (400, "invalid xname ID".into())
    );
    assert_eq!(
        status(
            &smd,
            "PUT",
            "/groups/a/members",
            json!({"group": "z", "ids": ["x0c0s2b0n0", "x0c0s1b0n0"]})
        ),
        201
    );
    assert_eq!(
        get(&smd, "/groups/a/members"),
        json!({"ids": ["x0c0s1b0n0", "x0c0s2b0n0"]})
    );
    assert_eq!(published(host, "x0c0s0b0n0").unwrap().groups, [""; 0]);
    assert_eq!(
        refused(&smd, "PUT", "/groups/a/members", json!({"ids": ["y", "x1"]})),
        (400, "invalid xname IDs: [y]".into())
    );
    assert_eq!(
        refused(&smd, "DELETE", "/groups/a/members/x0c0s0b0n0", Value::Null),
        (404, "group has no such member.".into())
    );
    assert_eq!(status(&smd, "DELETE", "/groups/a/members/x0c0s1b0n0", Value::Null), 200);
    assert_eq!(status(&smd, "PUT", "/groups/a/members", json!({"ids": []})), 204);
    assert_eq!(get(&smd, "/groups/a/members"), json!({"ids": []}));
}

#[test]
fn a_component_is_in_one_partition_at_most() {
    let (_host, smd) = with_nodes();
    assert_eq!(
        status(
            &smd,
            "POST",
            "/partitions",
            json!({"name": "p1", "members": {"ids": ["x0c0s0b0n0"]}})
        ),
        201
    );
    assert_eq!(status(&smd, "POST", "/partitions", json!({"name": "p2.1"})), 201);
    assert_eq!(status(&smd, "POST", "/partitions", json!({"name": "part"})), 400);
    let detail = "operation would conflict with an existing member in another partition.";
    assert_eq!(
        refused(&smd, "POST", "/partitions/p2.1/members", json!({"id": "x0c0s0b0n0"})),
        (409, detail.into())
    );
    assert_eq!(
        refused(&smd, "POST", "/partitions/p99/members", json!({"id": "x0c0s0b0n0"})),
        (404, "No such partition: p99".into())
    );
    assert_eq!(
        refused(&smd, "PATCH", "/partitions/p99", json!({"description": ""})),
        (404, "no such partition.".into())
    );
    assert_eq!(get(&smd, "/partitions/names"), json!(["p1", "p2.1"]));
    assert_eq!(
        get(&smd, "/partitions/p1"),
        json!({"name": "p1", "description": "", "members": {"ids": ["x0c0s0b0n0"]}})
    );
    assert_eq!(get(&smd, "/memberships/x0c0s0b0n0")["partitionName"], "p1");
    let group = json!({"label": "g", "members": {"ids": ["x0c0s0b0n0", "x0c0s1b0n0"]}});
    assert_eq!(status(&smd, "POST", "/groups", group), 201);
    assert_eq!(
        get(&smd, "/groups/g?partition=p1")["members"]["ids"],
        json!(["x0c0s0b0n0"])
    );
    assert_eq!(
        get(&smd, "/groups/g/members?partition=NULL")["ids"],
        json!(["x0c0s1b0n0"])
    );
}

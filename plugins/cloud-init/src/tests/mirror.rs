//! What a site's bodies do to the book, without a site.

use crate::book::{Book, By};
use crate::mirror::{self, Part, Said, WrongShape};
use bootd_sdk::changes::Changes;
use bootd_sdk::upstream::Loss;

use super::*;

pub(super) const DEFAULTS: &str = r#"{"cloud_provider":"site","cluster-name":"demo","public-keys":["k1"],"base-url":"http://10.0.0.1:8081/cloud-init/","short-name":"nid","nid-length":3}"#;
pub(super) const GROUPS: &str = r##"{"compute":{"name":"compute","description":"c","file":{"content":"I2E=","filename":"","encoding":"base64"}},"io":{"name":"io","file":{"content":"#b","filename":""}}}"##;

/// The book after the site said this of that.
fn book_of(book: &Book, part: Part, said: Result<Said, WrongShape>) -> Book {
    mirror::draft(book, part, &said.unwrap()).done().0
}

fn mirrored() -> Book {
    let book = book_of(&Book::default(), Part::Defaults, mirror::defaults(DEFAULTS));
    book_of(&book, Part::Groups, mirror::groups(GROUPS))
}

#[test]
fn what_a_site_says_becomes_the_book_and_the_same_again_changes_nothing() {
    let book = mirrored();
    let defaults = &book.documents.defaults;
    assert_eq!(defaults.base_url.as_deref(), Some("http://10.0.0.1:8081/cloud-init"));
    assert_eq!((defaults.nid_length, defaults.public_keys.len()), (Some(3), 1));
    assert_eq!(
        book.documents.groups["compute"].content,
        crate::model::Content::Text("#a".into())
    );
    assert_eq!(book.row("group/io").unwrap().by, By::Site);
    for (part, said) in [
        (Part::Defaults, mirror::defaults(DEFAULTS)),
        (Part::Groups, mirror::groups(GROUPS)),
    ] {
        let (same, changes) = mirror::draft(&book, part, &said.unwrap()).done();
        assert!(same == book && changes.is_empty(), "{changes:?}");
    }
}

#[test]
fn rows_that_come_go_and_change_are_counted() {
    let groups = r##"{"io":{"name":"io","file":{"content":"#c","filename":""}},"new":{"name":"new","file":{"content":"","filename":""}}}"##;
    let changes =
        |book: &Book, groups: &str| mirror::draft(book, Part::Groups, &mirror::groups(groups).unwrap()).changes();
    let (added, removed, changed) = (1, 1, 1);
    assert_eq!(
        changes(&mirrored(), groups),
        Changes {
            added,
            removed,
            changed
        }
    );
    assert_eq!(changes(&mirrored(), GROUPS), Changes::default());
}

#[test]
fn what_is_gone_at_the_site_goes_and_only_from_its_part() {
    let book = book_of(
        &mirrored(),
        Part::Groups,
        mirror::groups(r#"{"io":{"name":"io","file":{"content":"","filename":""}}}"#),
    );
    assert_eq!(book.documents.groups.keys().collect::<Vec<_>>(), ["io"]);
    let book = book_of(
        &book,
        Part::Defaults,
        mirror::defaults(r#"{"cluster-name":"new","region":"","nid-length":0}"#),
    );
    let set = book.documents.defaults.fields();
    assert_eq!(Value::Object(set), json!({"cluster-name": "new"}));
    assert_eq!(book.documents.groups.len(), 1);
}

#[test]
fn bodies_of_another_shape_are_nothing_to_take() {
    let bodies = [
        "",
        "null",
        "[]",
        "7",
        "\"ok\"",
        "<html>Bad Gateway</html>",
        r#"{"error":"no"}"#,
        r#"{"code":500,"message":"database is locked"}"#,
        r#"{"type":"about:blank","title":"Internal Server Error","detail":"x","status":500}"#,
        r#"{"error":{"code":1}}"#,
        r#"[{"name":"a"}]"#,
        r#"{"name":"a""#,
        &GROUPS[..GROUPS.len() - 9],
        &DEFAULTS[..DEFAULTS.len() - 9],
        &"[".repeat(100_000),
    ];
    for body in bodies {
        let start: String = body.chars().take(50).collect();
        assert!(mirror::defaults(body).is_err(), "defaults: {start}");
        assert!(mirror::groups(body).is_err(), "groups: {start}");
    }
    assert!(mirror::defaults(GROUPS).is_err());
    assert!(mirror::groups(DEFAULTS).is_err());
}

#[test]
fn a_row_that_cannot_be_read_costs_only_itself_and_what_was_there_stays() {
    let groups = r#"{"compute":{"name":"compute","file":{"encoding":"gzip"}},"a/b":{"name":"a"},"x":7,"new":{"file":{"content":"n"}}}"#;
    let said = mirror::groups(groups).unwrap();
    let told: Vec<&str> = said.mistakes.iter().map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "group a/b: /name: must be one word of a URL, without '/'",
            "group compute: /file/encoding: must be one of plain, base64",
            "group x: not a group",
        ]
    );
    let book = mirror::draft(&mirrored(), Part::Groups, &said).done().0;
    assert_eq!(book.documents.groups.keys().collect::<Vec<_>>(), ["compute", "new"]);
    assert_eq!(book.documents.groups["compute"].data.description.as_deref(), Some("c"));

    let defaults = r#"{"cluster-name":"other","nid-length":"3","base-url":"172.16.0.254","cloud-provider":7,"public-keys":["k2"]}"#;
    let said = mirror::defaults(defaults).unwrap();
    assert_eq!(said.mistakes.len(), 3, "{:?}", said.mistakes);
    let book = mirror::draft(&mirrored(), Part::Defaults, &said).done().0;
    let kept = &book.documents.defaults;
    assert_eq!(
        (kept.nid_length, kept.cloud_provider.as_deref()),
        (Some(3), Some("site"))
    );
    assert_eq!(
        (kept.public_keys.as_slice(), kept.short_name.as_deref()),
        (["k2".to_owned()].as_slice(), None)
    );
}

#[test]
fn a_document_that_cannot_be_decoded_takes_the_place_of_nothing_better() {
    let said = mirror::groups(r#"{"compute":{"name":"compute","file":{"content":"***","encoding":"base64"}},"io":{"name":"io"},"bad":{"name":"bad","file":{"content":"/w==","encoding":"base64"}}}"#).unwrap();
    assert_eq!(said.mistakes.len(), 2);
    let groups = mirror::draft(&mirrored(), Part::Groups, &said)
        .done()
        .0
        .documents
        .groups;
    assert_eq!(groups["compute"].content, crate::model::Content::Text("#a".into()));
    assert_eq!(
        groups["bad"].content,
        crate::model::Content::Broken("is not UTF-8 text when decoded")
    );
}

#[test]
fn what_would_be_lost_is_counted_and_so_are_rows_from_before_the_site() {
    let losing = |part, said: Result<Said, WrongShape>| {
        let Loss { had, lost, has } = mirror::losing(&mirrored(), part, &said.unwrap(), None);
        (had, lost, has)
    };
    assert_eq!(losing(Part::Groups, mirror::groups("{}")), (2, 2, 0));
    assert_eq!(losing(Part::Defaults, mirror::defaults("{}")), (6, 6, 0));
    assert_eq!(
        losing(Part::Groups, mirror::groups(r#"{"io":{"name":"io"},"x":{"name":"x"}}"#)),
        (2, 1, 2)
    );
    assert_eq!(
        losing(Part::Groups, mirror::groups(r#"{"io":{"name":7},"x":{"name":"x"}}"#)),
        (2, 1, 2)
    );
    let before = Book::read(
        &[(
            "group/mine".to_owned(),
            r#"{"by":"api","value":{"name":"mine"}}"#.to_owned(),
        )]
        .into(),
    );
    let Loss { had, lost, .. } = mirror::losing(&before, Part::Groups, &mirror::groups(GROUPS).unwrap(), None);
    assert_eq!((had, lost), (1, 1));
}

#[test]
fn however_many_mistakes_there_are_few_are_told() {
    let mut groups = serde_json::Map::new();
    groups.insert("good".into(), json!({"name": "good"}));
    for n in 0..1000 {
        groups.insert(format!("bad{n}"), json!(n));
    }
    let said = mirror::groups(&Value::Object(groups).to_string()).unwrap();
    assert_eq!((said.mistakes.len(), said.mistakes[10].as_str()), (11, "and 990 more"));
}

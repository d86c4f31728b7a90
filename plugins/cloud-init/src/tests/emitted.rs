//! What is written as YAML is read back as it was.

use super::*;
use crate::apply::{Gone, apply};
use crate::book::Book;
use crate::emit::{Doc, document};
use crate::file::{Files, Kind, read_text};

#[test]
fn every_text_is_read_back_as_it_was() {
    let texts = [
        "",
        " ",
        "a",
        "a b",
        "a ",
        "no",
        "Null",
        "y",
        "1",
        "1.0",
        "1e5",
        "0x1",
        "1:30",
        "2024-01-01",
        "~",
        "- a",
        "a: b",
        "a:b",
        "a:",
        "a #b",
        "#a",
        "{a}",
        "[a]",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "'a'",
        "\"a\"",
        "a\nb",
        "a\tb",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "é",
        "😀",
        "<<",
        "=",
        "---",
        "...",
        "172.16.0.1",
        "172.16.0.999",
        "ssh-ed25519 AAAA+/= me@host",
        "\\",
    ];
    for text in texts {
        let map = vec![
            (format!("k{text}"), Doc::text(text)),
            (
                "list".into(),
                Doc::List(vec![Doc::text(text), Doc::Map(vec![(text.into(), Doc::text(text))])]),
            ),
        ];
        let yaml = document(&map);
        let read: Value = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{text:?}: {error}\n{yaml}"));
        assert_eq!(
            read,
            json!({format!("k{text}"): text, "list": [text, {text: text}]}),
            "{yaml}"
        );
    }
}

#[test]
fn no_mutation_of_a_file_panics_and_all_meta_data_is_yaml() {
    let instances = b"- id: x1000c0s0b0n0\n  hostname: nid001\n  public-keys: [a, b]\n".to_vec();
    let group = b"name: compute\nmeta-data:\n  a: {b: [1, 2.5, x, ~, true]}\nfile: {encoding: base64, content: Zm9v}\n"
        .to_vec();
    let seeds = [
        (Kind::Defaults, vec![fs::read(data("ci-defaults.yaml")).unwrap()]),
        (
            Kind::Groups,
            vec![fs::read(data("ci-group-compute.yaml")).unwrap(), group],
        ),
        (Kind::Instances, vec![instances]),
    ];
    for (kind, seeds) in seeds {
        bootd_sdk::fake::mutations(&seeds, 1500, |text| {
            let mut files = Files::default();
            read_text(kind, "f", text, &mut files);
            let (book, _) = apply(&Book::default(), &files.rows(), Gone::Deleted).done();
            let yaml = book.documents.meta_data(&compute1(), "http://h");
            let read = serde_saphyr::from_str::<Value>(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}\n{text}"));
            assert!(read["instance-id"].is_string());
        });
    }
}

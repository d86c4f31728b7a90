use super::*;

fn tree(text: &str) -> (Option<serde_json::Value>, Vec<String>) {
    let mut mistakes = Mistakes::new("f");
    let item = read(text, &mut mistakes);
    let mistakes = mistakes.into_list().iter().map(ToString::to_string).collect();
    (item.map(|item| item.json()), mistakes)
}

#[test]
fn scalars_keep_their_spelling_and_lines() {
    let mut mistakes = Mistakes::new("f");
    let item = read("# note\na: 525400110203\nb:\n- 007\n- \"x\"\n", &mut mistakes).unwrap();
    let Value::Map(entries) = item.value else { panic!() };
    assert_eq!(entries[0].item.value, Value::Plain("525400110203".into()));
    assert_eq!((entries[0].line, entries[1].line), (2, 3));
    let Value::List(items) = &entries[1].item.value else {
        panic!()
    };
    assert_eq!((items[0].text(), items[0].line), (Some("007"), 4));
    assert_eq!((items[1].text(), items[1].line), (Some("x"), 5));
}

#[test]
fn the_first_of_two_keys_counts_and_the_second_is_a_mistake() {
    assert_eq!(
        tree("a: 1\nb: 2\na: 3\n"),
        (
            Some(serde_json::json!({"a": 1, "b": 2})),
            vec!["f:3: the key 'a' is already on line 1; the first counts".into()]
        )
    );
}

#[test]
fn anchors_aliases_and_merges_work() {
    let text = "base: &b {x: 1, y: [2]}\none: *b\ntwo:\n  <<: *b\n  x: 3\n";
    assert_eq!(
        tree(text).0.unwrap(),
        serde_json::json!({"base": {"x": 1, "y": [2]}, "one": {"x": 1, "y": [2]}, "two": {"x": 3, "y": [2]}})
    );
}

#[test]
fn broken_empty_and_double_documents_are_one_mistake() {
    let one = |text: &str| {
        let (item, mistakes) = tree(text);
        assert_eq!((item, mistakes.len()), (None, 1), "{text} {mistakes:?}");
        mistakes.into_iter().next().unwrap()
    };
    assert!(one("a: 1\nb: [1, 2\nc: 3\n").starts_with("f:"));
    assert_eq!(one(""), "f: is empty");
    assert_eq!(one("# only a note\n---\n"), "f: is empty");
    assert!(one("a: 1\n---\nb: 1\n").starts_with("f:"));
    assert!(one("a: *nobody\n").starts_with("f:1: is not YAML"));
    assert!(one(&"[".repeat(10_000)).starts_with("f:1:"));
    assert!(one(&"- ".repeat(200)).starts_with("f:1:"));
}

#[test]
fn aliases_cannot_make_a_small_file_huge() {
    let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(",");
        text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let (item, mistakes) = tree(&text);
    assert_eq!(item, None);
    assert!(mistakes[0].contains("repeat too much"), "{mistakes:?}");
}

#[test]
fn numbers_and_words_are_told_apart() {
    let text = "[1, -2, 1.5, 1e3, inf, nan, e, '1', true, no, 0x10, 18446744073709551615, .5, ~]";
    assert_eq!(
        tree(text).0.unwrap(),
        serde_json::json!([
            1,
            -2,
            1.5,
            1000.0,
            "inf",
            "nan",
            "e",
            "1",
            true,
            "no",
            "0x10",
            18446744073709551615u64,
            0.5,
            null
        ])
    );
}

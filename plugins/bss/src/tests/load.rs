//! Boot data of ten thousand nodes.

use super::*;

fn mac(n: u16) -> String {
    let [high, low] = n.to_be_bytes();
    Mac([0x52, 0x54, 0, 1, high, low]).to_string()
}

#[test]
fn one_request_names_ten_thousand_macs() {
    let (host, bss) = start(json!({}));
    let macs: Vec<String> = (0..10_000).map(mac).collect();
    let path = "/boot/v1/bootparameters";
    let bumps = host.bumps();
    let body = json!({"macs": macs, "kernel": "http://h/k", "params": "ro"});
    assert_eq!(send(&bss, "PUT", path, &body.to_string()).status, 200);
    assert_eq!(
        send(&bss, "PATCH", path, &json!({"macs": macs, "params": "rw"}).to_string()).status,
        200
    );
    assert_eq!(host.bumps(), bumps + 2, "one commit for each request");
    let all = list(&bss, "");
    assert_eq!((all.as_array().unwrap().len(), &all[0]["params"]), (1, &json!("rw")));
    assert_eq!(all[0]["macs"], json!(macs), "in the order of the request");
    assert_eq!(
        list(&bss, &format!("?mac={}", mac(9_999)))[0]["macs"],
        json!([mac(9_999)])
    );
    drop(bss);
    let again = host.start::<Bss>(json!({})).unwrap();
    assert_eq!(list(&again, ""), all);
    assert_eq!(
        send(&again, "DELETE", path, &json!({"macs": macs}).to_string()).status,
        200
    );
    assert_eq!(list(&again, ""), Value::Null);
}

#[test]
fn a_look_up_takes_as_long_among_ten_thousand_as_among_ten() {
    let book = |count: u16| {
        let mut draft = crate::book::Draft::of(&Book::default());
        for n in 0..count {
            let config = crate::entry::Config {
                kernel: format!("http://h/{n}"),
                ..Default::default()
            };
            let target = crate::entry::Target::Mac(mac(n).parse().unwrap());
            draft.set(&target, &config, crate::book::By::Api);
        }
        draft.done().0
    };
    let time = |book: &Book| {
        let node = node(1);
        let begin = std::time::Instant::now();
        for _ in 0..2_000 {
            assert!(book.choose(Some(mac(7).parse().unwrap()), &node).is_some());
            assert!(book.choose(None, &node).is_none());
        }
        begin.elapsed()
    };
    let (few, many) = (book(10), book(10_000));
    time(&many);
    // A walk over all would take a thousand times as long.
    let (few, many) = (time(&few), time(&many));
    assert!(many < few * 50, "{few:?} {many:?}");
}

//! The fuzzer's corpus, once through: what it found stays found.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

#[test]
fn packets_of_the_corpus_get_good_answers_or_none() {
    replay("dhcp4", checks::dhcp4);
}

#[test]
fn relay_options_of_the_corpus_come_back_as_they_were() {
    replay("relay_options", checks::relay_options);
}

#[test]
fn files_of_the_corpus_are_refused_or_come_to_a_good_configuration() {
    replay("coredhcp_yaml", checks::coredhcp_yaml);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut number = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(&path).unwrap());
        number += 1;
    }
    assert!(number > 0, "{} is empty", folder.display());
}

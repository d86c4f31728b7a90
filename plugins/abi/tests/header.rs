//! `include/bootd_plugin.h` is what `src/lib.rs` says, in C: made by cbindgen, compared with the file that is checked in, and compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use bootd_abi as abi;

const RENEW: &str = "BOOTD_WRITE_HEADER=1 cargo test -p bootd-abi";

#[test]
fn the_header_that_is_checked_in_is_the_one_made_from_the_source() {
    let path = root().join("include/bootd_plugin.h");
    let made = header();
    if std::env::var_os("BOOTD_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "include/bootd_plugin.h is not made from this src/lib.rs.\n{}To renew it: {RENEW}\n",
        difference(&there, &made)
    );
}

#[test]
fn the_header_compiles_without_a_warning_as_c_and_as_cpp() {
    for (compiler, language) in [
        ("cc", "-std=c99"),
        ("cc", "-std=c17"),
        ("c++", "-std=c++11"),
        ("c++", "-std=c++20"),
    ] {
        let mut command = Command::new(compiler);
        command
            .arg(language)
            .args(["-x", if compiler == "cc" { "c" } else { "c++" }]);
        compile(command.arg(root().join("include/bootd_plugin.h")), "header");
    }
}

#[test]
fn c_and_rust_agree_on_every_offset() {
    let (host, plugin) = (size_of::<abi::Host>(), size_of::<abi::Plugin>());
    compile(
        Command::new("cc")
            .arg("-std=c11")
            .arg(format!("-DRUST_HOST_SIZE={host}"))
            .arg(format!("-DRUST_PLUGIN_SIZE={plugin}"))
            .arg(root().join("tests/layout.c")),
        "layout",
    );
}

fn compile(command: &mut Command, name: &str) {
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.o", std::process::id()));
    let output = command
        .args(["-c", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root().join("include"))
        .arg("-o")
        .arg(&object)
        .output()
        .expect("no C compiler: apt-get install build-essential (tests/install does)");
    let _ = std::fs::remove_file(&object);
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// What cbindgen makes of the source, with the names in its comments as C knows them.
fn header() -> String {
    let source = root().join("src/lib.rs");
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_src(&source)
        .with_config(config)
        .generate()
        .expect("src/lib.rs as C")
        .write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");

    // The values of a status come last there; they belong behind their type.
    let (values, mut parts): (Vec<&str>, Vec<&str>) = made.trim().split("\n\n").partition(|part| {
        STATUS
            .iter()
            .any(|name| part.contains(&format!("#define BOOTD_{name} ")))
    });
    let after = parts
        .iter()
        .position(|part| part.contains("typedef int32_t bootd_status;"))
        .expect("the type of a status");
    parts.splice(after + 1..after + 1, values);

    let text = format!(
        "{}\n{}\n",
        preamble(&std::fs::read_to_string(source).expect("src/lib.rs")),
        parts.join("\n\n")
    );
    let magic = abi::MAGIC;
    let mut text = text.replace(
        &format!("BOOTD_MAGIC {magic}"),
        &format!("BOOTD_MAGIC UINT64_C({magic:#x})"),
    );
    // The prototype of the entry function stands behind the guard there.
    const GUARD: &str = "#endif  /* BOOTD_PLUGIN_H */\n";
    text = text.replace(&format!("{GUARD}\n"), "") + "\n" + GUARD;
    for (rust, c) in [
        ("[`status::", "[`"),
        ("`wire::", "`"),
        ("`bootd_sdk::wire`", "plugins/README.md"),
        ("[`level`]", "`BOOTD_LEVEL_…`"),
        ("[`Str`]", "`bootd_str`"),
        ("[`Buf`]", "`bootd_buf`"),
        ("[`Host`]", "`bootd_host`"),
        ("[`Plugin`]", "`bootd_plugin`"),
    ] {
        text = text.replace(rust, c);
    }
    for name in STATUS.iter().chain(&["MAGIC", "MAJOR", "MINOR", "ENTRY_SYMBOL"]) {
        let c = format!("`BOOTD_{name}`");
        text = text
            .replace(&format!("[`{name}`]"), &c)
            .replace(&format!("`{name}`"), &c);
    }
    for value in [abi::status::FAILED, abi::status::PANICKED, abi::status::BAD_ARGUMENT] {
        text = text.replace(&format!(" {value}\n"), &format!(" ({value})\n"));
    }
    assert!(!text.contains("[`"), "a link that C does not know:\n{text}");
    text
}

const STATUS: [&str; 6] = ["OK", "NONE", "STOPPING", "FAILED", "PANICKED", "BAD_ARGUMENT"];

/// The crate's own page, but for its last paragraph, which is about the crate.
fn preamble(source: &str) -> String {
    let page = source.lines().map_while(|line| line.strip_prefix("//!"));
    let page: Vec<String> = page.map(|line| format!("//{line}")).collect();
    let end = page.iter().rposition(|line| line == "//").unwrap_or(page.len());
    let mut text = page[..end].join("\n");
    text.push_str(&format!(
        "\n//\n// Made from plugins/abi/src/lib.rs; to renew it: {RENEW}\n"
    ));
    text
}

/// The lines that are only in one of the two, with their numbers.
fn difference(there: &str, made: &str) -> String {
    let (there, made): (Vec<&str>, Vec<&str>) = (there.lines().collect(), made.lines().collect());
    let mut text = String::new();
    for (sign, these, others) in [('-', &there, &made), ('+', &made, &there)] {
        for (number, line) in these.iter().enumerate().filter(|(_, line)| !others.contains(line)) {
            text.push_str(&format!("{sign}{:>4} {line}\n", number + 1));
        }
    }
    if text.is_empty() {
        "Lines are in another order.\n".into()
    } else {
        text
    }
}

//! `tests/protocol.md` names tests that are there, and all of the transports'.

use std::{collections::BTreeSet, fs, path::Path};

const MAP: &str = include_str!("../protocol.md");
/// The modules whose every test is about a transport.
const WHOLE: [&str; 2] = ["resume", "streams"];

fn tests(module: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/integration/{module}.rs"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let names = text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
    names.filter_map(|rest| rest.split_once('(')).map(|(name, _)| format!("{module}::{name}")).collect()
}

#[test]
fn the_map_of_the_protocol_names_tests_that_are_there() {
    let named: Vec<&str> = MAP.split('`').filter(|text| text.contains("::") && !text.contains(' ')).collect();
    assert!(named.len() > 80, "{}", named.len());
    for name in &named {
        let (module, _) = name.split_once("::").unwrap();
        assert!(*name == "module::test" || tests(module).contains(*name), "there is no {name}");
    }
    for module in WHOLE {
        for test in tests(module).iter().filter(|test| test.split('_').count() > 3) {
            assert!(named.contains(&test.as_str()), "{test} is missing");
        }
    }
    for file in MAP.split('`').filter(|text| text.ends_with(".test.js") && !text.starts_with('*')) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file).is_file(), "there is no {file}");
    }
}

use super::*;
use crate::{
    clock::{ManualClock, SystemClock},
    model::Json,
};

fn run(filter: &str, input: &str, limits: &JqLimits) -> Result<Vec<String>, JqError> {
    let filter = Filter::compile(filter, &["$args", "$errors"])?;
    let json = |text: &str| Json::parse(text).unwrap();
    let values = Values { input: json(input), variables: vec![json(r#"{"id":7}"#), json("{}")] };
    // A stack as threads have it by default, wherever the test runs.
    let work = move |limits: JqLimits| run::run(&[filter], &values, &limits, &SystemClock::default());
    let limits = limits.clone();
    let outputs = std::thread::Builder::new().stack_size(2 << 20).spawn(move || work(limits)).unwrap().join().unwrap();
    let outputs = outputs.map_err(|(_, error)| error)?;
    Ok(outputs[0].iter().map(ToString::to_string).collect())
}

fn gives(filter: &str, input: &str) -> Vec<String> {
    run(filter, input, &JqLimits::default()).unwrap_or_else(|error| panic!("{filter}: {error}"))
}

#[test]
fn filters_are_those_of_jq_with_the_order_of_keys_and_the_digits_kept() {
    for (filter, input, expected) in [
        (".", r#"{"z":1.50,"a":[null,true]}"#, &[r#"{"z":1.50,"a":[null,true]}"#][..]),
        ("{userName: .user.name, id: $args.id}", r#"{"user":{"name":"User"}}"#, &[r#"{"userName":"User","id":7}"#]),
        (".[]", "[1,2]", &["1", "2"]),
        ("empty", "1", &[]),
        ("map(. * 2) | add", "[1,2,3]", &["12"]),
        ("def twice: . * 2; [.[] | twice]", "[1,2]", &["[2,4]"]),
        (".a *= 3 | .b |= \"x\" * .", r#"{"a":2,"b":2}"#, &[r#"{"a":6,"b":"xx"}"#]),
        ("[range(0; 6; 2), range(3; 0; -1)]", "null", &["[0,2,4,3,2,1]"]),
        ("[limit(3; repeat(1))]", "null", &["[1,1,1]"]),
        ("(.. | numbers) |= . + 1", "[1,[2]]", &["[2,[3]]"]),
        ("[paths]", r#"{"a":[1]}"#, &[r#"[["a"],["a",0]]"#]),
        ("del(.[] | select(. > 1))", "[1,2,3]", &["[1]"]),
        ("[.[] | select(test(\"^a\"))] | sort_by(length)", r#"["ab","b","a"]"#, &[r#"["a","ab"]"#]),
        ("try error(\"x\") catch .", "null", &["\"x\""]),
        ("\"\\(.a): \\($args.id)\"", r#"{"a":"b"}"#, &["\"b: 7\""]),
        ("to_entries | from_entries | with_entries(.value += 1)", r#"{"a":1}"#, &[r#"{"a":2}"#]),
        ("reduce .[] as [$a, $b] (0; . + $a * $b)", "[[1,2],[3,4]]", &["14"]),
    ] {
        assert_eq!(gives(filter, input), expected, "{filter}");
    }
}

#[test]
fn what_is_not_jq_is_refused_with_its_place() {
    for (filter, expected) in [
        (".a |", "it ends where term is expected"),
        (".a\n  | )", "line 2 column 5"),
        (".a | nope", "no filter `nope`"),
        ("$arg.id", "no variable `$arg`; there are: $args, $errors"),
        ("\"open", "line 1 column 6"),
        ("", "term"),
    ] {
        let error = Filter::compile(filter, &["$args", "$errors"]).unwrap_err().to_string();
        assert!(error.contains(expected), "{filter}: {error}");
    }
}

#[test]
fn a_filter_sees_nothing_but_its_values() {
    for filter in [
        "env",
        "$ENV",
        "$ENV.PATH",
        "input",
        "inputs",
        "halt",
        "halt_error",
        "debug",
        "stderr",
        "now",
        "localtime",
        "input_filename",
        "$__prog_args",
        "include \"a\"; .",
        "import \"a\" as a; .",
        "import \"/etc/passwd\" as $a; $a",
        "get_search_list",
    ] {
        assert!(matches!(Filter::compile(filter, &[]), Err(JqError::Syntax(_))), "{filter}");
    }
}

#[test]
fn a_filter_without_end_is_stopped() {
    let limits = JqLimits { filter_timeout_ms: 50, ..JqLimits::default() };
    for filter in [
        "def f: f; f",
        "def f: 1 | f; [f]",
        "[repeat(1)] | length",
        "last(repeat(1))",
        "reduce range(1; 0; 0) as $i (0; 1)",
        "last(range(0; 1; 0))",
        "def f: try f catch f; f",
        "try last(repeat(1)) catch 1",
        "until(false; .)",
        "[recurse(.)] | length",
        "first(range(1e18) | select(. < 0))",
        "[range(50)] | [., ., ., ., ., ., ., .] | last(combinations)",
        "[range(100)] | [.[] as $a | .[] as $b | .[] as $c | .[] as $d | .[] as $e | 1] | length",
        "[range(100)] | last({a: .[], b: .[], c: .[], d: .[], e: .[]})",
    ] {
        let expected = JqError::Limit { name: "filter_timeout_ms", allowed: "50 ms".to_owned() };
        let error = run(filter, "null", &limits).unwrap_err();
        let deep = JqError::Failed("its definitions call each other too deeply".to_owned());
        assert!(error == expected || error == deep, "{filter}: {error:?}");
    }
}

#[test]
fn a_filter_that_goes_too_deep_is_stopped() {
    for filter in ["def f: [f]; f", "def f: 1 + f; f", "def f: f | 1; f", "def f: {a: f}; f"] {
        let error = run(filter, "null", &JqLimits::default()).unwrap_err().to_string();
        assert!(error.contains("too deeply"), "{filter}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(run(".", &deep, &JqLimits::default()).unwrap_err().to_string().contains("brackets"));
    let text = format!("\"{}\"", "[".repeat(1000));
    assert!(run(".", &text, &JqLimits::default()).is_ok());
}

#[test]
fn what_a_filter_gives_is_bounded() {
    let limits = JqLimits { max_filter_outputs: 3, max_filter_bytes: 10, ..JqLimits::default() };
    assert_eq!(run("1, 2, 3", "null", &limits).unwrap().len(), 3);
    let name = |filter| match run(filter, "null", &limits) {
        Err(JqError::Limit { name, .. }) => name,
        other => panic!("{filter}: {other:?}"),
    };
    assert_eq!(name("1, 2, 3, 4"), "max_filter_outputs");
    assert_eq!(name("repeat(1)"), "max_filter_outputs");
    assert_eq!(name("\"123456789\""), "max_filter_bytes");
    assert_eq!(name("\"12345\", \"678\""), "max_filter_bytes");
    for filter in ["\"x\" * 1e12", "1e12 * \"x\"", "\"x\" | . *= 100000000"] {
        assert!(run(filter, "null", &limits).unwrap_err().to_string().contains("too often"), "{filter}");
    }
}

#[test]
fn what_json_has_not_is_an_error() {
    for filter in ["nan", "infinite", "[1, -infinite]", "\"a\" | tobytes"] {
        assert!(run(filter, "null", &JqLimits::default()).unwrap_err().to_string().contains("JSON"), "{filter}");
    }
}

#[test]
fn an_error_says_what_happened_and_is_short() {
    let error = run(".a", "[1]", &JqLimits::default()).unwrap_err().to_string();
    assert!(error.starts_with("failed: ") && error.contains("index"), "{error}");
    let long = format!("\"{}\"", "é".repeat(10_000));
    assert!(run("error(.)", &long, &JqLimits::default()).unwrap_err().to_string().len() < 600);
}

#[tokio::test]
async fn filters_run_away_from_the_caller_and_errors_name_theirs() {
    let runner = JqRunner::new(Arc::new(ManualClock::new(chrono::DateTime::UNIX_EPOCH)));
    let filter = |text| Filter::compile(text, &[]).unwrap();
    let values = Values { input: Json::parse("[1]").unwrap(), variables: Vec::new() };
    let outputs = runner.run(vec![filter(".[0]"), filter("empty")], values.clone(), JqLimits::default()).await;
    assert_eq!(outputs.unwrap(), [vec![Json::parse("1").unwrap()], vec![]]);
    let (number, _) = runner.run(vec![filter("."), filter(".a")], values, JqLimits::default()).await.unwrap_err();
    assert_eq!(number, 1);
}

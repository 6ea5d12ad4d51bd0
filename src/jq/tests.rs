use std::sync::atomic::AtomicBool;

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
    let work =
        move |limits: JqLimits| run::run(&[filter], &values, &limits, &SystemClock::default(), &AtomicBool::new(false));
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
        ("[(1,2) * (3,4)], [(1,2) + (3,4)], [(1,2) - (3,4)]", "null", &["[3,4,6,8]", "[4,5,5,6]", "[-2,-3,-1,-2]"]),
        ("[foreach .[] as $x (0; . + $x; [$x, .])]", "[1,2]", &["[[1,1],[2,3]]"]),
        (
            ".a += 1 | .b -= [1] | .c /= 2 | .d += \"x\"",
            r#"{"a":1,"b":[1,2],"c":4}"#,
            &[r#"{"a":2,"b":[2],"c":2.0,"d":"x"}"#],
        ),
        ("[..], [path(..)], (.. |= .)", "[[1]]", &["[[[1]],[1],1]", "[[],[0],[0,0]]", "[[1]]"]),
        ("[indices(\"a\",\"b\")], [index(\"b\"), rindex(\"a\")]", "\"abca\"", &["[[0,3],[1]]", "[1,3]"]),
        ("setpath([\"a\",0]; 1), getpath([\"x\",\"y\"])", r#"{"a":[0]}"#, &[r#"{"a":[1]}"#, "null"]),
        ("[.[] | [fromjson, tojson]]", r#"["[1,{\"a\":2}]"]"#, &[r#"[[[1,{"a":2}],"\"[1,{\\\"a\\\":2}]\""]]"#]),
        (
            "@base64, @html, @uri, @sh, @json, @text",
            "\"<a b>\"",
            &["\"PGEgYj4=\"", "\"&lt;a b&gt;\"", "\"%3Ca%20b%3E\"", "\"'<a b>'\"", "\"\\\"<a b>\\\"\"", "\"<a b>\""],
        ),
        (
            "sort, unique, group_by(.), min, max, contains([2]), (. - [2]), . == [2,1,2]",
            "[2,1,2]",
            &["[1,2,2]", "[1,2]", "[[1],[2,2]]", "1", "2", "true", "[1]", "true"],
        ),
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
        "$__loc__",
        "input_line_number",
        "getenv(\"PATH\")",
        "limit(1; inputs)",
        "$__prog_args",
        "debug(1)",
        "halt(0)",
        "halt_error(1)",
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
        "reduce range(64) as $i (0; [., .]) | last(..)",
        "reduce range(64) as $i (0; [., .]) | [.. | empty]",
        &format!("[{} 1]", "(1, 2) | ".repeat(64)),
        "last(limit(1e18; repeat(1)))",
        "[foreach repeat(1) as $x (0; 1; empty)]",
    ] {
        let expected = JqError::Limit { name: "filter_timeout_ms", allowed: "50 ms".to_owned() };
        let error = run(filter, "null", &limits).unwrap_err();
        // On a quick machine some call themselves too deeply, or too often, before their time is over.
        let calls = matches!(&error, JqError::Failed(what) if what.starts_with("its definitions call"));
        assert!(error == expected || calls, "{filter}: {error:?}");
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
fn a_value_that_becomes_too_deep_is_stopped_before_it_cannot_be_dropped() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (filter, input) in [
        ("last(recurse([.]))", "1"),
        ("until(false; {a: .})", "1"),
        ("def f: [.] | f; f", "1"),
        ("def f($x): f([1, {a: $x}, 2]); f(1)", "1"),
        ("reduce range(1000000) as $i (null; [., $i])", "1"),
        ("last(foreach range(1000000) as $i (null; {a: 1, b: ., c: 1}))", "1"),
        ("[limit(1000000; recurse([.]))] | length", "1"),
        ("fromjson", &format!("\"{deep}\"")),
        ("tonumber", &format!("\"{deep}\"")),
        ("try fromjson catch 1", &format!("\"#\\\"\\n{deep}\"")),
        ("(\"[\" * 100000) + (\"]\" * 100000) | fromjson", "1"),
    ] {
        let error = run(filter, input, &JqLimits::default()).unwrap_err().to_string();
        assert!(error.contains("brackets inside each other"), "{filter}: {error}");
    }
    let input = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(gives("[[[.]]] | tojson | fromjson | .[0][0][0]", &input), [input]);
}

#[test]
fn a_value_that_becomes_too_large_is_stopped() {
    let digits = "1".repeat(2000);
    for (filter, input, expected) in [
        ("until(false; . + .)", "\"x\"", "too large"),
        ("until(false; . + .)", "[1]", "too large"),
        ("until(false; .a += .a)", "{\"a\":\"x\"}", "too large"),
        ("until(false; .a += .a)", "{\"a\":[1]}", "too large"),
        ("until(false; \"\\(.)\\(.)\")", "\"x\"", "too large"),
        ("\"<\" * 5000000 | @html", "1", "too large"),
        ("\"%\" * 6000000 | @uri", "1", "too large"),
        ("until(false; @base64)", "\"x\"", "too large"),
        ("until(false; tojson)", "\"\\\"\"", "too large"),
        ("\"x,\" * 8000000 | length", "1", "16000000"),
        ("\"x,\" * 8000000 | . * 2 | length", "1", "too large"),
        ("reduce range(64) as $i (0; [., .]) | tojson", "1", "too large"),
        ("reduce range(64) as $i (0; [., .]) | . as $x | [$x] == [$x | .]", "1", "too large"),
        ("reduce range(64) as $i (0; [., .]) | sort", "1", "too large"),
        ("[range(1e12) | \"x\" * 1000000]", "1", "too many"),
        ("(\"x\" * 1000000) as $x | [range(1e12) | \"\\($x).\"]", "1", "too many"),
        ("(\"x\" * 1000000) as $x | [range(1e12) | $x | explode]", "1", "too many"),
        ("reduce range(1e12) as $i ({}; .[\"\\($i)\"] = $i) | length", "1", "too large"),
        ("until(false; . * .)", "3", "digits"),
        ("until(false; . + .)", "3", "digits"),
        (".", &digits, "digits"),
        ("tonumber", &format!("\"{digits}\""), "digits"),
        ("(\"a\" * 1000000) as $x | ($x + $x) | indices($x)", "1", "looks for"),
        ("[range(100000)] as $x | $x | indices($x + [1])", "1", "looks for"),
    ] {
        let limits = JqLimits { filter_timeout_ms: 60_000, ..JqLimits::default() };
        let said = match run(filter, input, &limits) {
            Ok(outputs) => outputs.concat(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{filter}: {said}");
    }
    let error = run("reduce range(64) as $i (0; [., .]) | error", "1", &JqLimits::default()).unwrap_err().to_string();
    assert!(error.len() < 600 && error.ends_with('…'), "{error}");
}

#[test]
fn what_is_put_together_bit_by_bit_stays_quick() {
    let limits = JqLimits { filter_timeout_ms: 20_000, ..JqLimits::default() };
    for filter in [
        "reduce range(20000) as $i ([]; . + [$i]) | length",
        "reduce range(20000) as $i ({a: []}; .a += [$i]) | .a | length",
        "reduce range(20000) as $i ({}; .[\"k\\($i)\"] = $i) | length",
        "[range(20000) | {id: ., name: \"item \\(.)\"}] | map(select(.id >= 0)) | group_by(.id) | length",
    ] {
        assert_eq!(run(filter, "null", &limits).unwrap(), ["20000"], "{filter}");
    }
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
        assert!(run(filter, "null", &limits).unwrap_err().to_string().contains("too large"), "{filter}");
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

#[tokio::test]
async fn who_leaves_stops_the_filter() {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let runner = JqRunner::with_turns(Arc::new(clock), 1);
    let run = |text| {
        let values = Values { input: Json::null(), variables: Vec::new() };
        runner.run(vec![Filter::compile(text, &[]).unwrap()], values, JqLimits::default())
    };
    let mut endless = Box::pin(run("last(repeat(1))"));
    assert!(futures::poll!(&mut endless).is_pending());
    drop(endless);
    // Its processor is free again, although its time is not over.
    assert_eq!(run("1").await.unwrap(), [[Json::parse("1").unwrap()]]);
}

#[tokio::test]
async fn a_run_on_the_spot_gives_what_a_whole_run_gives_or_leaves_it_to_that() {
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    let runner = JqRunner::with_turns(Arc::new(clock), 1);
    let long = format!("\"{}\"", "x".repeat(100_000));
    for (filter, input, expected) in [
        (".[0] + 1", "[1]", Ok("2")),
        ("[range(100)] | length", "null", Ok("100")),
        ("[range(100000)] | length", "null", Ok("100000")),
        ("length", &long, Ok("100000")),
        ("\"x\" * 1000000 | length", "null", Ok("1000000")),
        ("[range(9) | tostring | test(\"[0-4]\")] | map(select(.)) | length", "null", Ok("5")),
        ("def f: if . == 0 then 0 else (. - 1 | f) + 1 end; f", "20", Ok("20")),
        (".a", "[1]", Err("index")),
        ("def f: [f]; f", "null", Err("too deeply")),
        ("until(false; . + .)", "\"x\"", Err("too large")),
    ] {
        let values = Values { input: Json::parse(input).unwrap(), variables: Vec::new() };
        let outputs = runner.run(vec![Filter::compile(filter, &[]).unwrap()], values, JqLimits::default()).await;
        match (outputs, expected) {
            (Ok(outputs), Ok(expected)) => assert_eq!(outputs[0][0].as_str(), expected, "{filter}"),
            (Err((_, error)), Err(expected)) => assert!(error.to_string().contains(expected), "{filter}: {error}"),
            (outputs, _) => panic!("{filter}: {outputs:?}"),
        }
    }
}

#[test]
fn chains_of_what_recursive_definitions_are_given_end_with_an_error_and_not_with_the_process() {
    for filter in [
        "def f(g): f(g); f(.)",
        "def f(g): f(g|g); f(.)",
        "path(until(false; .a))",
        "path(last(recurse(.a)))",
        "path(def f: .a | f; f)",
        "try path(def f: .a | f; f) catch 1",
        "path(reduce range(1000000) as $i (.; .a))",
        "path(last(foreach range(1000000) as $i (.; .a)))",
        "path(.a | repeat(.a; .))",
        "def f(g): if . >= 1000000 then . else (g | f(g)) end; 0 | f(. + 1)",
        "def f(g): if . >= 1000000 then . else f(g | g) end; f(.)",
        "def w(c; u): if c then (u | w(c; u)) else . end; 0 | w(. < 1000000; . + 1)",
        "def w(c; u): if c then w(c; u | .) else u end; w(true; .)",
    ] {
        // Over the time or the number of calls, whichever comes first.
        assert!(run(filter, "null", &JqLimits::default()).is_err(), "{filter}");
    }
    let long = format!("def f(g): f(g{}); f(.)", "|.".repeat(150));
    assert!(matches!(run(&long, "null", &JqLimits::default()), Err(JqError::Failed(_))));
    // What ends before is not concerned.
    for n in [100, 5000] {
        let filter = format!("def f(g): if . >= {n} then . else (g | f(g)) end; 0 | f(. + 1)");
        let limits = JqLimits { filter_timeout_ms: 60_000, ..JqLimits::default() };
        assert_eq!(run(&filter, "null", &limits), Ok(vec![n.to_string()]));
    }
    assert_eq!(gives("[limit(5; repeat(1))] | length, (0 | until(. >= 50000; . + 1))", "null"), ["5", "50000"]);
}

#[test]
fn a_text_that_is_nested_too_deeply_is_refused() {
    for text in [
        "[".repeat(20_000) + &"]".repeat(20_000),
        ".".to_owned() + &"|.".repeat(20_000),
        "-".repeat(60_000) + "1",
        "if . then ".repeat(2000) + "1" + &" end".repeat(2000),
        "def a: ".repeat(2000) + "1" + &"; 1".repeat(2000),
        "1 as $x | ".repeat(2000) + "1",
        "\"\\(".repeat(2000) + "1" + &")\"".repeat(2000),
        " ".repeat(70_000),
    ] {
        let refused = matches!(Filter::compile(&text, &[]), Err(JqError::Syntax(_)));
        assert!(refused, "{:?}", &text[..20]);
    }
    assert_eq!(gives(&("(".repeat(5000) + "1" + &")".repeat(5000)), "null"), ["1"]);
    assert_eq!(gives(&("[".repeat(50) + &"]".repeat(50)), "null"), ["[".repeat(50) + &"]".repeat(50)]);
}

#[test]
fn objects_that_are_merged_again_and_again_are_over_a_limit() {
    let filter = "reduce range(60) as $i ({}; {a: ., b: .}) as $x | $x * $x | length";
    let error = run(filter, "null", &JqLimits { filter_timeout_ms: 20_000, ..JqLimits::default() }).unwrap_err();
    assert!(matches!(&error, JqError::Failed(_)), "{error}");
    assert_eq!(gives(r#"{a: {b: 1}} * {a: {c: 2}}"#, "null"), [r#"{"a":{"b":1,"c":2}}"#]);
    let filter = "(\"A\" * 8000000) | [limit(1000; repeat(.)) | ascii_downcase] | length";
    let error = run(filter, "null", &JqLimits { filter_timeout_ms: 20_000, ..JqLimits::default() }).unwrap_err();
    assert!(matches!(&error, JqError::Failed(_)), "{error}");
}

/// What the filter says, whatever that is, when its time is not what ends it.
fn says(filter: &str) -> String {
    let limits = JqLimits { filter_timeout_ms: 60_000, ..JqLimits::default() };
    match run(filter, "null", &limits) {
        Ok(outputs) => outputs.concat(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn copies_that_are_kept_are_counted() {
    for filter in [
        "(\"a\" * 1000000) | [range(1000) as $i | . + \"x\"] | length",
        "(\"a\" * 1000000) as $t | [range(1000) | $t] | .[] += \"x\" | length",
        "[range(1000) | \"x\"] | .[] += (\"a\" * 1000000) | length",
        "[range(1000) | \"x\"] | join(\"a\" * 1000000) | length",
        "def f($t; $n): if $n == 0 then 0 else f($t + \"x\"; $n - 1) end; f(\"a\" * 1000000; 1000)",
        "[range(100000)] as $l | [range(1000) | $l + [1]] | length",
        "[range(100000)] as $l | [range(1000) | $l - [1]] | length",
        "[range(100000)] as $l | [range(1000) | $l | .[0] = 1] | length",
        "[range(100000)] as $l | [range(1000) | $l[1:]] | length",
        "[range(100000)] as $l | [range(1000) | $l | reverse] | length",
        "[range(100000)] as $l | {a: $l} as $o | [range(1000) | $o | .a[0] = 1] | length",
        "([range(20000) | {(tostring): 1}] | add) as $o | [range(1000) | $o | .x = 1] | length",
        "([range(20000) | {(tostring): 1}] | add) as $o | [range(1000) | $o | keys_unsorted] | length",
        "([range(20000) | {(tostring): 1}] | add) as $o | [range(1000) | $o | to_entries] | length",
        "(\"3\" * 900 | tonumber) as $n | [range(1000000) | $n + .] | length",
    ] {
        assert!(says(filter).contains("too large, or too many"), "{filter}: {}", says(filter));
    }
}

#[test]
fn natives_make_nothing_that_is_far_too_large_before_it_is_looked_at() {
    for filter in [
        "\"a\" * 1000000 | gsub(\"\"; \"bbbbbbbbbb\") | length",
        "\"a\" * 16000000 | [scan(\".\")] | length",
        "\"a\" * 16000000 | explode | length",
        "\"a\" * 16000000 | . / \"\" | length",
        "\"a,\" * 8000000 | split(\",\") | length",
        "\"[],\" * 5000000 | \"[\" + . + \"1]\" | fromjson | length",
        "(\"a\" * 1000000) as $t | [range(1000) | $t] | tojson | length",
        "(\"a\" * 1000000) as $t | [range(1000) | $t] == [range(1000) | $t]",
        "(\"a\" * 1000000) as $t | [range(1000) | $t] | @text | length",
        "[range(1000)] | combinations(3) | length",
    ] {
        let said = says(filter);
        let expected = ["too large", "too many", "too long"].iter().any(|part| said.contains(part));
        assert!(expected || said.contains("max_filter_outputs"), "{filter}: {said}");
    }
    let texts = format!("(\"a\" * 10000000) as $t | \"{}\" | length", "\\($t)".repeat(100));
    assert!(says(&texts).contains("too large, or too many"), "{}", says(&texts));
}

#[test]
fn patterns_are_bounded_by_the_text_that_they_are_held_against() {
    let groups = "()".repeat(65);
    for filter in [
        "\"a\" * 1000000 | test(\"(a|b|c|d|e|f|g|h|i|j|k)*z\")",
        "\"a\" * 10000 | test(\"a{1000}b{1000}\")",
        "\"a\" | test(\"a{1000}{1000}\")",
        "\"a\" | test(\"a\" * 20000)",
        "\"a\" | test(\"a\"; \"g\" * 20000)",
        &format!("\"a\" | test(\"{groups}\")"),
    ] {
        let said = says(filter);
        assert!(said.contains("pattern") || said.contains("invalid regex"), "{filter}: {said}");
    }
    for (filter, expected) in [
        ("\"a\" * 500000 + \"b\" | test(\"ab\")", "true"),
        ("\"ab\" * 20000 | test(\"^(ab|cd)*$\")", "true"),
        ("\"a,b\" * 10000 | gsub(\",\"; \";\") | length", "30000"),
        ("\"x\" | test(\"(\")", "invalid regex"),
        ("\"x\" | test(\"x\"; \"y\")", "invalid regex flag: y"),
        ("1 | test(\"x\")", "string"),
    ] {
        assert!(says(filter).contains(expected), "{filter}: {}", says(filter));
    }
}

#[test]
fn matches_are_those_of_jq() {
    for (filter, input, expected) in [
        ("[match(\"b\"; \"g\") | .offset]", "\"abéb\"", "[1,3]"),
        (
            "match(\"(?<x>b)(c)?\")",
            "\"ébd\"",
            r#"{"offset":1,"length":1,"string":"b","captures":[{"offset":1,"length":1,"string":"b","name":"x"}]}"#,
        ),
        // A group that begins before one that stands before it.
        ("match(\"(?:(b)|(a))+\").captures | map(.offset)", "\"ab\"", "[1,0]"),
        ("capture(\"(?<n>[a-z]+)-(?<d>[0-9]+)\")", "\"xyzzy-14\"", r#"{"n":"xyzzy","d":"14"}"#),
        ("[scan(\"c\")], [scan(\"(a)(b)?\")]", "\"abcac\"", r#"["c","c"][["a","b"],["a"]]"#),
        ("split(\", *\"; null)", "\"a, b\"", r#"["a","b"]"#),
        ("[splits(\", *\")]", "\"ab,cd,   ef\"", r#"["ab","cd","ef"]"#),
        ("sub(\"(?<x>b)\"; \"[\\(.x)]\"), gsub(\"\"; \"-\")", "\"abc\"", r#""a[b]c""-a-b-c-""#),
        ("[sub(\"b\"; \"1\", \"2\")]", "\"abc\"", r#"["a1c","a2c"]"#),
        ("[gsub(\"b\"; \"1\", \"2\")], [gsub(\"b\"; empty)]", "\"bab\"", r#"["1a1","1a2","2a1","2a2"][]"#),
        (
            "gsub(\"b\"; null), (try sub(\"b\"; 1) catch \"no\"), (3 as $n | sub(\"b\"; \"\\($n)\"))",
            "\"abb\"",
            r#""a""no""a3b""#,
        ),
        ("gsub(\"A\"; \"x\"; \"i\"), [match(\"\"; \"gn\")]", "\"aA\"", r#""xx"[]"#),
        ("test(\"a.c\"; \"s\"), test(\"A B\"; \"xi\"), test(\"^b\"; \"p\")", r#""a\nb""#, "falsefalsetrue"),
    ] {
        assert_eq!(gives(filter, input).concat(), expected, "{filter}");
    }
}

#[test]
fn what_is_sorted_and_looked_for_is_what_jq_sorts_and_finds() {
    for (filter, expected) in [
        ("[3,1,2] | sort, sort_by(-.), min, max", "[1,2,3][3,2,1]13"),
        ("[{\"a\":1,\"b\":1},{\"a\":0},{\"a\":1,\"b\":2}] | sort_by(.a) | map(.b)", "[null,1,2]"),
        ("[1,2,3,4,5] | group_by(. % 2), unique_by(. % 2)", "[[2,4],[1,3,5]][2,1]"),
        ("[{\"a\":1,\"b\":1},{\"a\":1,\"b\":2}] | min_by(.a).b, max_by(.a).b", "12"),
        ("[] | sort, group_by(.), min, max", "[][]nullnull"),
        ("[1,[2],\"a\",null,{}] | sort", "[null,1,\"a\",[2],{}]"),
        ("[1,2,1,3] - [1,4]", "[2,3]"),
        ("{a:[1,{b:\"xyz\"}]} | contains({a:[{b:\"y\"}]}), contains({a:[2]}), contains({c:1})", "truefalsefalse"),
        ("\"foobar\" | contains(\"bar\"), inside(\"a foobar\")", "truetrue"),
        ("[1,2,1,2] | indices([1,2]), indices(1), .[[2,1]]", "[0,2][0,2][1]"),
        ("\"a,b\" / \",\", (\"ab\" / \"\"), (\"\" / \"x\")", "[\"a\",\"b\"][\"a\",\"b\"][]"),
        ("try (1 | sort) catch \"x\", (try ([] - 1) catch \"y\")", "\"x\"\"y\""),
    ] {
        assert_eq!(gives(filter, "null").concat(), expected, "{filter}");
    }
}

/// A clock that counts how often it is asked, and at some number says that it is late.
#[derive(Debug)]
struct Counting {
    looks: std::sync::atomic::AtomicU64,
    over_at: u64,
}

impl crate::clock::Clock for Counting {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::UNIX_EPOCH
    }

    fn elapsed(&self) -> std::time::Duration {
        let looks = self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::time::Duration::from_secs(if looks < self.over_at { 0 } else { 3600 })
    }

    fn sleep(&self, _: std::time::Duration) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(futures::future::pending())
    }
}

#[test]
fn natives_that_look_at_much_look_at_the_clock() {
    for filter in [
        "(\"a\" * 1000000) as $t | [range(150) | $t | length] | length",
        "(\"a\" * 1000000) as $t | [range(150) | $t | ascii_downcase | length] | length",
        "(\"a\" * 1000000) as $t | [range(150) | $t + \"x\" | length] | length",
        "(\"a\" * 1000000) as $t | [range(150) | $t | ltrimstr(\"b\") | length] | length",
        "(\"a\" * 1000000) as $t | [range(100) | $t | @base64 | length] | length",
        "(\"a\" * 1000000) as $t | [range(150) | $t | tojson | length] | length",
        "(\"a\" * 1000000) as $t | [range(150) | $t == $t] | length",
        "[range(3000) | tostring] | contains([range(3000) | tostring])",
        "[range(100000)] | sort | length",
        "[range(100000)] - [range(100000)] | length",
        "[range(100000)] | group_by(. % 10) | length",
        "\"a\" * 100000 | gsub(\"a\"; \"b\") | length",
    ] {
        let compiled = Filter::compile(filter, &[]).unwrap();
        let values = Values { input: Json::null(), variables: Vec::new() };
        let looks = |over_at| {
            let clock = Counting { looks: 0.into(), over_at };
            let ran = run::run(
                std::slice::from_ref(&compiled),
                &values,
                &JqLimits::default(),
                &clock,
                &AtomicBool::new(false),
            );
            (ran, clock.looks.into_inner())
        };
        let (ran, all) = looks(u64::MAX);
        assert!(ran.is_ok() && all > 100, "{filter}: {ran:?} after {all} looks");
        // And it ends where it looks: what stands beside may still look once.
        let (ran, until) = looks(50);
        assert!(matches!(ran, Err((0, JqError::Limit { name: "filter_timeout_ms", .. }))), "{filter}: {ran:?}");
        assert!((51..55).contains(&until), "{filter}: {until}");
    }
}

//! What a join costs beside its sources, and how fast rows come out of each type of source.
//!
//! 1. `elapsedMs` of `profile` (100 ms and 200 ms at once, then 50 ms) minus its critical path, with 1, 100 and 1,000
//!    joins at once: in the library, where nothing but the join is measured, and through the real program over HTTP. Once
//!    minus 250 ms, so that the lateness of the sources' timers counts, beside the same waits in Tokio alone; once minus
//!    the parts' own times, which leaves what the join adds beside them.
//! 2. Joins per second over sources that answer at once.
//! 3. Many rows through each type of source into `dataStream`, over a WebSocket: rows per second, and the server's
//!    resident memory at the start, at the peak and at the end. Of type `store`, which has one row, reads per second.
//!
//! `cargo bench --bench joins [-- ROWS [overhead|instant|stream]]`; 1,000,000 rows and all three when nothing is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where something is wrong")]

#[path = "../tests/integration/support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the tests share")]
mod server;
#[path = "../tests/integration/support/table.rs"]
#[allow(unreachable_pub, reason = "what the tests share")]
mod table;

use std::{
    fs,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use meanwhile::{
    clock::{Clock, SystemClock},
    config::{Config, build_joins, build_sources},
    join::{Fetches, Order},
    source::{Args, ThisServer},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use server::{Server, data, memory_kib, subscribe};

const CRITICAL_PATH: Duration = Duration::from_millis(250);
/// How long rates are measured.
const SOME_TIME: Duration = Duration::from_secs(3);

/// Parts that answer at once, with and without filters.
const INSTANT: &str = r#"
[sources.one]
type = "simulated"
value = 1
args.n = { type = "number", default = 1 }
[joins.plain]
parts.a.source = "one"
parts.b.source = "one"
parts.c.source = "one"
parts.b.args.n = "2"
parts.c.args.n = "3"
[joins.bare]
parts.a.source = "one"
[joins.shaped]
shape = "{sum: (.a + .b), c}"
parts.a.source = "one"
parts.b = { source = "one", args.n = "2" }
parts.c = { source = "one", depends_on = ["a", "b"], args.n = ".a + .b" }
"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let rows = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let parts = ["overhead", "instant", "stream"];
    let is_wanted = |part: &str| {
        !arguments.iter().any(|argument| parts.contains(&argument.as_str())) || arguments.iter().any(|it| it == part)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if is_wanted("overhead") {
            overhead().await;
        }
        if is_wanted("instant") {
            println!("\njoins over sources that answer at once, joins per second");
            for join in ["bare", "plain", "shaped"] {
                instant(join).await;
            }
            instant_over_http().await;
        }
        if is_wanted("stream") {
            println!("\n{rows} rows into dataStream over a WebSocket; resident memory in MiB");
            println!("{:<44} {:>10} {:>8} {:>8} {:>8}", "", "rows/s", "start", "peak", "end");
            stream_all(rows).await;
        }
    });
}

async fn overhead() {
    println!("profile: time beside its critical path, milliseconds");
    println!("{:<32} {:>30} {:>30}", "", "beside 250 ms", "beside the parts' own times");
    println!("{:<32} {:>10} {:>9} {:>9} {:>12} {:>8} {:>8}", "", "p50", "p99", "max", "p50", "p99", "max");
    for at_once in [1, 100, 1000] {
        in_the_library(at_once).await;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = Server::start(&folder.path().join("data"), None);
    for at_once in [1, 100, 1000] {
        over_http(&server, at_once).await;
    }
}

/// Of one join: beside 250 ms, and beside the parts' own times.
type Beside = (Duration, Duration);

/// The same waits, and nothing else: what timers and the processor make of them.
#[allow(clippy::disallowed_methods, reason = "it is Tokio's timer that is looked at")]
async fn bare_waits() -> Duration {
    let begin = Instant::now();
    tokio::join!(tokio::time::sleep(Duration::from_millis(100)), tokio::time::sleep(Duration::from_millis(200)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    begin.elapsed()
}

async fn in_the_library(at_once: usize) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let config = Config::builtin().unwrap();
    let sources = build_sources(&config, &ThisServer::default(), &clock, &mut StdRng::seed_from_u64(1)).unwrap();
    let join = build_joins(&config, &sources).unwrap().get("profile").unwrap().clone();
    let (mut all, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds(at_once) {
        // In turn, so that both have the same machine.
        for waited in join_all((0..at_once).map(|_| tokio::spawn(bare_waits()))).await {
            bare.push(waited.unwrap().saturating_sub(CRITICAL_PATH));
        }
        let runs = (0..at_once).map(|_| {
            let join = join.clone();
            tokio::spawn(async move { join.run(Args::none(), Order::Concurrent, &Fetches::default()).await })
        });
        for joined in join_all(runs).await {
            let joined = joined.unwrap().unwrap();
            let parts: Vec<Duration> = joined.parts.iter().map(|part| part.elapsed).collect();
            all.push(beside(joined.elapsed, &parts));
        }
    }
    report_bare(&format!("the same waits alone, {at_once} at once"), bare);
    report(&format!("in the library, {at_once} at once"), &all);
}

async fn over_http(server: &Server, at_once: usize) {
    let mut all = Vec::new();
    for _ in 0..rounds(at_once) {
        let document = "{ joinedData(join: \"profile\") { elapsedMs parts { elapsedMs } } }";
        let ask = || data(server.url(), document, json!({}));
        for joined in join_all((0..at_once).map(|_| ask())).await {
            let joined = &joined["joinedData"];
            let elapsed = |of: &Value| Duration::from_secs_f64(of["elapsedMs"].as_f64().unwrap() / 1000.0);
            let parts: Vec<Duration> = joined["parts"].as_array().unwrap().iter().map(elapsed).collect();
            all.push(beside(elapsed(joined), &parts));
        }
    }
    report(&format!("elapsedMs over HTTP, {at_once} at once"), &all);
}

/// `parts` are user, api and process, which waits for both.
fn beside(elapsed: Duration, parts: &[Duration]) -> Beside {
    let own = parts[0].max(parts[1]) + parts[2];
    (elapsed.saturating_sub(CRITICAL_PATH), elapsed.saturating_sub(own))
}

/// So that there are enough to tell a percentile.
fn rounds(at_once: usize) -> usize {
    (2000 / at_once).clamp(4, 100)
}

async fn instant(name: &str) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let config = Config::parse("instant.toml", INSTANT).unwrap();
    let sources = build_sources(&config, &ThisServer::default(), &clock, &mut StdRng::seed_from_u64(1)).unwrap();
    let join = build_joins(&config, &sources).unwrap().get(name).unwrap().clone();
    let begin = Instant::now();
    let workers = (0..8).map(|_| {
        let join = join.clone();
        tokio::spawn(async move {
            let mut runs = 0;
            while begin.elapsed() < SOME_TIME {
                join.run(Args::none(), Order::Concurrent, &Fetches::default()).await.unwrap();
                runs += 1;
            }
            runs
        })
    });
    let runs = join_all(workers).await.into_iter().map(Result::unwrap).sum();
    report_rate(&format!("`{name}` in the library, 8 at once"), runs, begin);
}

async fn instant_over_http() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("instant.toml");
    fs::write(&file, INSTANT).unwrap();
    let server = Server::start(&folder.path().join("data"), Some(&file));
    for name in ["bare", "shaped"] {
        let document = format!("{{ joinedData(join: \"{name}\") {{ data elapsedMs }} }}");
        let begin = Instant::now();
        let ask = async || {
            let mut runs = 0;
            while begin.elapsed() < SOME_TIME {
                data(server.url(), &document, json!({})).await;
                runs += 1;
            }
            runs
        };
        let runs = join_all((0..8).map(|_| ask())).await.into_iter().sum();
        report_rate(&format!("`{name}` over HTTP, 8 at once"), runs, begin);
    }
}

fn report_rate(name: &str, runs: u32, begin: Instant) {
    println!("{name:<44} {:>10.0}", f64::from(runs) / begin.elapsed().as_secs_f64());
}

async fn stream_all(rows: u64) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = table::generate(folder.path(), rows);
    let lines = serve_lines(rows).await;
    let more = format!(
        "[sources.simulated]\ntype = \"simulated\"\nrows = {rows}\nvalue = {{ id = 1, name = \"item 1\", price = 0.25, note = \"37393139\" }}
         [sources.lines]\ntype = \"http\"\nurl = \"http://{lines}/\"\nformat = \"ndjson\"\nmax_bytes = 1000000000000
         [sources.counts]\ntype = \"store\"\nfigures = \"counts\"\n"
    );
    fs::OpenOptions::new().append(true).open(&config).unwrap().write_all(more.as_bytes()).unwrap();
    for source in ["table", "lines", "simulated"] {
        one_stream(&folder.path().join(source), &config, source, rows).await;
    }
    // The store has figures about tasks, not rows of them: one row, or one for each kind. So reads are counted.
    let server = Server::start(&folder.path().join("counts"), Some(&config));
    let begin = Instant::now();
    let reads = 1000_u32;
    for _ in 0..reads {
        count(&server, "counts").await;
    }
    let per_second = f64::from(reads) / begin.elapsed().as_secs_f64();
    println!("{:<44} {per_second:>10.0}", "store (one row a read, new connection each)");
}

async fn one_stream(data: &Path, config: &Path, source: &str, rows: u64) {
    let server = Server::start(data, Some(config));
    let mib = |line| memory_kib(&server, line) / 1024;
    let start = mib("VmRSS");
    let begin = Instant::now();
    assert_eq!(count(&server, source).await, rows);
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    let per_second = rows as f64 / begin.elapsed().as_secs_f64();
    println!("{source:<44} {per_second:>10.0} {start:>8} {:>8} {:>8}", mib("VmHWM"), mib("VmRSS"));
}

async fn count(server: &Server, source: &str) -> u64 {
    let document = "subscription($source: String!) { dataStream(source: $source) { value } }";
    let rows = subscribe(server.url(), document, json!({ "source": source })).await.unwrap();
    let has_value = |row: Result<Value, _>| {
        let row = row.unwrap();
        assert!(row["data"]["dataStream"].is_object(), "{row}");
    };
    rows.map(has_value).fold(0, |count, ()| async move { count + 1 }).await
}

/// As a row of the table.
fn line(n: u64) -> String {
    format!("{{\"id\":{n},\"name\":\"item {n}\",\"price\":{n}.25,\"note\":\"37393139\"}}\n")
}

/// A server that answers with this many lines of JSON.
async fn serve_lines(rows: u64) -> std::net::SocketAddr {
    let app = axum::Router::new().fallback(move || async move {
        let lines = futures::stream::unfold(0, move |from| async move {
            let until = (from + 500).min(rows);
            let lines: String = (from..until).map(line).collect();
            (from < until).then_some((Ok::<_, std::io::Error>(lines), until))
        });
        axum::body::Body::from_stream(lines)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// p50, p99 and the longest, in milliseconds.
fn figures(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [50, 99, 100].map(|percent| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0)
}

fn report_bare(name: &str, times: Vec<Duration>) {
    let [p50, p99, max] = figures(times);
    println!("{name:<32} {p50:>10.3} {p99:>9.3} {max:>9.3}");
}

fn report(name: &str, all: &[Beside]) {
    let of = |time: fn(&Beside) -> Duration| figures(all.iter().map(time).collect());
    let ([p50, p99, max], [own_p50, own_p99, own_max]) = (of(|beside| beside.0), of(|beside| beside.1));
    println!("{name:<32} {p50:>10.3} {p99:>9.3} {max:>9.3} {own_p50:>12.3} {own_p99:>8.3} {own_max:>8.3}");
}

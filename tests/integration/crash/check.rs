//! What holds for the journals of all tasks, however often the server was killed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Clients, OVERLAP};

/// No more ran at once than may: in all, of a kind, and of a kind with the same key.
pub(super) fn check_limits(clients: &Clients, journals: &[(String, Vec<Value>)]) {
    let records = clients.records.lock().unwrap();
    let shares = clients.shares.lock().unwrap();
    let mut groups: BTreeMap<(Option<&str>, Option<&str>), BTreeSet<_>> = BTreeMap::new();
    for (id, events) in records.iter().chain(journals.iter().map(|(id, journal)| (id, journal))) {
        let (kind, key) = &shares[id];
        for (begin, end) in attempts(events) {
            let attempt = (begin, end, id.as_str());
            groups.entry((None, None)).or_default().insert(attempt);
            groups.entry((Some(kind), None)).or_default().insert(attempt);
            if key.is_some() {
                groups.entry((Some(kind), key.as_deref())).or_default().insert(attempt);
            }
        }
    }
    for ((kind, key), attempts) in groups {
        let limit = match (kind, key) {
            (_, Some(_)) => 1,
            (None, _) => 24,
            (Some("collect"), _) => 6,
            (Some("program"), _) => 4,
            (Some(_), _) => continue,
        };
        // In the same millisecond one ends before another begins.
        let begins = attempts.iter().map(|(begin, ..)| (*begin, 1));
        let mut moments: Vec<(&str, i32)> = begins.chain(attempts.iter().map(|(_, end, _)| (*end, -1))).collect();
        moments.sort_unstable();
        let at_once = moments.iter().scan(0, |running, (_, change)| {
            *running += change;
            Some(*running)
        });
        let most = at_once.max().unwrap_or(0);
        assert!(most <= limit, "{most} at once of kind {kind:?} with key {key:?}, where {limit} may be");
    }
}

/// When each attempt began and ended, of those of which both is there.
fn attempts(events: &[Value]) -> Vec<(&str, &str)> {
    let mut begun = None;
    let mut attempts = Vec::new();
    for event in events {
        let at = event["at"].as_str();
        match event["status"].as_str() {
            Some("RUNNING") => begun = at,
            Some(_) => attempts.extend(begun.take().zip(at)),
            None if is_gap(event) => begun = None,
            None => {}
        }
    }
    attempts
}

pub(super) fn is_gap(event: &Value) -> bool {
    event["__typename"] == "TaskGap"
}

pub(super) fn is_terminal(event: &Value) -> bool {
    matches!(event["status"].as_str(), Some("COMPLETED" | "FAILED" | "CANCELLED"))
}

/// What holds for the events of a task from its first on, however many there are; where some were pruned, for the rest.
pub(super) fn check_journal(id: &str, journal: &[Value]) {
    let context = || format!("{id}: {}", serde_json::to_string_pretty(journal).unwrap());
    let mut chunks = Some(0);
    let mut attempt = 0;
    let mut next_seq = 1;
    let mut status = Some("");
    let mut step = "";
    for (place, event) in journal.iter().enumerate() {
        if is_gap(event) {
            assert_eq!(event["from"], json!(next_seq), "a gap that does not begin where it should in {}", context());
            next_seq = event["seq"].as_u64().unwrap() + 1;
            (status, chunks, step) = (None, None, "");
            continue;
        }
        assert_eq!(event["seq"], json!(next_seq), "a gap or a repetition in {}", context());
        next_seq += 1;
        let its_attempt = event["attempt"].as_u64().unwrap();
        assert!(its_attempt >= attempt, "an event of an attempt after a later one began in {}", context());
        attempt = its_attempt;
        // Programs say which attempt it is that speaks: nothing of one comes within another.
        for of in [&event["value"]["attempt"], &event["result"]["attempt"]] {
            assert!(of.is_null() || *of == event["attempt"], "of another attempt: {event} in {}", context());
        }
        assert_ne!(event["error"]["details"]["exitCode"], json!(OVERLAP), "two attempts at once in {}", context());
        match event["__typename"].as_str().unwrap() {
            "TaskStatusChanged" => {
                let next = event["status"].as_str().unwrap();
                let fits = matches!(
                    (status, next),
                    (None, _)
                        | (Some(""), "PENDING")
                        | (Some("PENDING"), "RUNNING" | "CANCELLED" | "FAILED")
                        | (Some("RUNNING"), "PENDING" | "COMPLETED" | "FAILED" | "CANCELLED")
                );
                assert!(fits, "{status:?} became {next} in {}", context());
                let told = match step {
                    "" => true,
                    "CONFIRMED" => next == "CANCELLED",
                    "OVERTAKEN" => next == "COMPLETED",
                    _ => false,
                };
                assert!(told, "{step} led to {next} in {}", context());
                status = Some(next);
            }
            "TaskCancellation" => {
                let next = event["step"].as_str().unwrap();
                assert!(step != "CONFIRMED" && step != "OVERTAKEN", "{next} after {step} in {}", context());
                assert!(
                    (next == "REQUESTED") == step.is_empty() || status.is_none(),
                    "{next} after {step} in {}",
                    context()
                );
                step = next;
            }
            "TaskChunk" => {
                let index = event["index"].as_u64().unwrap();
                assert!(chunks.is_none_or(|expected| expected == index), "{}", context());
                chunks = Some(index + 1);
            }
            _ => {}
        }
        assert!(
            !is_terminal(event) || place + 1 == journal.len(),
            "the terminal event is not the last of {}",
            context()
        );
    }
}

//! What is asked of the store and of its model, and how it is drawn.

use meanwhile::model::{EventType, TaskStatus};
use proptest::{collection::vec, prelude::*, sample::Index};

pub(crate) const KINDS: [&str; 3] = ["red", "green", "blue"];
/// How many tasks of a kind may run at once, and how many with the same key.
pub(crate) const CONCURRENCY: [Option<usize>; 3] = [None, Some(2), None];
pub(crate) const PER_KEY: [usize; 3] = [1, 1, 2];
pub(super) const TAGS: [&str; 3] = ["north", "east", "south"];

/// A task to be started.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) kind: usize,
    pub(crate) priority: i32,
    pub(crate) delay_ms: Option<i64>,
    pub(crate) tags: Vec<&'static str>,
    /// Idempotency key and fingerprint.
    pub(crate) key: Option<(u8, u8)>,
    pub(crate) max_attempts: u32,
    pub(crate) max_lost: u32,
    pub(crate) concurrency_key: Option<u8>,
    pub(crate) deadline_ms: Option<u64>,
}

/// Who writes: an attempt of a task, perhaps an earlier one, perhaps in another session.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) task: Index,
    pub(crate) back: u32,
    pub(crate) foreign: bool,
    /// Above the number of the attempt's last write; 0: that write repeated.
    pub(crate) ahead: u64,
}

/// What an attempt has to say.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    Progress(u32),
    Log(u32),
    Chunk(u32),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Completed,
    Failed { retry_after_ms: Option<i64> },
    Cancelled,
    Released,
}

/// Which tasks a list shows.
#[derive(Debug, Clone)]
pub(crate) struct Fits {
    pub(crate) kinds: Vec<usize>,
    pub(crate) statuses: Vec<TaskStatus>,
    pub(crate) tags: Vec<&'static str>,
    /// Milliseconds before now.
    pub(crate) created_after_ms: Option<i64>,
    pub(crate) created_before_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Start(Vec<Spec>),
    Claim {
        kinds: Vec<usize>,
        limit: usize,
    },
    Record {
        who: Who,
        lines: Vec<Line>,
    },
    Finish {
        who: Who,
        lines: Vec<Line>,
        end: End,
    },
    Cancel(Index),
    Retry(Index),
    Delete(Index),
    /// Tasks, and events of tasks, that ended so many milliseconds ago, in slices.
    Sweep {
        tasks_ms: Option<u64>,
        events_ms: Option<u64>,
        slice: usize,
    },
    Pause {
        kind: usize,
        paused: bool,
    },
    Prune {
        task: Index,
        through: u64,
    },
    List {
        fits: Fits,
        page: usize,
        newest_first: bool,
    },
    Count {
        fits: Fits,
        cap: u64,
    },
    Events {
        task: Index,
        after: u64,
        page: usize,
        types: Vec<EventType>,
    },
    Advance {
        ms: u64,
    },
    /// A new process: in an orderly way, or not.
    Reopen {
        close: bool,
    },
}

/// Any operation, the common ones more often.
pub(super) fn operation() -> BoxedStrategy<Operation> {
    let lines = || {
        vec(
            prop_oneof![
                (0..=100_u32).prop_map(Line::Progress),
                (0..9_u32).prop_map(Line::Log),
                (0..9_u32).prop_map(Line::Chunk)
            ],
            0..4,
        )
    };
    prop_oneof![
        4 => vec(spec(), 1..4).prop_map(Operation::Start),
        6 => (kinds(), 1..4_usize).prop_map(|(kinds, limit)| Operation::Claim { kinds, limit }),
        4 => (who(), lines()).prop_map(|(who, lines)| Operation::Record { who, lines }),
        6 => (who(), lines(), end()).prop_map(|(who, lines, end)| Operation::Finish { who, lines, end }),
        2 => any::<Index>().prop_map(Operation::Cancel),
        1 => any::<Index>().prop_map(Operation::Retry),
        1 => any::<Index>().prop_map(Operation::Delete),
        1 => (ago(), ago(), 1..4_usize).prop_map(|(tasks_ms, events_ms, slice)| Operation::Sweep { tasks_ms, events_ms, slice }),
        1 => (0..KINDS.len(), proptest::bool::weighted(0.3)).prop_map(|(kind, paused)| Operation::Pause { kind, paused }),
        1 => (any::<Index>(), 0..9_u64).prop_map(|(task, through)| Operation::Prune { task, through }),
        2 => (fits(), 1..4_usize, any::<bool>()).prop_map(|(fits, page, newest_first)| Operation::List { fits, page, newest_first }),
        1 => (fits(), 1..9_u64).prop_map(|(fits, cap)| Operation::Count { fits, cap }),
        1 => (any::<Index>(), 0..9_u64, 1..4_usize, event_types()).prop_map(|(task, after, page, types)| Operation::Events { task, after, page, types }),
        2 => (1..2000_u64).prop_map(|ms| Operation::Advance { ms }),
        1 => any::<bool>().prop_map(|close| Operation::Reopen { close }),
    ]
    .boxed()
}

fn ago() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(0..4000_u64)
}

fn kinds() -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..KINDS.len()).collect::<Vec<_>>(), 1..=KINDS.len())
}

fn tags() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(TAGS.to_vec(), 0..=2)
}

fn spec() -> impl Strategy<Value = Spec> {
    let key = proptest::option::weighted(0.3, (0..4_u8, 0..2_u8));
    let delay = proptest::option::weighted(0.3, -500..3000_i64);
    let concurrency_key = proptest::option::weighted(0.4, 0..2_u8);
    let deadline_ms = proptest::option::weighted(0.2, 1..4000_u64);
    let limits = (1..=3_u32, 1..=2_u32, concurrency_key, deadline_ms);
    (0..KINDS.len(), -1..=1_i32, delay, tags(), key, limits).prop_map(
        |(kind, priority, delay_ms, tags, key, limits)| {
            let (max_attempts, max_lost, concurrency_key, deadline_ms) = limits;
            Spec { kind, priority, delay_ms, tags, key, max_attempts, max_lost, concurrency_key, deadline_ms }
        },
    )
}

fn who() -> impl Strategy<Value = Who> {
    let back = prop_oneof![9 => Just(0_u32), 1 => Just(1_u32)];
    let ahead = prop_oneof![1 => Just(0_u64), 8 => Just(1_u64), 1 => Just(3_u64)];
    (any::<Index>(), back, proptest::bool::weighted(0.05), ahead).prop_map(|(task, back, foreign, ahead)| Who {
        task,
        back,
        foreign,
        ahead,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Completed),
        3 => proptest::option::weighted(0.8, 0..1500_i64).prop_map(|retry_after_ms| End::Failed { retry_after_ms }),
        1 => Just(End::Cancelled),
        1 => Just(End::Released),
    ]
}

fn fits() -> impl Strategy<Value = Fits> {
    let statuses = proptest::sample::subsequence(TaskStatus::ALL.to_vec(), 0..=3);
    let some_kinds = proptest::sample::subsequence((0..KINDS.len()).collect::<Vec<_>>(), 0..=2);
    let ago = || proptest::option::weighted(0.3, 0..5000_i64);
    (some_kinds, statuses, tags(), ago(), ago()).prop_map(
        |(kinds, statuses, tags, created_after_ms, created_before_ms)| Fits {
            kinds,
            statuses,
            tags,
            created_after_ms,
            created_before_ms,
        },
    )
}

fn event_types() -> impl Strategy<Value = Vec<EventType>> {
    let all = vec![EventType::Status, EventType::Progress, EventType::Log, EventType::Chunk, EventType::Cancellation];
    proptest::sample::subsequence(all, 0..=2)
}

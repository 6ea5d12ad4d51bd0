//! A thread for what recurses deeply.

use std::thread;

use super::guard::STACK_BYTES;

/// Runs `work` on a thread with a large stack, and waits for it. `None`: it panicked, or there is no thread to be had.
pub(super) fn on_large_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("jq".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        thread.ok()?.join().ok()
    })
}

use std::{sync::Arc, task::Context, time::Duration};

use super::options::WebsocketOptions;
use crate::{clock::Clock, http::alarm::Alarm};

/// Notices a client that is gone without a word: pings it when it is silent, and waits for any sign of life.
pub(super) struct Heartbeat {
    clock: Arc<dyn Clock>,
    interval: Duration,
    timeout: Duration,
    heard: Duration,
    pinged: Option<Duration>,
    alarm: Alarm,
}

/// What is to be done about silence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Nothing.
    Fine,
    /// Send a ping.
    Ping,
    /// Nobody is there.
    Lost,
}

impl Heartbeat {
    pub(super) fn new(clock: Arc<dyn Clock>, options: &WebsocketOptions) -> Self {
        let interval = Duration::from_millis(options.ping_interval_ms);
        let mut alarm = Alarm::default();
        alarm.set(&*clock, interval);
        Self {
            interval,
            timeout: Duration::from_millis(options.pong_timeout_ms),
            heard: clock.elapsed(),
            pinged: None,
            alarm,
            clock,
        }
    }

    /// The client gave a sign of life, at this time.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Asks what is to be done; wakes `cx` when that may change.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Pulse {
        while self.alarm.has_come(cx) {
            if self.pinged.take().is_some_and(|pinged| pinged > self.heard) {
                return Pulse::Lost;
            }
            let now = self.clock.elapsed();
            let silent = now.saturating_sub(self.heard);
            if silent >= self.interval {
                self.pinged = Some(now);
                self.alarm.set(&*self.clock, self.timeout);
                // The alarm has to know whom to wake.
                return if self.alarm.has_come(cx) { Pulse::Lost } else { Pulse::Ping };
            }
            self.alarm.set(&*self.clock, self.interval - silent);
        }
        Pulse::Fine
    }
}

/// How many messages a client sent within the present second.
#[derive(Debug)]
pub(super) struct Rate {
    max_per_second: u32,
    since: Duration,
    count: u32,
}

impl Rate {
    pub(super) fn new(max_per_second: u32, now: Duration) -> Self {
        Self { max_per_second, since: now, count: 0 }
    }

    /// Counts one; whether it is within the limit.
    pub(super) fn admits(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        self.count <= self.max_per_second
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::clock::ManualClock;

    fn heartbeat() -> (Heartbeat, ManualClock) {
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let options = WebsocketOptions { ping_interval_ms: 1000, pong_timeout_ms: 500, ..WebsocketOptions::default() };
        (Heartbeat::new(Arc::new(clock.clone()), &options), clock)
    }

    fn after(heartbeat: &mut Heartbeat, clock: &ManualClock, ms: u64) -> Pulse {
        clock.advance(Duration::from_millis(ms));
        heartbeat.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_is_silent_is_pinged_and_then_lost() {
        let (mut heartbeat, clock) = heartbeat();
        assert_eq!(after(&mut heartbeat, &clock, 999), Pulse::Fine);
        assert_eq!(after(&mut heartbeat, &clock, 1), Pulse::Ping);
        assert_eq!(after(&mut heartbeat, &clock, 499), Pulse::Fine);
        assert_eq!(after(&mut heartbeat, &clock, 1), Pulse::Lost);
    }

    #[test]
    fn who_answers_is_pinged_again_after_the_next_silence() {
        let (mut heartbeat, clock) = heartbeat();
        for _ in 0..3 {
            assert_eq!(after(&mut heartbeat, &clock, 1000), Pulse::Ping);
            heartbeat.hear(clock.elapsed() + Duration::from_millis(1));
            assert_eq!(after(&mut heartbeat, &clock, 1), Pulse::Fine);
            assert_eq!(after(&mut heartbeat, &clock, 999), Pulse::Fine);
        }
    }

    #[test]
    fn who_talks_is_not_pinged() {
        let (mut heartbeat, clock) = heartbeat();
        for _ in 0..10 {
            assert_eq!(after(&mut heartbeat, &clock, 600), Pulse::Fine);
            heartbeat.hear(clock.elapsed());
        }
    }

    #[test]
    fn messages_are_counted_by_the_second() {
        let mut rate = Rate::new(2, Duration::ZERO);
        let ms = Duration::from_millis;
        assert_eq!([0, 10, 20, 1000, 1001, 1002].map(|at| rate.admits(ms(at))), [true, true, false, true, true, false]);
    }
}

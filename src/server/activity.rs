//! What a connection is doing, since when, and when that has taken too long.
//!
//! The thread of the connection reports what it does and checks; eviction only looks. A request must be whole within
//! the timeout from its first byte, so sending byte by byte does not extend it; an answer must move
//! [`MIN_PROGRESS_BYTES`] within each timeout; a connection without a request ends after the timeout.

use std::time::{Duration, Instant};

/// The fewest bytes that an answer must move within the timeout: a reader that takes less keeps a slot for nothing.
const MIN_PROGRESS_BYTES: usize = 1024;

/// For how long bytes that a request brings, or that come after the last answer, count as movement: a drip must not keep a
/// slot from others.
pub(super) const MAX_ARRIVAL: Duration = Duration::from_millis(500);

/// How long a connection lingers after its last answer, so that a caller that still sends can read it.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request has begun.
    Idle,
    /// A request arrives.
    Reading,
    /// The request is with the backend and the handler.
    Working,
    /// The answer is sent.
    Writing,
    /// The last answer was sent, and what the caller still sends is discarded.
    Lingering,
}

/// The phase of a connection and its progress.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Phase,
    /// When the phase began; while writing, when the last [`MIN_PROGRESS_BYTES`] had moved.
    since: Instant,
    /// When a byte last moved or the phase last changed.
    last: Instant,
    /// How many bytes have been sent since `since`.
    sent_bytes: usize,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::Idle, since: now, last: now, sent_bytes: 0 }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        *self = Self { phase, ..Self::new(now) };
    }

    /// Notes that bytes came in. The first of them begin a request.
    pub(super) fn on_received(&mut self, now: Instant) {
        if self.phase == Phase::Idle {
            self.enter(Phase::Reading, now);
        }
        self.last = now;
    }

    /// Notes that bytes went out.
    pub(super) fn on_sent(&mut self, bytes: usize, now: Instant) {
        self.last = now;
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        if self.sent_bytes >= MIN_PROGRESS_BYTES {
            self.since = now;
            self.sent_bytes = 0;
        }
    }

    /// Returns how long nothing has moved, or nothing while the handler works: that is not the caller's silence. What comes
    /// for longer than [`MAX_ARRIVAL`] moves nothing any more.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        let last = match self.phase {
            Phase::Working => return None,
            Phase::Reading | Phase::Lingering => self.last.min(self.since + MAX_ARRIVAL),
            Phase::Idle | Phase::Writing => self.last,
        };
        Some(now.saturating_duration_since(last))
    }

    /// Whether the phase has taken too long.
    pub(super) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        let limit = match self.phase {
            Phase::Working => return false,
            Phase::Lingering => LINGER,
            Phase::Idle | Phase::Reading | Phase::Writing => timeout,
        };
        now.saturating_duration_since(self.since) > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_drip_does_not_make_a_request_younger() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        for second in 10..=40 {
            activity.on_received(start + seconds(second));
            assert!(!activity.is_overdue(start + seconds(second), TIMEOUT), "at {second}");
        }
        assert!(activity.is_overdue(start + seconds(41), TIMEOUT));
    }

    #[test]
    fn what_arrives_for_long_is_as_good_as_silent() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        for tenth in 0..=20 {
            activity.on_received(start + Duration::from_millis(100 * tenth));
        }
        let now = start + seconds(2);
        assert_eq!(activity.silent_for(now), Some(Duration::from_millis(1500)));
        activity.enter(Phase::Working, now);
        assert_eq!(activity.silent_for(now), None);
        activity.enter(Phase::Writing, now);
        activity.on_sent(1, now + seconds(9));
        assert_eq!(activity.silent_for(now + seconds(10)), Some(seconds(1)));
    }

    #[test]
    fn an_answer_that_moves_fewer_than_1024_bytes_within_the_timeout_is_overdue() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        activity.enter(Phase::Writing, start);
        for second in 1..=30 {
            activity.on_sent(34, start + seconds(second));
        }
        assert!(activity.is_overdue(start + seconds(31), TIMEOUT));
    }

    #[test]
    fn an_answer_that_goes_on_may_take_for_ever() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        activity.enter(Phase::Writing, start);
        for second in 1..=100_000 {
            activity.on_sent(35, start + seconds(second));
            assert!(!activity.is_overdue(start + seconds(second), TIMEOUT), "at {second}");
        }
    }

    #[test]
    fn idle_and_lingering_connections_end_and_working_ones_stay() {
        let start = Instant::now();
        let mut activity = Activity::new(start);
        assert!(!activity.is_overdue(start + seconds(30), TIMEOUT));
        assert!(activity.is_overdue(start + seconds(31), TIMEOUT));
        activity.enter(Phase::Working, start);
        assert!(!activity.is_overdue(start + seconds(3000), TIMEOUT));
        assert_eq!(activity.silent_for(start + seconds(3000)), None);
        activity.enter(Phase::Lingering, start);
        assert!(activity.is_overdue(start + seconds(3), TIMEOUT));
    }
}

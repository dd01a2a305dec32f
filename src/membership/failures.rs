//! How often calls to a peer have failed, whether that makes it dead, and when it is tried again.

use std::time::Duration;

/// Failures in a row that make a peer dead.
pub(super) const FAILURES_UNTIL_DEAD: u32 = 3;

/// Failures closer together than this count as one, so that no restart of a peer makes it dead.
pub(super) const FAILURE_INTERVAL: Duration = Duration::from_secs(60);

/// The pause before a seed is tried again, until it has answered once; it doubles.
const FIRST_SEED_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts at a seed; with the jitter it is a minute at most.
const LONGEST_SEED_PAUSE: Duration = Duration::from_secs(48);

/// The pause between two trials of a dead peer, which doubles up to this. It is the time that a network of two takes to
/// be whole again after a long cut; a larger one has more that try.
const LONGEST_DEAD_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The failed calls to one peer since it last answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailureState {
    attempts: u32,
    /// Those of the attempts that were [`FAILURE_INTERVAL`] apart.
    pub(super) count: u32,
    last_failure: Duration,
    /// When it is to be tried again.
    pub(super) next_attempt: Duration,
    /// Whether a dead peer gave reason to be tried while it was being tried.
    pub(super) seems_alive: bool,
}

impl FailureState {
    /// Counts a failed attempt.
    pub(super) fn record(&mut self, now: Duration) {
        self.attempts = self.attempts.saturating_add(1);
        if self.count == 0 || now >= self.next_failure() {
            self.count = self.count.saturating_add(1);
            self.last_failure = now;
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.count >= FAILURES_UNTIL_DEAD
    }

    /// The earliest time at which another failure counts.
    pub(super) fn next_failure(&self) -> Duration {
        self.last_failure + FAILURE_INTERVAL
    }

    /// How long the peer is left alone after a failed attempt.
    pub(super) fn pause(&self, is_seed: bool) -> Duration {
        if is_seed {
            doubled(FIRST_SEED_PAUSE, self.attempts - 1, LONGEST_SEED_PAUSE)
        } else if self.seems_alive {
            FAILURE_INTERVAL
        } else {
            let doublings = self.count.saturating_sub(FAILURES_UNTIL_DEAD - 1);
            doubled(FAILURE_INTERVAL, doublings, LONGEST_DEAD_PAUSE)
        }
    }
}

/// The pause doubled that many times, up to the longest.
fn doubled(pause: Duration, times: u32, longest: Duration) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

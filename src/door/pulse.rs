//! What a guest is doing, since when, and when that is too long.
//!
//! Time is judged here and nowhere else: the thread that serves the guest reports what it does, the clock and the
//! admission look. A request must be whole within the silence limit from its first byte, so a drip never gets younger;
//! an answer must move 1,024 bytes within each limit; an idle connection goes after the limit.

use std::time::{Duration, Instant};

/// The fewest bytes that an answer must move within the silence limit; less is a drip, and a drip is silence too.
const SIGN_OF_LIFE: usize = 1024;

/// How long a guest may take to close after its last answer.
const LEAVING: Duration = Duration::from_secs(2);

/// How long a guest has to hear that its request came too late before it is cut.
const LATE_GRACE: Duration = Duration::from_secs(1);

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun a request.
    Idle,
    /// It sends one.
    Reading,
    /// Its call is with the endpoint.
    Working,
    /// It is sent an answer.
    Writing,
    /// It was told the last word, and what it still sends is discarded.
    Leaving,
}

/// What the clock does about a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Its request is late: read no more, and say so.
    Late,
    /// It is closed.
    Close,
    /// It is reset, which frees what the kernel holds for it.
    Reset,
}

/// A guest's signs of life.
#[derive(Debug)]
pub(super) struct Pulse {
    phase: Phase,
    /// When the phase began; while writing, when the last 1,024 bytes had moved.
    since: Instant,
    /// When a byte last moved or the phase last changed.
    last: Instant,
    /// How many bytes have moved since `since`.
    moved: usize,
    late: bool,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::Idle, since: now, last: now, moved: 0, late: false }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn is_late(&self) -> bool {
        self.late
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        *self = Self { phase, late: self.late, ..Self::new(now) };
    }

    /// Notes that bytes came in: the first of them begins a request.
    pub(super) fn received(&mut self, now: Instant) {
        if self.phase == Phase::Idle {
            self.enter(Phase::Reading, now);
        }
        self.last = now;
    }

    /// Notes that bytes went out.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) {
        self.last = now;
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= SIGN_OF_LIFE {
            self.since = now;
            self.moved = 0;
        }
    }

    /// How long nothing has moved, or nothing if the endpoint has the call: that is not the guest's silence.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        (self.phase != Phase::Working).then(|| now.saturating_duration_since(self.last))
    }

    /// What is to be done about the guest; [`Verdict::Late`] is given once.
    pub(super) fn judge(&mut self, now: Instant, limit: Duration) -> Verdict {
        let elapsed = now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Reading if elapsed > limit && !self.late => {
                self.late = true;
                Verdict::Late
            }
            Phase::Reading if elapsed > limit + LATE_GRACE => Verdict::Reset,
            Phase::Idle if elapsed > limit => Verdict::Close,
            Phase::Writing if elapsed > limit => Verdict::Reset,
            Phase::Leaving if elapsed > LEAVING => Verdict::Close,
            _ => Verdict::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_drip_does_not_make_a_request_younger() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for second in 10..=40 {
            pulse.received(start + seconds(second));
            assert_eq!(pulse.judge(start + seconds(second), LIMIT), Verdict::Fine, "at {second}");
        }
        assert_eq!(pulse.judge(start + seconds(41), LIMIT), Verdict::Late);
        assert_eq!(pulse.judge(start + seconds(41), LIMIT), Verdict::Fine);
        assert_eq!(pulse.judge(start + seconds(42), LIMIT), Verdict::Reset);
    }

    #[test]
    fn an_answer_that_moves_fewer_than_1024_bytes_within_the_limit_is_reset() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.enter(Phase::Writing, start);
        for second in 1..=30 {
            pulse.sent(34, start + seconds(second));
        }
        assert_eq!(pulse.judge(start + seconds(31), LIMIT), Verdict::Reset);
    }

    #[test]
    fn an_answer_that_goes_on_may_take_for_ever() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.enter(Phase::Writing, start);
        for second in 1..=100_000 {
            pulse.sent(35, start + seconds(second));
            assert_eq!(pulse.judge(start + seconds(second), LIMIT), Verdict::Fine, "at {second}");
        }
    }

    #[test]
    fn idle_and_leaving_guests_go_and_working_ones_stay() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert_eq!(pulse.judge(start + seconds(30), LIMIT), Verdict::Fine);
        assert_eq!(pulse.judge(start + seconds(31), LIMIT), Verdict::Close);
        pulse.enter(Phase::Working, start);
        assert_eq!(pulse.judge(start + seconds(3000), LIMIT), Verdict::Fine);
        assert_eq!(pulse.silence(start + seconds(3000)), None);
        pulse.enter(Phase::Leaving, start);
        assert_eq!(pulse.judge(start + seconds(3), LIMIT), Verdict::Close);
    }
}

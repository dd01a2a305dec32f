//! Limits on what callers take together: a budget of memory, and how often a message is logged.
//!
//! Invariant: the permits in use never have more memory than the budget, and dropping a permit gives back what it took.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::lock::lock;

/// What all long bodies together may hold, in bytes: eight of the longest.
pub(super) const MEMORY_BUDGET_BYTES: usize = 8 << 20;

/// How often a message is logged at most.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The memory that is left for long bodies.
#[derive(Clone, Debug)]
pub(super) struct MemoryBudget(Arc<AtomicUsize>);

impl MemoryBudget {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(MEMORY_BUDGET_BYTES)))
    }

    /// A permit for no bytes, to be grown as a body arrives.
    pub(super) fn permit(&self) -> MemoryPermit {
        MemoryPermit { bytes: 0, budget: self.clone() }
    }

    /// How many bytes are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of the budget; it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    bytes: usize,
    budget: MemoryBudget,
}

impl MemoryPermit {
    /// Takes more bytes from the budget. Returns whether that many were left.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let is_taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Limits how often a message is logged: callers without number do not fill the disk with it.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<LogState>);

#[derive(Debug, Default)]
struct LogState {
    logged: Option<Instant>,
    skipped: u64,
}

impl LogLimit {
    /// Returns whether the message is to be logged now, and if so how many were skipped since the last.
    pub(super) fn check(&self) -> Option<u64> {
        let mut state = lock(&self.0);
        if state.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            state.skipped += 1;
            return None;
        }
        state.logged = Some(Instant::now());
        Some(mem::take(&mut state.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_logged_once_in_a_while() {
        let limit = LogLimit::default();
        assert_eq!(limit.check(), Some(0));
        assert_eq!((limit.check(), limit.check()), (None, None));
        lock(&limit.0).logged = Instant::now().checked_sub(LOG_INTERVAL);
        assert_eq!((limit.check(), limit.check()), (Some(2), None));
    }

    #[test]
    fn memory_goes_back_when_its_permit_is_dropped() {
        let budget = MemoryBudget::new();
        let (mut first, mut second) = (budget.permit(), budget.permit());
        assert!(first.grow(MEMORY_BUDGET_BYTES - 1));
        assert!(!second.grow(2), "more than was left");
        assert!(second.grow(1));
        assert_eq!(budget.left(), 0);
        drop(first);
        assert!(second.grow(2));
        drop(second);
        assert_eq!(budget.left(), MEMORY_BUDGET_BYTES);
    }
}

//! Long calls take turns.
//!
//! What a long body becomes when it is read takes several times its own memory. However many of them are here, only a
//! few are with the endpoint at once; the others wait for milliseconds.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::lock;

/// Calls up to this length in bytes need no turn; only what tells of hundreds of peers is longer.
const SHORT: usize = 16 * 1024;

/// How many long calls are answered at once: more would not be quicker on a small machine.
const MOST_AT_ONCE: usize = 4;

/// The turns of one door.
pub(super) struct Turns(Arc<Pool>);

struct Pool {
    free: Mutex<usize>,
    changed: Condvar,
}

/// A turn, which ends when this is dropped.
pub(super) struct Turn(Arc<Pool>);

impl Turns {
    pub(super) fn new() -> Self {
        Self(Arc::new(Pool { free: Mutex::new(MOST_AT_ONCE), changed: Condvar::new() }))
    }

    /// Waits for a turn for a call of this length in bytes, if it needs one.
    pub(super) fn take(&self, length: usize) -> Option<Turn> {
        if length <= SHORT {
            return None;
        }
        let Self(pool) = self;
        let none = |free: &mut usize| *free == 0;
        *pool.changed.wait_while(lock(&pool.free), none).unwrap_or_else(PoisonError::into_inner) -= 1;
        Some(Turn(Arc::clone(pool)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_turn_is_had_when_another_ends() {
        let turns = Turns::new();
        let mut held: Vec<_> = (0..MOST_AT_ONCE).map(|_| turns.take(SHORT + 1)).collect();
        assert!(turns.take(SHORT).is_none());
        thread::scope(|scope| {
            let (had, told) = mpsc::channel();
            let turns = &turns;
            scope.spawn(move || {
                let turn = turns.take(SHORT + 1);
                had.send(()).unwrap();
                drop(turn);
            });
            assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
            drop(held.pop());
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }
}

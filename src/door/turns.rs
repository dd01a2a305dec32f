//! Long calls take turns.
//!
//! What a long body becomes when it is read takes several times its own memory. However many of them are here, only a
//! few are with the endpoint at once; the others wait for milliseconds.

use std::sync::{Condvar, Mutex, PoisonError};

use super::lock;

/// How many long calls are answered at once: more would not be quicker on a small machine.
const MOST_AT_ONCE: usize = 4;

/// The turns of one door.
pub(super) struct Turns {
    free: Mutex<usize>,
    changed: Condvar,
}

/// A turn, which ends when this is dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(super) fn new() -> Self {
        Self { free: Mutex::new(MOST_AT_ONCE), changed: Condvar::new() }
    }

    /// Waits for a turn.
    pub(super) fn take(&self) -> Turn<'_> {
        let none = |free: &mut usize| *free == 0;
        let mut free = self.changed.wait_while(lock(&self.free), none).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
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
        let mut held: Vec<_> = (0..MOST_AT_ONCE).map(|_| turns.take()).collect();
        thread::scope(|scope| {
            let (had, told) = mpsc::channel();
            let turns = &turns;
            scope.spawn(move || {
                let turn = turns.take();
                had.send(()).unwrap();
                drop(turn);
            });
            assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
            drop(held.pop());
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }
}

//! Locks a mutex for the whole crate, and limits how many do something at once.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Locks a mutex. One whose holder panicked is used on: the hook has reported the panic, and no holder in this crate
/// leaves a value half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits how many do something at once; the others wait, and are woken in the order in which they came.
///
/// Invariant: there are never more permits in use than the limit.
#[derive(Debug)]
pub(crate) struct Semaphore {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug)]
struct State {
    permits: usize,
    waiting: usize,
}

/// Allows one of them to do it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Semaphore);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self { state: Mutex::new(State { permits, waiting: 0 }), released: Condvar::new() }
    }

    /// Waits for a permit.
    pub(crate) fn acquire(&self) -> Permit<'_> {
        let is_empty = |state: &mut State| state.permits == 0;
        let state = self.released.wait_while(lock(&self.state), is_empty);
        state.unwrap_or_else(PoisonError::into_inner).permits -= 1;
        Permit(self)
    }

    /// Waits for a permit for at most this time, or not at all where so many wait in this way already.
    pub(crate) fn acquire_within(&self, time: Duration, most_waiting: usize) -> Option<Permit<'_>> {
        let mut state = lock(&self.state);
        if state.permits == 0 && state.waiting >= most_waiting {
            return None;
        }
        state.waiting += 1;
        let is_empty = |state: &mut State| state.permits == 0;
        let waited = self.released.wait_timeout_while(state, time, is_empty);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        let is_given = state.permits > 0;
        state.permits -= usize::from(is_given);
        drop(state);
        // A permit that is made and dropped would give back what nobody took.
        is_given.then(|| Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).permits += 1;
        self.0.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_permit_is_acquired_when_another_is_released() {
        let semaphore = Semaphore::new(3);
        let mut permits: Vec<_> = (0..3).map(|_| semaphore.acquire()).collect();
        thread::scope(|scope| {
            let (sender, acquired) = mpsc::channel();
            let semaphore = &semaphore;
            scope.spawn(move || {
                let permit = semaphore.acquire();
                sender.send(()).unwrap();
                drop(permit);
            });
            assert!(acquired.recv_timeout(Duration::from_millis(20)).is_err());
            drop(permits.pop());
            acquired.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }

    #[test]
    fn who_waits_too_long_gets_none_and_all_others_are_served() {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.acquire();
        assert!(semaphore.acquire_within(Duration::from_millis(1), 1).is_none());
        assert!(semaphore.acquire_within(Duration::MAX, 0).is_none(), "too many wait");
        thread::scope(|scope| {
            let (sender, served) = mpsc::channel();
            for number in 1..=3 {
                let (semaphore, sender) = (&semaphore, sender.clone());
                scope.spawn(move || {
                    let permit = semaphore.acquire_within(Duration::from_secs(60), 3);
                    sender.send((number, permit.is_some())).unwrap();
                });
                while lock(&semaphore.state).waiting < number {
                    thread::yield_now();
                }
            }
            drop(permit);
            let mut served: Vec<_> = served.iter().take(3).collect();
            served.sort_unstable();
            assert_eq!(served, [(1, true), (2, true), (3, true)]);
        });
        assert!(semaphore.acquire_within(Duration::ZERO, 1).is_some());
    }
}

//! Locks a mutex for the whole crate, and limits how many do something at once.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Locks a mutex. One whose holder panicked is used on: the hook has reported the panic, and no holder in this crate
/// leaves a value half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits how many do something at once; the others wait, first come first served.
///
/// Invariant: there are never more permits in use than the limit.
#[derive(Debug)]
pub(crate) struct Semaphore(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    permits: usize,
    /// Those who wait, the first first.
    threads: VecDeque<Thread>,
}

/// Allows one of them to do it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Semaphore);

impl Semaphore {
    pub(crate) fn new(permits: usize) -> Self {
        Self(Mutex::new(Waiting { permits, threads: VecDeque::new() }))
    }

    /// Waits for a permit.
    pub(crate) fn acquire(&self) -> Permit<'_> {
        self.acquire_within(Duration::MAX, usize::MAX).expect("who waits for ever gets one")
    }

    /// Waits for a permit for at most this time, or not at all where so many wait already.
    pub(crate) fn acquire_within(&self, time: Duration, most_waiting: usize) -> Option<Permit<'_>> {
        let began = Instant::now();
        let this = thread::current();
        let mut waiting = lock(&self.0);
        if waiting.permits == 0 && waiting.threads.len() >= most_waiting {
            return None;
        }
        waiting.threads.push_back(this.clone());
        loop {
            let is_first = waiting.threads.front().is_some_and(|first| first.id() == this.id());
            let left = time.checked_sub(began.elapsed());
            let is_given = is_first && waiting.permits > 0;
            if is_given || left.is_none() {
                waiting.threads.retain(|other| other.id() != this.id());
                waiting.permits -= usize::from(is_given);
                waiting.wake_first();
                // A permit that is made and dropped would give back what nobody took.
                return is_given.then(|| Permit(self));
            }
            drop(waiting);
            thread::park_timeout(left.unwrap_or_default());
            waiting = lock(&self.0);
        }
    }
}

impl Waiting {
    fn wake_first(&self) {
        if self.permits > 0 {
            self.threads.iter().take(1).for_each(Thread::unpark);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.0);
        waiting.permits += 1;
        waiting.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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
    fn who_waits_too_long_gets_none_and_the_first_gets_the_next() {
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
                while lock(&semaphore.0).threads.len() < number {
                    thread::yield_now();
                }
            }
            drop(permit);
            assert_eq!(served.iter().take(3).collect::<Vec<_>>(), [(1, true), (2, true), (3, true)]);
        });
        assert!(semaphore.acquire_within(Duration::ZERO, 1).is_some());
    }
}

//! A limit for the bytes of content that flow in one direction, shared fairly between all transfers.
//!
//! A token bucket: each piece of a transfer reserves the time that it takes at the rate, after all that is reserved
//! already, and waits until that begins. So transfers take turns when they want more than there is. Time that nobody
//! reserved is lost, but for a tenth of a second.

use std::{
    io::{self, Read},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::lock::{Permit, Semaphore, lock};

/// The lowest rate in bytes a second.
pub(crate) const MIN_RATE: u64 = 16 << 10;

/// The bytes in a second that each transfer gets at least, while no more run than can.
const MIN_SHARE: u64 = 1 << 10;

/// The bytes of a piece: what the rate allows in a tenth of a second, shared by all transfers that run, within these
/// bounds. So the turn of each comes soon, however many there are.
const PIECES_A_SECOND: u64 = 10;
const MIN_PIECE: u64 = 1 << 10;
const MAX_PIECE: u64 = 64 << 10;

/// How much time that nobody used can be made up for.
const BURST: Duration = Duration::from_millis(100);

/// How long a wait lasts at most before it is looked whether all is over.
const STEP: Duration = Duration::from_millis(100);

/// A limit in bytes a second; a clone shares it.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rate: u64,
    /// From when on nothing is reserved.
    free_from: Mutex<Instant>,
    /// How many transfers may run.
    places: Semaphore,
    /// How many transfers run.
    running: AtomicUsize,
    is_over: AtomicBool,
}

impl RateLimit {
    /// Limits to this rate in bytes a second, [`MIN_RATE`] at least.
    pub(crate) fn new(rate: u64) -> Self {
        let places = Semaphore::new(most_transfers(rate));
        let free_from = Mutex::new(Instant::now());
        let (running, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self(Arc::new(Shared { rate, free_from, places, running, is_over }))
    }

    /// The most bytes that flow at a time.
    pub(crate) fn piece(&self) -> usize {
        let running = self.0.running.load(Ordering::Relaxed).max(1) as u64;
        let piece = (self.0.rate / PIECES_A_SECOND / running).clamp(MIN_PIECE, MAX_PIECE);
        usize::try_from(piece).expect("a piece is small")
    }

    /// How many transfers may run at once.
    pub(crate) fn most_transfers(&self) -> usize {
        most_transfers(self.0.rate)
    }

    /// The bytes in a second.
    pub(crate) fn rate(&self) -> u64 {
        self.0.rate
    }

    /// Waits for one of the [`most_transfers`](Self::most_transfers) places, which is free again when the result is
    /// dropped. Gives up after this time: then more transfers run, and each gets less.
    pub(crate) fn wait_for_place(&self, most: Duration) -> Option<Permit<'_>> {
        let begun = Instant::now();
        while begun.elapsed() < most && !self.0.is_over.load(Ordering::Relaxed) {
            if let Some(place) = self.0.places.acquire_within(STEP.min(most), usize::MAX) {
                return Some(place);
            }
        }
        None
    }

    /// Waits until this number of bytes may flow.
    pub(crate) fn wait_for(&self, bytes: usize) {
        let start = self.reserve(bytes, Instant::now());
        while let Some(left) = start.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !self.0.is_over.load(Ordering::Relaxed)
        {
            thread::sleep(left.min(STEP));
        }
    }

    /// Counts a transfer that runs, until the result is dropped.
    pub(crate) fn begin(&self) -> Transfer {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Transfer(self.clone())
    }

    /// Gives back the time of bytes that did not flow.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut free_from = lock(&self.0.free_from);
        *free_from = free_from.checked_sub(self.time_of(bytes)).unwrap_or(*free_from);
    }

    fn time_of(&self, bytes: usize) -> Duration {
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(self.0.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Lets nobody wait any more.
    pub(crate) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Reserves the time that this number of bytes takes; when it begins.
    fn reserve(&self, bytes: usize, now: Instant) -> Instant {
        let mut free_from = lock(&self.0.free_from);
        let start = (*free_from).max(now.checked_sub(BURST).unwrap_or(now));
        *free_from = start + self.time_of(bytes);
        start
    }
}

/// A transfer that runs within a limit.
pub(crate) struct Transfer(RateLimit);

impl Transfer {
    pub(crate) fn limit(&self) -> &RateLimit {
        &self.0
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

fn most_transfers(rate: u64) -> usize {
    usize::try_from(rate / MIN_SHARE).unwrap_or(usize::MAX)
}

/// Reads within a limit, if there is one, a piece at a time.
pub(crate) struct Limited<T> {
    pub(crate) inner: T,
    pub(crate) transfer: Option<Transfer>,
}

impl<T: Read> Read for Limited<T> {
    /// What was read is waited for afterwards: how much comes is not known before.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(limit) = self.transfer.as_ref().map(Transfer::limit) else { return self.inner.read(buffer) };
        let most = buffer.len().min(limit.piece());
        let count = self.inner.read(&mut buffer[..most])?;
        limit.wait_for(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::support::{PATIENCE, eventually};

    #[test]
    fn what_is_reserved_follows_on_what_was_and_only_a_little_is_made_up_for() {
        let limit = RateLimit::new(1000);
        let now = Instant::now() + Duration::from_secs(60);
        let milliseconds = |bytes, at: u64| {
            let start = limit.reserve(bytes, now + Duration::from_millis(at));
            (start + BURST).duration_since(now).as_millis()
        };
        assert_eq!(milliseconds(500, 0), 0, "a tenth of a second is made up for");
        assert_eq!(milliseconds(1000, 0), 500);
        assert_eq!(milliseconds(1, 1000), 1500);
        assert_eq!(milliseconds(1, 5000), 5000, "what nobody used is lost");
    }

    #[test]
    fn what_did_not_flow_is_given_back() {
        let limit = RateLimit::new(MIN_RATE);
        let now = Instant::now() + Duration::from_secs(60);
        let start = limit.reserve(1 << 20, now);
        limit.give_back(1 << 20);
        assert_eq!(limit.reserve(1, now), start);
    }

    #[test]
    fn a_piece_is_a_tenth_of_a_second_shared_and_bounded() {
        let limit = RateLimit::new(100 << 10);
        let transfers = [limit.begin(), limit.begin()];
        assert_eq!(limit.piece(), 5 << 10);
        drop(transfers);
        let pieces = [MIN_RATE, 100 << 10, 1 << 30].map(|rate| RateLimit::new(rate).piece());
        assert_eq!(pieces, [1638, 10 << 10, 64 << 10]);
    }

    #[test]
    fn nobody_waits_when_all_is_over() {
        let limit = RateLimit::new(MIN_RATE);
        limit.wait_for(1 << 30);
        let places: Vec<_> = (0..limit.most_transfers()).map(|_| limit.wait_for_place(STEP)).collect();
        assert!(places.iter().all(Option::is_some));
        let reserved = *lock(&limit.0.free_from);
        let (sender, ended) = mpsc::channel();
        for waits_for_place in [false, true] {
            let (limit, sender) = (limit.clone(), sender.clone());
            thread::spawn(move || {
                if waits_for_place {
                    assert!(limit.wait_for_place(Duration::from_secs(3600)).is_none());
                }
                limit.wait_for(1);
                sender.send(()).unwrap();
            });
        }
        eventually("one waits", PATIENCE, || (*lock(&limit.0.free_from) > reserved).then_some(()));
        assert!(ended.try_recv().is_err());
        limit.end();
        (0..2).for_each(|_| ended.recv_timeout(PATIENCE).unwrap());
    }
}

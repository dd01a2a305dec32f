//! The blocks of a large file: who fetches which, decided apart from doing it.
//!
//! A block is done, or claimed by those who fetch it, or free. The main stream takes them from the beginning as it comes to them; who helps takes the
//! free one nearest the end. At the end, when none is free, a block that takes much longer than others is asked of
//! another peer, too: the first to have it ends the others.
//!
//! Invariant: a block that is done stays so.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::protocol::Part;

/// The bytes of a block; the last of a file may be shorter. A larger block costs more when it must be fetched twice, a
/// smaller one waits for the wire more often.
pub(super) const BLOCK_BYTES: u64 = 4 << 20;

/// The most bytes of a file that has blocks: each takes a byte of memory.
pub(super) const MAX_BYTES: u64 = 4 << 40;

/// How long a block may take in any case before it is asked of another peer, too.
const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// How many of the last blocks tell how long one takes.
const RECENT: usize = 15;

/// A block that a peer is asked for.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) block: usize,
    pub(super) peer: usize,
    since: Instant,
    /// Set when another has the block.
    pub(super) is_over: Arc<AtomicBool>,
}

/// The blocks of one file.
pub(super) struct Blocks {
    /// The size of the file in bytes.
    size: u64,
    done: Vec<bool>,
    /// The bytes of all blocks that are done.
    done_bytes: u64,
    claims: Vec<Claim>,
    /// How long the last blocks took.
    recent: VecDeque<Duration>,
}

impl Blocks {
    /// The blocks of a file of this many bytes, at most [`MAX_BYTES`], all of them free.
    pub(super) fn new(size: u64) -> Self {
        let count = usize::try_from(size.div_ceil(BLOCK_BYTES)).expect("there are at most 2^20");
        Self { size, done: vec![false; count], done_bytes: 0, claims: Vec::new(), recent: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.done.len()
    }

    /// The bytes of some blocks that lie side by side.
    pub(super) fn part(&self, first: usize, count: usize) -> Part {
        let offset = first as u64 * BLOCK_BYTES;
        Part { offset, length: (count as u64 * BLOCK_BYTES).min(self.size - offset) }
    }

    pub(super) fn is_done(&self, block: usize) -> bool {
        self.done[block]
    }

    pub(super) fn are_all_done(&self) -> bool {
        self.done_bytes == self.size
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of all blocks that are done.
    pub(super) fn done_bytes(&self) -> u64 {
        self.done_bytes
    }

    /// The same blocks, with nobody fetching any.
    pub(super) fn only_done(&self) -> Self {
        Self { done: self.done.clone(), done_bytes: self.done_bytes, ..Self::new(self.size) }
    }

    /// Counts blocks that were there already.
    pub(super) fn set_done(&mut self, first: usize, count: usize) {
        (first..first + count).for_each(|block| self.set_state_done(block));
    }

    fn set_state_done(&mut self, block: usize) {
        if !self.is_done(block) {
            self.done[block] = true;
            self.done_bytes += self.part(block, 1).length;
        }
    }

    fn is_free(&self, block: usize) -> bool {
        !self.done[block] && self.claims.iter().all(|claim| claim.block != block)
    }

    /// The first run of free blocks.
    pub(super) fn first_free(&self) -> Option<Part> {
        let first = (0..self.len()).find(|block| self.is_free(*block))?;
        let count = (first..self.len()).take_while(|block| self.is_free(*block)).count();
        Some(self.part(first, count))
    }

    /// Gives this block to a peer if it is free.
    pub(super) fn claim(&mut self, block: usize, peer: usize, is_over: &Arc<AtomicBool>, now: Instant) -> bool {
        let is_free = self.is_free(block);
        if is_free {
            self.claims.push(Claim { block, peer, since: now, is_over: Arc::clone(is_over) });
        }
        is_free
    }

    /// Whether this block is still fetched by who claimed it with this flag.
    pub(super) fn is_claimed(&self, block: usize, is_over: &Arc<AtomicBool>) -> bool {
        self.claims.iter().any(|claim| claim.block == block && Arc::ptr_eq(&claim.is_over, is_over))
    }

    /// Gives a peer the free block nearest the end or, where none is free, one that takes another peer too long.
    pub(super) fn claim_last(&mut self, peer: usize, now: Instant) -> Option<Claim> {
        let free = (0..self.len()).rev().find(|block| self.is_free(*block));
        let block = free.or_else(|| self.find_late(peer, 1, now))?;
        let claim = Claim { block, peer, since: now, is_over: Arc::default() };
        self.claims.push(claim.clone());
        Some(claim)
    }

    /// Gives the peer of the main stream a block that takes others too long, however many fetch it.
    pub(super) fn claim_late(&mut self, peer: usize, is_over: &Arc<AtomicBool>, now: Instant) -> Option<Part> {
        let block = self.find_late(peer, usize::MAX, now)?;
        self.claims.push(Claim { block, peer, since: now, is_over: Arc::clone(is_over) });
        Some(self.part(block, 1))
    }

    /// The block that takes others the longest, and too long, and that at most so many fetch.
    fn find_late(&self, peer: usize, most: usize, now: Instant) -> Option<usize> {
        let mut recent: Vec<Duration> = self.recent.iter().copied().collect();
        recent.sort_unstable();
        let median = recent.get(recent.len() / 2).copied().unwrap_or_default();
        let patience = MIN_PATIENCE.max(2 * median);
        let is_late = |claim: &&Claim| now.saturating_duration_since(claim.since) > patience;
        let is_free_for = |claim: &&Claim| {
            let claims = || self.claims.iter().filter(|other| other.block == claim.block);
            claims().count() <= most && claims().all(|other| other.peer != peer)
        };
        self.claims.iter().filter(is_late).filter(is_free_for).min_by_key(|claim| claim.since).map(|claim| claim.block)
    }

    /// Ends a block that is here; all others who were asked for it are told.
    pub(super) fn finish(&mut self, block: usize, is_over: &Arc<AtomicBool>, now: Instant) {
        self.set_state_done(block);
        for claim in self.claims.extract_if(.., |claim| claim.block == block) {
            if Arc::ptr_eq(&claim.is_over, is_over) {
                self.recent.truncate(RECENT - 1);
                self.recent.push_front(now.saturating_duration_since(claim.since));
            } else {
                claim.is_over.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Tells all who fetch blocks, but for the main stream, that these are not needed any more.
    pub(super) fn end_claims(&mut self, main: Option<&Arc<AtomicBool>>) {
        let is_main = |claim: &&Claim| main.is_some_and(|main| Arc::ptr_eq(&claim.is_over, main));
        self.claims
            .iter()
            .filter(|claim| !is_main(claim))
            .for_each(|claim| claim.is_over.store(true, Ordering::Relaxed));
    }

    /// Gives up what was claimed with this flag.
    pub(super) fn release(&mut self, is_over: &Arc<AtomicBool>) {
        self.claims.retain(|claim| !Arc::ptr_eq(&claim.is_over, is_over));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn part(first: u64, length: u64) -> Part {
        Part { offset: first * BLOCK_BYTES, length }
    }

    #[test]
    fn the_main_stream_and_who_helps_meet() {
        let mut blocks = Blocks::new(4 * BLOCK_BYTES + 5);
        let (main, now) = (Arc::default(), Instant::now());
        assert_eq!(blocks.first_free(), Some(part(0, 4 * BLOCK_BYTES + 5)));
        assert!(blocks.claim(0, 0, &main, now));
        let last = blocks.claim_last(1, now).unwrap();
        assert_eq!((last.block, blocks.part(last.block, 1)), (4, part(4, 5)));
        blocks.finish(4, &last.is_over, now);
        blocks.finish(0, &main, now);
        assert_eq!((blocks.done_bytes(), blocks.first_free()), (BLOCK_BYTES + 5, Some(part(1, 3 * BLOCK_BYTES))));
        for block in [3, 2, 1] {
            assert_eq!(blocks.claim_last(1, now).unwrap().block, block);
        }
        assert!(!blocks.claim(1, 0, &main, now), "another has it");
        assert!(blocks.first_free().is_none() && blocks.claim_last(2, now).is_none() && !blocks.are_all_done());
    }

    #[test]
    fn a_block_that_was_given_up_is_free_again() {
        let mut blocks = Blocks::new(2 * BLOCK_BYTES);
        let claim = blocks.claim_last(1, Instant::now()).unwrap();
        blocks.release(&claim.is_over);
        assert_eq!(blocks.first_free(), Some(part(0, 2 * BLOCK_BYTES)));
        let claim = blocks.claim_last(1, Instant::now()).unwrap();
        blocks.finish(1, &claim.is_over, Instant::now());
        blocks.release(&claim.is_over);
        assert!(blocks.is_done(1));
    }

    #[test]
    fn a_late_block_is_asked_of_one_other_peer_and_the_first_ends_the_others() {
        let mut blocks = Blocks::new(2 * BLOCK_BYTES);
        let (main, start) = (Arc::default(), Instant::now());
        assert!(blocks.claim(0, 0, &main, start));
        let late = blocks.claim_last(1, start + SECOND / 2).unwrap();
        assert!(blocks.claim_last(2, start + SECOND).is_none(), "none is late");
        assert!(blocks.claim_last(0, start + SECOND * 5 / 4).is_none(), "it is the one that is late");
        let second = blocks.claim_last(2, start + SECOND * 2).unwrap();
        assert_eq!(second.block, 0, "the one that takes the longest");
        assert_eq!(blocks.claim_last(3, start + SECOND * 2).unwrap().block, 1);
        assert!(blocks.claim_last(4, start + SECOND * 9).is_none(), "each is asked of two");
        let again = Arc::default();
        assert!(blocks.claim_late(0, &again, start + SECOND * 9) == Some(part(1, BLOCK_BYTES)), "the main stream may");
        assert!(blocks.claim_late(0, &again, start + SECOND * 9).is_none(), "it does so already");
        blocks.release(&again);
        blocks.finish(0, &second.is_over, start + SECOND * 3);
        assert!(main.load(Ordering::Relaxed) && !second.is_over.load(Ordering::Relaxed));
        let done = blocks.done_bytes();
        blocks.finish(0, &main, start + SECOND * 3);
        assert_eq!(blocks.done_bytes(), done, "it counts once");
        blocks.release(&late.is_over);
        assert!(blocks.first_free().is_none(), "the other still fetches it");
    }

    #[test]
    fn what_others_took_tells_how_long_is_too_long() {
        let mut blocks = Blocks::new(4 * BLOCK_BYTES);
        let start = Instant::now();
        for seconds in [4, 3, 5] {
            let claim = blocks.claim_last(1, start).unwrap();
            blocks.finish(claim.block, &claim.is_over, start + SECOND * seconds);
        }
        blocks.claim_last(1, start).unwrap();
        assert!(blocks.claim_last(2, start + SECOND * 8).is_none());
        assert!(blocks.claim_last(2, start + SECOND * 9).is_some());
    }
}

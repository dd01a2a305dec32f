//! Whom of the living to call next of our own accord: one after the other in random order, the doubted first.
//!
//! Random turns rather than a lot each time: news spreads as fast, and nobody waits for more than a turn. Doubts make
//! deaths known sooner than that: what an answer leaves out may be dead, and a call will tell.

use std::collections::BTreeSet;

/// Doubted peers that are called in one period at most.
const MAX_DOUBTS: usize = 64;

/// The order in which the living are called, and those that are called before.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// The places still to be called in this turn; the last is called next.
    order: Vec<usize>,
    /// The places that an answer left out.
    doubted: Vec<usize>,
    /// How many may be doubted in a period: one more with each that proves dead, one again when one proves alive.
    /// So hundreds that die together are soon known, while answers that leave out the living cost a call or two.
    doubts: usize,
    /// Those that were doubted in this turn. Once is enough: a peer that only we can reach is left out by everybody.
    checked: BTreeSet<usize>,
    random: fastrand::Rng,
}

impl Turn {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self { order: Vec::new(), doubted: Vec::new(), doubts: 1, checked: BTreeSet::new(), random }
    }

    /// Puts a new peer anywhere in this turn, for the next one may be hours away.
    pub(super) fn insert(&mut self, place: usize) {
        self.order.push(place);
        let last = self.order.len() - 1;
        self.order.swap(last, self.random.usize(..=last));
    }

    /// The next place of the turn that `is_well`, of all below `end` but our own; a new turn begins after the last.
    pub(super) fn next(&mut self, end: usize, is_well: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..2 {
            while let Some(place) = self.order.pop() {
                if is_well(place) {
                    return Some(place);
                }
            }
            self.checked.clear();
            self.order = (1..end).collect();
            self.random.shuffle(&mut self.order);
        }
        None
    }

    /// Doubts some of those that an answer left out, as many as may be and chosen at random.
    pub(super) fn doubt(&mut self, left_out: impl Iterator<Item = usize>) {
        let room = self.doubts.saturating_sub(self.doubted.len());
        if room > 0 {
            let mut left_out: Vec<usize> = left_out.filter(|place| !self.checked.contains(place)).collect();
            self.random.shuffle(&mut left_out);
            left_out.truncate(room);
            self.checked.extend(&left_out);
            self.doubted.extend(left_out);
        }
    }

    /// Takes the doubted, to be called now.
    pub(super) fn take_doubted(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.doubted)
    }

    /// Learns whether a peer that was called, doubted or not, has answered.
    pub(super) fn learn(&mut self, place: usize, answered: bool) {
        if self.checked.contains(&place) {
            self.doubts = if answered { 1 } else { MAX_DOUBTS.min(self.doubts + 1) };
        }
    }
}

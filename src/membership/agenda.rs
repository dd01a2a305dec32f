//! Which peers are to be asked and when, and which are being asked.
//!
//! Peers are known by their place on the list. Nobody is on the agenda twice, so nobody is asked twice at a time.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// Calls in progress at most, the hanging ones among them; each takes a thread and a descriptor.
pub(super) const MAX_ASKED_AT_ONCE: usize = 256;

/// Calls of the last [`HANGING`] at most: more would only wait for the same processor and wires.
pub(super) const MAX_LIVELY: usize = 16;

/// A call that has taken as long will hang, most likely, and no longer keeps others from being begun.
pub(super) const HANGING: Duration = Duration::from_secs(1);

/// Who is to be asked at what time, and who is being asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    /// All places on the agenda: when they are to be asked, or nothing while they are being asked.
    entries: HashMap<usize, Option<Duration>>,
    planned: BTreeSet<(Duration, usize)>,
    /// In the order in which the calls were begun.
    asked: Vec<(Duration, usize)>,
}

impl Agenda {
    /// Plans to ask a peer at that time and at no other; one that is being asked stays as it is.
    pub(super) fn plan(&mut self, place: usize, at: Duration) {
        match self.entries.get(&place) {
            Some(None) => return,
            Some(&Some(before)) => _ = self.planned.remove(&(before, place)),
            None => {}
        }
        self.entries.insert(place, Some(at));
        self.planned.insert((at, place));
    }

    /// Takes those whose time has come, as far as more calls may be begun; from now on they are being asked.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<usize> {
        let lively = self.asked.iter().rev().take_while(|&&(since, _)| since + HANGING > now).count();
        let room = MAX_LIVELY.saturating_sub(lively).min(MAX_ASKED_AT_ONCE - self.asked.len());
        let due: Vec<usize> =
            self.planned.iter().take_while(|&&(at, _)| at <= now).map(|&(_, place)| place).take(room).collect();
        for &place in &due {
            self.planned.pop_first();
            self.entries.insert(place, None);
            self.asked.push((now, place));
        }
        due
    }

    /// Takes a peer that was being asked off the agenda; says whether it was.
    pub(super) fn finish(&mut self, place: usize) -> bool {
        let Some(index) = self.asked.iter().position(|&(_, asked)| asked == place) else { return false };
        self.asked.remove(index);
        self.entries.remove(&place);
        true
    }

    /// The time of the earliest entry.
    pub(super) fn first(&self) -> Option<Duration> {
        self.planned.first().map(|&(at, _)| at)
    }

    /// When a call may be begun; nothing if one must end before.
    pub(super) fn has_room_at(&self) -> Option<Duration> {
        if self.asked.len() >= MAX_ASKED_AT_ONCE {
            return None;
        }
        let last_lively = self.asked.len().checked_sub(MAX_LIVELY);
        Some(last_lively.map_or(Duration::ZERO, |index| self.asked[index].0 + HANGING))
    }

    /// Whether a peer is not on the agenda at all.
    pub(super) fn is_free_of(&self, place: usize) -> bool {
        !self.entries.contains_key(&place)
    }

    /// Whether a peer is being asked.
    pub(super) fn is_asking(&self, place: usize) -> bool {
        self.entries.get(&place) == Some(&None)
    }

    /// Whether nobody is being asked, and nobody is to be by now.
    pub(super) fn is_done(&self, now: Duration) -> bool {
        self.asked.is_empty() && self.first().is_none_or(|at| at > now)
    }
}

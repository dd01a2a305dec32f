//! Files that are here: which of them others have in another state, and which are to be updated.

use std::mem;

use super::{Before, DownloadQueue, Standing};
use crate::{client::collector::Details, file_name::FileName};

/// By how many seconds a file must be newer to count as that: clocks and file systems round.
const MIN_NEWER: u32 = 60;

impl DownloadQueue {
    /// The name of this number.
    pub(in crate::client) fn name(&self, name: usize) -> FileName {
        self.index.name(name)
    }

    /// The first name from this one on that a file had.
    pub(in crate::client) fn next_here(&self, first: usize) -> Option<usize> {
        (first..self.states.len()).find(|name| self.states[*name].before != Before::Nothing)
    }

    /// Counts a name that a file has.
    pub(super) fn count_as_here(&mut self, name: usize) {
        let before = &mut self.states[name].before;
        if *before == Before::Nothing {
            *before = Before::File;
        }
        self.tally.already_here += 1;
        self.tally.differing += usize::from(*before == Before::Differing);
    }

    /// The peers that have a file of another size than this under a name that is here, each with its size, in the order
    /// of the peer list. If there are any, the name counts as one that differs.
    pub(in crate::client) fn differing(&mut self, name: usize, size: u64) -> Vec<(usize, u64)> {
        let told = self.index.sources(name).filter_map(|source| Some((source, self.index.size_of(source)?)));
        let others = told.filter(|(_, told)| *told != size);
        let mut peers: Vec<_> = others.map(|(source, told)| (self.index.peer_of(source), told)).collect();
        peers.sort_unstable();
        if !peers.is_empty() && mem::replace(&mut self.states[name].before, Before::Differing) != Before::Differing {
            self.tally.differing += 1;
        }
        peers
    }

    /// Whether somebody has a newer file than this under a name.
    pub(in crate::client) fn has_newer(&self, name: usize, modified: u32) -> bool {
        self.newest(name) >= modified.saturating_add(MIN_NEWER)
    }

    /// When the newest file of a name was changed, as far as peers tell.
    fn newest(&self, name: usize) -> u32 {
        let told = self.index.sources(name).filter_map(|source| self.index.details_of(source));
        told.map(|details| details.modified).max().unwrap_or_default()
    }

    /// Lets a name that is here, in this size, be asked for again of those alone who have the newest file: by itself where
    /// one of them has the same size, for then a digest must tell whether it is another content.
    pub(in crate::client) fn reopen(&mut self, name: usize, size: u64) {
        let newest = self.newest(name);
        let mut expected = 0;
        for source in self.index.sources(name) {
            match self.index.details_of(source) {
                Some(Details { size: told, modified }) if newest - modified < MIN_NEWER => {
                    expected = told;
                    self.states[name].is_unpacked |= told == size;
                }
                _ => self.standings[source] = Standing::Failed,
            }
        }
        let state = &mut self.states[name];
        state.is_file = true;
        self.tally.already_here -= 1;
        self.tally.differing -= usize::from(state.before == Before::Differing);
        self.tally.open += 1;
        self.tally.expected_bytes = self.tally.expected_bytes.saturating_add(expected);
        self.settle(name);
    }
}

//! Cuts packs: which small files of a peer are asked for in one call.

use super::{DownloadQueue, Peer, Task};

/// The most files in a pack.
const MAX_PACK_NAMES: usize = 256;

/// The fewest files in a pack while others wait: the last packs get smaller, so that all jobs end together.
const MIN_PACK_NAMES: usize = 64;

/// The largest file in bytes that goes into a pack: for a larger one a call of its own costs little.
const MAX_PACKED_BYTES: u64 = 64 << 10;

/// The most bytes of the files in a pack.
const MAX_PACK_BYTES: u64 = 1 << 20;

/// How many sources are looked through for one pack, so that this never takes long.
const MAX_PACK_SEARCH: usize = 16 * MAX_PACK_NAMES;

impl DownloadQueue {
    /// The sources of a peer that make a pack; none if the first that waits does not go into packs.
    pub(super) fn cut_pack(&self, peer: usize) -> Vec<usize> {
        let Peer { cursor, ref sources, .. } = self.peers[peer];
        let mut pack = Vec::new();
        if !self.is_packed(cursor, peer) {
            return pack;
        }
        let most = (self.waiting / self.jobs).clamp(MIN_PACK_NAMES, MAX_PACK_NAMES);
        let mut room = MAX_PACK_BYTES;
        for source in (cursor..sources.end).take(MAX_PACK_SEARCH) {
            if pack.len() == most {
                break;
            }
            if self.is_waiting(source) && self.is_packed(source, peer) {
                let Some(left) = room.checked_sub(self.index.size_of(source).unwrap_or(MAX_PACK_BYTES)) else { break };
                room = left;
                pack.push(source);
            }
        }
        pack
    }

    /// Whether the file of a source is asked for in a pack.
    fn is_packed(&self, source: usize, peer: usize) -> bool {
        self.peers[peer].sends_packs
            && !self.states[self.index.name_of(source)].is_unpacked
            && self.index.size_of(source).is_some_and(|size| size <= MAX_PACKED_BYTES)
    }

    /// Lets what a pack did not bring wait again, each file to be asked for by itself; how many nobody will give now.
    pub(in crate::client) fn unpack(&mut self, missing: &[Task]) -> usize {
        let mut lost = 0;
        for task in missing {
            self.states[task.name_id].is_unpacked = true;
            self.states[task.name_id].is_file = true;
            lost += usize::from(self.settle(task.name_id).is_some());
        }
        lost
    }

    /// Asks a peer for no more packs.
    pub(in crate::client) fn stop_packs(&mut self, peer: usize) {
        self.peers[peer].sends_packs = false;
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, time::Instant};

    use super::{
        super::{
            super::collector::{Details, PeerListing, listing_with_details},
            Next, Outcome,
            tests::{expect, refuse, take_pack},
        },
        *,
    };
    use crate::error::CallError;

    /// A listing of these files, by number and size.
    fn index_of(peer: usize, files: &[(usize, u64)]) -> PeerListing {
        let files: Vec<(String, u64)> = files.iter().map(|(name, size)| (format!("{name:03}"), *size)).collect();
        let details = |size| Some(Details { size, modified: 0 });
        let listing = listing_with_details(files.iter().map(|(name, size)| (&**name, details(*size))));
        PeerListing { peer, listing }
    }

    /// A queue in which each peer told the sizes of the files of its row.
    fn queue_of_sizes(peers: &[Vec<(usize, u64)>]) -> DownloadQueue {
        let mut queue = DownloadQueue::new(peers.len(), 4);
        queue.join(peers.iter().enumerate().map(|(peer, files)| index_of(peer, files)).collect(), |_| None);
        queue.complete();
        queue
    }

    fn names(pack: &[Task]) -> Vec<usize> {
        pack.iter().map(|task| task.file_name.as_str().parse().expect("a number")).collect()
    }

    #[test]
    fn what_a_pack_of_a_peer_that_was_given_up_did_not_bring_is_lost() {
        let mut queue = queue_of_sizes(&[(0..200).map(|name| (name, 10)).collect()]);
        let packs = [take_pack(&mut queue), take_pack(&mut queue)];
        for _ in &packs {
            queue.end_call(0, Some(&CallError::TimedOut(String::new())));
        }
        let lost = packs.map(|pack| queue.unpack(&pack) + queue.give_up_unanswering(0));
        assert_eq!(lost.iter().sum::<usize>(), 200);
        assert_eq!((queue.tally().failed, queue.tally().open), (200, 0));
    }

    #[test]
    fn small_files_go_in_packs_and_large_ones_by_themselves() {
        let large = MAX_PACKED_BYTES + 1;
        let mut queue = queue_of_sizes(&[vec![(0, large), (1, MAX_PACKED_BYTES), (2, large), (3, 0), (4, 5)]]);
        assert_eq!(queue.tally().expected_bytes, 2 * large + MAX_PACKED_BYTES + 5);
        assert_eq!(names(&take_pack(&mut queue)), [0]);
        assert_eq!(names(&take_pack(&mut queue)), [1, 3, 4]);
        assert_eq!(names(&take_pack(&mut queue)), [2]);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
    }

    #[test]
    fn a_pack_has_bounds_and_the_last_ones_are_smaller() {
        let mut queue = queue_of_sizes(&[(0..1000).map(|name| (name, 1)).collect()]);
        let mut sizes = Vec::new();
        while let Next::Download(pack) = queue.next(Instant::now()) {
            sizes.push(pack.len());
            queue.end_call(0, None);
        }
        assert_eq!(sizes, [250, 187, 140, 105, 79, 64, 64, 64, 47]);
        let mut queue = queue_of_sizes(&[(0..50).map(|name| (name, MAX_PACKED_BYTES)).collect()]);
        assert_eq!(take_pack(&mut queue).len(), 16, "1 MiB");
    }

    #[test]
    fn packs_are_cut_by_who_holds_what_and_spread_over_holders() {
        let files = |names: Range<usize>| names.map(|name| (name, 1)).collect::<Vec<_>>();
        let mut queue = queue_of_sizes(&[files(0..100), files(50..200)]);
        let packs = [take_pack(&mut queue), take_pack(&mut queue), take_pack(&mut queue)];
        assert_eq!(packs.each_ref().map(|pack| pack[0].peer), [0, 1, 1]);
        let expected = [0..64, 64..128, 128..192].map(Iterator::collect::<Vec<_>>);
        assert_eq!(packs.map(|pack| names(&pack)), expected);
    }

    #[test]
    fn what_a_pack_did_not_bring_is_asked_for_by_itself() {
        let mut queue = queue_of_sizes(&[vec![(0, 1), (1, 1), (2, 1)]]);
        let pack = take_pack(&mut queue);
        queue.end_call(0, None);
        queue.finish(pack[0].name_id, Outcome::Saved(1));
        queue.unpack(&pack[1..]);
        for name in [1, 2] {
            let task = expect(&mut queue, name, 0);
            assert_eq!(refuse(&mut queue, &task), Some(Outcome::Failed));
        }
        assert_eq!((queue.next(Instant::now()), queue.tally().open), (Next::Done, 0));
    }

    #[test]
    fn a_full_disk_ends_the_second_round_but_for_smaller_files() {
        let mut queue = queue_of_sizes(&[(0..50).map(|name| (name, if name == 0 { 5 } else { 9 })).collect()]);
        let pack = take_pack(&mut queue);
        queue.end_call(0, None);
        assert!(pack.iter().all(|task| queue.postpone(task.name_id)));
        for name in [49, 48, 47, 0] {
            let task = expect(&mut queue, name, 0);
            queue.end_call(0, None);
            assert!(!queue.postpone(task.name_id));
            queue.fail_without_room(task.name_id);
        }
        assert_eq!(queue.next(Instant::now()), Next::Done);
        assert_eq!((queue.tally().without_room, queue.tally().failed, queue.tally().open), (50, 50, 0));
    }

    #[test]
    fn a_peer_that_sends_no_packs_is_asked_file_by_file() {
        let mut queue = queue_of_sizes(&[vec![(0, 1), (1, 1)]]);
        queue.stop_packs(0);
        expect(&mut queue, 0, 0);
        expect(&mut queue, 1, 0);
    }
}

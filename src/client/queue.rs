//! Which file is downloaded next, and from whom: decided apart from doing it.
//!
//! A name waits for no particular peer: when a job is free, the least busy peer that still has something to give gives
//! it (the order of the peer list breaks ties), so a slow peer holds up only what nobody else has. Each source is asked
//! at most once, unless what it gave found no room here, or connections broke and nobody else has the name: then those
//! sources are asked again after a while, in which no job waits that has other work. Listings may join
//! at any time; until all have, no name is lost. A name stays under way until it is committed, so nothing is left
//! only when every name has its outcome. Failures take no memory.
//!
//! Small files of a peer that sends packs are asked for many at once, in a pack that is cut from what that peer has. What
//! a pack does not bring waits again, and is asked for by itself from then on, as if no pack had been asked for.

mod failures;
mod holders;
mod packs;
mod updates;

use std::{collections::VecDeque, mem, ops::Range, time::Instant};

use crate::{
    error::{CallError, PrivateError},
    file_name::FileName,
};

use failures::Retry;

use super::{collector::PeerListing, index::FileIndex};

/// The most calls at once to one peer: the original serves one at a time and lets five wait.
pub(crate) const MAX_CALLS_PER_PEER: usize = 4;

/// A peer that was silent twice in a row, or broke off without an answer sixteen times, is asked no more. Behind a relay
/// a peer that has ended looks like one that breaks off.
const MAX_DOUBT: u32 = 16;

/// How many files for which there was no room are asked for a second time in any case. After that, only those that are
/// smaller than all for which there was no room again: each costs a call.
const MIN_SECOND_TRIES: usize = 3;

/// A file to be downloaded from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) file_name: FileName,
    pub(super) name_id: usize,
    pub(super) source: usize,
    pub(super) peer: usize,
    /// Its size in bytes, as the peer told it.
    pub(super) size: Option<u64>,
}

/// What a job does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// One file, or a pack: several small ones of one peer.
    Download(Vec<Task>),
    /// All that is left is under way, or all that have it are busy, or it may be asked for again only at this time.
    Wait(Option<Instant>),
    /// Nothing is left.
    Done,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was downloaded; it has this many bytes.
    Saved(u64),
    /// A file had the name, and has it still.
    AlreadyHere,
    /// All that list it say that it is a directory.
    Directory,
    Failed,
}

/// How many names came to what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) saved: usize,
    pub(crate) bytes: u64,
    /// Of these, the ones that took the place of another content.
    pub(super) updated: usize,
    pub(super) already_here: usize,
    /// Of these, the ones of which others have another size.
    pub(super) differing: usize,
    pub(super) directories: usize,
    pub(crate) failed: usize,
    /// Of these, the ones for which there was no room.
    pub(crate) without_room: usize,
    /// Their bytes, as far as peers tell sizes.
    pub(crate) bytes_without_room: u64,
    /// Without an outcome yet.
    pub(super) open: usize,
    /// The bytes of all that was not here when it was listed, as far as peers tell sizes.
    pub(super) expected_bytes: u64,
    /// How many names nobody told a size of when they were listed.
    pub(super) unsized_names: usize,
}

/// The names of an index, and how far each of them is.
pub(super) struct DownloadQueue {
    index: FileIndex,
    /// By name.
    states: Vec<State>,
    /// By source.
    standings: Vec<Standing>,
    peers: Vec<Peer>,
    tally: Tally,
    /// How many jobs share the work.
    jobs: usize,
    /// How many names wait.
    waiting: usize,
    /// How many names are being downloaded or committed.
    under_way: usize,
    /// Names that are asked for again, in the order of the times.
    delayed: VecDeque<Retry>,
    /// Names for which there was no room; they get a second round, one by one, when nothing else is left.
    postponed: Vec<usize>,
    is_last_round: bool,
    /// The size of the smallest file for which there was no room in the second round.
    too_large: u64,
    /// Whether all listings have joined.
    is_complete: bool,
    /// Whether nothing more is to be downloaded.
    is_stopped: bool,
}

/// Why a source did not give the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceFailure {
    ConnectionLost,
    /// It may give it another time.
    Passing,
    Directory,
    Other,
}

/// What came of asking a source.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    NotAsked,
    /// The connection broke.
    Broken,
    Failed,
}

#[derive(Default)]
struct State {
    progress: Progress,
    retries: u8,
    /// Whether a source failed in another way than by calling it a directory.
    is_file: bool,
    /// Whether a pack did not bring it, so that it is asked for by itself.
    is_unpacked: bool,
    /// Whether a source did not answer or was changed meanwhile, so that it may give it another time.
    may_come_later: bool,
    before: Before,
}

/// What had a name when it was listed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Before {
    #[default]
    Nothing,
    /// A file.
    File,
    /// A file, of which somebody has another size.
    Differing,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Waiting,
    UnderWay,
    Postponed,
    /// It waits for the time at which it may be asked for again.
    Delayed,
    Done,
    Failed,
}

#[derive(Clone, Default)]
struct Peer {
    sources: Range<usize>,
    /// Whether it gave an index, so that it knows more than the original does.
    knows_parts: bool,
    sends_packs: bool,
    /// No source before this one can be asked now.
    cursor: usize,
    calls: usize,
    /// How doubtful it is, after the last calls, that it will answer again.
    doubt: u32,
}

impl DownloadQueue {
    /// An empty queue for this many jobs, which the listings of this many peers may join.
    pub(super) fn new(peers: usize, jobs: usize) -> Self {
        Self {
            index: FileIndex::new(),
            states: Vec::new(),
            standings: Vec::new(),
            peers: vec![Peer::default(); peers],
            tally: Tally::default(),
            jobs,
            waiting: 0,
            under_way: 0,
            delayed: VecDeque::new(),
            postponed: Vec::new(),
            is_complete: false,
            is_last_round: false,
            too_large: u64::MAX,
            is_stopped: false,
        }
    }

    /// Adds listings; each new name may have an outcome already.
    pub(super) fn join(&mut self, listings: Vec<PeerListing>, outcome: impl Fn(&FileName) -> Option<Outcome>) {
        let known = self.index.len();
        for PeerListing { peer, listing } in listings {
            self.peers[peer].knows_parts = listing.is_index;
            self.peers[peer].sends_packs = listing.is_index;
            let sources = self.index.join(peer, listing);
            self.standings.resize(sources.end, Standing::NotAsked);
            self.peers[peer].cursor = sources.start;
            self.peers[peer].sources = sources;
        }
        self.states.resize_with(self.index.len(), State::default);
        self.tally.open += self.index.len() - known;
        self.waiting += self.index.len() - known;
        for name in known..self.index.len() {
            if let Some(outcome) = outcome(&self.index.name(name)) {
                self.finish(name, outcome);
                continue;
            }
            match self.index.size(name) {
                Some(size) => self.tally.expected_bytes = self.tally.expected_bytes.saturating_add(size),
                None => self.tally.unsized_names += 1,
            }
        }
    }

    /// Ends the joining; the names that failed since nobody else lists them.
    pub(super) fn complete(&mut self) -> Vec<FileName> {
        self.is_complete = true;
        let mut failed = Vec::new();
        for name in 0..self.states.len() {
            let is_exhausted = self.states[name].progress == Progress::Waiting && !self.has(name, Standing::NotAsked);
            if is_exhausted && self.settle(name) == Some(Outcome::Failed) {
                failed.push(self.index.name(name));
            }
        }
        failed
    }

    /// How many names came to what.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Gives out no more tasks; whether that was so before.
    pub(super) fn stop(&mut self) -> bool {
        mem::replace(&mut self.is_stopped, true)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Takes the next task: a call to a peer, and names that are under way.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.requeue_delayed(now);
        loop {
            if self.is_stopped {
                return Next::Done;
            }
            if let Some(tasks) = self.take_waiting() {
                return Next::Download(tasks);
            }
            if self.under_way > 0 || !self.delayed.is_empty() || !self.is_complete {
                return Next::Wait(self.delayed.front().map(|retry| retry.due));
            }
            let Some(name) = self.postponed.pop() else { return Next::Done };
            self.is_last_round = true;
            if self.states[name].progress != Progress::Postponed {
                continue;
            }
            let is_too_large = self.index.size(name).is_some_and(|size| size >= self.too_large);
            if is_too_large && self.tally.without_room >= MIN_SECOND_TRIES {
                self.fail_without_room(name);
            } else {
                self.requeue(name);
            }
        }
    }

    fn take_waiting(&mut self) -> Option<Vec<Task>> {
        let mut least_busy = None;
        let mut least_calls = MAX_CALLS_PER_PEER;
        for peer in 0..self.peers.len() {
            let calls = self.peers[peer].calls;
            // Whether what it alone has is lost is known only when all have listed.
            let may_be_gone = !self.is_complete && self.peers[peer].doubt >= MAX_DOUBT;
            if calls < least_calls && !may_be_gone && self.find_waiting(peer) {
                least_busy = Some(peer);
                least_calls = calls;
            }
        }
        let peer = least_busy?;
        self.peers[peer].calls += 1;
        let mut sources = self.cut_pack(peer);
        if sources.is_empty() {
            sources.push(self.peers[peer].cursor);
        }
        Some(sources.into_iter().map(|source| self.take(source, peer)).collect())
    }

    fn take(&mut self, source: usize, peer: usize) -> Task {
        let name = self.index.name_of(source);
        self.set_progress(name, Progress::UnderWay);
        Task { file_name: self.index.name(name), name_id: name, source, peer, size: self.index.size_of(source) }
    }

    fn is_waiting(&self, source: usize) -> bool {
        let state = &self.states[self.index.name_of(source)];
        state.progress == Progress::Waiting && self.standings[source] == Standing::NotAsked
    }

    /// Moves the cursor of a peer to its first name that waits, if there is one.
    fn find_waiting(&mut self, peer: usize) -> bool {
        let Peer { cursor, ref sources, .. } = self.peers[peer];
        let found = (cursor..sources.end).find(|source| self.is_waiting(*source));
        self.peers[peer].cursor = found.unwrap_or(sources.end.max(cursor));
        found.is_some()
    }

    /// Ends a call: with an answer, or with none in this way.
    pub(super) fn end_call(&mut self, peer: usize, failure: Option<&CallError>) {
        let peer = &mut self.peers[peer];
        peer.calls -= 1;
        peer.doubt = match failure {
            // Nobody is called there again.
            Some(CallError::Private(PrivateError::NotConfirmed | PrivateError::NotPrivate)) => peer.doubt + MAX_DOUBT,
            Some(failure) if failure.is_silence() => peer.doubt + MAX_DOUBT / 2,
            Some(CallError::NoAnswer(_)) => peer.doubt + 1,
            _ => 0,
        };
    }

    /// Ends a name.
    pub(super) fn finish(&mut self, name: usize, outcome: Outcome) {
        let has_failed = matches!(outcome, Outcome::Failed | Outcome::Directory);
        self.set_progress(name, if has_failed { Progress::Failed } else { Progress::Done });
        self.tally.open -= 1;
        match outcome {
            Outcome::Saved(bytes) => {
                self.tally.saved += 1;
                self.tally.bytes += bytes;
                self.tally.updated += usize::from(self.states[name].before != Before::Nothing);
            }
            Outcome::AlreadyHere => self.count_as_here(name),
            Outcome::Directory => self.tally.directories += 1,
            Outcome::Failed => self.tally.failed += 1,
        }
    }

    /// Keeps a name for the second round; false if this is it.
    pub(super) fn postpone(&mut self, name: usize) -> bool {
        if !self.is_last_round {
            self.set_progress(name, Progress::Postponed);
            self.postponed.push(name);
        }
        !self.is_last_round
    }

    /// Ends a name for which there was no room in the second round.
    pub(super) fn fail_without_room(&mut self, name: usize) {
        self.too_large = self.too_large.min(self.index.size(name).unwrap_or(u64::MAX));
        self.tally.without_room += 1;
        let bytes = self.index.size(name).unwrap_or_default();
        self.tally.bytes_without_room = self.tally.bytes_without_room.saturating_add(bytes);
        self.finish(name, Outcome::Failed);
        // It is here as soon as there is room.
        self.states[name].may_come_later = true;
    }

    fn set_progress(&mut self, name: usize, progress: Progress) {
        let before = mem::replace(&mut self.states[name].progress, progress);
        self.under_way += usize::from(progress == Progress::UnderWay);
        self.under_way -= usize::from(before == Progress::UnderWay);
        self.waiting += usize::from(progress == Progress::Waiting);
        self.waiting -= usize::from(before == Progress::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::collector::listing, *};

    /// A queue in which each peer holds the names of its row.
    fn queue(peers: &[&[usize]]) -> DownloadQueue {
        let mut queue = DownloadQueue::new(peers.len(), 4);
        let numbered = peers.iter().enumerate();
        queue.join(numbered.map(|(peer, names)| listing_of(peer, names)).collect(), |_| None);
        assert_eq!(queue.complete(), []);
        queue
    }

    fn listing_of(peer: usize, names: &[usize]) -> PeerListing {
        let names: Vec<String> = names.iter().map(|name| format!("{name:03}")).collect();
        PeerListing { peer, listing: listing(&names.iter().map(String::as_str).collect::<Vec<_>>()) }
    }

    pub(super) fn take_pack(queue: &mut DownloadQueue) -> Vec<Task> {
        match queue.next(Instant::now()) {
            Next::Download(tasks) => tasks,
            other => panic!("{other:?} in place of a task"),
        }
    }

    pub(super) fn take(queue: &mut DownloadQueue) -> Task {
        let [task] = take_pack(queue).try_into().expect("one task");
        task
    }

    /// Takes a task that is to be this name from this peer.
    pub(super) fn expect(queue: &mut DownloadQueue, name: usize, peer: usize) -> Task {
        let task = take(queue);
        assert_eq!((task.file_name.as_str(), task.peer), (&*format!("{name:03}"), peer));
        task
    }

    fn succeed(queue: &mut DownloadQueue, task: &Task) {
        queue.end_call(task.peer, None);
        queue.finish(task.name_id, Outcome::Saved(1));
    }

    pub(super) fn refuse(queue: &mut DownloadQueue, task: &Task) -> Option<Outcome> {
        queue.end_call(task.peer, None);
        queue.fail(task, SourceFailure::Other)
    }

    fn ignore(queue: &mut DownloadQueue, task: &Task) -> (Option<Outcome>, usize) {
        queue.end_call(task.peer, Some(&CallError::TimedOut(String::new())));
        (queue.fail(task, SourceFailure::Other), queue.give_up_unanswering(task.peer))
    }

    #[test]
    fn names_are_spread_over_their_sources_in_list_order() {
        let mut queue = queue(&[&[0, 1, 2, 3], &[0, 1, 2, 3]]);
        let _tasks = [(0, 0), (1, 1), (2, 0), (3, 1)].map(|(name, peer)| expect(&mut queue, name, peer));
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
    }

    #[test]
    fn names_that_are_not_wanted_are_not_asked_for() {
        let outcome = |name: &FileName| (name.as_str() != "001").then_some(Outcome::AlreadyHere);
        let mut queue = DownloadQueue::new(1, 4);
        queue.join(vec![listing_of(0, &[0, 1, 2])], outcome);
        queue.complete();
        assert_eq!(queue.tally().open, 1);
        let task = expect(&mut queue, 1, 0);
        succeed(&mut queue, &task);
        assert_eq!(queue.next(Instant::now()), Next::Done);
    }

    #[test]
    fn a_listing_that_joins_later_gives_what_others_did_not() {
        let mut queue = DownloadQueue::new(2, 4);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None), "nobody has listed");
        queue.join(vec![listing_of(0, &[0, 1])], |_| None);
        for name in [0, 1] {
            let task = expect(&mut queue, name, 0);
            assert_eq!(refuse(&mut queue, &task), None, "others may have it");
        }
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
        queue.join(vec![listing_of(1, &[1, 2])], |_| None);
        for name in [1, 2] {
            let task = expect(&mut queue, name, 1);
            succeed(&mut queue, &task);
        }
        assert_eq!((queue.next(Instant::now()), queue.tally().open), (Next::Wait(None), 1));
        let lost: Vec<String> = queue.complete().iter().map(ToString::to_string).collect();
        assert_eq!((lost, queue.next(Instant::now())), (vec!["000".to_owned()], Next::Done));
    }

    #[test]
    fn a_peer_is_given_up_only_when_all_have_listed() {
        let mut queue = DownloadQueue::new(2, 4);
        queue.join(vec![listing_of(0, &[0, 1, 2, 3])], |_| None);
        for name in [0, 1] {
            let task = expect(&mut queue, name, 0);
            assert_eq!(ignore(&mut queue, &task), (None, 0));
        }
        assert_eq!(queue.next(Instant::now()), Next::Wait(None), "it is asked no more");
        queue.join(vec![listing_of(1, &[3])], |_| None);
        assert_eq!((queue.complete().len(), queue.give_up_unanswering(0)), (2, 1));
        expect(&mut queue, 3, 1);
    }

    #[test]
    fn a_fast_peer_takes_over_what_waits_for_a_slow_one() {
        let all: Vec<usize> = (0..8).collect();
        let mut queue = queue(&[&all, &all]);
        let stuck = expect(&mut queue, 0, 0);
        for _ in 0..7 {
            let task = take(&mut queue);
            assert_eq!(task.peer, 1);
            succeed(&mut queue, &task);
        }
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
        succeed(&mut queue, &stuck);
        assert_eq!(queue.next(Instant::now()), Next::Done);
    }

    #[test]
    fn a_peer_has_at_most_four_calls() {
        let mut queue = queue(&[&[0, 1, 2, 3, 4, 5, 6, 7, 8]]);
        let tasks: Vec<_> = (0..MAX_CALLS_PER_PEER).map(|_| take(&mut queue)).collect();
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
        queue.end_call(tasks[2].peer, None);
        take(&mut queue);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
    }

    #[test]
    fn nothing_is_done_before_it_is_committed() {
        let mut queue = queue(&[&[0]]);
        let task = take(&mut queue);
        queue.end_call(task.peer, None);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
        queue.finish(task.name_id, Outcome::Saved(1));
        assert_eq!(queue.next(Instant::now()), Next::Done);
    }

    #[test]
    fn each_source_is_asked_once_until_none_is_left() {
        let mut queue = queue(&[&[0], &[0], &[0]]);
        for (peer, remaining) in [(0, None), (1, None), (2, Some(Outcome::Failed))] {
            let task = expect(&mut queue, 0, peer);
            assert_eq!(refuse(&mut queue, &task), remaining);
        }
        assert_eq!(queue.next(Instant::now()), Next::Done);
    }

    #[test]
    fn what_all_call_a_directory_is_one() {
        let mut queue = queue(&[&[0, 1], &[0, 1]]);
        let mut remaining = Vec::new();
        while let Next::Download(tasks) = queue.next(Instant::now()) {
            let [task] = tasks.try_into().expect("one task");
            queue.end_call(task.peer, None);
            let is_directory = task.name_id == 0 || task.peer == 0;
            let failure = if is_directory { SourceFailure::Directory } else { SourceFailure::Other };
            remaining.push(queue.fail(&task, failure));
        }
        assert_eq!(remaining, [None, None, Some(Outcome::Directory), Some(Outcome::Failed)]);
    }

    #[test]
    fn a_peer_that_does_not_answer_is_given_up_and_what_others_have_goes_to_them() {
        let mut queue = queue(&[&[0, 1, 2, 3, 4], &[3]]);
        let first = expect(&mut queue, 0, 0);
        let other = expect(&mut queue, 3, 1);
        assert_eq!(ignore(&mut queue, &first), (Some(Outcome::Failed), 0));
        let second = expect(&mut queue, 1, 0);
        assert_eq!(ignore(&mut queue, &second), (Some(Outcome::Failed), 2));
        assert_eq!(queue.next(Instant::now()), Next::Wait(None));
        assert_eq!(refuse(&mut queue, &other), Some(Outcome::Failed));
        assert_eq!((queue.next(Instant::now()), queue.tally().open), (Next::Done, 0));
    }

    fn lose(queue: &mut DownloadQueue, task: &Task) -> Option<Outcome> {
        queue.end_call(task.peer, None);
        queue.fail(task, SourceFailure::ConnectionLost)
    }

    #[test]
    fn peers_whose_connections_broke_are_asked_three_times_and_others_go_on_meanwhile() {
        let mut queue = queue(&[&[0, 1], &[0]]);
        let first = expect(&mut queue, 0, 0);
        assert_eq!(lose(&mut queue, &first), None);
        let work = expect(&mut queue, 1, 0);
        let other = expect(&mut queue, 0, 1);
        assert_eq!(refuse(&mut queue, &other), None);
        succeed(&mut queue, &work);
        for last in [None, Some(Outcome::Failed)] {
            let Next::Wait(Some(due)) = queue.next(Instant::now()) else { panic!("it is not asked for again") };
            let Next::Download(tasks) = queue.next(due) else { panic!("its time has come") };
            let [task] = tasks.try_into().expect("one task");
            assert_eq!((task.name_id, task.peer), (0, 0), "a refusal is final");
            assert_eq!(lose(&mut queue, &task), last);
        }
        assert_eq!((queue.next(Instant::now()), queue.tally().open), (Next::Done, 0));
    }

    #[test]
    fn a_peer_that_is_given_up_takes_the_names_along_that_would_be_asked_for_again() {
        let mut queue = queue(&[&[0, 1, 2]]);
        let tasks = [0, 1, 2].map(|name| expect(&mut queue, name, 0));
        assert_eq!(lose(&mut queue, &tasks[0]), None);
        assert_eq!(ignore(&mut queue, &tasks[1]), (Some(Outcome::Failed), 0));
        assert_eq!(ignore(&mut queue, &tasks[2]), (Some(Outcome::Failed), 1));
        assert_eq!(queue.tally().open, 0);
    }

    #[test]
    fn a_name_that_failed_is_asked_of_the_next_before_all_others() {
        let mut queue = queue(&[&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]]);
        let first = expect(&mut queue, 0, 0);
        let second = expect(&mut queue, 1, 1);
        assert_eq!(refuse(&mut queue, &first), None);
        expect(&mut queue, 2, 0);
        succeed(&mut queue, &second);
        expect(&mut queue, 0, 1);
    }

    #[test]
    fn every_name_is_asked_of_everybody_when_all_refuse() {
        let (names, peers) = (200, 40);
        let held: Vec<usize> = (0..names).collect();
        let mut queue = queue(&vec![&held[..]; peers]);
        let mut attempts = 0;
        while let Next::Download(tasks) = queue.next(Instant::now()) {
            let [task] = tasks.try_into().expect("one task");
            refuse(&mut queue, &task);
            attempts += 1;
        }
        assert_eq!((attempts, queue.tally().open), (names * peers, 0));
    }

    #[test]
    fn what_found_no_room_has_one_more_round_alone() {
        let mut queue = queue(&[&[0, 1, 2], &[1]]);
        let (first, second) = (expect(&mut queue, 0, 0), expect(&mut queue, 1, 1));
        for task in [&first, &second] {
            queue.end_call(task.peer, None);
            assert!(queue.postpone(task.name_id));
        }
        let third = expect(&mut queue, 2, 0);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None), "not before the others are done");
        succeed(&mut queue, &third);
        let again = expect(&mut queue, 1, 0);
        assert_eq!(queue.next(Instant::now()), Next::Wait(None), "one at a time");
        queue.end_call(again.peer, None);
        assert!(!queue.postpone(again.name_id), "there is no third round");
        queue.finish(again.name_id, Outcome::Failed);
        let again = expect(&mut queue, 0, 0);
        succeed(&mut queue, &again);
        assert_eq!((queue.next(Instant::now()), queue.tally().open), (Next::Done, 0));
    }
}

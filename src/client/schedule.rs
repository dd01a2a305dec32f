//! Which file is fetched next, and from whom: decided apart from doing it.
//!
//! A name waits for no particular holder: when a place is free, the least busy peer that still has something to give
//! gives it (the order of the peer list breaks ties), so a slow peer holds up only what nobody else has. Each name is
//! asked of each holder at most once.

use std::collections::VecDeque;

use crate::names::FileName;

/// The most calls at once to one peer: the original serves one at a time and lets five wait.
pub(super) const MAX_CALLS_PER_PEER: usize = 4;

/// A peer that did not answer so many times in a row is asked no more.
const MAX_SILENCES: u32 = 2;

/// A name and the peer to ask for it, as indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) name: usize,
    pub(super) peer: usize,
}

/// What a worker does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Fetch(Task),
    /// All holders of what is left are busy.
    Wait,
    /// Nothing is left.
    Over,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The name is here, or will not come: it is asked of nobody else.
    Settled,
    /// This holder did not give it, but answered.
    Denied,
    /// This holder did not answer.
    Unanswered,
}

/// Whether a name whose attempt failed has another holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Another,
    None,
}

/// Names, who holds them, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    wanted: Vec<Wanted>,
    peers: Vec<Peer>,
    /// Names that are neither settled nor out of holders.
    open: usize,
}

#[derive(Debug)]
struct Wanted {
    name: FileName,
    /// Peers that have not been asked for it yet.
    holders: Vec<u32>,
    is_waiting: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// Names to ask it for; those that no longer wait are passed over.
    queue: VecDeque<u32>,
    calls: usize,
    silences: u32,
}

impl Wanted {
    fn is_waiting_for(&self, peer: usize) -> bool {
        self.is_waiting && self.holders.iter().any(|&holder| holder as usize == peer)
    }
}

impl Schedule {
    /// A schedule for so many peers.
    pub(super) fn new(peers: usize) -> Self {
        Self { peers: (0..peers).map(|_| Peer::default()).collect(), ..Self::default() }
    }

    /// Adds a name that nobody holds yet; gives its index.
    pub(super) fn want(&mut self, name: FileName) -> usize {
        self.wanted.push(Wanted { name, holders: Vec::new(), is_waiting: true });
        self.open += 1;
        self.wanted.len() - 1
    }

    /// Says that a peer holds a name. One peer is to be added for all its names before the next.
    pub(super) fn add_holder(&mut self, name: usize, peer: usize) {
        let id = u32::try_from(peer).expect("a peer list is shorter than 2^32");
        let holders = &mut self.wanted[name].holders;
        // A listing may hold a name twice.
        if holders.last() != Some(&id) {
            holders.push(id);
            self.peers[peer].queue.push_back(u32::try_from(name).expect("listings are shorter than 2^32"));
        }
    }

    /// The names, by index.
    pub(super) fn name(&self, index: usize) -> &FileName {
        &self.wanted[index].name
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Takes the next task; it counts as under way until [`Schedule::end`] is called with it.
    pub(super) fn next(&mut self) -> Next {
        if self.open == 0 {
            return Next::Over;
        }
        let mut best: Option<(usize, usize)> = None;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            while peer.queue.front().is_some_and(|&name| !self.wanted[name as usize].is_waiting_for(index)) {
                peer.queue.pop_front();
            }
            let is_free = !peer.queue.is_empty() && peer.calls < MAX_CALLS_PER_PEER;
            if is_free && best.is_none_or(|(calls, _)| peer.calls < calls) {
                best = Some((peer.calls, index));
            }
        }
        let Some((_, peer)) = best else { return Next::Wait };
        let name = self.peers[peer].queue.pop_front().expect("the best peer has a name to give") as usize;
        self.peers[peer].calls += 1;
        self.wanted[name].is_waiting = false;
        Next::Fetch(Task { name, peer })
    }

    /// Ends a task; says whether the name has another holder, to whom it goes next.
    pub(super) fn end(&mut self, task: Task, attempt: Attempt) -> Left {
        let peer = &mut self.peers[task.peer];
        peer.calls -= 1;
        peer.silences = if attempt == Attempt::Unanswered { peer.silences + 1 } else { 0 };
        if attempt == Attempt::Settled {
            self.open -= 1;
            return Left::None;
        }
        let wanted = &mut self.wanted[task.name];
        wanted.holders.retain(|&holder| holder as usize != task.peer);
        if wanted.holders.is_empty() {
            self.open -= 1;
            return Left::None;
        }
        wanted.is_waiting = true;
        for &holder in &wanted.holders {
            self.peers[holder as usize].queue.push_front(u32::try_from(task.name).expect("it was added as one"));
        }
        Left::Another
    }

    /// Gives up a peer that did not answer again and again: the names that only it held, which nobody will give now.
    pub(super) fn give_up_silent(&mut self, peer: usize) -> Vec<usize> {
        if self.peers[peer].silences < MAX_SILENCES {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for name in std::mem::take(&mut self.peers[peer].queue) {
            let wanted = &mut self.wanted[name as usize];
            let held = wanted.holders.len();
            wanted.holders.retain(|&holder| holder as usize != peer);
            if wanted.is_waiting && wanted.holders.is_empty() && held > 0 {
                wanted.is_waiting = false;
                self.open -= 1;
                lost.push(name as usize);
            }
        }
        lost
    }

    /// Puts a name back that was settled without being here, to be asked of the same holders once more.
    pub(super) fn reopen(&mut self, name: usize) {
        let wanted = &mut self.wanted[name];
        wanted.is_waiting = true;
        self.open += 1;
        for &holder in &wanted.holders {
            self.peers[holder as usize].queue.push_back(u32::try_from(name).expect("it was added as one"));
        }
    }

    /// Drops whatever still waits.
    pub(super) fn stop(&mut self) {
        self.open = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule in which each peer holds the names of its row.
    fn schedule(names: usize, peers: &[&[usize]]) -> Schedule {
        let mut schedule = Schedule::new(peers.len());
        for index in 0..names {
            schedule.want(FileName::from_bytes(format!("file{index}").as_bytes()).unwrap());
        }
        for (peer, held) in peers.iter().enumerate() {
            held.iter().for_each(|&name| schedule.add_holder(name, peer));
        }
        schedule
    }

    fn take(schedule: &mut Schedule) -> Task {
        match schedule.next() {
            Next::Fetch(task) => task,
            other => panic!("{other:?} in place of a task"),
        }
    }

    #[test]
    fn names_are_spread_over_their_holders_in_list_order() {
        let mut schedule = schedule(4, &[&[0, 1, 2, 3], &[0, 1, 2, 3]]);
        let tasks: Vec<_> = (0..4).map(|_| take(&mut schedule)).map(|task| (task.name, task.peer)).collect();
        assert_eq!(tasks, [(0, 0), (1, 1), (2, 0), (3, 1)]);
        assert_eq!(schedule.next(), Next::Wait);
    }

    #[test]
    fn a_fast_peer_takes_over_what_waits_for_a_slow_one() {
        let mut schedule = schedule(8, &[&[0, 1, 2, 3, 4, 5, 6, 7], &[0, 1, 2, 3, 4, 5, 6, 7]]);
        let stuck = take(&mut schedule);
        assert_eq!(stuck.peer, 0);
        for _ in 0..7 {
            let task = take(&mut schedule);
            assert_eq!(task.peer, 1);
            schedule.end(task, Attempt::Settled);
        }
        assert_eq!(schedule.next(), Next::Wait);
        schedule.end(stuck, Attempt::Settled);
        assert_eq!(schedule.next(), Next::Over);
    }

    #[test]
    fn a_peer_has_at_most_four_calls() {
        let mut schedule = schedule(9, &[&[0, 1, 2, 3, 4, 5, 6, 7, 8]]);
        let tasks: Vec<_> = (0..MAX_CALLS_PER_PEER).map(|_| take(&mut schedule)).collect();
        assert_eq!(schedule.next(), Next::Wait);
        schedule.end(tasks[2], Attempt::Settled);
        take(&mut schedule);
        assert_eq!(schedule.next(), Next::Wait);
    }

    #[test]
    fn each_holder_is_asked_once_until_none_is_left() {
        let mut schedule = schedule(1, &[&[0, 0], &[0], &[0]]);
        for (peer, left) in [(0, Left::Another), (1, Left::Another), (2, Left::None)] {
            let task = take(&mut schedule);
            assert_eq!(task, Task { name: 0, peer });
            assert_eq!(schedule.end(task, Attempt::Denied), left);
        }
        assert_eq!(schedule.next(), Next::Over);
    }

    #[test]
    fn a_silent_peer_is_given_up_and_what_others_hold_goes_to_them() {
        let mut schedule = schedule(5, &[&[0, 1, 2, 3, 4], &[3]]);
        let first = take(&mut schedule);
        assert_eq!(take(&mut schedule), Task { name: 3, peer: 1 });
        assert_eq!(schedule.end(first, Attempt::Unanswered), Left::None);
        assert!(schedule.give_up_silent(0).is_empty());
        let second = take(&mut schedule);
        assert_eq!(second, Task { name: 1, peer: 0 });
        assert_eq!(schedule.end(second, Attempt::Unanswered), Left::None);
        assert_eq!(schedule.give_up_silent(0), [2, 4]);
        assert_eq!(schedule.end(Task { name: 3, peer: 1 }, Attempt::Denied), Left::None);
        assert_eq!(schedule.next(), Next::Over);
    }

    #[test]
    fn a_reopened_name_is_asked_of_its_holders_again() {
        let mut schedule = schedule(1, &[&[0]]);
        let task = take(&mut schedule);
        schedule.end(task, Attempt::Settled);
        assert_eq!(schedule.next(), Next::Over);
        schedule.reopen(0);
        assert_eq!(take(&mut schedule), task);
    }
}

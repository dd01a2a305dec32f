//! Which file is fetched next, and from whom: decided apart from doing it.
//!
//! A name waits for no particular holder: when a place is free, the least busy peer that still has something to give
//! gives it (the order of the peer list breaks ties), so a slow peer holds up only what nobody else has. Each name is
//! asked of each holder at most once. It takes the same memory from beginning to end, whoever fails.

use std::collections::VecDeque;

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
#[derive(Debug)]
pub(super) struct DownloadQueue {
    wanted: Vec<Wanted>,
    /// The holders of all names, those of one name side by side.
    holders: Vec<Holder>,
    peers: Vec<Peer>,
    /// Names that are neither settled nor out of holders.
    open: usize,
    is_stopped: bool,
}

#[derive(Debug)]
struct Wanted {
    /// Where its holders begin; they end where those of the next name begin.
    holders: u32,
    standing: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    UnderWay,
    Over,
}

#[derive(Debug)]
struct Holder {
    name: u32,
    peer: u16,
    /// Whether it was asked and did not give the name.
    has_failed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// What to ask it for, as indices of holders.
    queue: VecDeque<u32>,
    calls: usize,
    silences: u32,
}

impl DownloadQueue {
    /// A schedule for so many peers, with room for so many names and as many holders as these have together.
    pub(super) fn new(peers: usize, names: usize, holders: usize) -> Self {
        Self {
            wanted: Vec::with_capacity(names),
            holders: Vec::with_capacity(holders),
            peers: (0..peers).map(|_| Peer::default()).collect(),
            open: 0,
            is_stopped: false,
        }
    }

    /// Adds a name with its holders, none of them twice; without any it is over at once.
    pub(super) fn want(&mut self, holders: impl IntoIterator<Item = usize>) {
        let name = index(self.wanted.len());
        let first = self.holders.len();
        for peer in holders {
            self.peers[peer].queue.push_back(index(self.holders.len()));
            let peer = u16::try_from(peer).expect("a peer list is shorter than 2^16");
            self.holders.push(Holder { name, peer, has_failed: false });
        }
        let standing = if self.holders.len() > first { State::Waiting } else { State::Over };
        self.open += usize::from(standing == State::Waiting);
        self.wanted.push(Wanted { holders: index(first), standing });
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// How many names are neither settled nor out of holders.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Takes the next task; it counts as under way until [`DownloadQueue::end`] is called with it.
    pub(super) fn next(&mut self) -> Next {
        if self.open == 0 || self.is_stopped {
            return Next::Over;
        }
        let mut best: Option<(usize, usize, usize)> = None;
        for peer in 0..self.peers.len() {
            let calls = self.peers[peer].calls;
            if calls < best.map_or(MAX_CALLS_PER_PEER, |(calls, ..)| calls)
                && let Some(position) = self.first_waiting(peer)
            {
                best = Some((calls, peer, position));
            }
        }
        let Some((_, peer, position)) = best else { return Next::Wait };
        let holder = self.peers[peer].queue.remove(position).expect("it has just been found there");
        let name = self.holders[holder as usize].name as usize;
        self.peers[peer].calls += 1;
        self.wanted[name].standing = State::UnderWay;
        Next::Fetch(Task { name, peer })
    }

    /// Where in the queue of a peer its first name stands that can be fetched now. What can be fetched no more leaves
    /// the queue; what is under way elsewhere, of which there is little, stays, for it may fail there.
    fn first_waiting(&mut self, peer: usize) -> Option<usize> {
        let queue = &mut self.peers[peer].queue;
        let mut position = 0;
        while let Some(&holder) = queue.get(position) {
            let holder = &self.holders[holder as usize];
            match self.wanted[holder.name as usize].standing {
                State::Waiting if !holder.has_failed => return Some(position),
                State::UnderWay if !holder.has_failed => position += 1,
                _ => drop(queue.remove(position)),
            }
        }
        None
    }

    /// Ends a task; says whether the name has another holder, to whom it goes next.
    pub(super) fn end(&mut self, task: Task, attempt: Attempt) -> Left {
        let peer = &mut self.peers[task.peer];
        peer.calls -= 1;
        peer.silences = if attempt == Attempt::Unanswered { peer.silences + 1 } else { 0 };
        let mut left = Left::None;
        if attempt != Attempt::Settled {
            for holder in self.holders_of(task.name) {
                if usize::from(holder.peer) == task.peer {
                    holder.has_failed = true;
                } else if !holder.has_failed {
                    left = Left::Another;
                }
            }
        }
        self.wanted[task.name].standing = if left == Left::None { State::Over } else { State::Waiting };
        self.open -= usize::from(left == Left::None);
        left
    }

    fn holders_of(&mut self, name: usize) -> &mut [Holder] {
        let end = self.wanted.get(name + 1).map_or(self.holders.len(), |next| next.holders as usize);
        &mut self.holders[self.wanted[name].holders as usize..end]
    }

    /// Gives up a peer that did not answer again and again: the names that only it held, which nobody will give now.
    pub(super) fn give_up_silent(&mut self, peer: usize) -> Vec<usize> {
        if self.peers[peer].silences < MAX_SILENCES {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for holder in std::mem::take(&mut self.peers[peer].queue) {
            let holder = &mut self.holders[holder as usize];
            let (name, had_failed) = (holder.name as usize, holder.has_failed);
            holder.has_failed = true;
            let is_lost = !had_failed
                && self.wanted[name].standing == State::Waiting
                && self.holders_of(name).iter().all(|holder| holder.has_failed);
            if is_lost {
                self.wanted[name].standing = State::Over;
                self.open -= 1;
                lost.push(name);
            }
        }
        lost
    }

    /// Puts a name back that was settled without being here, to be asked of the same holders once more.
    pub(super) fn reopen(&mut self, name: usize) {
        self.wanted[name].standing = State::Waiting;
        self.open += 1;
        let first = self.wanted[name].holders as usize;
        let willing: Vec<_> = self.holders_of(name).iter().map(|holder| (holder.peer, !holder.has_failed)).collect();
        for (offset, (peer, is_willing)) in willing.into_iter().enumerate() {
            if is_willing {
                self.peers[usize::from(peer)].queue.push_back(index(first + offset));
            }
        }
    }

    /// Gives nothing more to fetch; what is under way ends as ever.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("all listings together hold fewer names than 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule in which each peer holds the names of its row.
    fn schedule(names: usize, peers: &[&[usize]]) -> DownloadQueue {
        let mut schedule = DownloadQueue::new(peers.len(), names, 0);
        for name in 0..names {
            schedule.want((0..peers.len()).filter(|&peer| peers[peer].contains(&name)));
        }
        schedule
    }

    fn take(schedule: &mut DownloadQueue) -> Task {
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
        let mut schedule = schedule(1, &[&[0], &[0], &[0]]);
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
    fn a_name_that_failed_is_asked_of_the_next_before_all_others() {
        let mut schedule = schedule(6, &[&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]]);
        let first = take(&mut schedule);
        assert_eq!(take(&mut schedule), Task { name: 1, peer: 1 });
        assert_eq!(schedule.end(first, Attempt::Denied), Left::Another);
        assert_eq!(take(&mut schedule), Task { name: 2, peer: 0 }, "peer 0 is free");
        assert_eq!(schedule.end(Task { name: 1, peer: 1 }, Attempt::Settled), Left::None);
        assert_eq!(take(&mut schedule), Task { name: 0, peer: 1 });
    }

    #[test]
    fn failures_take_no_memory() {
        let (names, peers) = (200, 40);
        let held: Vec<usize> = (0..names).collect();
        let mut schedule = schedule(names, &vec![&held[..]; peers]);
        let mut attempts = 0;
        while let Next::Fetch(task) = schedule.next() {
            schedule.end(task, Attempt::Denied);
            attempts += 1;
            assert!(schedule.peers.iter().all(|peer| peer.queue.len() <= names));
        }
        assert_eq!(attempts, names * peers);
        assert_eq!(schedule.next(), Next::Over);
    }

    #[test]
    fn a_stopped_schedule_gives_nothing_and_counts_on() {
        let mut schedule = schedule(3, &[&[0, 1, 2]]);
        let (one, other) = (take(&mut schedule), take(&mut schedule));
        schedule.stop();
        assert_eq!(schedule.next(), Next::Over);
        schedule.end(one, Attempt::Settled);
        schedule.end(other, Attempt::Denied);
        assert_eq!((schedule.next(), schedule.open()), (Next::Over, 1));
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

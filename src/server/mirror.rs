//! What a mirror fetches, and when: decided apart from doing it.
//!
//! A mirror fetches what is not here and has rested: a copy of a half-written file would stand under its name everywhere.
//! What was deleted here while the server runs is not fetched again, and what failed only after a while. All times are
//! on one clock, since the server started; all memory has a bound, beyond which names are forgotten.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    mem,
    sync::Mutex,
    time::Duration,
};

use crate::{lock::lock, peer::PeerUrl};

/// The period of the default interval, by which all other times are meant: they scale with it.
const PERIOD: u32 = 600;

/// When the first run begins after the start, and how long the next waits after the end of one, in seconds.
const PAUSE: u32 = 10;

/// By how many seconds a period is longer at most, so that servers that start together do not run together.
const MAX_EXTRA: u32 = 60;

/// In seconds: how often the mirror looks for new peers, which is also the least time until it runs for them, how much
/// longer that may be, and how far such a run is from the one before at least.
const LOOK: u32 = 5;
const MAX_LOOK_EXTRA: u32 = 5;
const NEW_PEER_PERIOD: u32 = 60;

/// How many seconds the content of a file must have rested.
const REST: u32 = 60;

/// The shortest wait, however short the period is.
const MIN_LOOK: Duration = Duration::from_millis(20);

/// How long a name that failed waits, doubled with each further failure, and the longest such wait.
const FIRST_DELAY: Duration = Duration::from_secs(60 * 60);
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The most names that are remembered of those that were deleted here, that failed, and that peers without an index list,
/// all of them and one.
const MAX_DELETED: usize = 100_000;
const MAX_FAILED: usize = 100_000;
const MAX_UNRESTED: usize = 200_000;
const MAX_UNRESTED_OF_PEER: usize = 50_000;

/// The most names of a run, and of one peer in it: the others have their turn in the next runs.
const MAX_NAMES: usize = 1_000_000;
const MAX_NAMES_OF_PEER: usize = 25_000;

/// What a mirror knows. Names are kept as hashes, with a secret.
pub(super) struct Mirror {
    /// How long a period is.
    every: Duration,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The names that were here when it was last looked, and those that were named to callers or saved since.
    here: HashSet<u64>,
    /// Names that were deleted here.
    deleted: HashSet<u64>,
    failed: HashMap<u64, Failure>,
    /// When a name was first listed by a peer without an index, in the last run and in this.
    listed_before: HashMap<u64, Duration>,
    listed: HashMap<u64, Duration>,
    /// When the run began.
    now: Duration,
    /// How many names were taken in this run.
    taken: usize,
    peers: HashMap<u64, PeerCounts>,
}

/// How many names of a peer were taken in a run, and how many are remembered that have not rested yet.
#[derive(Default)]
struct PeerCounts {
    taken: usize,
    unrested: usize,
}

/// How often a name failed in a row, and when it may be asked for again.
struct Failure {
    times: u32,
    due: Duration,
}

impl Mirror {
    /// A mirror with this period; all other times are scaled as it is to [`PERIOD`].
    pub(super) fn new(every: Duration) -> Self {
        Self { every, hasher: RandomState::new(), state: Mutex::default() }
    }

    /// A time that is meant for the default period.
    fn scaled(&self, seconds: u32) -> Duration {
        self.every * seconds / PERIOD
    }

    /// Takes over which names are here, after `each` was called with each of them. What was here before and is no more was
    /// deleted. After a failure to look nothing is known.
    pub(super) fn look<E>(&self, list: impl FnOnce(&dyn Fn(&str)) -> Result<(), E>) -> Result<(), E> {
        let found = RefCell::new(HashSet::new());
        list(&|name| {
            found.borrow_mut().insert(self.hash(name));
        })?;
        let found = found.into_inner();
        let mut state = lock(&self.state);
        let before = mem::take(&mut state.here);
        state.deleted.retain(|name| !found.contains(name));
        for gone in before.difference(&found) {
            if state.deleted.len() < MAX_DELETED {
                state.deleted.insert(*gone);
            }
        }
        state.here = found;
        Ok(())
    }

    /// Remembers that a name is here: should it be gone at the next look, it was deleted.
    pub(super) fn note_here(&self, name: &str) {
        let hash = self.hash(name);
        lock(&self.state).here.insert(hash);
    }

    /// Begins a run.
    pub(super) fn begin(&self, now: Duration) {
        let mut state = lock(&self.state);
        state.now = now;
        state.listed_before = mem::take(&mut state.listed);
        state.taken = 0;
        state.peers.clear();
        let State { here, failed, .. } = &mut *state;
        failed.retain(|name, failure| !here.contains(name) && failure.due + MAX_DELAY > now);
    }

    /// Whether a name that a peer lists is to be fetched in this run; `age` is the time for which its content has rested,
    /// where the peer tells it.
    pub(super) fn wants(&self, peer: &PeerUrl, name: &str, age: Option<Duration>) -> bool {
        let hash = self.hash(name);
        let of_peer = self.hash(peer.as_str());
        let mut state = lock(&self.state);
        let now = state.now;
        if state.here.contains(&hash) || state.deleted.contains(&hash) {
            return false;
        }
        if state.failed.get(&hash).is_some_and(|failure| failure.due > now) {
            return false;
        }
        let has_rested = match age {
            Some(age) => age >= self.scaled(REST),
            None => state.has_been_listed_for(self.hash(&format!("{peer} {name}")), self.every, of_peer),
        };
        has_rested && state.take(of_peer)
    }

    /// Remembers that a name failed in this run.
    pub(super) fn note_failure(&self, name: &str) {
        let hash = self.hash(name);
        let mut state = lock(&self.state);
        let now = state.now;
        if state.failed.len() < MAX_FAILED || state.failed.contains_key(&hash) {
            let failure = state.failed.entry(hash).or_insert(Failure { times: 0, due: now });
            failure.due = now + FIRST_DELAY.saturating_mul(1 << failure.times.min(10)).min(MAX_DELAY);
            failure.times += 1;
        }
    }

    fn hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text)
    }
}

impl State {
    /// Whether a name has been listed by a peer for this time, which is remembered.
    fn has_been_listed_for(&mut self, hash: u64, time: Duration, peer: u64) -> bool {
        let first = self.listed_before.get(&hash).copied().unwrap_or(self.now);
        let counts = self.peers.entry(peer).or_default();
        if self.listed.len() < MAX_UNRESTED && counts.unrested < MAX_UNRESTED_OF_PEER {
            counts.unrested += 1;
            self.listed.insert(hash, first);
        }
        self.now >= first + time
    }

    /// Takes a name of a peer, unless there are too many.
    fn take(&mut self, peer: u64) -> bool {
        let counts = self.peers.entry(peer).or_default();
        let is_taken = self.taken < MAX_NAMES && counts.taken < MAX_NAMES_OF_PEER;
        self.taken += usize::from(is_taken);
        counts.taken += usize::from(is_taken);
        is_taken
    }
}

/// When a mirror runs.
pub(super) struct Schedule {
    next: Duration,
    /// No run begins before this.
    earliest: Duration,
    /// The peers that there were when it was last looked.
    known: HashSet<PeerUrl>,
    random: fastrand::Rng,
}

impl Schedule {
    pub(super) fn new(mirror: &Mirror, now: Duration, seed: u64) -> Self {
        let next = now + mirror.scaled(PAUSE);
        Self { next, earliest: next, known: HashSet::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// Whether a run is due; `peers` are those that it would ask, and without any there is none.
    pub(super) fn is_due(&mut self, mirror: &Mirror, peers: &[PeerUrl], now: Duration) -> bool {
        if peers.is_empty() {
            self.next = now + mirror.every;
        }
        if peers.iter().any(|peer| !self.known.contains(peer)) {
            let soon = now + mirror.scaled(LOOK) + self.random_part(mirror.scaled(MAX_LOOK_EXTRA));
            self.next = self.next.min(soon.max(self.earliest));
        }
        self.known = peers.iter().cloned().collect();
        now >= self.next
    }

    /// Plans the next run, after one that began and ended then.
    pub(super) fn plan(&mut self, mirror: &Mirror, began: Duration, ended: Duration) {
        let period = mirror.every + self.random_part(mirror.scaled(MAX_EXTRA));
        let pause = ended + mirror.scaled(PAUSE);
        self.earliest = (began + mirror.scaled(NEW_PEER_PERIOD)).max(pause);
        self.next = (began + period).max(pause);
    }

    /// How long nothing need be looked at.
    pub(super) fn wait(&self, mirror: &Mirror, now: Duration) -> Duration {
        self.next.saturating_sub(now).min(mirror.scaled(LOOK)).max(MIN_LOOK)
    }

    fn random_part(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn peer(port: u16) -> PeerUrl {
        PeerUrl::new("localhost", port, false).unwrap()
    }

    /// A mirror with the default period that has these names.
    fn mirror(names: &[&str]) -> Mirror {
        let mirror = Mirror::new(seconds(600));
        look(&mirror, names);
        mirror.begin(seconds(0));
        mirror
    }

    fn look(mirror: &Mirror, names: &[&str]) {
        let each_name = |each: &dyn Fn(&str)| -> Result<(), ()> {
            for name in names {
                each(name);
            }
            Ok(())
        };
        mirror.look(each_name).unwrap();
    }

    /// Which of these names a peer's index, in which all are of this age, makes the mirror fetch.
    fn wanted<'a>(mirror: &Mirror, names: &[&'a str], age: u64) -> Vec<&'a str> {
        names.iter().copied().filter(|name| mirror.wants(&peer(1), name, Some(seconds(age)))).collect()
    }

    #[test]
    fn what_is_not_here_and_has_rested_is_wanted() {
        let mirror = mirror(&["here"]);
        assert_eq!(wanted(&mirror, &["here", "new"], 60), ["new"]);
        assert_eq!(wanted(&mirror, &["here", "new"], 59), [""; 0]);
        let fast = Mirror::new(seconds(10));
        fast.begin(seconds(0));
        assert_eq!((wanted(&fast, &["new"], 1).len(), wanted(&fast, &["new"], 0).len()), (1, 0));
    }

    #[test]
    fn what_was_deleted_here_is_wanted_no_more_until_it_has_been_here_again() {
        let mirror = mirror(&["old", "other"]);
        mirror.note_here("saved or listed since");
        look(&mirror, &["other"]);
        let names = ["old", "other", "saved or listed since", "new"];
        assert_eq!(wanted(&mirror, &names, HOUR), ["new"]);
        look(&mirror, &["old", "other"]);
        assert_eq!(wanted(&mirror, &names, HOUR), ["new"]);
        let failed = mirror.look(|each| {
            each("other");
            Err("the directory is not there")
        });
        assert!(failed.is_err() && lock(&mirror.state).deleted.len() == 1, "nothing was learnt");
        look(&mirror, &["other"]);
        assert_eq!(wanted(&mirror, &names, HOUR), ["new"], "deleted again");
    }

    #[test]
    fn only_so_many_deleted_names_are_remembered() {
        let names: Vec<String> = (0..MAX_DELETED + 10).map(|number| number.to_string()).collect();
        let mirror = mirror(&names.iter().map(String::as_str).collect::<Vec<_>>());
        look(&mirror, &[]);
        assert_eq!(names.iter().filter(|name| !wanted(&mirror, &[name], HOUR).is_empty()).count(), 10);
    }

    #[test]
    fn what_failed_waits_longer_each_time_but_no_longer_than_a_day() {
        let mirror = mirror(&[]);
        let mut now = 0;
        for hours in [1, 2, 4, 8, 16, 24, 24] {
            mirror.note_failure("name");
            mirror.begin(seconds(now + hours * HOUR - 1));
            assert_eq!(wanted(&mirror, &["name"], HOUR), [""; 0], "{hours}");
            now += hours * HOUR;
            mirror.begin(seconds(now));
            assert_eq!(wanted(&mirror, &["name"], HOUR), ["name"], "{hours}");
        }
        look(&mirror, &["name"]);
        mirror.begin(seconds(now));
        assert!(lock(&mirror.state).failed.is_empty(), "it is here");
    }

    #[test]
    fn what_a_peer_without_an_index_lists_must_have_been_listed_a_period_before() {
        let mirror = mirror(&[]);
        let is_wanted = |at, port| {
            mirror.begin(seconds(at));
            mirror.wants(&peer(port), "name", None)
        };
        assert!(!is_wanted(1000, 1));
        assert!(!is_wanted(1599, 1));
        assert!(is_wanted(1600, 1));
        assert!(!is_wanted(2300, 2), "another may still write it");
        assert!(!is_wanted(2900, 1), "it was not listed in the last run");
    }

    #[test]
    fn a_run_takes_so_many_names_of_each_peer_and_of_all() {
        let mirror = mirror(&[]);
        let taken = |port: u16| {
            let names = (0..=MAX_NAMES_OF_PEER).map(|number| format!("{port} {number}"));
            names.filter(|name| mirror.wants(&peer(port), name, Some(seconds(HOUR)))).count()
        };
        assert!((1..=40).all(|port| taken(port) == MAX_NAMES_OF_PEER));
        assert_eq!(taken(41), 0);
        mirror.begin(seconds(1));
        assert_eq!(taken(41), MAX_NAMES_OF_PEER);
    }

    /// The second at which a run is due from this one on, with these peers.
    fn next_due(schedule: &mut Schedule, mirror: &Mirror, from: u64, peers: &[PeerUrl]) -> u64 {
        (from..from + 10_000).find(|now| schedule.is_due(mirror, peers, seconds(*now))).unwrap()
    }

    #[test]
    fn it_runs_soon_after_the_start_then_each_period_and_soon_after_new_peers() {
        let mirror = mirror(&[]);
        for seed in 0..100 {
            let mut alone = Schedule::new(&mirror, seconds(100), seed);
            assert!((100..5000).all(|now| !alone.is_due(&mirror, &[], seconds(now))));
            let due = next_due(&mut alone, &mirror, 5000, &[peer(1)]);
            assert!((5005..=5010).contains(&due), "{due}");
            let mut schedule = Schedule::new(&mirror, seconds(100), seed);
            assert_eq!(next_due(&mut schedule, &mirror, 100, &[peer(1)]), 110);
            schedule.plan(&mirror, seconds(110), seconds(111));
            let due = next_due(&mut schedule, &mirror, 111, &[peer(1)]);
            assert!((710..=771).contains(&due), "{due}");
            schedule.plan(&mirror, seconds(due), seconds(due + 1000));
            let late = next_due(&mut schedule, &mirror, due + 1000, &[peer(1)]);
            assert_eq!(late, due + 1010, "it ran for longer than a period");
            schedule.plan(&mirror, seconds(2000), seconds(2001));
            assert_eq!(next_due(&mut schedule, &mirror, 2010, &[peer(1), peer(2)]), 2060, "once a minute");
            schedule.plan(&mirror, seconds(2060), seconds(2061));
            let due = next_due(&mut schedule, &mirror, 2200, &[peer(3)]);
            assert!((2205..=2210).contains(&due), "{due}");
            assert!(schedule.wait(&mirror, seconds(2201)) <= seconds(5));
        }
    }
}

//! What one server knows of its network, and whom it should call next.
//!
//! Deciding is kept apart from doing: no sockets, no threads, no clock. `now` is the time since the server's start, and
//! all that happens to it comes in through [`Membership::told`], [`Membership::answered`] and [`Membership::failed`];
//! what to do comes out of [`Membership::due`]. The simulation beside this file drives a thousand of them so.
//!
//! It keeps three promises: the own URL is never to be called; no peer is called twice at the same time; and only a
//! peer's own answer, never what others say of it, brings back one that was found dead.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::peers::{MAX_PEERS, PeerUrl};

#[cfg(test)]
mod simulation;

/// Peers that a server calls in each period of its own accord: enough for news to reach all in a logarithmic number of
/// periods, and the same however large the network is.
const CALLS_A_PERIOD: usize = 3;

/// The most URLs sent along with one call, our own among them, and the most taken from one that comes in.
pub(crate) const MAX_PUSHED: usize = 1024;

/// The most URLs taken from one answer: a whole list of the longest kind.
pub(crate) const MAX_ANSWERED: usize = MAX_PEERS;

/// Calls in progress at most, the hanging ones among them; each takes a thread and a descriptor.
const MAX_ASKED_AT_ONCE: usize = 256;

/// Calls of the last [`HANGING`] at most: more would only queue for the same processor and wires.
const MAX_LIVELY: usize = 16;

/// A call that takes longer is likely to hang, and no longer keeps others from being begun.
const HANGING: Duration = Duration::from_secs(1);

/// Places before and after
const GLANCE: usize = 8;

/// Failures in a row that make a peer dead to us.
const ATTEMPTS: u32 = 3;

/// Failures less than this apart are one failure, so that no restart of a peer makes it dead.
const APART: Duration = Duration::from_secs(60);

/// The pause before a named peer is tried again, which doubles up to [`APART`] until it has answered once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The pause between two trials of a dead peer, once it has doubled often enough: a network of two that was cut in
/// halves for long is whole again after this at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The peers of one server, what is known of each, and when it is to be called.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// First learnt first; the server itself has the first place.
    peers: Vec<Peer>,
    places: HashMap<PeerUrl, usize>,
    /// When which place is to be called; each peer has one entry at most, and none while it is being asked.
    agenda: BTreeSet<(Duration, usize)>,
    /// Which places are being asked, and since when.
    asked: Vec<(Duration, usize)>,
    /// Whether new peers are asked at once: until somebody has answered and nobody is left to ask.
    joining: bool,
    somebody_answered: bool,
    announce: Option<Duration>,
    announce_at: Option<Duration>,
    /// The places still to be called in this turn of announcements, in random order.
    turn: Vec<usize>,
    /// The place to call next because an answer left it out.
    doubted: Option<usize>,
    /// All that were doubted in this turn; once is enough.
    checked: BTreeSet<usize>,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Peer {
    url: PeerUrl,
    /// Its entry in the agenda.
    ask_at: Option<Duration>,
    being_asked: bool,
    /// Given on the command line and not heard from yet.
    named: bool,
    /// What speaks against it since it answered last. Apart, for few have any and all are walked through often.
    trouble: Option<Box<Trouble>>,
}

#[derive(Clone, Debug, Default)]
struct Trouble {
    /// All failed attempts.
    tries: u32,
    /// Those of them that were [`APART`].
    failures: u32,
    /// When the last of the failures was.
    failed_at: Duration,
    /// When a dead peer may be tried again.
    rests_until: Duration,
    /// Whether it was to be tried again while it was being asked.
    again: bool,
}

impl Trouble {
    fn is_fatal(&self) -> bool {
        self.failures >= ATTEMPTS
    }
}

impl Peer {
    fn new(url: PeerUrl, named: bool) -> Self {
        Self { url, ask_at: None, being_asked: false, named, trouble: None }
    }

    fn is_dead(&self) -> bool {
        self.death().is_some()
    }

    /// What made it dead, if it is.
    fn death(&self) -> Option<&Trouble> {
        self.trouble.as_deref().filter(|trouble| trouble.is_fatal())
    }

    /// Whether it is neither being asked nor going to be.
    fn is_idle(&self) -> bool {
        !self.being_asked && self.ask_at.is_none()
    }
}

/// What a list of URLs from outside brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The peers that were not known before.
    pub(crate) new: Vec<PeerUrl>,
    /// How many URLs were ignored: no peer's URL, too many at once, or no room left.
    pub(crate) ignored: usize,
    /// Whether the peer that answered was dead until now.
    pub(crate) back: bool,
}

impl Membership {
    /// A server that calls itself `own`, starts at `now`, and was given the `named` peers. It calls peers of its own
    /// accord every `announce`, or never; then only joining and the named peers' retries remain, and no other peer is
    /// ever found dead. Peers beyond [`MAX_PEERS`] are ignored.
    pub(crate) fn new(own: PeerUrl, named: Vec<PeerUrl>, announce: Option<Duration>, now: Duration, seed: u64) -> Self {
        let mut members = Self {
            places: HashMap::from([(own.clone(), 0)]),
            peers: vec![Peer::new(own, false)],
            agenda: BTreeSet::new(),
            asked: Vec::new(),
            joining: true,
            somebody_answered: false,
            announce: announce.filter(|period| !period.is_zero()),
            announce_at: None,
            turn: Vec::new(),
            doubted: None,
            checked: BTreeSet::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        for url in named {
            members.learn(url, true, now);
        }
        // Servers that are started together must not march in step.
        members.announce_at = members.announce.map(|period| now + period.mul_f64(members.random.f64()));
        members
    }

    /// Merges the list that came in with a call; at most [`MAX_PUSHED`] of it.
    ///
    /// A list that begins with a dead peer is likely its own: ours put themselves first. It is tried soon, though not
    /// within a minute of the last attempt; that it is on a list does not bring it back.
    pub(crate) fn told(
        &mut self,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        now: Duration,
    ) -> Heard {
        let mut urls = urls.into_iter().peekable();
        if let Some(caller) = urls.peek().and_then(|url| self.places.get(url.as_ref()).copied()) {
            self.try_soon(caller, now);
        }
        self.merge(urls, MAX_PUSHED, now, |_, _| {})
    }

    /// The peers as op 0 answers them: first learnt first, ourselves from the start, the dead left out.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &PeerUrl> {
        self.peers.iter().filter(|peer| !peer.is_dead()).map(|peer| &peer.url)
    }

    /// The peers to send along with a call: ourselves first, none that is dead, and of more than [`MAX_PUSHED`] those
    /// learnt last, for they are the news.
    pub(crate) fn pushed(&self) -> impl Iterator<Item = &PeerUrl> {
        let others = &self.peers[1..];
        let surplus = if self.peers.len() <= MAX_PUSHED { 0 } else { self.listed().count().saturating_sub(MAX_PUSHED) };
        let others = others.iter().filter(|peer| !peer.is_dead()).skip(surplus);
        self.peers.iter().take(1).chain(others).map(|peer| &peer.url)
    }

    /// The peers to ask now. Each counts as being asked until [`Self::answered`] or [`Self::failed`] is called for it.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<PeerUrl> {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce(now);
        }
        let mut due = Vec::new();
        let mut room = self.room(now);
        while room > 0
            && let Some(&(at, place)) = self.agenda.first()
            && at <= now
        {
            self.agenda.pop_first();
            self.asked.push((now, place));
            let peer = &mut self.peers[place];
            peer.ask_at = None;
            peer.being_asked = true;
            due.push(peer.url.clone());
            room -= 1;
        }
        due
    }

    /// When to call [`Self::due`] next, unless something else happens before; a time in the past means now.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let planned = self.agenda.first().map(|&(at, _)| at);
        let next = planned.into_iter().chain(self.announce_at).min()?;
        if self.asked.len() >= MAX_ASKED_AT_ONCE {
            return None;
        }
        // The calls are in the order in which they were begun.
        match self.asked.len().checked_sub(MAX_LIVELY) {
            Some(eldest_lively) => Some(next.max(self.asked[eldest_lively].0 + HANGING)),
            None => Some(next),
        }
    }

    /// Notes that a peer that was asked has answered, and merges its list; at most [`MAX_ANSWERED`] of it.
    ///
    /// When the peer was dead, a cut between two parts of the network may have healed: the dead on its list are tried
    /// at once, side by side as in joining, for one by one it would take as many periods as they are many.
    pub(crate) fn answered(
        &mut self,
        peer: &PeerUrl,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        now: Duration,
    ) -> Heard {
        let mut back = false;
        let mut seen = vec![false; self.peers.len()];
        if let Some(place) = self.release(peer) {
            let peer = &mut self.peers[place];
            back = peer.is_dead();
            (peer.named, peer.trouble) = (false, None);
            seen[place] = true;
            self.somebody_answered = true;
        }
        let heard = self.merge(urls, MAX_ANSWERED, now, |members, place| {
            seen.get_mut(place).map(|seen| *seen = true);
            if back {
                members.try_soon(place, now);
            }
        });
        self.finish_joining(now);
        self.doubt(&seen);
        Heard { back, ..heard }
    }

    /// Notes that a peer that was asked gave no answer, or none of use; says whether that makes it dead.
    pub(crate) fn failed(&mut self, peer: &PeerUrl, now: Duration) -> bool {
        let Some(place) = self.release(peer) else { return false };
        let peer = &mut self.peers[place];
        let named = peer.named;
        let trouble = peer.trouble.get_or_insert_default();
        trouble.tries = trouble.tries.saturating_add(1);
        let counts = trouble.failures == 0 || now >= trouble.failed_at + APART;
        if counts {
            trouble.failures = trouble.failures.saturating_add(1);
            trouble.failed_at = now;
        }
        let (tries, failures, again) = (trouble.tries, trouble.failures, std::mem::take(&mut trouble.again));
        if named {
            let pause = self.jittered(doubled(FIRST_PAUSE, tries - 1, APART).mul_f64(0.8));
            self.schedule(place, now + pause);
        } else if failures >= ATTEMPTS && !again {
            let pause = self.jittered(doubled(APART, failures - ATTEMPTS + 1, LONGEST_PAUSE));
            self.peers[place].trouble.get_or_insert_default().rests_until = now + pause;
        } else if self.announce.is_some() {
            let pause = self.jittered(APART);
            self.schedule(place, now + pause);
        }
        self.finish_joining(now);
        counts && failures == ATTEMPTS
    }

    /// Plans this period's calls: one to a dead peer whose time has come, the rest to living ones, and to more of the
    /// dead where the living are too few. So the dead cost a network of any size one call a node and period.
    fn announce(&mut self, now: Duration) {
        // A little less than a period to a little more, so that nobody marches in step.
        self.announce_at = self.announce.map(|period| now + self.jittered(period.mul_f64(0.875)));
        let rested = |peer: &Peer| peer.death().filter(|_| peer.is_idle()).map(|death| death.rests_until);
        let trials = self.peers.iter().enumerate().filter_map(|(place, peer)| Some((rested(peer)?, place)));
        let trials: BTreeSet<_> = trials.filter(|&(until, _)| until <= now).collect();
        let mut trials = trials.into_iter().map(|(_, place)| place);
        let mut calls = 0;
        let doubted = self.doubted.take().filter(|&place| self.is_well(place));
        for place in trials.by_ref().take(1).chain(doubted) {
            self.schedule(place, now);
            calls += 1;
        }
        while calls < CALLS_A_PERIOD
            && let Some(place) = self.next_living().or_else(|| trials.next())
        {
            self.schedule(place, now);
            calls += 1;
        }
    }

    /// The next living peer of the turn. In random turns, rather than by lot each time, nobody waits for long.
    fn next_living(&mut self) -> Option<usize> {
        for _ in 0..2 {
            while let Some(place) = self.turn.pop() {
                if self.is_well(place) {
                    return Some(place);
                }
            }
            self.checked.clear();
            self.turn = (1..self.peers.len()).collect();
            self.random.shuffle(&mut self.turn);
        }
        None
    }

    /// Chooses one of the living that an answer left out, to be called next: whoever answered may know it for dead.
    /// Thus a death spreads as news do, though everyone finds it out by calling. Each is doubted once a turn at most,
    /// or one that only we can reach would be called by us all the time.
    fn doubt(&mut self, seen: &[bool]) {
        if self.joining || self.doubted.is_some() {
            return;
        }
        let left_out = |&place: &usize| !seen[place] && self.is_well(place) && !self.checked.contains(&place);
        let left_out: Vec<usize> = (1..seen.len()).filter(left_out).collect();
        self.doubted = self.random.choice(left_out);
        self.checked.extend(self.doubted);
    }

    /// Whether nothing speaks against a peer and it is not being called anyway.
    fn is_well(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        peer.trouble.is_none() && peer.is_idle()
    }

    fn merge(
        &mut self,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        most: usize,
        now: Duration,
        mut known: impl FnMut(&mut Self, usize),
    ) -> Heard {
        let mut heard = Heard::default();
        let mut urls = urls.into_iter();
        // Lists run alike for long stretches: a glance at the place after the last one found spares the hashing.
        let mut expected = 0;
        for url in urls.by_ref().take(most) {
            let text = url.as_ref();
            let found = self.glance(expected, text).or_else(|| self.places.get(text).copied());
            if let Some(place) = found {
                expected = place + 1;
                known(self, place);
                continue;
            }
            match url.try_into() {
                Ok(url) if self.places.contains_key(&url) => {}
                Ok(url) if self.learn(url.clone(), false, now) => heard.new.push(url),
                _ => heard.ignored += 1,
            }
        }
        heard.ignored += urls.count();
        heard
    }

    fn glance(&self, expected: usize, text: &str) -> Option<usize> {
        let is_there = |place: usize| self.peers.get(place).is_some_and(|peer| peer.url.as_str() == text);
        if is_there(expected) {
            return Some(expected);
        }
        (expected + 1..expected + GLANCE)
            .chain(expected.saturating_sub(GLANCE)..expected)
            .find(|&place| is_there(place))
    }

    /// Takes up a peer that is not known; says whether there was room.
    fn learn(&mut self, url: PeerUrl, named: bool, now: Duration) -> bool {
        if self.places.contains_key(&url) {
            return true;
        }
        let place = if self.peers.len() < MAX_PEERS {
            let place = self.peers.len();
            self.peers.push(Peer::new(url.clone(), named));
            // Anywhere in this turn, for the next one may be hours away.
            self.turn.push(place);
            let (last, other) = (self.turn.len() - 1, self.random.usize(..self.turn.len()));
            self.turn.swap(last, other);
            place
        } else {
            let Some(place) = self.longest_dead() else { return false };
            let gone = std::mem::replace(&mut self.peers[place], Peer::new(url.clone(), named));
            self.places.remove(&gone.url);
            place
        };
        self.places.insert(url, place);
        if self.joining {
            self.schedule(place, now);
        }
        true
    }

    /// The dead peer that makes room for a new one on a full list; the new one gets its place on it, too.
    fn longest_dead(&self) -> Option<usize> {
        let idle = self.peers.iter().enumerate().filter(|(_, peer)| peer.is_idle());
        let dead = idle.filter_map(|(place, peer)| Some((peer.death()?.failures, place)));
        dead.max_by_key(|&(failures, _)| failures).map(|(_, place)| place)
    }

    /// Plans an early trial of a peer if it is dead, though not within a minute of its last failure.
    fn try_soon(&mut self, place: usize, now: Duration) {
        let peer = &mut self.peers[place];
        let Some(death) = peer.trouble.as_mut().filter(|trouble| trouble.is_fatal()) else { return };
        if peer.being_asked {
            death.again = true;
        } else if peer.ask_at.is_none() {
            let at = now.max(death.failed_at + APART);
            self.schedule(place, at);
        }
    }

    fn schedule(&mut self, place: usize, at: Duration) {
        if let Some(before) = self.peers[place].ask_at.replace(at) {
            self.agenda.remove(&(before, place));
        }
        self.agenda.insert((at, place));
    }

    /// The place of a peer that was asked and is so no longer; nothing for one that was not.
    fn release(&mut self, peer: &PeerUrl) -> Option<usize> {
        let place = *self.places.get(peer)?;
        let index = self.asked.iter().position(|&(_, asked)| asked == place)?;
        self.asked.remove(index);
        self.peers[place].being_asked = false;
        Some(place)
    }

    fn finish_joining(&mut self, now: Duration) {
        let nobody_is_left = self.asked.is_empty() && self.agenda.first().is_none_or(|&(at, _)| at > now);
        self.joining &= !(self.somebody_answered && nobody_is_left);
    }

    /// How many more calls may be begun.
    fn room(&self, now: Duration) -> usize {
        let lively = self.asked.iter().rev().take_while(|&&(since, _)| since + HANGING > now).count();
        MAX_LIVELY.saturating_sub(lively).min(MAX_ASKED_AT_ONCE - self.asked.len())
    }

    /// The pause, or up to a quarter more.
    fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + 0.25 * self.random.f64())
    }
}

fn doubled(pause: Duration, times: u32, longest: Duration) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

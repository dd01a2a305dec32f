//! What one server knows of its network, and whom it should call next.
//!
//! Deciding is kept apart from doing: no sockets, no threads, no clock. `now` is the time since the server's start, and
//! all that happens to it comes in through [`Membership::on_request`], [`Membership::on_response`] and
//! [`Membership::on_failure`]; what to do comes out of [`Membership::due`]. The simulation beside this file drives a
//! thousand of them so.
//!
//! It keeps three promises: the own URL is never to be called; no peer is called twice at the same time; and only a
//! peer's own answer, never what others say of it, brings back one that was found dead.

mod agenda;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turn;

use std::{collections::HashMap, mem, time::Duration};

use self::{agenda::Agenda, turn::Turn};
use crate::peer::{MAX_PEERS, PeerUrl};

/// Peers that a server calls in each period of its own accord: enough for news to reach all in a logarithmic number of
/// periods, and the same however large the network is.
const CALLS_A_PERIOD: usize = 3;

/// The most URLs sent along with one call, our own among them, and the most taken from one that comes in.
pub(crate) const MAX_PUSHED: usize = 1024;

/// The most URLs taken from one answer: a whole list of the longest kind.
pub(crate) const MAX_ANSWERED: usize = MAX_PEERS;

/// Failures in a row that make a peer dead to us.
const ATTEMPTS: u32 = 3;

/// Failures less than this apart are one failure, so that no restart of a peer makes it dead.
const APART: Duration = Duration::from_secs(60);

/// The pause before a named peer is tried again, until it has answered once; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts at a named peer; with the jitter it is a minute at most.
const LONGEST_NAMED_PAUSE: Duration = Duration::from_secs(48);

/// The pause between two trials of a dead peer, which doubles up to this. It is the time that a network of two takes to
/// be whole again after a long cut; a larger one has more that try.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The peers of one server, what is known of each, and when it is to be called.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// First learnt first; the server itself has the first place.
    peers: Vec<Peer>,
    places: HashMap<PeerUrl, usize>,
    agenda: Agenda,
    turn: Turn,
    /// Whether new peers are asked at once: until somebody has answered and nobody is left to ask.
    joining: bool,
    somebody_answered: bool,
    announce: Option<Duration>,
    announce_at: Option<Duration>,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Peer {
    url: PeerUrl,
    /// Nothing for nearly all of them, who are walked through often.
    trouble: Option<Box<Trouble>>,
}

impl Peer {
    /// The trouble with a peer that is dead.
    fn death(&self) -> Option<&Trouble> {
        self.trouble.as_deref().filter(|trouble| trouble.is_fatal())
    }
}

/// What is the matter with a peer that has not answered when it was asked last, or was named and not asked yet.
#[derive(Clone, Debug, Default)]
struct Trouble {
    /// Given on the command line, and not heard from yet.
    named: bool,
    /// Failed attempts in a row.
    attempts: u32,
    /// Those of them that were [`APART`].
    failures: u32,
    /// When the last of the failures was.
    failed_at: Duration,
    /// Until when a dead peer is left alone.
    rests_until: Duration,
    /// Whether a dead peer gave reason to be tried while it was being tried.
    again: bool,
}

impl Trouble {
    fn is_fatal(&self) -> bool {
        self.failures >= ATTEMPTS
    }
}

/// What a list of URLs from outside brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MergeOutcome {
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
        let mut random = fastrand::Rng::with_seed(seed);
        let announce = announce.filter(|period| !period.is_zero());
        let mut members = Self {
            places: HashMap::from([(own.clone(), 0)]),
            peers: vec![Peer { url: own, trouble: None }],
            agenda: Agenda::default(),
            turn: Turn::new(random.fork()),
            joining: true,
            somebody_answered: false,
            announce,
            // Servers that are started together must not march in step.
            announce_at: announce.map(|period| now + period.mul_f64(random.f64())),
            random,
        };
        for url in named {
            if let Some(place) = members.learn(url, now) {
                members.peers[place].trouble = Some(Box::new(Trouble { named: true, ..Trouble::default() }));
            }
        }
        members
    }

    /// Merges the list that came in with a call; at most [`MAX_PUSHED`] of it.
    ///
    /// A list that begins with a dead peer is likely its own: ours put themselves first. It is tried soon, though not
    /// within a minute of the last attempt; that it is on a list does not bring it back.
    pub(crate) fn on_request(
        &mut self,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        now: Duration,
    ) -> MergeOutcome {
        let mut urls = urls.into_iter().peekable();
        if let Some(caller) = urls.peek().and_then(|url| self.places.get(url.as_ref()).copied()) {
            self.try_soon(caller, now);
        }
        self.merge(urls, MAX_PUSHED, now, |_, _| {})
    }

    /// The peers as op 0 answers them: first learnt first, ourselves from the start, the dead left out.
    pub(crate) fn live_peers(&self) -> impl Iterator<Item = &PeerUrl> {
        self.peers.iter().filter(|peer| peer.death().is_none()).map(|peer| &peer.url)
    }

    /// The peers to send along with a call: ourselves first, none that is dead, and of more than [`MAX_PUSHED`] those
    /// learnt last, for they are the news.
    pub(crate) fn peers_to_send(&self) -> impl Iterator<Item = &PeerUrl> {
        let others = &self.peers[1..];
        let surplus =
            if self.peers.len() <= MAX_PUSHED { 0 } else { self.live_peers().count().saturating_sub(MAX_PUSHED) };
        let others = others.iter().filter(|peer| peer.death().is_none()).skip(surplus);
        self.peers.iter().take(1).chain(others).map(|peer| &peer.url)
    }

    /// The peers to ask now. Each counts as being asked until [`Self::on_response`] or [`Self::on_failure`] is called for
    /// it.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<PeerUrl> {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce(now);
        }
        let due = self.agenda.take_due(now);
        due.into_iter().map(|place| self.peers[place].url.clone()).collect()
    }

    /// When to call [`Self::due`] next; a time in the past means now, and nothing not before something else happens.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let next = self.agenda.first().into_iter().chain(self.announce_at).min()?;
        self.agenda.has_room_at().map(|room_at| next.max(room_at))
    }

    /// Notes that a peer that was asked has answered, and merges its list; at most [`MAX_ANSWERED`] of it.
    ///
    /// When the peer was dead, a cut between two parts of the network may have healed: the dead on its list are tried
    /// at once, side by side as in joining, for one by one it would take as many periods as they are many.
    pub(crate) fn on_response(
        &mut self,
        peer: &PeerUrl,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        now: Duration,
    ) -> MergeOutcome {
        let mut back = false;
        let mut left_out = vec![true; self.peers.len()];
        if let Some(place) = self.finish(peer) {
            let trouble = self.peers[place].trouble.take();
            back = trouble.is_some_and(|trouble| trouble.is_fatal());
            left_out[place] = false;
            self.turn.learn(place, true);
            self.somebody_answered = true;
        }
        let heard = self.merge(urls, MAX_ANSWERED, now, |members, place| {
            if let Some(left_out) = left_out.get_mut(place) {
                *left_out = false;
            }
            if back {
                members.try_soon(place, now);
            }
        });
        self.joining &= !(self.somebody_answered && self.agenda.is_done(now));
        if !self.joining {
            let is_doubtful = |&place: &usize| left_out[place] && is_well(&self.peers, &self.agenda, place);
            self.turn.doubt((1..left_out.len()).filter(is_doubtful));
        }
        MergeOutcome { back, ..heard }
    }

    /// Notes that a peer that was asked gave no answer, or none of use; says whether that makes it dead.
    pub(crate) fn on_failure(&mut self, peer: &PeerUrl, now: Duration) -> bool {
        let Some(place) = self.finish(peer) else { return false };
        let trouble = self.peers[place].trouble.get_or_insert_default();
        trouble.attempts = trouble.attempts.saturating_add(1);
        let counts = trouble.failures == 0 || now >= trouble.failed_at + APART;
        if counts {
            trouble.failures = trouble.failures.saturating_add(1);
            trouble.failed_at = now;
        }
        let again = mem::take(&mut trouble.again);
        let failures = trouble.failures;
        if trouble.named {
            let pause = doubled(FIRST_PAUSE, trouble.attempts - 1, LONGEST_NAMED_PAUSE);
            self.agenda.plan(place, now + jittered(pause, &mut self.random));
        } else if failures >= ATTEMPTS && !again {
            let pause = doubled(APART, failures - ATTEMPTS + 1, LONGEST_PAUSE);
            trouble.rests_until = now + jittered(pause, &mut self.random);
        } else if again || self.announce.is_some() {
            self.agenda.plan(place, now + jittered(APART, &mut self.random));
        }
        if failures == 1 {
            self.turn.learn(place, false);
        }
        self.joining &= !(self.somebody_answered && self.agenda.is_done(now));
        counts && failures == ATTEMPTS
    }

    /// Plans this period's calls: one to a dead peer whose time has come, one to a doubted, the rest to those whose
    /// turn it is, and to more of the dead where the living are too few. Doubted ones beyond the first come on top, for
    /// they are as good as dead and would cost those calls some day.
    fn announce(&mut self, now: Duration) {
        // A little less than a period to a little more, so that nobody falls into step.
        let pause = |period: Duration| jittered(period.mul_f64(0.875), &mut self.random);
        self.announce_at = self.announce.map(pause).map(|pause| now + pause);
        let rested = self.idle_dead().filter(|(_, death)| death.rests_until <= now);
        let mut trials: Vec<_> = rested.map(|(place, death)| (death.rests_until, place)).collect();
        trials.sort_unstable();
        let mut trials = trials.into_iter().map(|(_, place)| place);
        let mut calls = 0;
        if let Some(place) = trials.next() {
            self.agenda.plan(place, now);
            calls += 1;
        }
        let mut doubted = self.turn.take_doubted();
        doubted.retain(|&place| is_well(&self.peers, &self.agenda, place));
        for &place in &doubted {
            self.agenda.plan(place, now);
        }
        calls += doubted.len().min(1);
        while calls < CALLS_A_PERIOD
            && let Some(place) = self.next_living().or_else(|| trials.next())
        {
            self.agenda.plan(place, now);
            calls += 1;
        }
    }

    fn next_living(&mut self) -> Option<usize> {
        self.turn.next(self.peers.len(), |place| is_well(&self.peers, &self.agenda, place))
    }

    fn merge(
        &mut self,
        urls: impl IntoIterator<Item: AsRef<str> + TryInto<PeerUrl>>,
        most: usize,
        now: Duration,
        mut known: impl FnMut(&mut Self, usize),
    ) -> MergeOutcome {
        let mut heard = MergeOutcome::default();
        let mut urls = urls.into_iter();
        // Lists run alike for long stretches: a glance behind the last two finds mostly spares the hashing.
        let (mut next, mut other) = (0, 0);
        for url in urls.by_ref().take(most) {
            let text = url.as_ref();
            let found = if self.is_at(next, text) {
                Some(next)
            } else {
                mem::swap(&mut next, &mut other);
                if self.is_at(next, text) { Some(next) } else { self.places.get(text).copied() }
            };
            if let Some(place) = found {
                next = place + 1;
                known(self, place);
                continue;
            }
            match url.try_into() {
                Ok(url) if self.places.contains_key(&url) => {}
                Ok(url) if self.learn(url.clone(), now).is_some() => heard.new.push(url),
                _ => heard.ignored += 1,
            }
        }
        heard.ignored += urls.count();
        heard
    }

    /// Whether a peer of this URL is in that place.
    fn is_at(&self, place: usize, text: &str) -> bool {
        self.peers.get(place).is_some_and(|peer| peer.url.as_str() == text)
    }

    /// Takes up a peer and says its place; nothing for one that was known, or has no room.
    fn learn(&mut self, url: PeerUrl, now: Duration) -> Option<usize> {
        if self.places.contains_key(&url) {
            return None;
        }
        let peer = Peer { url: url.clone(), trouble: None };
        let place = if self.peers.len() < MAX_PEERS {
            let place = self.peers.len();
            self.peers.push(peer);
            self.turn.insert(place);
            place
        } else {
            // The longest dead makes room; the new one takes its place on the list, too.
            let (place, _) = self.idle_dead().max_by_key(|(_, death)| death.failures)?;
            let gone = mem::replace(&mut self.peers[place], peer);
            self.places.remove(&gone.url);
            place
        };
        self.places.insert(url, place);
        if self.joining {
            self.agenda.plan(place, now);
        }
        Some(place)
    }

    /// The dead that are neither being tried nor to be.
    fn idle_dead(&self) -> impl Iterator<Item = (usize, &Trouble)> {
        let dead = self.peers.iter().enumerate().filter_map(|(place, peer)| Some((place, peer.death()?)));
        dead.filter(|&(place, _)| self.agenda.is_free_of(place))
    }

    /// Plans an early trial of a peer if it is dead, though not within a minute of its last failure.
    fn try_soon(&mut self, place: usize, now: Duration) {
        let Some(death) = self.peers[place].trouble.as_mut().filter(|trouble| trouble.is_fatal()) else { return };
        death.again = self.agenda.is_asking(place);
        if self.agenda.is_free_of(place) {
            self.agenda.plan(place, now.max(death.failed_at + APART));
        }
    }

    /// The place of a peer that was being asked, and is so no longer.
    fn finish(&mut self, peer: &PeerUrl) -> Option<usize> {
        let place = *self.places.get(peer)?;
        self.agenda.finish(place).then_some(place)
    }
}

/// Whether a peer lives, for all we know, and is not being called anyway.
fn is_well(peers: &[Peer], agenda: &Agenda, place: usize) -> bool {
    peers[place].trouble.is_none() && agenda.is_free_of(place)
}

/// The pause, or up to a quarter more.
fn jittered(pause: Duration, random: &mut fastrand::Rng) -> Duration {
    pause.mul_f64(1.0 + 0.25 * random.f64())
}

/// The pause doubled so many times, up to the longest.
fn doubled(pause: Duration, times: u32, longest: Duration) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

//! Knows the peers of one network and decides whom to call when.
//!
//! No sockets, no threads, no clock: `now` is the time since the server's start. What happens comes in through
//! [`Membership::on_request`], [`Membership::on_response`] and [`Membership::on_failure`]; whom to call comes out of
//! [`Membership::due`]. The simulation beside this file drives a thousand of them.
//!
//! It keeps three promises: the own URL is never called; no peer is called twice at the same time; and only a peer's own
//! answer, never what others say of it, brings back one that was found dead.

mod failures;
mod schedule;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, mem, time::Duration};

use self::{failures::FailureState, schedule::CallSchedule};
use crate::peer::{MAX_PEERS, PeerUrl};

/// Peers that a server calls in each period: enough for news to reach all in a logarithmic number of periods, and the
/// same however large the network is.
const CALLS_PER_PERIOD: usize = 3;

/// The most URLs sent along with one call, our own among them, and the most taken from one that comes in.
pub(crate) const MAX_SENT_PEERS: usize = 1024;

/// The peers of one server, what is known of each, and when to call it.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// First learnt first; the server itself is the first.
    peers: Vec<Peer>,
    index: HashMap<PeerUrl, usize>,
    schedule: CallSchedule,
    /// All other peers, the one to call next first: whoever was called or has called us goes to the end, so nobody waits
    /// for longer than it takes to call all. The random order in which it begins makes news spread as fast as by lot.
    rotation: Vec<usize>,
    /// Whether new peers are called at once: until an answer leaves nobody to call.
    joining: bool,
    period: Option<Duration>,
    next_period: Option<Duration>,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Peer {
    url: PeerUrl,
    /// Whether it was given on the command line and has not answered yet.
    is_seed: bool,
    failures: FailureState,
}

impl Peer {
    fn new(url: PeerUrl) -> Self {
        Self { url, is_seed: false, failures: FailureState::default() }
    }
}

/// What a list of URLs from another peer brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MergeOutcome {
    /// The peers that were not known before.
    pub(crate) new: Vec<PeerUrl>,
    /// How many URLs were ignored: invalid, of the other kind of network, too many at once, or no room left.
    pub(crate) ignored: usize,
}

impl Membership {
    /// Creates the membership of a server that calls itself `own` and was given the `seeds` on its command line. It
    /// calls peers every `period`, or only to join when that is zero; then no other peer is ever found dead.
    /// Seeds beyond [`MAX_PEERS`] are ignored.
    pub(crate) fn new(
        own: PeerUrl,
        seeds: Vec<PeerUrl>,
        period: Option<Duration>,
        now: Duration,
        random_seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(random_seed);
        let period = period.filter(|period| !period.is_zero());
        let mut membership = Self {
            index: HashMap::from([(own.clone(), 0)]),
            peers: vec![Peer::new(own)],
            schedule: CallSchedule::default(),
            rotation: Vec::new(),
            joining: true,
            period,
            // Servers that are started together must not march in step.
            next_period: period.map(|period| now + period.mul_f64(random.f64())),
            random,
        };
        for url in seeds {
            if !membership.index.contains_key(&url)
                && let Some(index) = membership.insert(url, now)
            {
                membership.peers[index].is_seed = true;
            }
        }
        membership
    }

    /// Merges the list that came in with a call; at most [`MAX_SENT_PEERS`] of it.
    ///
    /// A list that begins with a known peer is likely that peer's own: ours put themselves first. If it is dead it is
    /// tried soon, for its word alone does not bring it back; else it needs no call from us for a while.
    pub(crate) fn on_request(&mut self, urls: &[impl AsRef<str>], now: Duration) -> MergeOutcome {
        if let Some(caller) = urls.first().map(AsRef::as_ref) {
            self.retry_if_dead(caller, now);
            if let Some(&index) = self.index.get(caller) {
                self.move_to_end_of_rotation(index);
            }
        }
        self.merge(urls, MAX_SENT_PEERS, now)
    }

    /// The peers as op 0 answers them: first learnt first, ourselves from the start, the dead left out.
    pub(crate) fn live_peers(&self) -> impl Iterator<Item = &PeerUrl> {
        self.peers.iter().filter(|peer| !peer.failures.is_dead()).map(|peer| &peer.url)
    }

    /// The peers to send along with a call: ourselves first, none that is dead, and of more than [`MAX_SENT_PEERS`] those
    /// learnt last, for they are the news.
    pub(crate) fn peers_to_send(&self) -> impl Iterator<Item = &PeerUrl> {
        let surplus = self.live_peers().count().saturating_sub(MAX_SENT_PEERS);
        self.live_peers().take(1).chain(self.live_peers().skip(1 + surplus))
    }

    /// The peers to call now. A call is in progress until [`Self::on_response`] or [`Self::on_failure`] ends it.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<PeerUrl> {
        if self.next_period.is_some_and(|at| at <= now) {
            self.start_period(now);
        }
        let due = self.schedule.start_due(now);
        due.into_iter().map(|index| self.peers[index].url.clone()).collect()
    }

    /// When to call [`Self::due`] next: a time in the past means now, `None` not before something else happens.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.schedule.next_start().into_iter().chain(self.next_period).min()
    }

    /// Notes that a peer has answered a call, and merges its list; at most [`MAX_PEERS`] of it.
    ///
    /// When the peer was dead, a cut between two parts of the network may have healed: the dead on its list are tried
    /// at once, side by side as in joining, for one by one they would take a period each.
    pub(crate) fn on_response(&mut self, peer: &PeerUrl, urls: &[impl AsRef<str>], now: Duration) -> MergeOutcome {
        if let Some(index) = self.finish(peer) {
            let failures = mem::take(&mut self.peers[index].failures);
            self.peers[index].is_seed = false;
            if failures.is_dead() {
                for url in urls.iter().take(MAX_PEERS) {
                    self.retry_if_dead(url.as_ref(), now);
                }
            }
        }
        let outcome = self.merge(urls, MAX_PEERS, now);
        self.joining &= !self.schedule.is_quiet(now);
        outcome
    }

    /// Notes that a call to a peer brought no answer, or none of use.
    pub(crate) fn on_failure(&mut self, peer: &PeerUrl, now: Duration) {
        let Some(index) = self.finish(peer) else { return };
        let Peer { is_seed, failures, .. } = &mut self.peers[index];
        failures.record(now);
        failures.next_attempt = now + jittered(failures.pause(*is_seed), &mut self.random);
        if mem::take(&mut failures.seems_alive) || *is_seed || !failures.is_dead() && self.period.is_some() {
            self.schedule.plan(index, failures.next_attempt);
        }
    }

    /// Plans this period's calls: one to a dead peer whose time has come, the rest to the next in the rotation.
    fn start_period(&mut self, now: Duration) {
        // A little less than a period to a little more, so that nobody falls into step.
        self.next_period = self.period.map(|period| now + jittered(period.mul_f64(0.875), &mut self.random));
        let trials = self.idle_dead().filter(|(_, failures)| failures.next_attempt <= now);
        let mut trial = trials.min_by_key(|(_, failures)| failures.next_attempt).map(|(index, _)| index);
        for _ in 0..CALLS_PER_PERIOD {
            let Some(index) = trial.take().or_else(|| self.next_in_rotation()) else { return };
            self.schedule.plan(index, now);
        }
    }

    /// The next peer of the rotation that has not failed and is not being called anyway.
    fn next_in_rotation(&mut self) -> Option<usize> {
        let is_well = |&index: &usize| self.peers[index].failures.count == 0 && self.schedule.is_idle(index);
        let index = self.rotation.iter().copied().find(is_well)?;
        self.move_to_end_of_rotation(index);
        Some(index)
    }

    fn move_to_end_of_rotation(&mut self, index: usize) {
        if let Some(position) = self.rotation.iter().position(|&other| other == index) {
            self.rotation[position..].rotate_left(1);
        }
    }

    /// Inserts the unknown URLs among the first `limit` of a list.
    fn merge(&mut self, urls: &[impl AsRef<str>], limit: usize, now: Duration) -> MergeOutcome {
        let (taken, surplus) = urls.split_at(urls.len().min(limit));
        let mut outcome = MergeOutcome { new: Vec::new(), ignored: surplus.len() };
        // Ourselves.
        let is_private = self.peers[0].url.is_private();
        for text in taken.iter().map(AsRef::as_ref) {
            if self.index.contains_key(text.strip_suffix('/').unwrap_or(text)) {
                continue;
            }
            match text.parse::<PeerUrl>() {
                Ok(url) if url.is_private() == is_private && self.insert(url.clone(), now).is_some() => {
                    outcome.new.push(url);
                }
                _ => outcome.ignored += 1,
            }
        }
        outcome
    }

    /// Inserts an unknown peer and returns its index, or `None` when there is no room.
    fn insert(&mut self, url: PeerUrl, now: Duration) -> Option<usize> {
        let peer = Peer::new(url.clone());
        let index = if self.peers.len() < MAX_PEERS {
            self.peers.push(peer);
            let index = self.peers.len() - 1;
            // Anywhere in the rotation: servers that learn of peers in the same order must not call them in it.
            self.rotation.insert(self.random.usize(..index), index);
            index
        } else {
            // The longest dead makes room; the new one takes its place on the list, too.
            let (index, _) = self.idle_dead().max_by_key(|(_, failures)| failures.count)?;
            let dead = mem::replace(&mut self.peers[index], peer);
            self.index.remove(&dead.url);
            index
        };
        self.index.insert(url, index);
        if self.joining {
            self.schedule.plan(index, now);
        }
        Some(index)
    }

    /// The dead that are neither being called nor to be.
    fn idle_dead(&self) -> impl Iterator<Item = (usize, &FailureState)> {
        let all = self.peers.iter().map(|peer| &peer.failures).enumerate();
        all.filter(|&(index, failures)| failures.is_dead() && self.schedule.is_idle(index))
    }

    /// Plans an early trial of a peer if it is dead, though not before another failure counts.
    fn retry_if_dead(&mut self, url: &str, now: Duration) {
        let Some(&index) = self.index.get(url) else { return };
        let failures = &mut self.peers[index].failures;
        if failures.is_dead() {
            failures.seems_alive = self.schedule.is_running(index);
            self.schedule.plan(index, now.max(failures.next_failure()));
        }
    }

    /// Ends the call to a peer and returns its index, or `None` when none was in progress.
    fn finish(&mut self, peer: &PeerUrl) -> Option<usize> {
        let index = *self.index.get(peer)?;
        self.schedule.finish(index).then_some(index)
    }
}

/// The pause, or up to a quarter more.
fn jittered(pause: Duration, random: &mut fastrand::Rng) -> Duration {
    pause.mul_f64(1.0 + 0.25 * random.f64())
}

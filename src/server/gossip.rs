//! Joining the network and staying in it: carries out what the [`Membership`] decides.
//!
//! One thread waits for the next call that is due; each call has a thread of its own, so a dead peer delays nobody.
//! Nothing that a peer does ends the server: a failed call is a warning.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::CallError, format, lock::lock, membership::Membership, peer::PeerUrl, peer_client::PeerClient,
    server::handler::log_merge,
};

/// The stack of a thread that makes one call: ureq and the XML reader need a small part of it.
const STACK_BYTES: usize = 256 << 10;

/// What wakes the gossip before the time that it has set itself.
pub(crate) enum News {
    /// The members have changed: a call may be due earlier.
    Changed,
    /// The server ends.
    Over,
}

/// Starts asking the members. `started` is the zero of their clock; whoever holds the other ends of `news` wakes the
/// gossip and ends it. Calls that are under way then are left to the caller's own end.
pub(crate) fn start(
    members: Arc<Mutex<Membership>>,
    client: PeerClient,
    started: Instant,
    news: (Sender<News>, Receiver<News>),
) -> io::Result<()> {
    let (sender, receiver) = news;
    let gossip = Arc::new(Gossip {
        members,
        client,
        started,
        news: sender,
        failing: Mutex::default(),
        has_joined: AtomicBool::new(false),
    });
    thread::Builder::new()
        .name("gossip".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || gossip.run(&receiver))
        .map(drop)
}

struct Gossip {
    members: Arc<Mutex<Membership>>,
    client: PeerClient,
    started: Instant,
    news: Sender<News>,
    /// Peers whose failure has been logged and that have not answered since.
    failing: Mutex<HashSet<PeerUrl>>,
    /// Whether any peer has answered yet.
    has_joined: AtomicBool,
}

impl Gossip {
    fn run(self: &Arc<Self>, news: &Receiver<News>) {
        loop {
            let (due, next) = {
                let mut members = self.members();
                let now = self.started.elapsed();
                (members.due(now), members.next_due())
            };
            for peer in &due {
                self.spawn_call(peer);
            }
            let wait = next.map_or(Duration::MAX, |next| next.saturating_sub(self.started.elapsed()));
            match news.recv_timeout(wait) {
                Ok(News::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Over) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn spawn_call(self: &Arc<Self>, peer: &PeerUrl) {
        let gossip = Arc::clone(self);
        let asked = peer.clone();
        let thread = thread::Builder::new().name("call".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || gossip.ask(&asked)) {
            log::warn!("could not start a thread to call {peer}: {error}");
            self.members().on_failure(peer, self.started.elapsed());
        }
    }

    /// Exchanges op 0 with one peer.
    fn ask(&self, peer: &PeerUrl) {
        let pushed: Vec<PeerUrl> = self.members().peers_to_send().cloned().collect();
        let answer = self.client.exchange_peers(peer, &pushed);
        let now = self.started.elapsed();
        match answer {
            Ok(urls) => {
                let heard = self.members().on_response(peer, urls.iter().map(String::as_str), now);
                let known = format::count(urls.len(), "peer");
                if !self.has_joined.swap(true, Ordering::Relaxed) {
                    log::info!("joined the network through {peer}, which knows {known}");
                } else if self.failing().remove(peer) {
                    log::info!("{peer} answers again");
                } else {
                    log::debug!("{peer} knows {known}");
                }
                log_merge(&heard, peer);
            }
            Err(failure) => {
                self.members().on_failure(peer, now);
                self.report(peer, &failure);
            }
        }
        // When the gossip has ended there is nobody left to tell.
        let _ = self.news.send(News::Changed);
    }

    /// Warns of a peer once, until it has answered again.
    fn report(&self, peer: &PeerUrl, failure: &CallError) {
        if self.failing().insert(peer.clone()) {
            log::warn!("could not exchange peers with {peer}: {failure}");
        } else {
            log::debug!("could not exchange peers with {peer}, again: {failure}");
        }
    }

    fn failing(&self) -> MutexGuard<'_, HashSet<PeerUrl>> {
        lock(&self.failing)
    }

    fn members(&self) -> MutexGuard<'_, Membership> {
        lock(&self.members)
    }
}

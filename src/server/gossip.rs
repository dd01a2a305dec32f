//! Joins the network and stays in it: makes the calls that the [`Membership`] decides on.
//!
//! One thread waits for the next call that is due; each call has a thread of its own, so a dead peer delays nobody.
//! Nothing that a peer does ends the server: a failed call is a warning.

use std::{
    collections::HashSet,
    fmt::Display,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::CallError,
    format,
    lock::lock,
    membership::{Membership, MergeOutcome},
    peer::PeerUrl,
    peer_client::PeerClient,
};

/// The stack of a thread that makes one call: ureq, TLS and the XML reader need a quarter of it.
const STACK_BYTES: usize = 256 << 10;

/// What wakes the gossip thread before the next call is due.
pub(crate) enum Wake {
    /// The membership has changed: a call may be due earlier.
    Changed,
    /// The server stops.
    Stop,
}

/// Starts the gossip thread. `started` is the zero of the membership's clock; what comes in through `receiver` wakes the
/// thread or stops it. Calls in progress then are left to the client's own end.
pub(crate) fn start(
    membership: Arc<Mutex<Membership>>,
    client: PeerClient,
    started: Instant,
    sender: Sender<Wake>,
    receiver: Receiver<Wake>,
) -> io::Result<()> {
    let gossip = Arc::new(Gossip {
        membership,
        client,
        started,
        wake: sender,
        failing: Mutex::default(),
        has_joined: AtomicBool::new(false),
    });
    let thread = thread::Builder::new().name("gossip".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || gossip.run(&receiver)).map(drop)
}

/// What the gossip thread and its calls share.
struct Gossip {
    membership: Arc<Mutex<Membership>>,
    client: PeerClient,
    started: Instant,
    wake: Sender<Wake>,
    /// Peers whose failure has been logged and that have not answered since.
    failing: Mutex<HashSet<PeerUrl>>,
    /// Whether any peer has answered yet.
    has_joined: AtomicBool,
}

impl Gossip {
    /// Makes the calls that are due until the server stops.
    fn run(self: &Arc<Self>, wake: &Receiver<Wake>) {
        loop {
            let due = lock(&self.membership).due(self.started.elapsed());
            for peer in &due {
                self.spawn_call(peer);
            }
            let next = lock(&self.membership).next_due();
            let wait = next.map_or(Duration::MAX, |next| next.saturating_sub(self.started.elapsed()));
            match wake.recv_timeout(wait) {
                Ok(Wake::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn spawn_call(self: &Arc<Self>, peer: &PeerUrl) {
        let gossip = Arc::clone(self);
        let called = peer.clone();
        let thread = thread::Builder::new().name("call".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || gossip.call(&called)) {
            log::warn!("could not start a thread to call {peer}: {error}");
            lock(&self.membership).on_failure(peer, self.started.elapsed());
        }
    }

    /// Exchanges lists of peers with one peer.
    fn call(&self, peer: &PeerUrl) {
        let peers_to_send: Vec<PeerUrl> = lock(&self.membership).peers_to_send().cloned().collect();
        match self.client.exchange_peers(peer, &peers_to_send) {
            Ok(urls) => self.on_response(peer, &urls),
            Err(error) => self.on_failure(peer, &error),
        }
        // Nobody receives it once the gossip thread has ended.
        let _ = self.wake.send(Wake::Changed);
    }

    fn on_response(&self, peer: &PeerUrl, urls: &[String]) {
        let outcome = lock(&self.membership).on_response(peer, urls, self.started.elapsed());
        let known = format::count(urls.len(), "peer");
        if !self.has_joined.swap(true, Ordering::Relaxed) {
            log::info!("joined the network through {peer}, which knows {known}");
        } else if lock(&self.failing).remove(peer) {
            log::info!("{peer} answers again");
        } else {
            log::debug!("{peer} knows {known}");
        }
        log_new_peers(&outcome, peer);
    }

    /// Logs the first failure of a peer as a warning, and the others until it has answered again for debugging only.
    fn on_failure(&self, peer: &PeerUrl, error: &CallError) {
        lock(&self.membership).on_failure(peer, self.started.elapsed());
        if lock(&self.failing).insert(peer.clone()) {
            log::warn!("could not exchange peers with {peer}: {error}");
        } else {
            log::debug!("could not exchange peers with {peer}, again: {error}");
        }
    }
}

/// Logs which peers are new, and who sent them.
pub(super) fn log_new_peers(outcome: &MergeOutcome, from: &dyn Display) {
    for peer in &outcome.new {
        log::info!("new peer {peer}, says {from}");
    }
    if outcome.ignored > 0 {
        log::info!("ignored {} from {from}", format::count(outcome.ignored, "unusable peer URL"));
    }
}

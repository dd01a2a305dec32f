//! Runs a mirror beside the server: looks what is here, has the rest fetched, and logs what came of it.

use std::{
    io,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::mirror::{Mirror, Schedule};
use crate::{error::reason, format, lock::lock, membership::Membership, peer::PeerUrl, shared_dir::SharedDir};

/// What came of one run.
pub(super) struct Fetched {
    pub(super) saved: usize,
    pub(super) bytes: u64,
    /// Files that did not come, beside those for which there is no room.
    pub(super) failed: usize,
    pub(super) without_room: usize,
    pub(super) bytes_without_room: u64,
}

/// What a mirror works with.
pub(super) struct Mirroring {
    pub(super) mirror: Arc<Mirror>,
    /// The server's own URL, which is not asked.
    pub(super) url: PeerUrl,
    pub(super) shared_dir: Arc<SharedDir>,
    pub(super) membership: Arc<Mutex<Membership>>,
    /// The zero of the mirror's clock.
    pub(super) started: Instant,
}

/// A mirror that runs until it is stopped.
pub(super) struct MirrorThread {
    thread: JoinHandle<()>,
    stop: Sender<()>,
}

impl MirrorThread {
    /// Starts it; `fetch` makes one run with these peers.
    pub(super) fn start(
        mirroring: Mirroring,
        fetch: impl Fn(&[PeerUrl]) -> io::Result<Fetched> + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("mirror".to_owned());
        let thread = thread.spawn(move || mirroring.run_until(&stopped, &fetch))?;
        Ok(Self { thread, stop })
    }

    /// Ends it, and waits for that; a run that goes on must have been ended.
    pub(super) fn stop(self) {
        drop(self.stop);
        // A panic has been reported by its hook.
        let _ = self.thread.join();
    }
}

impl Mirroring {
    fn run_until(&self, stopped: &Receiver<()>, fetch: &dyn Fn(&[PeerUrl]) -> io::Result<Fetched>) {
        let now = || self.started.elapsed();
        let mut schedule = Schedule::new(&self.mirror, now(), fastrand::u64(..));
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(schedule.wait(&self.mirror, now())) {
            let peers: Vec<PeerUrl> =
                lock(&self.membership).live_peers().filter(|peer| **peer != self.url).cloned().collect();
            if schedule.is_due(&self.mirror, &peers, now()) {
                let began = now();
                if let Err(error) = self.run_once(&peers, began, fetch) {
                    log::warn!("could not mirror: {}", reason(&error));
                }
                schedule.plan(&self.mirror, began, now());
            }
        }
    }

    fn run_once(
        &self,
        peers: &[PeerUrl],
        now: Duration,
        fetch: &dyn Fn(&[PeerUrl]) -> io::Result<Fetched>,
    ) -> io::Result<()> {
        look(&self.mirror, &self.shared_dir)?;
        self.mirror.begin(now);
        let begun = Instant::now();
        let Fetched { saved, bytes, failed, without_room, bytes_without_room } = fetch(peers)?;
        if saved + failed > 0 {
            let hint = if failed > 0 { format::names_hint() } else { "" };
            log::info!("mirrored {}, {failed} failed{hint}", format::tally(saved, bytes, begun.elapsed()));
        }
        if without_room > 0 {
            let (files, bytes) = (format::count(without_room, "file"), format::size(bytes_without_room));
            log::warn!("no room to mirror {files}, {bytes}");
        }
        Ok(())
    }
}

/// Looks which names are here.
pub(super) fn look(mirror: &Mirror, shared_dir: &SharedDir) -> io::Result<()> {
    mirror.look(|each| {
        // Nothing is wanted of the listing itself.
        let is_wanted = |name: &str| {
            each(name);
            false
        };
        shared_dir.list(&is_wanted).map(drop)
    })
}

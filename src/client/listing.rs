//! Who has what: the listings of all peers, asked side by side, and what of them is wanted.
//!
//! Nothing that a listing says is believed: a name is taken only when it is a safe [`FileName`] and matches here too.
//! However much all peers list together, it is held in a bounded room.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    download_dir::DownloadDir, error::CallError, escape::Escaped, fd_limit, file_name::FileName, format, lock::lock,
    pattern::Pattern, peer::PeerUrl, peer_client::PeerClient, progress::Waiting,
};

use super::{
    Interruption,
    index::{FileIndex, ListingCollector},
    output::Output,
    queue::DownloadQueue,
};

/// The most peers that are asked at once.
const MAX_ASKED_AT_ONCE: usize = 256;

/// No peer is asked anymore when so many silence limits have passed and one has been used up by the silent: those that
/// are still being asked then end within one more.
const SILENCES_TO_SPEND: u32 = 2;

/// The stack of a thread that asks one peer.
const STACK_BYTES: usize = 256 << 10;

/// The memory in bytes that all listings and those who read them may take, so that the client stays below 100 MiB.
const MAX_MEMORY: usize = 80 << 20;

/// The memory in bytes that one reader takes: stack, connection, buffers.
const READER_BYTES: usize = 200 << 10;

/// The bytes of output that are gathered before they are printed.
const LINES_BYTES: usize = 64 << 10;

/// How many refused names of one listing are shown; the others are counted.
const REFUSED_NAMES_SHOWN: usize = 3;

/// What the peers said that they have.
pub(super) struct Listings {
    index: FileIndex,
    /// Whether the server that the user named gave no listing, or this side could not ask.
    pub(super) is_first_lost: bool,
}

impl Listings {
    /// Asks all peers; who gives no listing is named once. After an interruption the rest is neither asked nor named.
    pub(super) fn ask(
        client: &PeerClient,
        peers: &[PeerUrl],
        first: &PeerUrl,
        pattern: &Pattern,
        interruption: &Interruption,
    ) -> Self {
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        let is_anyone_silent = AtomicBool::new(false);
        let failures = Mutex::new(Vec::new());
        let answered = Arc::new(AtomicUsize::new(0));
        let (all, counted) = (peers.len(), Arc::clone(&answered));
        let waiting = Waiting::start(move || {
            format!("waiting for {} of {all} peers to list their files", all - counted.load(Ordering::Relaxed))
        });
        // A call may take a second descriptor while the name of its host is looked up.
        let readers = peers.len().min(MAX_ASKED_AT_ONCE).min(fd_limit::available() / 2).max(1);
        let intake = ListingCollector::new(peers.len(), MAX_MEMORY - readers * READER_BYTES);
        let ask_in_turn = || {
            while let Some((index, peer)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                peers.get(index).map(|peer| (index, peer))
            } {
                if interruption.has_come() {
                    return;
                }
                let is_too_late = is_anyone_silent.load(Ordering::Relaxed)
                    && begun.elapsed() >= client.stall_timeout() * SILENCES_TO_SPEND;
                let answer = if is_too_late {
                    Err(CallError::Unreachable("not tried, for too many others are silent".to_owned()))
                } else {
                    ask_one(client, peer, pattern, &intake, index)
                };
                if let Err(failure) = answer {
                    is_anyone_silent.fetch_or(failure.is_no_answer(), Ordering::Relaxed);
                    lock(&failures).push((index, failure));
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            // This thread asks too, so that all are asked whatever the others are denied.
            for _ in 1..readers {
                let thread = thread::Builder::new().name("listing".to_owned()).stack_size(STACK_BYTES);
                if let Err(error) = thread.spawn_scoped(scope, ask_in_turn) {
                    log::debug!("could not start another thread: {error}");
                    break;
                }
            }
            ask_in_turn();
        });
        drop(waiting);
        let mut is_first_lost = false;
        let mut lose = |index: usize, failure| {
            let peer: &PeerUrl = &peers[index];
            if interruption.has_come() {
                return;
            }
            if peer == first || matches!(failure, CallError::Local(_)) {
                is_first_lost = true;
                log::error!("could not list the files of {peer}: {failure}");
            } else {
                log::warn!("skipped {peer}: {failure}");
            }
        };
        for (index, failure) in failures.into_inner().unwrap_or_else(PoisonError::into_inner) {
            lose(index, failure);
        }
        let index = intake.finish(|index| lose(index, CallError::OverBudget));
        Self { index, is_first_lost }
    }

    /// Prints the names that are not in the directory, sorted; with `-v` all names, each with its holders.
    pub(super) fn print(&self, arrivals: &DownloadDir, peers: &[PeerUrl]) -> io::Result<()> {
        let all = log::log_enabled!(log::Level::Debug);
        let is_here = if all { vec![false; self.index.len()] } else { self.find_here(arrivals) };
        let mut results = Output::new();
        let mut lines = String::new();
        for (index, is_here) in is_here.into_iter().enumerate() {
            let name = self.index.name(index);
            if all {
                let holders: Vec<&str> = self.index.holders(index).map(|peer| peers[peer].as_str()).collect();
                lines.extend([&*results.name(&name), "\t", &holders.join(" "), "\n"]);
            } else if !is_here {
                lines.extend([&*results.name(&name), "\n"]);
            }
            if lines.len() >= LINES_BYTES {
                results.print(&lines)?;
                lines.clear();
            }
        }
        results.print(&lines)
    }

    /// The names that are not in the directory, and who holds them.
    pub(super) fn missing(self, arrivals: &DownloadDir, peers: usize) -> Missing {
        let mut schedule = DownloadQueue::new(peers, self.index.len(), self.index.holdings());
        let mut here = 0;
        for (index, is_here) in self.find_here(arrivals).into_iter().enumerate() {
            if is_here {
                here += 1;
                schedule.want([]);
            } else {
                schedule.want(self.index.holders(index));
            }
        }
        Missing { index: self.index, schedule, here }
    }

    /// Whether something is in the directory under each name, by its place.
    fn find_here(&self, arrivals: &DownloadDir) -> Vec<bool> {
        let mut is_here = vec![false; self.index.len()];
        // To read the directory once takes less time than to look for each name.
        let mut mark = || {
            let mut is_empty = true;
            for name in arrivals.names()? {
                is_empty = false;
                if let Some(index) = self.index.find(name?.as_bytes()) {
                    is_here[index] = true;
                }
            }
            io::Result::Ok(is_empty)
        };
        let is_empty = mark().unwrap_or(false);
        // Some file systems take names for one that are spelled otherwise.
        if !is_empty {
            for (index, is_here) in is_here.iter_mut().enumerate().filter(|(_, is_here)| !**is_here) {
                *is_here = arrivals.contains(&self.index.name(index));
            }
        }
        is_here
    }
}

/// What is to be fetched.
pub(super) struct Missing {
    /// All names, those that are here too.
    pub(super) index: FileIndex,
    /// The same names, by the same places.
    pub(super) schedule: DownloadQueue,
    /// How many names match and are here already.
    pub(super) here: usize,
}

/// Takes in the names that one peer lists and that may be saved here.
fn ask_one(
    client: &PeerClient,
    peer: &PeerUrl,
    pattern: &Pattern,
    intake: &ListingCollector,
    index: usize,
) -> Result<(), CallError> {
    let mut reading = intake.begin(index);
    let mut taken = 0;
    let mut refused = 0;
    client.list(peer, pattern.as_str(), &mut |bytes| {
        let reason = match FileName::from_bytes(bytes) {
            Ok(name) if pattern.is_found_in(name.as_str()) => {
                taken += 1;
                return reading.add(&name);
            }
            Ok(_) => "it does not match the pattern".to_owned(),
            Err(bad) => bad.to_string(),
        };
        refused += 1;
        if refused <= REFUSED_NAMES_SHOWN {
            log::warn!("refused the name '{}' of {peer}: {reason}", Escaped(&String::from_utf8_lossy(bytes)));
        }
        Ok(())
    })?;
    reading.finish()?;
    if refused > REFUSED_NAMES_SHOWN {
        log::warn!("refused {} of {peer}", format::count(refused - REFUSED_NAMES_SHOWN, "more name"));
    }
    log::debug!("{peer} has {}", format::count(taken, "matching file"));
    Ok(())
}

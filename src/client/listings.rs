//! Who has what: the listings of all peers, asked side by side, and what of them is wanted.
//!
//! Nothing that a listing says is believed: a name is taken only when it is a safe [`FileName`] and matches here too.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use crate::{
    arrivals::Arrivals,
    error::Failure,
    names::{FileName, Shown},
    pattern::Pattern,
    peers::PeerUrl,
    remote::Caller,
};

use super::{results::Results, schedule::Schedule};

/// The most peers that are asked at once.
const MAX_ASKED_AT_ONCE: usize = 256;

/// No peer is asked anymore when so many silence limits have passed and one has been used up by the silent: those that
/// are still being asked then end within one more.
const SILENCES_TO_SPEND: u32 = 2;

/// The stack of a thread that asks one peer.
const STACK_BYTES: usize = 256 << 10;

/// How many refused names of one listing are shown; the others are counted.
const REFUSED_NAMES_SHOWN: usize = 3;

/// What the peers said that they have.
pub(super) struct Listings {
    /// By peer, in the order of the peer list; nothing from a peer that gave none.
    names: Vec<Vec<FileName>>,
    /// Whether the server that the user named gave no listing, or this side could not ask.
    pub(super) is_first_lost: bool,
}

impl Listings {
    /// Asks all peers; who gives no listing is named once.
    pub(super) fn ask(caller: &Caller, peers: &[PeerUrl], first: &PeerUrl, pattern: &Pattern) -> Self {
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        let is_anyone_silent = AtomicBool::new(false);
        let answers = Mutex::new(Vec::new());
        let ask_in_turn = || {
            while let Some((index, peer)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                peers.get(index).map(|peer| (index, peer))
            } {
                let is_too_late =
                    is_anyone_silent.load(Ordering::Relaxed) && begun.elapsed() >= caller.silence() * SILENCES_TO_SPEND;
                let answer = if is_too_late {
                    Err(Failure::Unreachable("not tried, for too many others are silent".to_owned()))
                } else {
                    ask_one(caller, peer, pattern)
                };
                if answer.as_ref().is_err_and(Failure::is_no_answer) {
                    is_anyone_silent.store(true, Ordering::Relaxed);
                }
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((index, answer));
            }
        };
        thread::scope(|scope| {
            for _ in 0..peers.len().min(MAX_ASKED_AT_ONCE) {
                let thread = thread::Builder::new().name("listing".to_owned()).stack_size(STACK_BYTES);
                if let Err(error) = thread.spawn_scoped(scope, ask_in_turn) {
                    log::debug!("could not start another thread: {error}");
                    break;
                }
            }
            // This thread asks too, so that all are asked whatever the others are denied.
            ask_in_turn();
        });
        let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut listings = Self { names: vec![Vec::new(); peers.len()], is_first_lost: false };
        for (index, answer) in answers {
            match answer {
                Ok(names) => listings.names[index] = names,
                Err(failure) => {
                    let peer = &peers[index];
                    if peer == first || matches!(failure, Failure::Local(_)) {
                        listings.is_first_lost = true;
                        log::error!("could not list the files of {peer}: {failure}");
                    } else {
                        log::warn!("skipped {peer}: {failure}");
                    }
                }
            }
        }
        listings
    }

    /// Prints the names that are not in the directory, sorted; with `-v` all names, each with its holders.
    pub(super) fn print(&self, arrivals: &Arrivals, peers: &[PeerUrl]) -> io::Result<()> {
        let mut holders: BTreeMap<&FileName, Vec<&str>> = BTreeMap::new();
        for (peer, names) in peers.iter().zip(&self.names) {
            for name in names {
                holders.entry(name).or_default().push(peer.as_str());
            }
        }
        let all = log::log_enabled!(log::Level::Debug);
        let mut results = Results::new();
        let mut lines = String::new();
        for (name, holders) in holders {
            if all {
                lines.extend([&*results.name(name), "\t", &holders.join(" "), "\n"]);
            } else if !arrivals.holds(name) {
                lines.extend([&*results.name(name), "\n"]);
            }
        }
        results.print(&lines)
    }

    /// The names that are not in the directory, and who holds them.
    pub(super) fn missing(&self, arrivals: &Arrivals) -> Missing {
        let mut schedule = Schedule::new(self.names.len());
        let mut known = HashMap::new();
        for (peer, names) in self.names.iter().enumerate() {
            for name in names {
                let wanted =
                    *known.entry(name).or_insert_with(|| (!arrivals.holds(name)).then(|| schedule.want(name.clone())));
                if let Some(wanted) = wanted {
                    schedule.add_holder(wanted, peer);
                }
            }
        }
        let here = known.values().filter(|wanted| wanted.is_none()).count();
        Missing { schedule, here }
    }
}

/// What is to be fetched.
pub(super) struct Missing {
    pub(super) schedule: Schedule,
    /// How many names match and are here already.
    pub(super) here: usize,
}

/// The names that one peer lists and that may be saved here.
fn ask_one(caller: &Caller, peer: &PeerUrl, pattern: &Pattern) -> Result<Vec<FileName>, Failure> {
    let mut names = Vec::new();
    let mut refused = 0;
    caller.list(peer, pattern.as_str(), &mut |bytes| {
        let reason = match FileName::from_bytes(bytes) {
            Ok(name) if pattern.is_found_in(name.as_str()) => return names.push(name),
            Ok(_) => "it does not match the pattern".to_owned(),
            Err(bad) => bad.to_string(),
        };
        refused += 1;
        if refused <= REFUSED_NAMES_SHOWN {
            log::warn!("refused the name '{}' of {peer}: {reason}", Shown(&String::from_utf8_lossy(bytes)));
        }
    })?;
    if refused > REFUSED_NAMES_SHOWN {
        log::warn!("refused {} more names of {peer}", refused - REFUSED_NAMES_SHOWN);
    }
    log::debug!("{peer} has {} matching files", names.len());
    Ok(names)
}

//! Asks all peers for their listings, side by side.
//!
//! Nothing that a listing says is believed: a name is taken only when it is a safe [`FileName`] and matches here too.
//! However much all peers list together, it takes bounded memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::CallError, escape::Escaped, fd_limit, file_name::FileName, format, peer::PeerUrl, progress::Spinner,
    protocol::IndexEntry,
};

use super::{
    Run,
    collector::{Details, ListingCollector, PeerListing},
};

/// The most peers that are asked at once.
const MAX_CALLS: usize = 256;

/// No peer is asked anymore when this many stall timeouts have passed and one has been used up by a silent peer: those
/// that are still being asked then end within one more.
const TIMEOUTS_TO_SPEND: u32 = 2;

/// The stack of a thread that asks one peer.
const STACK_BYTES: usize = 256 << 10;

/// The memory in bytes that one thread takes: stack, connection, buffers; and with a private connection.
const THREAD_BYTES: usize = 200 << 10;
const PRIVATE_THREAD_BYTES: usize = 300 << 10;

/// How many refused names of one listing are shown; the others are counted.
const REFUSED_NAMES_SHOWN: usize = 3;

/// How long names wait for those of other peers, before downloading starts: so that it starts with all that answer
/// quickly.
const HEAD_START: Duration = Duration::from_millis(300);

/// Takes listings over.
type Join<'a> = &'a mut dyn FnMut(Vec<PeerListing>);

/// What the peers answered.
pub(super) struct Answers {
    pub(super) has_names: bool,
    /// Whether the server that the user named gave no listing, or this side could not ask.
    pub(super) has_failed: bool,
}

/// Asks all peers, and hands over what they list: all that is there when all have answered, or a little after the first
/// names came, and what comes later as it comes. Returns when all have answered; who gives no listing is named once.
/// After an interruption the rest is neither asked nor named.
pub(super) fn ask(run: &Run, join: Join) -> Answers {
    // A call may take a second descriptor while the name of its host is looked up, and files are downloaded meanwhile.
    let threads = run.peers.len().min(MAX_CALLS).min(fd_limit::available() / 4);
    let is_private = run.peers.iter().any(PeerUrl::is_private);
    let thread_bytes = if is_private { PRIVATE_THREAD_BYTES } else { THREAD_BYTES };
    let threads = threads.min(run.memory * 5 / 8 / thread_bytes).max(1);
    let calls = Calls {
        run,
        collector: ListingCollector::new(run.peers.len(), run.memory - threads * thread_bytes),
        begun: Instant::now(),
        next: AtomicUsize::new(0),
        ended: Arc::default(),
        is_anyone_silent: AtomicBool::new(false),
    };
    let mut answers = Answers { has_names: calls.make(threads, join), has_failed: false };
    for (number, failure) in calls.collector.into_failures() {
        let peer = &run.peers[number];
        if run.interruption.has_come() {
            break;
        }
        if Some(peer) == run.named || matches!(failure, CallError::Local(_)) {
            answers.has_failed = true;
            log::error!("could not list the files of {peer}: {failure}");
        } else {
            log::warn!("skipped {peer}: {failure}");
        }
    }
    answers
}

/// How many names of one listing may be saved here.
#[derive(Default)]
struct NameCounts {
    accepted: usize,
    refused: usize,
}

/// Whether a peer that gave no index may still give a plain listing: it answered, and did not refuse the password. Without
/// sizes more names fit into memory. Who needs ages takes names without only from a peer that knows no index.
fn may_list(failure: &CallError, entries: usize, needs_ages: bool) -> bool {
    use CallError::{Fault, Local, Malformed, Private, Refused, TimedOut, Unreachable};
    if needs_ages {
        return entries == 0 && matches!(failure, Fault(_) | Malformed(_));
    }
    !matches!(failure, Refused | Private(_) | Local(_) | TimedOut(_) | Unreachable(_))
}

/// What the calls for listings share.
struct Calls<'a> {
    run: &'a Run<'a>,
    collector: ListingCollector,
    begun: Instant,
    /// The next peer to ask.
    next: AtomicUsize,
    /// How many peers are done with.
    ended: Arc<AtomicUsize>,
    is_anyone_silent: AtomicBool,
}

impl Calls<'_> {
    /// Asks all peers, this many at once where threads are to be had; whether there are names.
    fn make(&self, threads: usize, join: Join) -> bool {
        let all = self.run.peers.len();
        let ended = Arc::clone(&self.ended);
        let _spinner = Spinner::start(move || {
            format!("waiting for {} of {all} peers to list their files", all - ended.load(Ordering::Relaxed))
        });
        let (sender, answers) = channel();
        thread::scope(|scope| {
            for number in 0..threads {
                let thread = thread::Builder::new().name("listing".to_owned()).stack_size(STACK_BYTES);
                let own = sender.clone();
                if let Err(error) = thread.spawn_scoped(scope, move || self.ask_in_turn(&own)) {
                    log::debug!("could not start another thread: {error}");
                    if number == 0 {
                        self.ask_in_turn(&sender);
                    }
                    break;
                }
            }
            drop(sender);
            self.hand_over(&answers, join)
        })
    }

    /// Hands over the names of peers that answer, each with how many names it lists; whether there are any.
    fn hand_over(&self, answers: &Receiver<usize>, join: Join) -> bool {
        if answers.iter().all(|names| names == 0) {
            return false;
        }
        let start = Instant::now() + HEAD_START;
        while answers.recv_timeout(start.saturating_duration_since(Instant::now())).is_ok() {}
        join(self.collector.take_ready());
        for _ in answers {
            join(self.collector.take_ready());
        }
        true
    }

    fn ask_in_turn(&self, answers: &Sender<usize>) {
        while let number = self.next.fetch_add(1, Ordering::Relaxed)
            && let Some(peer) = self.run.peers.get(number)
            && !self.run.interruption.has_come()
        {
            let answer = self.ask_one(number, peer);
            let names = *answer.as_ref().unwrap_or(&0);
            if let Err(failure) = &answer {
                self.is_anyone_silent.fetch_or(failure.is_silence(), Ordering::Relaxed);
            }
            self.collector.end(number, answer.err());
            self.ended.fetch_add(1, Ordering::Relaxed);
            answers.send(names).expect("answers are received until the last thread has ended");
        }
    }

    /// Collects the names that one peer lists and that may be saved here; how many these are.
    fn ask_one(&self, number: usize, peer: &PeerUrl) -> Result<usize, CallError> {
        let limit = self.run.timeout * TIMEOUTS_TO_SPEND;
        if self.is_anyone_silent.load(Ordering::Relaxed) && self.begun.elapsed() >= limit {
            return Err(CallError::Unreachable("not tried, for too many others are silent".to_owned()));
        }
        let pattern = self.run.pattern.as_str();
        let mut counts = NameCounts::default();
        let mut entries = 0_usize;
        let indexed = self.run.client.index(peer, pattern, |IndexEntry { size, age, name }| {
            entries += 1;
            self.take(number, name, Some((size, age)), &mut counts)
        });
        let has_index = match indexed {
            Err(failure) if may_list(&failure, entries, self.run.needs_ages) => {
                log::debug!("{peer} gives no index: {failure}");
                false
            }
            indexed => indexed? > 0,
        };
        if !has_index {
            self.collector.restart(number);
            counts = NameCounts::default();
            self.run.client.list(peer, pattern, &mut |name| self.take(number, name, None, &mut counts))?;
        }
        let NameCounts { accepted, refused } = counts;
        if refused > REFUSED_NAMES_SHOWN {
            log::warn!("refused {} of {peer}", format::count(refused - REFUSED_NAMES_SHOWN, "more name"));
        }
        log::debug!("{peer} has {}", format::count(accepted, "matching file"));
        Ok(accepted)
    }

    /// Collects one name as it came, if it may be saved here.
    fn take(
        &self,
        number: usize,
        bytes: &[u8],
        size_and_age: Option<(u64, u64)>,
        counts: &mut NameCounts,
    ) -> Result<(), CallError> {
        match self.check(bytes) {
            Ok(name) if (self.run.wants)(&self.run.peers[number], &name, size_and_age.map(|(_, age)| age)) => {
                counts.accepted += 1;
                self.collector.add(number, &name, size_and_age.map(|(size, age)| Details::new(size, age)))
            }
            Ok(_) => Ok(()),
            Err(reason) => {
                counts.refused += 1;
                if counts.refused <= REFUSED_NAMES_SHOWN {
                    let peer = &self.run.peers[number];
                    log::warn!("refused the name '{}' of {peer}: {reason}", Escaped(&String::from_utf8_lossy(bytes)));
                }
                Ok(())
            }
        }
    }

    /// Checks a name as it came; why it is refused.
    fn check(&self, bytes: &[u8]) -> Result<FileName, String> {
        let name = FileName::from_bytes(bytes).map_err(|invalid| invalid.to_string())?;
        let is_match = self.run.pattern.is_found_in(name.as_str());
        if is_match { Ok(name) } else { Err("it does not match the pattern".to_owned()) }
    }
}

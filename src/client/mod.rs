//! One run of the client: who is there, who has what, and downloading what matches and is not here yet.
//!
//! The walk of one download:
//!
//! 1. `mod.rs`, [`run`]: opens the directory, does all that follows, and makes the exit status of it. Meanwhile
//!    connections to a private server are made ready for the jobs.
//! 2. `mod.rs`, `exchange_peers`: asks the given server for its peer list.
//! 3. `listing.rs`, `ask`: asks all peers for an index or a listing of what matches, each name checked by `Calls::check`,
//!    beside all that follows.
//! 4. `collector.rs`, `ListingCollector::add`: collects the names, in bounded memory.
//! 5. `index.rs`, `FileIndex::join`: one name for all who list it, as soon as a listing is whole; `--list` ends here.
//! 6. `queue.rs`, `DownloadQueue::next`: the next name, or the next small ones for a pack, and the peer to ask for them.
//! 7. `download.rs`, `Downloads::work`: a job calls that peer, by `PeerClient::download` or `download_pack` in
//!    `peer_client/mod.rs`.
//! 8. `spool.rs`, `SpooledDownload::write`: what comes goes into memory or into a partial file.
//!    Beside it, for a large file: `Downloads::resume` in `download/resume.rs` goes on with what is here of it, and
//!    `fetch_block` in `download/large.rs`, for idle jobs, fetches a block, which `blocks.rs` chooses, from another peer.
//! 9. `download/commit.rs`, `Downloads::commit`: `DownloadDir::commit_batch` syncs, names and syncs again.
//! 10. `output.rs`, `print_names`: the name is printed.
//!
//! One bad peer or file never ends the run. What is lost, and only that, makes the exit status 1: the peer list or the
//! listing of the server that was named, a file that was listed and is not here at the end, or a fault of this side.

mod blocks;
mod collector;
mod download;
mod index;
mod large_file;
mod listing;
mod output;
mod queue;
mod spool;

use std::{
    convert::identity,
    io,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    auth::Password,
    cli,
    download_dir::DownloadDir,
    error::Error,
    file_name::FileName,
    format,
    pattern::Pattern,
    peer::{PeerList, PeerUrl},
    peer_client::PeerClient,
    progress::{self, Spinner},
    rate_limit::RateLimit,
    signals,
};

use collector::PeerListing;
use download::Downloads;
use index::FileIndex;
pub(crate) use queue::{MAX_CALLS_PER_PEER, Tally};

/// What all steps of a run know.
pub(crate) struct Run<'a> {
    pub(crate) client: &'a PeerClient,
    pub(crate) dir: &'a DownloadDir,
    pub(crate) interruption: &'a Interruption,
    pub(crate) peers: &'a [PeerUrl],
    /// The peer that the user named: without its listing the run has failed.
    pub(crate) named: Option<&'a PeerUrl>,
    pub(crate) pattern: &'a Pattern,
    /// How long a peer may be silent.
    pub(crate) timeout: Duration,
    /// How many files are downloaded at once.
    pub(crate) jobs: usize,
    /// Whether files that are here are replaced by what is newer.
    pub(crate) updates: bool,
    /// The memory in bytes that all listings and the threads that read them may take.
    pub(crate) memory: usize,
    /// Whether a name that a peer lists is taken, with its age in seconds where the peer tells it.
    pub(crate) wants: &'a (dyn Fn(&PeerUrl, &FileName, Option<u64>) -> bool + Sync),
    /// Whether names without an age are taken only from peers that cannot tell it.
    pub(crate) needs_ages: bool,
    /// Called at the end with each name that nobody who lists it will give another time either.
    pub(crate) on_refused: &'a (dyn Fn(&FileName) + Sync),
    /// Called with the names that are saved now. The run goes on after an error, which makes it fail.
    pub(crate) on_saved: &'a (dyn Fn(&[FileName]) -> io::Result<()> + Sync),
}

/// What came of a run.
pub(crate) struct Report {
    /// Whether all is here that was listed, and all was heard and said.
    is_whole: bool,
    pub(crate) tally: Tally,
}

/// The memory in bytes that listings may take, so that a client stays below 100 MiB.
const MAX_MEMORY: usize = 80 << 20;

/// Downloads what the command line asks for; the exit status says whether all of it is here.
pub(crate) fn run(password: Password, options: &cli::Client) -> Result<ExitCode, Error> {
    let path = &options.common.dir;
    let dir = if options.list { DownloadDir::read_only(path) } else { DownloadDir::open(path) };
    let dir = &dir.map_err(|cause| Error::Directory { path: path.clone(), cause })?;
    let jobs = usize::from(options.jobs);
    let limit = options.common.limit_rate.map(RateLimit::new);
    let jobs = limit.as_ref().map_or(jobs, |limit| jobs.min(limit.most_transfers()));
    let client = &PeerClient::for_run(password, options.common.timeout, MAX_CALLS_PER_PEER, limit, jobs);
    let interruption = &Interruption::watch(client)?;
    if !options.list {
        client.make_ready(&options.url, jobs.min(MAX_CALLS_PER_PEER) - 1);
    }
    let peers = match exchange_peers(client, &options.url) {
        Err(_) if interruption.has_come() => {
            log::info!("interrupted");
            return Ok(interruption.exit_code());
        }
        peers => peers?,
    };
    let run = Run {
        client,
        dir,
        interruption,
        peers: peers.as_slice(),
        named: Some(&options.url),
        pattern: &options.pattern,
        timeout: options.common.timeout,
        jobs,
        updates: options.update,
        memory: MAX_MEMORY,
        wants: &|_, _, _| true,
        needs_ages: false,
        on_refused: &|_| (),
        on_saved: &output::print_names,
    };
    let is_complete = if options.list { list(&run)? } else { download(&run).is_whole };
    if interruption.has_come() {
        return Ok(interruption.exit_code());
    }
    Ok(ExitCode::from(u8::from(!is_complete)))
}

/// Lists what the peers have; whether the first was heard.
fn list(run: &Run) -> Result<bool, Error> {
    let mut index = FileIndex::new();
    let answers = listing::ask(run, &mut |listings| {
        for PeerListing { peer, listing } in listings {
            index.join(peer, listing);
        }
    });
    if run.interruption.has_come() {
        log::info!("interrupted");
    } else {
        output::print_index(run, &index).map_err(Error::Output)?;
    }
    Ok(!answers.has_failed)
}

/// Downloads what the peers have, from each as soon as it has listed.
pub(crate) fn download(run: &Run) -> Report {
    let downloads = Downloads::new(run);
    let ask = || {
        let answers = listing::ask(run, &mut |listings| downloads.join(listings));
        if !answers.has_names && !answers.has_failed && is_like_glob(run.pattern.as_str()) {
            log::warn!("PATTERN is a regular expression, in which * repeats what stands before it; .* is anything");
        }
        downloads.complete();
        !answers.has_failed
    };
    thread::scope(|scope| {
        let asking = thread::Builder::new().name("listing".to_owned()).spawn_scoped(scope, ask);
        // Where no thread is to be had, one comes after the other.
        let asking = asking.map_err(|_| ask());
        let is_here = downloads.run(run.jobs);
        let is_first_heard = asking.map_or_else(identity, |thread| thread.join().expect("asking panics not"));
        downloads.tell_refused();
        Report { is_whole: is_here && is_first_heard, tally: downloads.tally() }
    })
}

/// Whether a pattern may well be meant as a glob: a star follows what one seldom repeats.
fn is_like_glob(pattern: &str) -> bool {
    pattern
        .match_indices('*')
        .any(|(at, _)| pattern[..at].ends_with(|before: char| before.is_alphanumeric() || "_-".contains(before)))
}

/// The peers that the first server knows, itself among them.
fn exchange_peers(client: &PeerClient, first: &PeerUrl) -> Result<PeerList, Error> {
    let asked = first.clone();
    let _spinner = Spinner::start(move || format!("waiting for {asked} to name its peers"));
    let known = client.exchange_peers(first, []);
    let known = known.map_err(|failure| Error::PeerList { peer: first.clone(), failure })?;
    let mut peers = PeerList::default();
    if !known.iter().any(|peer| peer == first.as_str()) {
        // The original is not on its own list before another peer has told it of itself.
        peers.add(first.clone());
    }
    let ignored = peers.merge(known.iter().map(String::as_str), first.is_private());
    if ignored > 0 {
        log::warn!("ignored {} from {first}", format::count(ignored, "unusable peer URL"));
    }
    Ok(peers)
}

/// Whether a run is to end, and with which status the program ends then; a clone shares it.
#[derive(Clone, Default)]
pub(crate) struct Interruption(Arc<AtomicU8>);

impl Interruption {
    /// From now on a signal ends all calls, which ends the run.
    fn watch(client: &PeerClient) -> Result<Self, Error> {
        let interruption = Self::default();
        let watched = interruption.clone();
        let client = client.clone();
        signals::watch(move |status| {
            watched.interrupt(status);
            client.shut_down();
            // A terminal that takes no output must not hold up the end.
            let _ = thread::Builder::new().name("progress".to_owned()).spawn(progress::clear);
            status
        })
        .map_err(Error::Start)?;
        Ok(interruption)
    }

    /// Ends the run, which gives out no more calls; with this status, which is not 0.
    pub(crate) fn interrupt(&self, status: u8) {
        self.0.store(status, Ordering::Relaxed);
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn exit_code(&self) -> ExitCode {
        self.0.load(Ordering::Relaxed).into()
    }
}

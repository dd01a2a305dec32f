//! One run of the client: who is there, who has what, and downloading what matches and is not here yet.
//!
//! The walk of one download:
//!
//! 1. `mod.rs`, [`run`]: opens the directory, does all that follows, and makes the exit status of it.
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
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use crate::{
    auth::Password,
    cli,
    download_dir::DownloadDir,
    error::Error,
    format,
    peer::{PeerList, PeerUrl},
    peer_client::PeerClient,
    progress::{self, Spinner},
    rate_limit::RateLimit,
    signals,
};

use collector::PeerListing;
use download::Downloads;
use index::FileIndex;
use queue::MAX_CALLS_PER_PEER;

/// What all steps of a run know.
struct Run<'a> {
    client: &'a PeerClient,
    dir: &'a DownloadDir,
    options: &'a cli::Client,
    /// How many files are downloaded at once.
    jobs: usize,
    interruption: &'a Interruption,
    peers: &'a [PeerUrl],
}

/// Downloads what the command line asks for; the exit status says whether all of it is here.
pub(crate) fn run(password: Password, options: &cli::Client) -> Result<ExitCode, Error> {
    let path = &options.common.dir;
    let dir = if options.list { DownloadDir::read_only(path) } else { DownloadDir::open(path) };
    let dir = &dir.map_err(|cause| Error::Directory { path: path.clone(), cause })?;
    let jobs = usize::from(options.jobs);
    let limit = options.common.limit_rate.map(RateLimit::new);
    let jobs = limit.as_ref().map_or(jobs, |limit| jobs.min(limit.most_transfers()));
    let client = &PeerClient::with_limit(password, options.common.timeout, MAX_CALLS_PER_PEER, limit, jobs);
    let interruption = &Interruption::watch(client)?;
    let peers = match exchange_peers(client, &options.url) {
        Err(_) if interruption.has_come() => {
            log::info!("interrupted");
            return Ok(interruption.exit_code());
        }
        peers => peers?,
    };
    let run = Run { client, dir, options, jobs, interruption, peers: peers.as_slice() };
    let is_complete = if options.list { list(&run)? } else { download(&run) };
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

/// Downloads what the peers have, from each as soon as it has listed; whether all of it is here.
fn download(run: &Run) -> bool {
    let downloads = Downloads::new(run);
    let ask = || {
        let answers = listing::ask(run, &mut |listings| downloads.join(listings));
        if !answers.has_names && !answers.has_failed && is_like_glob(run.options.pattern.as_str()) {
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
        is_here && is_first_heard
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
    let ignored = peers.merge(known.iter().map(String::as_str));
    if ignored > 0 {
        log::warn!("ignored {} from {first}", format::count(ignored, "invalid peer URL"));
    }
    Ok(peers)
}

/// Whether the user wants the run to end, and with which status it ends then.
struct Interruption(Arc<AtomicU8>);

impl Interruption {
    /// From now on a signal ends all calls, which ends the run.
    fn watch(client: &PeerClient) -> Result<Self, Error> {
        let status = Arc::new(AtomicU8::new(0));
        let watched = Arc::clone(&status);
        let client = client.clone();
        signals::watch(move |status| {
            watched.store(status, Ordering::Relaxed);
            client.shut_down();
            // A terminal that takes no output must not hold up the end.
            let _ = thread::Builder::new().name("progress".to_owned()).spawn(progress::clear);
            status
        })
        .map_err(Error::Start)?;
        Ok(Self(status))
    }

    fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn exit_code(&self) -> ExitCode {
        self.0.load(Ordering::Relaxed).into()
    }
}

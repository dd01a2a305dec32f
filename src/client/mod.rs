//! The walk: who is there, who has what, and fetching what matches and is not here yet.
//!
//! One bad peer or file never ends the run. What is lost, and only that, makes the exit status 1: the peer list or the
//! listing of the server that was named, a file that was listed and is not here at the end, or a fault of this side.

mod download;
mod index;
mod listing;
mod output;
mod queue;
mod spool;

use std::{
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
    progress::{self, Waiting},
    signals,
};

use download::Downloads;
use listing::Listings;

/// Fetches what the command line asks for; the exit status says whether all of it is here.
pub(crate) fn run(password: Password, options: &cli::Client) -> Result<ExitCode, Error> {
    let dir = &options.common.dir;
    let arrivals = if options.list { DownloadDir::read_only(dir) } else { DownloadDir::open(dir) };
    let arrivals = arrivals.map_err(|cause| Error::Directory { path: dir.clone(), cause })?;
    let client = PeerClient::new(password, options.common.timeout, queue::MAX_CALLS_PER_PEER);
    let interruption = Interruption::watch(&client)?;
    let peers = match ask_for_peers(&client, &options.url) {
        Err(_) if interruption.has_come() => {
            log::info!("interrupted");
            return Ok(interruption.exit_code());
        }
        peers => peers?,
    };
    let listings = Listings::ask(&client, peers.as_slice(), &options.url, &options.pattern, &interruption);
    if options.list && !interruption.has_come() {
        listings.print(&arrivals, peers.as_slice()).map_err(Error::Output)?;
        return Ok(ExitCode::from(u8::from(listings.is_first_lost)));
    }
    let is_first_lost = listings.is_first_lost;
    let missing = listings.missing(&arrivals, peers.as_slice().len());
    let is_nothing = missing.schedule.len() + missing.here == 0 && !is_first_lost;
    if is_nothing && is_like_glob(options.pattern.as_str()) {
        log::warn!("PATTERN is a regular expression, in which * repeats what stands before it; .* is anything");
    }
    let downloads = Downloads::new(&client, peers.as_slice(), &arrivals, &interruption, missing);
    let is_complete = downloads.run(options.jobs.into());
    if interruption.has_come() {
        return Ok(interruption.exit_code());
    }
    Ok(ExitCode::from(u8::from(is_first_lost || !is_complete)))
}

/// Whether a pattern may well be meant as a glob: a star follows what one seldom repeats.
fn is_like_glob(pattern: &str) -> bool {
    pattern
        .match_indices('*')
        .any(|(at, _)| pattern[..at].ends_with(|before: char| before.is_alphanumeric() || "_-".contains(before)))
}

/// The peers of which the first server knows, itself among them.
fn ask_for_peers(client: &PeerClient, first: &PeerUrl) -> Result<PeerList, Error> {
    let asked = first.clone();
    let waiting = Waiting::start(move || format!("waiting for {asked} to name its peers"));
    let told = client.exchange_peers(first, []).map_err(|failure| Error::PeerList { peer: first.clone(), failure })?;
    drop(waiting);
    let mut peers = PeerList::default();
    if !told.iter().any(|peer| peer == first.as_str()) {
        // The original is not on its own list before another peer has told it of itself.
        peers.add(first.clone());
    }
    let ignored = peers.merge(told.iter().map(String::as_str));
    if ignored > 0 {
        let ignored = format::count(ignored, "peer");
        log::warn!("ignored {ignored} of which {first} told: no http://HOST:PORT, or too many");
    }
    Ok(peers)
}

/// Whether the user wants the run to end, and with which status it ends then.
pub(crate) struct Interruption(Arc<AtomicU8>);

impl Interruption {
    /// From now on a signal ends all calls, which ends the run.
    fn watch(client: &PeerClient) -> Result<Self, Error> {
        let status = Arc::new(AtomicU8::new(0));
        let (theirs, client) = (Arc::clone(&status), client.clone());
        signals::watch(move |status| {
            theirs.store(status, Ordering::Relaxed);
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

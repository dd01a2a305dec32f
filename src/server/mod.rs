//! A server, from its start to its end.
//!
//! It listens before it prints its URL, prints its URL before it joins, and from then on ends only when it is asked to.
//!
//! The way of one call, on one thread from its first byte to its last:
//!
//! 1. `listener.rs`, `accept`: a connection, a slot in the table ([`connections`]), a thread;
//! 2. `connection.rs`, `serve`: made private if the server is (`privacy.rs`), then one request after another, each with its
//!    answer;
//! 3. `connection.rs`, `read_request`: by `read_head` and `read_body` of `request.rs`, whole, bounded, in time, or refused;
//! 4. `connection.rs`, `answer`: waits for a permit if the request is large ([`limits`]);
//! 5. `backend_pool.rs`, `BackendPool::call`: a spare backend, a new one, or the next that is free;
//! 6. `backend.rs`, `Backend::call`: to `tiny_http` over its private socket and back, `route` by method and path;
//! 7. `handler.rs`, `Handler::handle`: checks the proof; exchanges peers, searches the `SharedDir`, or opens a file or a pack of it;
//! 8. `connection.rs`, `write_response`: by `Response::write`, head and body of exact length or in chunks, else a reset;
//! 9. `connection.rs`, `serve`: the next request, unless that answer was the last; then `linger` has ended it.

mod activity;
mod backend;
mod backend_pool;
mod connection;
mod connections;
mod gossip;
mod handler;
mod limits;
mod listener;
mod mirror;
mod mirror_thread;
mod privacy;
mod private_socket;
mod request;
mod response;
#[cfg(test)]
mod tests;
mod transfer_log;

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    address,
    auth::Password,
    cli,
    client::{self, Interruption, MAX_CALLS_PER_PEER, Report, Run, Tally},
    download_dir::DownloadDir,
    error::{Error, reason},
    escape::Escaped,
    fd_limit, format,
    lock::{Semaphore, lock},
    membership::Membership,
    pattern::Pattern,
    peer::PeerUrl,
    peer_client::PeerClient,
    progress,
    rate_limit::RateLimit,
    shared_dir::{SharedDir, Statistics},
    signals,
};

use gossip::Wake;
use handler::{DIGESTS_AT_ONCE, Handler};
use limits::LogLimit;
use listener::{Capacity, HttpServer, MIN_DESCRIPTORS, listen};
use mirror::Mirror;
use mirror_thread::{Fetched, MirrorThread, Mirroring};
use privacy::Privacy;
use private_socket::{check_private_socket, remove_stale_private_dirs};
use transfer_log::TransferLog;

/// How many files a mirror downloads at once.
const MIRROR_JOBS: usize = 2;

/// The memory in bytes that listings may take in a mirror, so that it stays below 100 MiB together with the server.
const MIRROR_MEMORY: usize = 16 << 20;

/// How many periods a run of the mirror may last: then what others have since is listed again, and what was kept of files
/// is resumed. A peer that sends very slowly must not hold up all others for ever.
const MIRROR_PERIODS: u32 = 6;

/// The descriptors that a mirror needs at most, of the server's.
const MIRROR_DESCRIPTORS: usize = 400;

/// Serves until a signal comes.
pub(crate) fn run(password: Password, options: cli::Server) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let cli::Server { host, port, peers, private, bind, announce, mirror: pattern, mirror_every, common } = options;
    let limit = fd_limit::raise_limit();
    if limit < MIN_DESCRIPTORS {
        return Err(Error::TooFewDescriptors { limit, needed: MIN_DESCRIPTORS });
    }
    // Fails in a working directory that was deleted, which can still be read and is empty.
    let dir = std::path::absolute(&common.dir);
    let dir = dir.map_err(|cause| Error::Directory { path: common.dir.clone(), cause })?;
    let shared_dir = SharedDir::open(&dir).map_err(|cause| Error::Directory { path: dir.clone(), cause })?;
    let statistics = shared_dir.statistics();
    let shared_dir = Arc::new(shared_dir);
    let mirror = pattern.as_ref().map(|_| Arc::new(Mirror::new(mirror_every)));
    if let Some(mirror) = &mirror {
        let ready = DownloadDir::open(&dir).and_then(|_| mirror_thread::look(mirror, &shared_dir));
        ready.map_err(|cause| Error::Directory { path: dir.clone(), cause })?;
        // A server shows no bars, not even those of the client's run.
        progress::clear();
    }
    let (wake, wake_receiver) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    signals::watch(move |_| {
        // A server that has not come so far as to wait for this ends after the grace.
        let _ = stop.send(());
        0
    })
    .map_err(Error::Start)?;

    let (listeners, free_port) = listen(&host, port, bind, common.timeout)?;
    let url = PeerUrl::new(&host, if port == 0 { free_port } else { port }, private)
        .expect("the command line takes only hosts that make a URL");
    let out_of_reach = find_out_of_reach(&host, &peers);
    let seed = fastrand::u64(..);
    let membership = Membership::new(url.clone(), peers, Some(announce), started.elapsed(), seed);
    let membership = Arc::new(Mutex::new(membership));
    let peers_received = wake.clone();
    let transfer_log = Arc::new(TransferLog::default());
    let sending = common.limit_rate.map(RateLimit::new);
    let handler = Handler {
        url: url.clone(),
        password: password.clone(),
        shared_dir: Arc::clone(&shared_dir),
        mirror: mirror.clone(),
        membership: Arc::clone(&membership),
        started,
        on_peers_received: Box::new(move || {
            // Nobody receives it before the gossip starts and after it has ended.
            let _ = peers_received.send(Wake::Changed);
        }),
        auth_failure_log: LogLimit::default(),
        read_failure_log: LogLimit::default(),
        transfer_log: Arc::clone(&transfer_log),
        digests: Semaphore::new(DIGESTS_AT_ONCE),
        digest_wait: common.timeout / 4,
        limit: sending.clone(),
    };

    remove_stale_private_dirs();
    check_private_socket().map_err(|cause| Error::TemporaryDirectory { path: env::temp_dir(), cause })?;
    let for_mirror = if mirror.is_some() { MIRROR_DESCRIPTORS.min(limit / 3) } else { 0 };
    let capacity = Capacity::within(limit - for_mirror);
    let handle = Box::new(move |call: &[u8], accepts, caller: &str| handler.handle(call, accepts, caller));
    let privacy = private.then(|| Privacy::new(password.clone(), url.clone())).transpose().map_err(Error::Start)?;
    let http_server = HttpServer::start(listeners, handle, common.timeout, capacity, privacy).map_err(Error::Start)?;
    // A reader that has gone away does not end a server.
    let _ = writeln!(io::stdout(), "{url}").and_then(|()| io::stdout().flush());
    log_introduction(&url, &dir, statistics);
    if let Some(peer) = out_of_reach {
        let advice = address::advice();
        log::warn!("{peer} cannot call this server by {host}, which each machine takes for itself; {advice} as HOST");
    }
    // It calls each peer only now and then: a connection that is kept would only cost both sides.
    let client = PeerClient::new(password.clone(), common.timeout);
    let gossiping = Arc::clone(&membership);
    gossip::start(gossiping, client.clone(), started, wake.clone(), wake_receiver).map_err(Error::Start)?;
    let fetcher = Arc::new(Fetcher::new(password, dir, &common, mirror_every * MIRROR_PERIODS));
    let mirror_thread = match (mirror, pattern) {
        (Some(mirror), Some(pattern)) => {
            log::info!("mirroring what matches '{}' every {} s", Escaped(pattern.as_str()), mirror_every.as_secs());
            let mirroring = Mirroring { mirror: Arc::clone(&mirror), url, shared_dir, membership, started };
            let fetcher = Arc::clone(&fetcher);
            let fetch = move |peers: &[PeerUrl]| fetcher.fetch(&mirror, &pattern, peers);
            Some(MirrorThread::start(mirroring, fetch).map_err(Error::Start)?)
        }
        _ => None,
    };

    stopped.recv().expect("the thread that waits for signals lives as long as the server");
    log::info!("stopped by a signal");
    let _ = wake.send(Wake::Stop);
    sending.iter().for_each(RateLimit::end);
    client.shut_down();
    fetcher.shut_down();
    drop(http_server);
    mirror_thread.into_iter().for_each(MirrorThread::stop);
    transfer_log.log_now();
    Ok(ExitCode::SUCCESS)
}

/// Fetches for the mirror, as a client does.
struct Fetcher {
    password: Password,
    dir: PathBuf,
    timeout: Duration,
    limit_rate: Option<u64>,
    /// How long a run may last.
    most: Duration,
    is_over: AtomicBool,
    /// What ends the run that goes on.
    run: Mutex<Option<(PeerClient, Interruption)>>,
}

impl Fetcher {
    fn new(password: Password, dir: PathBuf, common: &cli::Common, most: Duration) -> Self {
        let &cli::Common { timeout, limit_rate, .. } = common;
        Self { password, dir, timeout, limit_rate, most, is_over: AtomicBool::new(false), run: Mutex::default() }
    }

    /// Makes one run.
    fn fetch(&self, mirror: &Mirror, pattern: &Pattern, peers: &[PeerUrl]) -> io::Result<Fetched> {
        let mut dir = DownloadDir::open(&self.dir)?;
        dir.keep_reserve()?;
        let timeout = self.timeout;
        let limit = self.limit_rate.map(RateLimit::new);
        let client = PeerClient::for_run(self.password.clone(), timeout, MAX_CALLS_PER_PEER, limit, MIRROR_JOBS);
        let interruption = Interruption::default();
        *lock(&self.run) = Some((client.clone(), interruption.clone()));
        if self.is_over.load(Ordering::Relaxed) {
            self.end_run();
        }
        let (ended, has_ended) = mpsc::channel::<()>();
        let watch = {
            let (client, interruption, most) = (client.clone(), interruption.clone(), self.most);
            move || {
                if has_ended.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
                    log::info!("ended a run of the mirror that took too long; what was kept is resumed in the next");
                    interruption.interrupt(1);
                    client.shut_down();
                }
            }
        };
        // Where no thread is to be had, it lasts as long as it does.
        let _ = thread::Builder::new().name("watch".to_owned()).spawn(watch);
        let report = client::download(&Run {
            client: &client,
            dir: &dir,
            interruption: &interruption,
            peers,
            named: None,
            pattern,
            timeout,
            jobs: MIRROR_JOBS,
            updates: false,
            memory: MIRROR_MEMORY,
            wants: &|peer, name, age| mirror.wants(peer, name.as_str(), age.map(Duration::from_secs)),
            needs_ages: true,
            on_refused: &|name| mirror.note_failure(name.as_str()),
            on_saved: &|names| {
                for name in names {
                    mirror.note_here(name.as_str());
                }
                Ok(())
            },
        });
        drop(ended);
        *lock(&self.run) = None;
        let Report { tally, .. } = report;
        let Tally { saved, bytes, failed, without_room, bytes_without_room, .. } = tally;
        Ok(Fetched { saved, bytes, failed: failed - without_room, without_room, bytes_without_room })
    }

    /// Ends the run that goes on, and keeps what is worth it.
    fn shut_down(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.end_run();
    }

    fn end_run(&self) {
        if let Some((client, interruption)) = &*lock(&self.run) {
            interruption.interrupt(1);
            client.shut_down();
        }
    }
}

/// The first of the peers that cannot call a server by this host, because it stands for their own machine there.
fn find_out_of_reach(host: &str, peers: &[PeerUrl]) -> Option<PeerUrl> {
    let is_far = |peer: &&PeerUrl| address::is_loopback(host) && !address::is_loopback(peer.host());
    peers.iter().find(is_far).cloned()
}

/// Logs what is shared from where, and what a friend would type.
fn log_introduction(url: &PeerUrl, dir: &Path, statistics: io::Result<Statistics>) {
    let escaped = dir.to_string_lossy();
    let escaped = Escaped(&escaped);
    match statistics {
        Ok(statistics) => log_statistics(&escaped, &statistics),
        Err(error) => log::warn!("could not count the files of {escaped}: {}", reason(&error)),
    }
    if dir.parent().is_none() || env::home_dir().is_some_and(|home| is_same_dir(&home, dir)) {
        log::warn!(
            "{escaped} holds more than is meant for others: whoever knows the password can fetch its files, hidden ones too"
        );
    }
    let option = if url.is_private() { "--private " } else { "" };
    log::info!("to join:  tinyp2p PASSWORD server {option}HOST PORT {url}");
    log::info!("to fetch: tinyp2p PASSWORD client {url} PATTERN");
}

fn log_statistics(dir: &Escaped, statistics: &Statistics) {
    let Statistics { files, bytes, hidden, refused, unreadable, directories } = statistics;
    let (count, bytes) = (format::count(*files, "file"), format::size(*bytes));
    log::info!("sharing {dir}: {count}, {bytes} ({hidden} of them hidden)");
    if *files == 0 && *directories > 0 {
        log::warn!("directories are not shared, and {dir} holds no files beside them");
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (name, reason) in refused {
        log::debug!("not shared: '{}': its name is refused: {reason}", Escaped(&name.to_string_lossy()));
        *reasons.entry(reason.to_string()).or_default() += 1;
    }
    for (reason, files) in reasons {
        let files = format::count(files as u64, "file");
        log::warn!("not shared: {files} whose name no peer would take: {reason}{}", format::names_hint());
    }
    for name in unreadable {
        log::debug!("not shared: '{name}': permission denied");
    }
    if !unreadable.is_empty() {
        let files = format::count(unreadable.len() as u64, "file");
        log::warn!("not shared: {files} that this user may not read{}", format::names_hint());
    }
}

fn is_same_dir(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

//! A server, from its start to its end.
//!
//! It listens before it prints its URL, prints its URL before it joins, and from then on ends only when it is asked to.
//!
//! The way of one call, on one thread from its first byte to its last:
//!
//! 1. `listener.rs`, `accept`: a connection, a slot in the table ([`connections`]), a thread;
//! 2. `connection.rs`, `serve`: one request after another, each with its answer;
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
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    time::Instant,
};

use crate::{
    address,
    auth::Password,
    cli,
    error::{Error, reason},
    escape::Escaped,
    fd_limit, format,
    lock::Semaphore,
    membership::Membership,
    peer::PeerUrl,
    peer_client::PeerClient,
    rate_limit::RateLimit,
    shared_dir::{SharedDir, Statistics},
    signals,
};

use gossip::Wake;
use handler::{DIGESTS_AT_ONCE, Handler};
use limits::LogLimit;
use listener::{Capacity, HttpServer, MIN_DESCRIPTORS, listen};
use private_socket::{check_private_socket, remove_stale_private_dirs};
use transfer_log::TransferLog;

/// Serves until a signal comes.
pub(crate) fn run(password: Password, options: cli::Server) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let cli::Server { host, port, peers, bind, announce, common } = options;
    let limit = fd_limit::raise_limit();
    if limit < MIN_DESCRIPTORS {
        return Err(Error::TooFewDescriptors { limit, needed: MIN_DESCRIPTORS });
    }
    // Fails in a working directory that was deleted, which can still be read and is empty.
    let dir = std::path::absolute(&common.dir).map_err(|cause| Error::Directory { path: common.dir, cause })?;
    let shared_dir = SharedDir::open(&dir).map_err(|cause| Error::Directory { path: dir.clone(), cause })?;
    let statistics = shared_dir.statistics();
    let (wake, wake_receiver) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    signals::watch(move |_| {
        // A server that has not come so far as to wait for this ends after the grace.
        let _ = stop.send(());
        0
    })
    .map_err(Error::Start)?;

    let (listeners, free_port) = listen(&host, port, bind, common.timeout)?;
    let url = PeerUrl::new(&host, if port == 0 { free_port } else { port })
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
        shared_dir: Arc::new(shared_dir),
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
        place_wait: common.timeout / 4,
    };

    remove_stale_private_dirs();
    check_private_socket().map_err(|cause| Error::TemporaryDirectory { path: env::temp_dir(), cause })?;
    let capacity = Capacity::within(limit);
    let handle = Box::new(move |call: &[u8], accepts, caller: &str| handler.handle(call, accepts, caller));
    let http_server = HttpServer::start(listeners, handle, common.timeout, capacity).map_err(Error::Start)?;
    // A reader that has gone away does not end a server.
    let _ = writeln!(io::stdout(), "{url}").and_then(|()| io::stdout().flush());
    log_introduction(&url, &dir, statistics);
    if let Some(peer) = out_of_reach {
        let advice = address::advice();
        log::warn!("{peer} cannot call this server by {host}, which each machine takes for itself; {advice} as HOST");
    }
    // It calls each peer only now and then: a connection that is kept would only cost both sides.
    let client = PeerClient::new(password, common.timeout, 0);
    gossip::start(membership, client.clone(), started, wake.clone(), wake_receiver).map_err(Error::Start)?;

    stopped.recv().expect("the thread that waits for signals lives as long as the server");
    log::info!("stopped by a signal");
    let _ = wake.send(Wake::Stop);
    sending.iter().for_each(RateLimit::end);
    client.shut_down();
    drop(http_server);
    transfer_log.log_now();
    Ok(ExitCode::SUCCESS)
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
    log::info!("to join:  tinyp2p PASSWORD server HOST PORT {url}");
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
        log::warn!("not shared: {files} whose name no peer would take: {reason}{}", names_hint());
    }
    for name in unreadable {
        log::debug!("not shared: '{name}': permission denied");
    }
    if !unreadable.is_empty() {
        let files = format::count(unreadable.len() as u64, "file");
        log::warn!("not shared: {files} that this user may not read{}", names_hint());
    }
}

/// Tells how to get names, where they are not logged.
fn names_hint() -> &'static str {
    if log::log_enabled!(log::Level::Debug) { "" } else { " (-v names them)" }
}

fn is_same_dir(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

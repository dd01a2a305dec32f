//! A server: share, handler, endpoint, door and gossip, put together; start and stop.
//!
//! It listens before it says its URL, says its URL before it joins, and from then on ends only when it is asked to.

mod gossip;
mod handler;

use std::{
    collections::BTreeSet,
    env,
    io::{self, ErrorKind, Write},
    net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    auth::Password,
    cli,
    door::{self, Door},
    endpoint::{Answering, Endpoint},
    error::{Error, reason},
    escape::Escaped,
    format,
    handover::Receive,
    membership::Membership,
    peer::PeerUrl,
    peer_client::PeerClient,
    shared_dir::{SharedDir, Statistics},
    signals,
};

use gossip::News;
use handler::Handler;

/// How often another free port is tried when the one that was free for the first address of a host is taken for another.
const FREE_PORT_ATTEMPTS: u32 = 16;

/// Serves until a signal comes.
pub(crate) fn run(password: Password, options: cli::Server) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let cli::Server { host, port, peers, bind, announce, common } = options;
    let dir = std::path::absolute(&common.dir).unwrap_or(common.dir);
    let share = SharedDir::open(&dir).map_err(|cause| Error::Directory { path: dir.clone(), cause })?;
    let statistics = share.statistics();
    let (news, newest) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    signals::watch(move |_| {
        // A server that has not come so far as to wait for this ends after the grace.
        let _ = end.send(());
        0
    })
    .map_err(Error::Start)?;

    let (listeners, free_port) = listen(&host, port, bind, common.timeout)?;
    let own = PeerUrl::new(&host, if port == 0 { free_port } else { port })
        .expect("the command line takes only hosts that make a URL");
    let seed = fastrand::u64(..);
    let members = Membership::new(own.clone(), peers, Some(announce), started.elapsed(), seed);
    let members = Arc::new(Mutex::new(members));
    let told = news.clone();
    let on_told = Box::new(move || {
        // There is nobody to tell before the gossip starts and after it has ended.
        let _ = told.send(News::Changed);
    });
    let handler = Handler::new(own.clone(), password.clone(), share, Arc::clone(&members), started, on_told);

    let private = private_directory()?;
    let door = open_door(listeners, handler, &private, common.timeout).map_err(Error::Start)?;
    // A reader that has gone away does not end a server.
    let _ = writeln!(io::stdout(), "{own}").and_then(|()| io::stdout().flush());
    introduce(&own, &dir, statistics);
    // It calls each peer only now and then: a connection that is kept would only cost both sides.
    let client = PeerClient::new(password, common.timeout, 0);
    gossip::start(members, client.clone(), started, news.clone(), newest).map_err(Error::Start)?;

    ended.recv().expect("the thread that waits for signals lives as long as the server");
    log::info!("stopped by a signal");
    let _ = news.send(News::Over);
    client.shut_down();
    door.close();
    drop(private);
    Ok(ExitCode::SUCCESS)
}

/// Says what is shared from where, and what a friend would type.
fn introduce(own: &PeerUrl, dir: &Path, statistics: io::Result<Statistics>) {
    let shown = dir.to_string_lossy();
    let shown = Escaped(&shown);
    match statistics {
        Ok(Statistics { files, bytes, hidden, refused }) => {
            let (files, bytes) = (format::count(files, "file"), format::size(bytes));
            log::info!("sharing {shown}: {files}, {bytes} ({hidden} of them hidden)");
            if refused > 0 {
                let refused = format::count(refused, "file");
                log::warn!("not shared: {refused} whose names no peer would take (control characters, not UTF-8)");
            }
        }
        Err(error) => log::warn!("could not count the files of {shown}: {}", reason(&error)),
    }
    if dir.parent().is_none() || env::home_dir().is_some_and(|home| is_same(&home, dir)) {
        log::warn!(
            "{shown} holds more than is meant for others: whoever knows the password can fetch its files, hidden ones too"
        );
    }
    log::info!("to join:  tinyp2p PASSWORD server HOST PORT {own}");
    log::info!("to fetch: tinyp2p PASSWORD client {own} PATTERN");
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Listens on all addresses of the host, or where `bind` says; gives the port too, which is a free one for 0.
fn listen(
    host: &str,
    port: u16,
    bind: Option<SocketAddr>,
    silence: Duration,
) -> Result<(Vec<TcpListener>, u16), Error> {
    let addresses = match bind {
        Some(address) => vec![address],
        None => resolve(host, port)?,
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match listen_on_all(&addresses, silence) {
            Err((_, cause)) if cause.kind() == ErrorKind::AddrInUse && port == 0 && attempts < FREE_PORT_ATTEMPTS => {}
            Err((address, cause)) => return Err(Error::Listen { address, cause }),
            Ok(listening) => return Ok(listening),
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let resolved = (host, port).to_socket_addrs().map_err(|cause| Error::Resolve { host: host.to_owned(), cause })?;
    let distinct: BTreeSet<SocketAddr> = resolved.collect();
    Ok(distinct.into_iter().collect())
}

/// One listener for each address, all on the port of the first. An address that this machine does not have, such as
/// that of an IPv6 that is switched off, is passed over as long as there is another.
fn listen_on_all(
    addresses: &[SocketAddr],
    silence: Duration,
) -> Result<(Vec<TcpListener>, u16), (SocketAddr, io::Error)> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = 0;
    let mut missing = None;
    for &(mut address) in addresses {
        if address.port() == 0 {
            address.set_port(port);
        }
        match door::listen(address, silence) {
            Ok(listener) => {
                port = listener.local_addr().map_err(|cause| (address, cause))?.port();
                listeners.push(listener);
            }
            Err(cause) if cause.kind() == ErrorKind::AddrNotAvailable => missing = Some((address, cause)),
            Err(cause) => return Err((address, cause)),
        }
    }
    match missing {
        Some(missing) if listeners.is_empty() => Err(missing),
        _ => Ok((listeners, port)),
    }
}

/// Where the private socket lies: below the system's temporary directory, for this user only, gone at the end.
fn private_directory() -> Result<TempDir, Error> {
    let private = tempfile::Builder::new().prefix("tinyp2p-").tempdir();
    private.map_err(|cause| Error::TemporaryDirectory { path: env::temp_dir(), cause })
}

fn open_door(listeners: Vec<TcpListener>, handler: Handler, private: &TempDir, silence: Duration) -> io::Result<Door> {
    let answering: Answering = Arc::new(move |call, accepts_raw, caller| handler.handle(call, accepts_raw, caller));
    let directory = private.path().to_owned();
    let start_endpoint = move || {
        let endpoint = Endpoint::start(&directory, Arc::clone(&answering))?;
        Ok((endpoint.path().to_owned(), Arc::new(endpoint) as Arc<dyn Receive>))
    };
    Door::open(listeners, Box::new(start_endpoint), silence)
}

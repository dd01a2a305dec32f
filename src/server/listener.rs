//! The public sockets: listens on the addresses of a host, accepts connections, and starts and ends the HTTP server.
//!
//! No failure to accept ends the server. However many callers come, there are never more connections, backends and
//! threads than the limit of descriptors allows.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, ToSocketAddrs},
    sync::Arc,
    thread,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    backend::CallHandler,
    backend_pool::BackendPool,
    connection::{LARGE_REQUESTS, ServerState, serve, wake_after},
    connections::Connections,
    limits::MemoryBudget,
    privacy::Privacy,
};
use crate::{error::Error, lock::Semaphore};

/// How many connections the kernel holds until they are accepted, if it holds as many.
const BACKLOG: i32 = 4096;

/// How much the kernel holds of what a caller has not been sent yet, in bytes; without it unread downloads pin
/// megabytes each.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 128 << 10;

/// How often another free port is tried when the one that was free for the first address of a host is taken for another.
const FREE_PORT_ATTEMPTS: u32 = 16;

/// Descriptors that are left to the rest of the program.
const RESERVED_DESCRIPTORS: usize = 16;

/// The descriptors of a backend: its listener twice, its connection, of which `tiny_http` has the far end twice, and the
/// one that Linux reserves for whatever waits in an accept.
const BACKEND_DESCRIPTORS: usize = 6;

/// The descriptors of a connection: its socket and a file.
const CONNECTION_DESCRIPTORS: usize = 2;

/// The fewest descriptors with which a server can serve: one backend and one connection.
pub(super) const MIN_DESCRIPTORS: usize = RESERVED_DESCRIPTORS + BACKEND_DESCRIPTORS + CONNECTION_DESCRIPTORS;

/// The most backends. With 16, calls that take long kept others waiting for a second.
const MAX_BACKENDS: usize = 64;

/// The most connections.
const MAX_CONNECTIONS: usize = 256;

/// How long accepting pauses after a failure, such as a shortage of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long closing waits for connections to end.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Listens on all addresses of the host, or on `bind`. Returns the port too, which is a free one for 0. `timeout` is
/// the one that is then given to [`HttpServer::start`].
pub(super) fn listen(
    host: &str,
    port: u16,
    bind: Option<SocketAddr>,
    timeout: Duration,
) -> Result<(Vec<TcpListener>, u16), Error> {
    let addresses = match bind {
        Some(address) => vec![address],
        None => resolve(host, port)?,
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match listen_on_all(&addresses, timeout) {
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

/// Listens on each address, always on the port of the first. An address that this machine does not have, such as that
/// of an IPv6 that is switched off, is passed over as long as there is another.
fn listen_on_all(
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<(Vec<TcpListener>, u16), (SocketAddr, io::Error)> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut port = 0;
    let mut missing = None;
    for &(mut address) in addresses {
        if address.port() == 0 {
            address.set_port(port);
        }
        match listen_on(address, timeout) {
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

/// Listens on one address. Accepted connections inherit the options.
pub(super) fn listen_on(address: SocketAddr, timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    // Not the read timeout: it would wake those who accept.
    socket.set_write_timeout(Some(wake_after(timeout)))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A running HTTP server. It ends when this is dropped.
pub(super) struct HttpServer {
    pub(super) connections: Arc<Connections>,
    pub(super) state: Arc<ServerState>,
    listeners: Vec<Arc<TcpListener>>,
}

impl HttpServer {
    /// Starts to accept connections, whose calls `handle` answers. `timeout` is how long a connection may be idle, a
    /// request may take to arrive, and an answer may move fewer than 1,024 bytes. With `privacy` all are made private.
    pub(super) fn start(
        listeners: Vec<TcpListener>,
        handle: CallHandler,
        timeout: Duration,
        capacity: Capacity,
        privacy: Option<Privacy>,
    ) -> io::Result<Self> {
        let server = Self {
            connections: Arc::new(Connections::new(capacity.connections, timeout)),
            state: Arc::new(ServerState {
                backends: BackendPool::new(handle, capacity.backends),
                memory: MemoryBudget::new(),
                large_requests: Semaphore::new(LARGE_REQUESTS),
                privacy,
            }),
            listeners: listeners.into_iter().map(Arc::new).collect(),
        };
        for listener in &server.listeners {
            let listener = Arc::clone(listener);
            let connections = Arc::clone(&server.connections);
            let state = Arc::clone(&server.state);
            let thread = thread::Builder::new().name("listener".to_owned());
            thread.spawn(move || accept(&listener, &connections, &state))?;
        }
        Ok(server)
    }
}

impl Drop for HttpServer {
    /// Accepts nothing any more, aborts all connections and waits until they have ended, for a second at most.
    fn drop(&mut self) {
        self.connections.close();
        for listener in &self.listeners {
            wake(listener);
        }
        if !self.connections.wait_until_empty(CLOSE_WAIT) {
            log::debug!("a call was still being answered when the server ended");
        }
        self.state.backends.close();
    }
}

/// Ends a wait for connections.
fn wake(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
    // On other systems than Linux only a connection does.
    #[cfg(not(target_os = "linux"))]
    if let Ok(mut address) = listener.local_addr() {
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        drop(std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)));
    }
}

/// Accepts connections until the server ends, and starts a thread for each.
fn accept(listener: &TcpListener, connections: &Arc<Connections>, state: &Arc<ServerState>) {
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                let Some(slot) = connections.insert(stream, address) else { return };
                let state = Arc::clone(state);
                let run = move || serve(slot.connection(), &state, || slot.is_table_full());
                if let Err(error) = thread::Builder::new().name("connection".to_owned()).spawn(run) {
                    log::debug!("no thread for a connection: {error}");
                }
            }
            Err(error) => {
                if connections.is_closed() {
                    return;
                }
                log::debug!("a connection was not accepted: {error}");
                if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) {
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }
}

/// How many connections and backends there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) connections: usize,
    pub(super) backends: usize,
}

impl Capacity {
    /// Returns what fits into a limit of descriptors.
    pub(super) fn within(descriptors: usize) -> Self {
        let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let backends = (free / 12).clamp(1, MAX_BACKENDS);
        let left = free.saturating_sub(BACKEND_DESCRIPTORS * backends);
        Self { connections: (left / CONNECTION_DESCRIPTORS).clamp(1, MAX_CONNECTIONS), backends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_backends_fit_into_every_limit_of_descriptors() {
        for limit in MIN_DESCRIPTORS..3000 {
            let Capacity { connections, backends } = Capacity::within(limit);
            let needed = BACKEND_DESCRIPTORS * backends + CONNECTION_DESCRIPTORS * connections;
            assert!(RESERVED_DESCRIPTORS + needed <= limit, "{limit}");
            assert!(connections >= 1 && backends >= 1, "{limit}: {connections} connections, {backends} backends");
        }
        assert_eq!(Capacity::within(64), Capacity { connections: 12, backends: 4 });
        assert_eq!(Capacity::within(1024), Capacity { connections: 256, backends: 64 });
        assert_eq!(Capacity::within(usize::MAX), Capacity { connections: 256, backends: 64 });
    }

    #[test]
    fn ipv6_callers_are_served_on_a_socket_of_their_own() {
        let timeout = Duration::from_secs(300);
        // Without IPv6 on this machine there is nothing to show.
        let Ok(six) = listen_on("[::1]:0".parse().unwrap(), timeout) else { return };
        let address = six.local_addr().unwrap();
        assert!(address.is_ipv6());
        let four = SocketAddr::from(([127, 0, 0, 1], address.port()));
        listen_on(four, timeout).expect("the same port is free for IPv4");
    }
}

//! Ports of this machine on which no connection comes about.

use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::{fs, net::TcpStream, time::Duration};

use socket2::{Domain, Socket, Type};

#[cfg(target_os = "linux")]
use super::{PATIENCE, eventually};

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A port of this machine that nobody listens on, and nobody else gets, while this lives.
pub(crate) struct SilentPort {
    _socket: Socket,
    pub(crate) port: u16,
}

impl SilentPort {
    pub(crate) fn reserve() -> Self {
        let (socket, address) = bound();
        Self { _socket: socket, port: address.port() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A port where connections are neither accepted nor refused, as after a firewall: nobody accepts, and the queue is full.
#[cfg(target_os = "linux")]
pub(crate) struct FullPort {
    _listener: Socket,
    _queue: Vec<TcpStream>,
    address: SocketAddr,
}

#[cfg(target_os = "linux")]
impl FullPort {
    pub(crate) fn fill() -> Self {
        let (listener, address) = bound();
        listener.listen(0).unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queue.push(stream);
            assert!(queue.len() < 100, "the queue of this system is never full");
        }
        Self { _listener: listener, _queue: queue, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many connections are being tried.
    pub(crate) fn wait_for_attempts(&self, count: usize) {
        let remote = format!("0100007F:{:04X} 02", self.address.port());
        eventually("a connection being tried", PATIENCE, || {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            (table.lines().filter(|line| line.contains(&remote)).count() >= count).then_some(())
        });
    }
}

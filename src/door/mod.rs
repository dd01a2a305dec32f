//! The public sockets: admits whole, bounded requests and nothing else.
//!
//! Strangers never meet `tiny_http`, which the first of them could end. The door accepts their connections, reads one
//! request at a time within a deadline, and passes it over a private line to the endpoint; long bodies it delivers
//! itself. However many come and whatever they send, there are never more guests, lines, threads or bytes than the
//! limits here allow, and an honest call is answered meanwhile.

mod conversation;
mod guest;
mod guests;
mod line;
mod pulse;
mod request;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

pub(crate) use self::line::StartEndpoint;
use self::{conversation::Calls, guest::Guest, guests::Guests, line::Lines, request::Budget, turns::Turns};
use crate::{fd_limit, lock::lock};

/// How many connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// How much the kernel holds of what a guest has not been sent yet, in bytes; without it unread downloads pin
/// megabytes each.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// Descriptors that the door leaves to the rest of the program.
const RESERVED_DESCRIPTORS: usize = 16;

/// The descriptors of a line: one here and two in `tiny_http`.
const LINE_DESCRIPTORS: usize = 3;

/// The descriptors of a guest: its socket and a file.
const GUEST_DESCRIPTORS: usize = 2;

/// The most calls in progress.
const MAX_LINES: usize = 128;

/// The most connections.
const MAX_GUESTS: usize = 256;

/// How long accepting pauses after a failure, such as a shortage of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long closing waits for guests and threads to end.
const CLOSING: Duration = Duration::from_secs(1);

/// Opens a socket that strangers may connect to. `silence` is the limit that is then given to [`Door::open`].
pub(crate) fn listen(address: SocketAddr, silence: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted connections inherit the rest. The timeout makes a write that moves little return as a sign of life.
    socket.set_tcp_nodelay(true)?;
    socket.set_write_timeout(Some((silence / 4).max(Duration::from_millis(1))))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What all threads of a door share.
struct House {
    guests: Guests,
    lines: Lines,
    calls: Calls,
    budget: Budget,
    turns: Turns,
    silence: Duration,
}

/// An open door; it closes when it is dropped.
pub(crate) struct Door {
    house: Arc<House>,
    listeners: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

impl Door {
    /// Starts to accept calls. `silence` is how long a guest may move fewer than 1,024 bytes.
    pub(crate) fn open(
        listeners: Vec<TcpListener>,
        start_endpoint: StartEndpoint,
        silence: Duration,
    ) -> io::Result<Self> {
        Self::open_with(listeners, start_endpoint, silence, places(fd_limit::raise_limit()))
    }

    fn open_with(
        listeners: Vec<TcpListener>,
        start_endpoint: StartEndpoint,
        silence: Duration,
        (most_lines, most_guests): (usize, usize),
    ) -> io::Result<Self> {
        let house = Arc::new(House {
            guests: Guests::new(most_guests),
            lines: Lines::new(start_endpoint, most_lines)?,
            calls: Calls::default(),
            budget: Budget::new(),
            turns: Turns::new(),
            silence,
        });
        let listeners: Vec<_> = listeners.into_iter().map(Arc::new).collect();
        let mut door = Self { house, listeners, threads: Vec::new() };
        let house = Arc::clone(&door.house);
        door.spawn("clock", move || keep_time(&house))?;
        for listener in door.listeners.clone() {
            let house = Arc::clone(&door.house);
            door.spawn("door", move || accept(&listener, &house))?;
        }
        Ok(door)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.into()).spawn(run)?);
        Ok(())
    }

    /// Accepts nobody any more, cuts all guests and waits until their places are free, for a second at most.
    pub(crate) fn close(mut self) {
        self.shut();
    }

    fn shut(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if threads.is_empty() {
            return;
        }
        self.house.guests.close();
        self.house.lines.close();
        self.house.calls.clear();
        for listener in self.listeners.drain(..) {
            wake(&listener);
        }
        let deadline = Instant::now() + CLOSING;
        let empty = self.house.guests.wait_until_empty(CLOSING);
        while !threads.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if !empty {
            log::debug!("a call was still being answered when the door closed");
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Ends a wait for connections.
fn wake(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
    // Elsewhere than on Linux only a connection does.
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

/// Accepts connections until the door closes. No error ends it.
fn accept(listener: &TcpListener, house: &Arc<House>) {
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                let Some(guest) = house.guests.admit(stream, address) else { return };
                let seat = Seat { house: Arc::clone(house), guest: Some(guest) };
                let thread = thread::Builder::new().name("guest".into());
                if let Err(error) = thread.spawn(move || conversation::serve(seat)) {
                    log::debug!("no thread for a guest: {error}");
                }
            }
            Err(error) => {
                let passing = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted);
                let pause = if passing { Duration::ZERO } else { ACCEPT_PAUSE };
                if !house.guests.pause(pause) {
                    return;
                }
                log::debug!("a connection was not accepted: {error}");
            }
        }
    }
}

/// A guest's place, which is free again however its conversation ends.
struct Seat {
    house: Arc<House>,
    guest: Option<Arc<Guest>>,
}

impl Seat {
    fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("a guest keeps its place until that is dropped")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.house.guests.dismiss(guest);
        }
    }
}

/// Keeps all time limits until the door closes. It sleeps while there is nothing to limit.
fn keep_time(house: &House) {
    let tick = (house.silence / 8).clamp(Duration::from_millis(20), Duration::from_millis(250));
    while house.guests.pause(tick) {
        let now = Instant::now();
        let guests_remain = house.guests.check(now, house.silence);
        house.calls.drop_lost(house);
        let lines_remain = house.lines.close_spare(now);
        if !guests_remain && !lines_remain {
            house.guests.wait_for_anyone();
        }
    }
}

/// How many lines and guests a limit of descriptors allows.
fn places(descriptors: usize) -> (usize, usize) {
    let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    let lines = (free / 8).clamp(1, MAX_LINES);
    let guests = (free.saturating_sub(LINE_DESCRIPTORS * lines) / GUEST_DESCRIPTORS).clamp(1, MAX_GUESTS);
    (lines, guests)
}

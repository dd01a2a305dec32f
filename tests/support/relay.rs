//! A long wire on this machine: passes TCP connections on, each byte after a delay, and at most so many in a second.
//!
//! Delay and rate hold for each way, so a round trip takes twice the delay; the rate is shared by all connections.
//! Nothing else of a real wire is modelled: no loss, no slow start.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The most bytes that are passed on at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces in a second on a wire with a rate, so that its bytes arrive evenly.
const PIECES_A_SECOND: usize = 50;

/// How many pieces a connection may have on the wire, each way.
const MAX_PIECES: usize = 1024;

/// What is done to the bytes on their way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wire {
    /// How long a byte takes, each way.
    pub(crate) delay: Duration,
    /// The most bytes in a second, each way.
    pub(crate) rate: Option<u32>,
    /// How many bytes a connection brings its caller before it breaks.
    pub(crate) cut: Option<usize>,
    /// Changes what a caller sends, piece by piece, but not its length.
    pub(crate) change: Option<fn(&mut [u8])>,
}

/// A relay on a free port of 127.0.0.1. Takes no more connections when it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    listener: Option<TcpListener>,
    is_dropped: Arc<AtomicBool>,
}

/// A piece and when it arrives; no piece is the end.
type Piece = (Instant, Option<Vec<u8>>);

/// When the wire is free again, each way.
type Free = Mutex<Instant>;

impl Relay {
    /// A relay that has its address, but passes nothing on before it is started.
    pub(crate) fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap(), listener: Some(listener), is_dropped: Arc::default() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes all connections on to a port of this machine.
    pub(crate) fn start(&mut self, target: u16, wire: Wire) {
        let listener = self.listener.take().expect("a relay is started once");
        let is_dropped = Arc::clone(&self.is_dropped);
        let (up, down) = (Arc::new(Free::new(Instant::now())), Arc::new(Free::new(Instant::now())));
        thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                if is_dropped.load(SeqCst) {
                    return;
                }
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                thread::spawn(move || connect(caller, target, wire, up, down));
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_dropped.store(true, SeqCst);
        _ = TcpStream::connect(self.address);
    }
}

/// Connects a caller with the target after the round trip that a handshake takes.
fn connect(caller: TcpStream, target: u16, wire: Wire, up: Arc<Free>, down: Arc<Free>) {
    thread::sleep(wire.delay * 2);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    // A piece must not wait here until the one before it is acknowledged.
    _ = caller.set_nodelay(true);
    _ = server.set_nodelay(true);
    let (Ok(from_server), Ok(to_caller)) = (server.try_clone(), caller.try_clone()) else { return };
    carry(from_server, to_caller, Wire { change: None, ..wire }, down);
    carry(caller, server, Wire { cut: None, ..wire }, up);
}

/// Carries one direction of a connection, on two threads.
fn carry(from: TcpStream, to: TcpStream, wire: Wire, free: Arc<Free>) {
    let (sender, receiver) = sync_channel(MAX_PIECES);
    thread::spawn(move || take_pieces(from, &sender, wire, &free));
    thread::spawn(move || deliver_pieces(to, &receiver));
}

fn take_pieces(mut from: TcpStream, pieces: &SyncSender<Piece>, wire: Wire, free: &Free) {
    let piece_bytes = wire.rate.map_or(PIECE_BYTES, |rate| (rate as usize / PIECES_A_SECOND).clamp(1, PIECE_BYTES));
    let mut buffer = vec![0; piece_bytes];
    let mut left_to_cut = wire.cut.unwrap_or(usize::MAX);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let count = count.min(left_to_cut);
        left_to_cut -= count;
        let piece = &mut buffer[..count];
        if let Some(change) = wire.change {
            change(piece);
        }
        let left = wire.rate.map_or_else(Instant::now, |rate| departure(free, count, rate));
        thread::sleep(left.saturating_duration_since(Instant::now()));
        if pieces.send((left + wire.delay, Some(piece.to_vec()))).is_err() {
            // Whoever would have got it has left, and whoever sends it must know.
            _ = from.shutdown(Shutdown::Both);
            return;
        }
        if left_to_cut == 0 {
            _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    _ = pieces.send((Instant::now() + wire.delay, None));
}

/// When so many bytes have left on a wire that all connections share; it is taken until then.
fn departure(free: &Free, bytes: usize, rate: u32) -> Instant {
    let mut free = free.lock().unwrap();
    *free = (*free).max(Instant::now()) + Duration::from_secs(bytes as u64) / rate;
    *free
}

fn deliver_pieces(mut to: TcpStream, pieces: &Receiver<Piece>) {
    while let Ok((due, piece)) = pieces.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let Some(piece) = piece else { break };
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    _ = to.shutdown(Shutdown::Write);
}

//! One public connection: its socket, its conversation, and the delivery of long bodies.
//!
//! A guest's own thread reads requests, passes them on and writes the answers. Others only look at its [`Pulse`] and
//! may [cut](Guest::cut) it, which ends whatever the thread waits for. A body that fails, or writes another number of
//! bytes than was announced, resets the connection: nothing is padded and nothing closed properly.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{
    House,
    line::Reply,
    lock,
    pulse::{Phase, Pulse, Verdict},
    request::{BUSY, Body, Head, Missing, Refusal, read_body, read_head},
};
use crate::handover;

/// Head and this much of the body in bytes go in one write: one packet for a small answer.
const FIRST_WRITE: usize = 16 * 1024;

/// How much is read and discarded after the last answer, in bytes, so that a caller that still sends can read it.
const MAX_DISCARDED: u64 = 32 * 1024 * 1024;

/// A public connection.
pub(super) struct Guest {
    pub(super) id: u64,
    stream: TcpStream,
    address: IpAddr,
    pulse: Mutex<Pulse>,
    cut: AtomicBool,
}

/// Why a conversation ends without a last word.
enum End {
    /// The guest has left or was cut.
    Gone,
    /// An answer could not be completed.
    Broken,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl Guest {
    pub(super) fn new(id: u64, stream: TcpStream, address: SocketAddr) -> Self {
        let pulse = Mutex::new(Pulse::new(Instant::now()));
        Self { id, stream, address: address.ip().to_canonical(), pulse, cut: AtomicBool::new(false) }
    }

    /// What counts as one address when places are shared out: an IPv6 host has a whole /64 for itself.
    pub(super) fn origin(&self) -> IpAddr {
        match self.address {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
            v4 @ IpAddr::V4(_) => v4,
        }
    }

    /// Ends the conversation from another thread. A reset frees at once what the kernel holds for the guest.
    pub(super) fn cut(&self, reset: bool) {
        self.cut.store(true, Ordering::Relaxed);
        if reset {
            self.spoil();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Makes the end of the connection a reset, so that no caller takes what it has for the whole.
    fn spoil(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Cuts the guest if it has been silent for too long.
    pub(super) fn check(&self, now: Instant, limit: Duration) {
        let verdict = lock(&self.pulse).judge(now, limit);
        match verdict {
            Verdict::Fine => {}
            Verdict::Late => drop(self.stream.shutdown(Shutdown::Read)),
            Verdict::Close => self.cut(false),
            Verdict::Reset => self.cut(true),
        }
    }

    /// What it does, and for how long nothing has moved; nothing while a worker has its call.
    pub(super) fn silence(&self, now: Instant) -> Option<(Phase, Duration)> {
        let pulse = lock(&self.pulse);
        Some((pulse.phase(), pulse.silence(now)?))
    }

    /// Whether bytes have arrived that its thread has not read yet.
    pub(super) fn has_unread_bytes(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(_, read)| read > 0)
    }

    fn enter(&self, phase: Phase) {
        lock(&self.pulse).enter(phase, Instant::now());
    }

    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => {
                    lock(&self.pulse).sent(sent, Instant::now());
                    bytes = &bytes[sent..];
                }
                // The socket's own timeout, which only wakes this thread: the clock judges.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_cut() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says the last word properly: what the guest still sends is read for a while, else the kernel would answer it
    /// with a reset that takes the last answer away.
    fn leave(&self) {
        self.enter(Phase::Leaving);
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut discarded = 0;
        let mut scratch = [0; 16 * 1024];
        while discarded < MAX_DISCARDED && !self.is_cut() {
            match (&self.stream).read(&mut scratch) {
                Ok(0) => return,
                Ok(read) => discarded += read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads what a guest sends and notes it as a sign of life; fails with `TimedOut` once a request is late.
struct Ear<'a>(&'a Guest);

impl Read for Ear<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match (&self.0.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let mut pulse = lock(&self.0.pulse);
        if pulse.is_late() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if read > 0 {
            pulse.received(Instant::now());
        }
        Ok(read)
    }
}

/// Serves a guest until it leaves or is cut. The socket closes when the guest is dropped.
pub(super) fn serve(guest: &Guest, house: &House) {
    let mut unread = Vec::new();
    let end = loop {
        match converse(guest, house, &mut unread) {
            Ok(true) => {}
            Ok(false) => {
                guest.leave();
                return;
            }
            Err(end) => break end,
        }
    };
    if let End::Broken = end {
        guest.spoil();
    }
}

/// Takes one request and answers it; says whether another may come.
fn converse(guest: &Guest, house: &House, unread: &mut Vec<u8>) -> Result<bool, End> {
    let first = if unread.is_empty() { Phase::Idle } else { Phase::Reading };
    guest.enter(first);
    let (head, body) = match read_request(guest, house, unread) {
        Ok(request) => request,
        Err(Missing::Gone) => return Err(End::Gone),
        Err(Missing::Refused(refusal)) => return refuse(guest, refusal),
    };
    guest.enter(Phase::Working);
    let turn = house.turns.take(body.bytes.len());
    let called = call(guest, house, &head, &body.bytes);
    drop((body, turn));
    let (reply, left) = match called {
        Ok(answer) => answer,
        Err(error) => {
            log::debug!("a call of {} was not answered: {error}", guest.address);
            return refuse(guest, BUSY);
        }
    };
    guest.enter(Phase::Writing);
    let closes = head.closes || house.guests.is_crowded();
    answer(guest, reply, left, closes, head.method == "HEAD")?;
    Ok(!closes)
}

fn read_request<'a>(guest: &Guest, house: &'a House, unread: &mut Vec<u8>) -> Result<(Head, Body<'a>), Missing> {
    let head = read_head(&mut Ear(guest), unread)?;
    if head.expects_continue && head.length > unread.len() {
        guest.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = read_body(&mut Ear(guest), unread, head.length, &house.budget)?;
    Ok((head, body))
}

/// Passes a call on. A line that served before may have died since; then others are tried, a new one last.
fn call(guest: &Guest, house: &House, head: &Head, body: &[u8]) -> io::Result<(Reply, Option<handover::Body>)> {
    let address = guest.address.to_string();
    loop {
        let mut line = house.lines.take()?;
        let fresh = !line.has_served();
        match line.call(head, body, &address) {
            Ok(reply) => {
                let left = house.handover.take(line.id());
                house.lines.give_back(line);
                return match (&reply.body, left) {
                    (None, None) => Err(io::Error::other("a body was announced and not left")),
                    (_, left) => Ok((reply, left)),
                };
            }
            Err(error) => {
                house.handover.forget(line.id());
                house.lines.retire(line);
                if fresh {
                    return Err(error);
                }
            }
        }
    }
}

fn refuse(guest: &Guest, Refusal { status, text }: Refusal) -> Result<bool, End> {
    log::debug!("refused a request of {}: {status}: {text}", guest.address);
    guest.enter(Phase::Writing);
    let length = text.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
    );
    guest.send(answer.as_bytes())?;
    Ok(false)
}

fn answer(guest: &Guest, reply: Reply, left: Option<handover::Body>, closes: bool, head_only: bool) -> Result<(), End> {
    let mut head = reply.head;
    head.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
    let mut delivery = Delivery { guest, head, missing: reply.length };
    let done = match (reply.body, left) {
        _ if head_only => return delivery.finish_head().map_err(End::from),
        (Some(body), _) => delivery.write_all(&body),
        // Its panic has been reported by the hook; the caller must not take what came for the whole.
        (None, Some(body)) => catch_unwind(AssertUnwindSafe(|| body(&mut delivery)))
            .unwrap_or_else(|_| Err(io::Error::other("the body panicked"))),
        (None, None) => Ok(()),
    };
    let done = done.and_then(|()| delivery.finish_head());
    match done {
        Ok(()) if delivery.missing == 0 => Ok(()),
        Ok(()) => {
            log::debug!("an answer to {} ended {} bytes early", guest.address, delivery.missing);
            Err(End::Broken)
        }
        Err(error) => {
            log::debug!("an answer to {} was cut: {error}", guest.address);
            Err(End::Broken)
        }
    }
}

/// The public socket as a body sees it: puts the head before the first piece and holds the body to its length.
struct Delivery<'a> {
    guest: &'a Guest,
    head: Vec<u8>,
    missing: u64,
}

impl Delivery<'_> {
    /// Sends the head if nothing has: a body may be empty.
    fn finish_head(&mut self) -> io::Result<()> {
        self.guest.send(&std::mem::take(&mut self.head))
    }
}

impl Write for Delivery<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.missing {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the body is longer than was announced"));
        }
        let sent = if self.head.is_empty() {
            self.guest.send(bytes)?;
            bytes.len()
        } else {
            let mut first = std::mem::take(&mut self.head);
            let with_head = bytes.len().min(FIRST_WRITE);
            first.extend_from_slice(&bytes[..with_head]);
            self.guest.send(&first)?;
            with_head
        };
        self.missing -= sent as u64;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! One public connection: its socket, how requests come from it, and how answers go to it.
//!
//! One thread at a time reads requests and writes answers. Others only look at its [`Pulse`] and may
//! [cut](Guest::cut) it, which ends whatever that thread waits for here. A body that fails, or writes another number of
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
    line::Reply,
    lock,
    pulse::{Phase, Pulse, Verdict},
    request::{Budget, Missing, Refusal, Request, read_body, read_head},
};
use crate::handover::Body;

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

impl Guest {
    pub(super) fn new(id: u64, stream: TcpStream, address: SocketAddr) -> Self {
        let pulse = Mutex::new(Pulse::new(Instant::now()));
        Self { id, stream, address: address.ip().to_canonical(), pulse, cut: AtomicBool::new(false) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
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

    /// What it does, and for how long nothing has moved; nothing while the endpoint has its call.
    pub(super) fn silence(&self, now: Instant) -> Option<(Phase, Duration)> {
        let pulse = lock(&self.pulse);
        Some((pulse.phase(), pulse.silence(now)?))
    }

    /// Whether bytes have arrived that were not read yet.
    pub(super) fn has_unread_bytes(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        recv(&self.stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(_, read)| read > 0)
    }

    pub(super) fn enter(&self, phase: Phase) {
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

    /// Takes one request. `unread` is what arrived before, and then what arrived after it.
    pub(super) fn read_request(&self, unread: &mut Vec<u8>, budget: &Budget) -> Result<Request, Missing> {
        let head = read_head(&mut Ear(self), unread)?;
        if head.expects_continue && head.length > unread.len() {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (body, share) = read_body(&mut Ear(self), unread, head.length, budget)?;
        Ok(Request { head, body, share })
    }

    /// Answers a request that goes no further, as the last word.
    pub(super) fn refuse(&self, Refusal { status, text }: Refusal) {
        log::debug!("refused a request of {}: {status}: {text}", self.address);
        self.enter(Phase::Writing);
        let length = text.len() + 1;
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
        );
        if self.send(answer.as_bytes()).is_ok() {
            self.leave();
        }
    }

    /// Answers a request, as the last word if the answer `closes`. Says whether another may come.
    pub(super) fn answer(&self, reply: Reply, body: Body, closes: bool, head_only: bool) -> bool {
        self.enter(Phase::Writing);
        let mut head = reply.head;
        head.extend_from_slice(if closes { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        let mut delivery = Delivery { guest: self, head, missing: reply.length };
        let sent = if head_only {
            delivery.missing = 0;
            Ok(())
        } else {
            // Its panic has been reported by the hook; the caller must not take what came for the whole.
            catch_unwind(AssertUnwindSafe(|| body(&mut delivery)))
                .unwrap_or_else(|_| Err(io::Error::other("the body panicked")))
        };
        match sent.and_then(|()| delivery.finish()) {
            Ok(()) if closes => {
                self.leave();
                false
            }
            Ok(()) => true,
            Err(error) => {
                log::debug!("an answer to {} was cut: {error}", self.address);
                self.spoil();
                false
            }
        }
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

/// The public socket as a body sees it: puts the head before the first piece and holds the body to its length.
struct Delivery<'a> {
    guest: &'a Guest,
    head: Vec<u8>,
    missing: u64,
}

impl Delivery<'_> {
    /// Sends the head if nothing has, for a body may be empty. Fails if the body is shorter than was announced.
    fn finish(&mut self) -> io::Result<()> {
        self.guest.send(&std::mem::take(&mut self.head))?;
        match self.missing {
            0 => Ok(()),
            missing => Err(io::Error::other(format!("the body ended {missing} bytes early"))),
        }
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

//! Drives a door and its endpoint over loopback with a toy in the node's place.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{
        Arc, Condvar,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    endpoint::{Answering, Endpoint},
    handover::{Answer, Body, Receive, Received},
};

/// Longer than any step of a test may take on a machine under load.
const DEADLINE: Duration = Duration::from_secs(60);

/// A silence limit that no test waits for.
const PATIENT: Duration = Duration::from_secs(300);

/// A silence limit that is waited for.
const BRIEF: Duration = Duration::from_millis(400);

/// A body of `length` bytes, each the low byte of its index in pieces of 256 KiB.
fn stream(length: u64) -> Answer {
    let body = move |to: &mut dyn Write| {
        let piece: Vec<u8> = (0..256 * 1024).map(|index: u32| index.to_le_bytes()[0]).collect();
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left.min(piece.len() as u64)).unwrap();
            to.write_all(&piece[..now])?;
            left -= now as u64;
        }
        Ok(())
    };
    Answer::Stream { content_type: "text/xml", length, body: Box::new(body) }
}

/// Answers by what the call says: `stream N`, `message N`, `short N`, `long N`, `fail N`, `block N`, `panic`,
/// `who`, or an echo.
fn toy() -> Answering {
    Arc::new(|call, octets, address| {
        let text = String::from_utf8_lossy(call);
        let (word, number) = text.split_once(' ').unwrap_or((&text, ""));
        let number = number.parse::<u64>().unwrap_or_default();
        match word {
            "stream" => stream(number),
            "message" => Answer::Message(vec![b'm'; usize::try_from(number).unwrap()]),
            "short" | "long" | "fail" | "panicking" => {
                let what = word.to_owned();
                Answer::Stream {
                    content_type: "text/xml",
                    length: number,
                    body: Box::new(move |to| {
                        let half = usize::try_from(number / 2).unwrap();
                        to.write_all(&vec![b'h'; half])?;
                        match &*what {
                            "short" => Ok(()),
                            "long" => to.write_all(&vec![b'h'; half + 1]),
                            "fail" => Err(io::ErrorKind::NotFound.into()),
                            _ => std::panic::resume_unwind(Box::new("as wanted")),
                        }
                    }),
                }
            }
            "block" => {
                // Longer than closing may take.
                thread::sleep(Duration::from_secs(number));
                Answer::Message(Vec::new())
            }
            "panic" => std::panic::resume_unwind(Box::new("as wanted")),
            "who" => Answer::Message(format!("{address} {octets}").into_bytes()),
            _ => Answer::Message(call.to_vec()),
        }
    })
}

/// A door on loopback, with its private directory.
struct House {
    door: Option<Door>,
    address: SocketAddr,
    _private: tempfile::TempDir,
}

impl House {
    fn open(silence: Duration) -> Self {
        Self::open_with(silence, (128, 256))
    }

    fn open_with(silence: Duration, places: (usize, usize)) -> Self {
        descriptors::raise_limit();
        let private = tempfile::tempdir().unwrap();
        let directory = private.path().to_path_buf();
        let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
            let endpoint = Endpoint::start(&directory, toy())?;
            Ok((endpoint.path().to_path_buf(), Arc::new(endpoint)))
        };
        let listener = listen("127.0.0.1:0".parse().unwrap(), silence).unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door::open_with(vec![listener], Box::new(start), silence, places).unwrap();
        Self { door: Some(door), address, _private: private }
    }

    fn connect(&self) -> Caller {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Caller(BufReader::new(stream))
    }

    /// A whole honest call on a new connection.
    fn call(&self, body: &str) -> Reply {
        let mut caller = self.connect();
        caller.post(body);
        caller.reply().expect("an honest call is answered")
    }

    fn inside(&self) -> &Arc<super::House> {
        &self.door.as_ref().unwrap().house
    }

    fn wait_until_empty(&self) {
        assert!(self.inside().guests.wait_until_empty(DEADLINE), "guests are left over");
    }

    /// How long an honest call takes, on a connection of its own.
    fn honest_call(&self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.call("hello").body, b"hello");
        start.elapsed()
    }

    /// Makes honest calls until `done`; none may take ten times the promised second.
    fn keeps_answering_until(&self, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        loop {
            let took = self.honest_call();
            assert!(took < Duration::from_secs(10), "an honest call took {took:?}");
            if done() {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "it went on for {DEADLINE:?}");
        }
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "{what} after {DEADLINE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The large number for a full run, else the small one.
fn full_or(full: usize, small: usize) -> usize {
    if std::env::var_os("TINYP2P_FULL").is_some() { full } else { small }
}

struct Caller(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn status(&self) -> &str {
        &self.head[9..12]
    }
}

impl Caller {
    fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).unwrap();
    }

    fn post(&mut self, body: &str) {
        self.send(format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    fn head(&mut self) -> io::Result<(String, usize)> {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                return Ok((head, length));
            }
            head.push_str(&line);
        }
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let (head, length) = self.head()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Reply { head, body })
    }
}

impl Caller {
    /// Reads until the connection ends; says what came, and whether the end was a proper one.
    fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let ended = self.0.read_to_end(&mut bytes);
        if let Err(error) = &ended {
            assert!(error.kind() != io::ErrorKind::WouldBlock, "the connection did not end");
        }
        (bytes, ended.is_ok())
    }
}

const POST: &str = "POST /RPC2 HTTP/1.1\r\n";

fn post(body: &str) -> String {
    format!("{POST}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn small_and_large_answers_arrive_on_one_connection() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    for body in ["hello", "message 0", "message 65536", "message 65537", "message 3000000", "stream 0", "stream 1"] {
        caller.post(body);
        let reply = caller.reply().unwrap();
        assert_eq!(reply.status(), "200", "{body}");
        assert!(reply.head.contains("Content-Type: text/xml\r\n"), "{}", reply.head);
        assert!(!reply.head.contains("X-Door") && !reply.head.contains("Connection"), "{}", reply.head);
        let number = body.split_once(' ').map_or(5, |(_, number)| number.parse().unwrap());
        assert_eq!(reply.body.len(), number, "{body}");
    }
    caller.post("stream 10000000");
    let reply = caller.reply().unwrap();
    assert_eq!(reply.body.len(), 10_000_000);
    assert!(reply.body.iter().enumerate().all(|(index, &byte)| usize::from(byte) == index & 255));
}

#[test]
fn bodies_of_calls_arrive_whole_at_every_size() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    for length in [0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, 65_536, 65_537, 1024 * 1024] {
        caller.post(&"b".repeat(length));
        assert_eq!(caller.reply().unwrap().body, vec![b'b'; length], "{length}");
    }
}

#[test]
fn callers_are_kept_or_closed_as_http_wants_it() {
    let house = House::open(PATIENT);
    for (request, closes) in [
        (post("hello"), false),
        (post("hello").replace("Content", "Connection: Keep-Alive\r\nContent"), false),
        (post("hello").replace("Content", "Connection: te, Close\r\nContent"), true),
        (post("hello").replace("1.1", "1.0"), true),
        (post("hello").replace("1.1", "1.0").replace("Content", "Connection: keep-alive\r\nContent"), true),
        (post("hello").replace("Content", "Connection: Upgrade\r\nUpgrade: h2c\r\nContent"), false),
    ] {
        let mut caller = house.connect();
        caller.send(&request);
        let reply = caller.reply().unwrap();
        assert_eq!(reply.body, b"hello", "{request}");
        assert_eq!(reply.head.contains("Connection: close\r\n"), closes, "{request}");
        if closes {
            assert_eq!(caller.rest(), (Vec::new(), true), "{request}");
        } else {
            caller.post("again");
            assert_eq!(caller.reply().unwrap().body, b"again", "{request}");
        }
    }
}

#[test]
fn the_endpoint_judges_methods_and_paths() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    for (request, status, says) in [
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "200", ""),
        ("POST /rpc2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "404", "/RPC2"),
        ("POST /../etc/passwd HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "404", "/RPC2"),
        ("GET / HTTP/1.1\r\n\r\n", "405", "tinyp2p PASSWORD client URL PATTERN"),
        ("DELETE /RPC2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405", "POST only"),
        ("post / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405", "POST only"),
        ("GET /favicon.ico HTTP/1.1\r\n\r\n", "404", "/RPC2"),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "200", "hello"),
    ] {
        caller.send(request);
        let reply = caller.reply().unwrap();
        assert_eq!(reply.status(), status, "{request}");
        assert_eq!(reply.head.contains("Allow: POST\r\n"), status == "405", "{request}");
        assert!(String::from_utf8(reply.body).unwrap().contains(says), "{request}");
    }
    caller.send("HEAD / HTTP/1.1\r\n\r\n");
    let (head, length) = caller.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 405 ") && length > 0, "{head}");
    caller.post("no body came before this");
    assert_eq!(caller.reply().unwrap().body, b"no body came before this");
}

#[test]
fn what_the_door_refuses_is_answered_and_closed() {
    let house = House::open(PATIENT);
    for (request, status) in [
        ("POST / HTTP/1.1\r\n\r\n", "411"),
        ("POST / HTTP/1.1\r\nContent-Length: 30000000000\r\n\r\n<", "413"),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n<", "400"),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", "501"),
        ("POST / HTTP/1.1\nContent-Length: 0\n\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nX-Door: 1 door\r\n\r\n", "400"),
    ] {
        let mut caller = house.connect();
        caller.send(request);
        let reply = caller.reply().unwrap();
        assert_eq!(reply.status(), status, "{request}");
        assert!(reply.head.contains("Connection: close\r\n") && reply.head.contains("text/plain"), "{}", reply.head);
        assert!(reply.body.len() > 10, "{request}");
        assert_eq!(caller.rest(), (Vec::new(), true), "{request}");
    }
    house.honest_call();
}

#[test]
fn a_request_that_ends_early_is_answered() {
    let house = House::open(PATIENT);
    for request in ["P", "POST / HTTP/1.1\r\nContent-Len", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell"] {
        let mut caller = house.connect();
        caller.send(request);
        caller.0.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(caller.reply().unwrap().status(), "400", "{request}");
    }
}

#[test]
fn a_caller_that_still_sends_sees_why_it_is_refused() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    caller.send(format!("{POST}Content-Length: 10000000\r\n\r\n"));
    caller.send(vec![b'<'; 10_000_000]);
    assert_eq!(caller.reply().unwrap().status(), "413");
    let mut caller = house.connect();
    caller.send(format!("{POST}X: {}", "y".repeat(5_000_000)));
    assert_eq!(caller.reply().unwrap().status(), "431");
}

#[test]
fn expect_is_answered_before_the_body_comes() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    caller.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert!(caller.head().unwrap().0.starts_with("HTTP/1.1 100 "));
    caller.send("hello");
    assert_eq!(caller.reply().unwrap().body, b"hello");
    caller.send(format!("{POST}Expect: 100-continue\r\nContent-Length: 50000000\r\n\r\n"));
    assert_eq!(caller.reply().unwrap().status(), "413");
}

#[test]
fn the_node_learns_who_calls_and_what_it_accepts() {
    let house = House::open(PATIENT);
    assert_eq!(house.call("who").body, b"127.0.0.1 false");
    let mut caller = house.connect();
    caller.send(post("who").replace("Content", "X-Door: 1 evil\r\naccept: application/octet-stream\r\nContent"));
    assert_eq!(caller.reply().unwrap().body, b"127.0.0.1 true");
}

#[test]
fn a_body_that_fails_cuts_the_connection() {
    let house = House::open(PATIENT);
    for what in ["fail 1000000", "short 1000000", "long 1000000", "panicking 1000000", "short 10", "fail 1"] {
        let mut caller = house.connect();
        caller.post(what);
        let announced = match caller.head() {
            Ok((_, length)) => length,
            // Nothing had been written yet, so not even a head comes.
            Err(error) => {
                assert_eq!((what, error.kind()), ("fail 1", io::ErrorKind::ConnectionReset));
                continue;
            }
        };
        let (body, properly) = caller.rest();
        assert!(body.len() < announced, "{what}: {} of {announced} bytes", body.len());
        assert!(!properly, "{what}: closed properly");
    }
    house.honest_call();
}

#[test]
fn a_call_that_panics_costs_that_call_alone() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    for _ in 0..10 {
        caller.post("panic");
        assert_eq!(caller.reply().unwrap().status(), "500");
    }
    caller.post("hello");
    assert_eq!(caller.reply().unwrap().body, b"hello");
}

#[test]
fn silent_connections_keep_no_honest_caller_waiting() {
    let count = full_or(600, 120);
    for said in ["", "POST /RPC2 HTTP/1.1\r\nHo", "POST /RPC2 HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc"] {
        let house = House::open_with(PATIENT, (3, 50));
        let mut silent = Vec::new();
        for index in 0..count {
            let mut caller = house.connect();
            // It may have been turned out already.
            let _ = caller.0.get_mut().write_all(said.as_bytes());
            silent.push(caller);
            if index % 40 == 0 {
                assert!(house.honest_call() < Duration::from_secs(10), "after {index} of {said:?}");
            }
        }
        assert!(house.honest_call() < Duration::from_secs(10), "after all of {said:?}");
        drop(silent);
        house.wait_until_empty();
    }
}

#[test]
fn a_drip_does_not_extend_the_deadline() {
    let house = House::open(BRIEF);
    for (said, drip) in
        [("", "P"), ("POST / HTTP/1.1\r\nX: ", "y"), ("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", "z")]
    {
        let mut caller = house.connect();
        caller.send(said);
        let mut dripping = caller.0.get_ref().try_clone().unwrap();
        let dripper = thread::spawn(move || {
            let start = Instant::now();
            while dripping.write_all(drip.as_bytes()).is_ok() {
                assert!(start.elapsed() < DEADLINE, "a drip went on for {DEADLINE:?}");
                thread::sleep(BRIEF / 10);
            }
        });
        assert_eq!(caller.reply().unwrap().status(), "408", "{said:?}");
        drop(caller);
        dripper.join().unwrap();
    }
    house.wait_until_empty();
}

#[test]
fn an_idle_connection_goes_after_the_limit() {
    let house = House::open(BRIEF);
    let (mut fresh, mut kept) = (house.connect(), house.connect());
    kept.post("hello");
    assert_eq!(kept.reply().unwrap().body, b"hello");
    let start = Instant::now();
    assert_eq!(fresh.rest(), (Vec::new(), true));
    assert_eq!(kept.rest(), (Vec::new(), true));
    assert!(start.elapsed() >= BRIEF / 2, "it went after {:?}", start.elapsed());
}

#[test]
fn endless_heads_are_refused_and_bound_no_memory() {
    let house = House::open(PATIENT);
    for (start, more) in
        [("GET /", "a"), ("POST / HTTP/1.1\r\nX: ", "a"), ("POST / HTTP/1.1\r\n", "X: y\r\n"), ("", "\r\n")]
    {
        let mut caller = house.connect();
        caller.send(start);
        let piece = more.repeat(10_000);
        // More than is discarded after the last word: the connection is closed while this still sends.
        let mut sent = 0;
        while sent < 100_000_000 && caller.0.get_mut().write_all(piece.as_bytes()).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 100_000_000, "all of {start:?} {more:?} was taken");
        house.honest_call();
    }
    house.wait_until_empty();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let house = House::open(PATIENT);
    let mut caller = house.connect();
    let requests: String = (0..200).map(|index| post(&format!("call {index}"))).collect();
    caller.send(requests);
    for index in 0..200 {
        assert_eq!(caller.reply().unwrap().body, format!("call {index}").as_bytes());
    }
}

#[test]
fn requests_whose_answers_nobody_reads_end_within_the_limit() {
    let house = House::open(BRIEF);
    let calls = post(&"x".repeat(1000)).repeat(10_000);
    let senders: Vec<_> = (0..full_or(8, 2))
        .map(|_| {
            let (mut caller, calls) = (house.connect(), calls.clone());
            thread::spawn(move || {
                // Fails once the door has cut it.
                while caller.0.get_mut().write_all(calls.as_bytes()).is_ok() {}
            })
        })
        .collect();
    house.keeps_answering_until(|| senders.iter().all(thread::JoinHandle::is_finished));
    house.wait_until_empty();
}

#[test]
fn connections_that_are_reset_at_once_leave_nothing() {
    let house = House::open_with(PATIENT, (3, 20));
    for index in 0..full_or(3000, 300) {
        let caller = house.connect();
        SockRef::from(caller.0.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(caller);
        if index % 100 == 0 {
            assert!(house.honest_call() < Duration::from_secs(10));
        }
    }
    house.honest_call();
    house.wait_until_empty();
    wait_until("lines are left over", || house.inside().lines.count() == 0);
}

#[test]
fn callers_that_arrive_together_are_all_served() {
    let rounds = full_or(200, 5);
    for (callers, places) in [(8, (128, 256)), (40, (128, 256)), (40, (3, 50)), (8, (1, 8))] {
        let house = House::open_with(PATIENT, places);
        for _ in 0..rounds {
            let barrier = std::sync::Barrier::new(callers);
            thread::scope(|scope| {
                for _ in 0..callers {
                    scope.spawn(|| {
                        let mut caller = house.connect();
                        barrier.wait();
                        for _ in 0..5 {
                            caller.post("hello");
                            let reply = caller.reply().unwrap();
                            assert_eq!(reply.body, b"hello");
                            if reply.head.contains("Connection: close") {
                                caller = house.connect();
                            }
                        }
                        // All are held until the last is served.
                        barrier.wait();
                    });
                }
            });
        }
    }
}

#[test]
fn a_full_house_asks_everyone_to_leave_after_the_answer() {
    let house = House::open_with(PATIENT, (1, 2));
    let mut first = house.connect();
    first.post("hello");
    assert!(!first.reply().unwrap().head.contains("Connection: close"));
    let mut second = house.connect();
    second.post("hello");
    assert!(second.reply().unwrap().head.contains("Connection: close"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_place_is_taken_from_the_address_with_the_most_guests() {
    let house = House::open_with(PATIENT, (1, 10));
    // The lone guest of another address has been silent for longest.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&house.address.into()).unwrap();
    let mut lone = Caller(BufReader::new(socket.into()));
    lone.0.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    lone.post("who");
    assert_eq!(lone.reply().unwrap().body, b"127.0.0.2 false");
    let crowd: Vec<_> = (0..full_or(300, 60)).map(|_| house.connect()).collect();
    house.honest_call();
    lone.post("hello");
    assert_eq!(lone.reply().unwrap().body, b"hello");
    drop(crowd);
}

#[test]
fn downloads_that_nobody_reads_are_cut_within_the_limit() {
    let house = House::open(BRIEF);
    let mut unread: Vec<_> = (0..full_or(60, 10)).map(|_| house.connect()).collect();
    for caller in &mut unread {
        caller.post("stream 10000000000");
    }
    house.keeps_answering_until(|| house.inside().guests.wait_until_empty(BRIEF / 10));
    for mut caller in unread {
        let (body, properly) = caller.rest();
        assert!(!properly && body.len() < 100_000_000, "{} bytes", body.len());
    }
    house.wait_until_empty();
}

/// A caller whose kernel takes no more than a few KiB that have not been read.
fn slow_reader(house: &House) -> Caller {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&house.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Caller(BufReader::with_capacity(1, stream))
}

#[test]
fn a_reader_that_drips_is_cut() {
    let house = House::open(BRIEF);
    let mut caller = slow_reader(&house);
    caller.post("stream 100000000");
    caller.head().unwrap();
    let (start, mut byte) = (Instant::now(), [0]);
    while !house.inside().guests.wait_until_empty(BRIEF / 10) {
        caller.0.get_mut().read_exact(&mut byte).unwrap();
        assert!(start.elapsed() < DEADLINE, "it was served for {DEADLINE:?}");
    }
    let (body, _) = caller.rest();
    assert!(body.len() < 100_000_000, "it looks whole");
}

#[test]
fn a_slow_reader_is_served_for_as_long_as_it_reads() {
    let limit = BRIEF * 5;
    let house = House::open(limit);
    let mut caller = slow_reader(&house);
    caller.post("stream 1000000000");
    let (start, mut bytes) = (Instant::now(), [0; 8192]);
    while start.elapsed() < limit * 2 {
        let read = caller.0.get_mut().read(&mut bytes).expect("it is not cut");
        assert!(read > 0, "it ended after {:?}", start.elapsed());
        thread::sleep(limit / 50);
    }
}

#[test]
fn closing_is_quick_while_downloads_run() {
    let mut house = House::open(PATIENT);
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut caller = house.connect();
        caller.post("stream 1000000000000");
        caller.head().unwrap();
        readers.push(thread::spawn(move || io::copy(&mut caller.0, &mut io::sink())));
    }
    let mut unread = house.connect();
    unread.post("stream 1000000000000");
    unread.head().unwrap();
    let _idle = house.connect();
    let door = house.door.take().unwrap();
    let inside = Arc::clone(&door.house);
    let start = Instant::now();
    door.close();
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    assert!(inside.guests.wait_until_empty(DEADLINE));
    for reader in readers {
        let received = reader.join().unwrap();
        assert!(received.is_err() || received.unwrap() < 1_000_000_000_000, "a download that was cut looks whole");
    }
    assert!(TcpStream::connect(house.address).is_err(), "the socket still listens");
    // The threads have gone: nobody else holds what they share.
    wait_until("threads are left over", || Arc::strong_count(&inside) == 1);
}

#[test]
fn closing_does_not_wait_for_a_call_in_progress() {
    let mut house = House::open_with(PATIENT, (1, 10));
    let mut callers = [house.connect(), house.connect()];
    for caller in &mut callers {
        caller.post("block 30");
    }
    wait_until("no call is in progress", || house.inside().lines.count() == 1);
    let start = Instant::now();
    house.door.take().unwrap().close();
    assert!(start.elapsed() < Duration::from_secs(20), "closing took {:?}", start.elapsed());
    for mut caller in callers {
        caller.rest();
    }
}

/// An endpoint that receives nothing, as `tiny_http` does when its accept thread has died.
struct Deaf {
    _listener: UnixListener,
    /// How many threads are to be let go.
    released: Mutex<usize>,
    changed: Condvar,
}

impl Deaf {
    fn new(listener: UnixListener) -> Self {
        Self { _listener: listener, released: Mutex::new(0), changed: Condvar::new() }
    }

    fn let_go(&self, threads: usize) {
        *self.released.lock().unwrap() += threads;
        self.changed.notify_all();
    }
}

impl Receive for Deaf {
    fn receive(&self) -> Option<Received> {
        let none = |released: &mut usize| *released == 0;
        *self.changed.wait_while(self.released.lock().unwrap(), none).unwrap() -= 1;
        None
    }

    fn release(&self) {
        self.let_go(1);
    }

    fn end(&self) {
        self.let_go(1_000_000);
    }
}

#[test]
fn an_endpoint_that_takes_no_lines_is_replaced() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let starts = Arc::new(AtomicUsize::new(0));
    let started = Arc::clone(&starts);
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        if starts.fetch_add(1, Ordering::SeqCst) == 0 {
            let path = directory.join("dead");
            let listener = UnixListener::bind(&path)?;
            return Ok((path, Arc::new(Deaf::new(listener))));
        }
        let endpoint = Endpoint::start(&directory, toy())?;
        Ok((endpoint.path().to_path_buf(), Arc::new(endpoint)))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    house.honest_call();
    house.honest_call();
    assert_eq!(started.load(Ordering::SeqCst), 2);
}

#[test]
fn calls_that_take_long_keep_nobody_else() {
    let mut house = House::open(PATIENT);
    let running = AtomicUsize::new(4);
    let mut slow = Vec::new();
    thread::scope(|scope| {
        for _ in 0..running.load(Ordering::SeqCst) {
            scope.spawn(|| {
                let mut caller = house.connect();
                for index in 0..full_or(10_000, 500) {
                    let start = Instant::now();
                    caller.post(&index.to_string());
                    assert_eq!(caller.reply().unwrap().body, index.to_string().into_bytes());
                    assert!(start.elapsed() < Duration::from_secs(10), "a short call took {:?}", start.elapsed());
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while running.load(Ordering::SeqCst) > 0 && slow.len() < 30 {
            let mut caller = house.connect();
            caller.post("block 30");
            slow.push(caller);
            house.honest_call();
        }
    });
    assert!(!slow.is_empty());
    house.door.take().unwrap().close();
}

#[test]
fn nobody_gets_the_answer_of_another_when_lines_die() {
    let time = Duration::from_secs(full_or(30, 3) as u64);
    for places in [(16, 32), (1, 20)] {
        let mut house = House::open_with(PATIENT, places);
        let inside = Arc::clone(house.inside());
        let end = Instant::now() + time;
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for caller in 0..16_u64 {
                let (house, answered) = (&house, &answered);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(caller);
                    let mut connection = house.connect();
                    while Instant::now() < end {
                        let most = [900, 20_000, 900_000][random.usize(0..3)];
                        let call =
                            format!("caller {caller} {}", random.alphanumeric()).repeat(random.usize(1..most / 10));
                        let sent = connection.0.get_mut().write_all(post(&call).as_bytes());
                        match sent.and_then(|()| connection.reply()) {
                            Ok(reply) if reply.status() == "200" => {
                                assert!(reply.body == call.as_bytes(), "another answer");
                                answered.fetch_add(1, Ordering::SeqCst);
                                if !reply.head.contains("Connection: close") {
                                    continue;
                                }
                            }
                            Ok(reply) => assert_eq!(reply.status(), "503"),
                            Err(error) => assert!(error.kind() != io::ErrorKind::WouldBlock, "no answer"),
                        }
                        connection = house.connect();
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(0);
            while Instant::now() < end {
                let how = if random.u8(0..4) == 0 { Shutdown::Both } else { Shutdown::Write };
                inside.lines.shut_one(random.usize(0..1000), how);
                thread::sleep(Duration::from_micros(random.u64(0..3000)));
            }
        });
        assert!(answered.load(Ordering::SeqCst) > 0);
        house.wait_until_empty();
        house.honest_call();
        wait_until("lines are left over", || inside.lines.count() == 0);
        house.door.take().unwrap().close();
        wait_until("threads are left over", || Arc::strong_count(&inside) == 1);
    }
}

/// Answers greetings, and loses whatever comes after them on the same line.
struct Careless {
    received: Mutex<mpsc::Receiver<Option<Received>>>,
    receive: mpsc::Sender<Option<Received>>,
}

impl Careless {
    fn new(listener: UnixListener) -> Self {
        let (receive, received) = mpsc::channel();
        let sender = receive.clone();
        thread::spawn(move || {
            while let Ok((mut line, _)) = listener.accept() {
                let mut greeting = [0; 1024];
                let read = line.read(&mut greeting).unwrap();
                let greeting = String::from_utf8_lossy(&greeting[..read]);
                let call = greeting.split_once("X-Door: ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
                let answer = Box::new(move || -> Body {
                    line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    assert!(line.read(&mut [0; 1024]).unwrap() > 0);
                    Box::new(|_| Ok(()))
                });
                let _ = sender.send(Some(Received { call, answer }));
            }
        });
        Self { received: Mutex::new(received), receive }
    }
}

impl Receive for Careless {
    fn receive(&self) -> Option<Received> {
        self.received.lock().unwrap().recv().unwrap()
    }

    fn release(&self) {
        self.receive.send(None).unwrap();
    }

    fn end(&self) {
        for _ in 0..1000 {
            self.release();
        }
    }
}

#[test]
fn a_call_that_is_lost_ends_its_connection_and_leaves_no_thread() {
    let private = tempfile::tempdir().unwrap();
    let path = private.path().join("careless");
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        Ok((path.clone(), Arc::new(Careless::new(UnixListener::bind(&path)?))))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), BRIEF).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    let inside = Arc::clone(house.inside());
    let threads = Arc::strong_count(&inside);
    for length in [10, 1_000_000] {
        let mut caller = house.connect();
        caller.post(&"x".repeat(length));
        assert!(!String::from_utf8_lossy(&caller.rest().0).contains(" 200 "), "{length}");
        house.wait_until_empty();
        wait_until("a thread still waits for the lost call", || Arc::strong_count(&inside) == threads);
        wait_until("a line is left over", || inside.lines.count() == 0);
    }
}

#[test]
fn guests_and_lines_fit_into_every_limit_of_descriptors() {
    for limit in 27..3000 {
        let (lines, guests) = places(limit);
        assert!(RESERVED_DESCRIPTORS + LINE_DESCRIPTORS * lines + GUEST_DESCRIPTORS * guests <= limit, "{limit}");
        assert!(lines >= 1 && guests >= 4, "{limit}: {lines} lines, {guests} guests");
    }
    assert_eq!(places(64), (6, 15));
    assert_eq!(places(1024), (126, 256));
    assert_eq!(places(usize::MAX), (MAX_LINES, MAX_GUESTS));
}

#[test]
fn a_private_path_that_no_socket_can_have_is_explained() {
    let directory = PathBuf::from("/tmp").join("x".repeat(100));
    let error = Endpoint::start(&directory, toy()).err().unwrap();
    assert!(error.to_string().contains("longer than 100 bytes"), "{error}");
    let error = Endpoint::start(&PathBuf::from("/nonexistent"), toy()).err().unwrap();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[test]
fn ipv6_callers_are_served_on_a_socket_of_their_own() {
    // Without IPv6 on this machine there is nothing to show.
    let Ok(six) = listen("[::1]:0".parse().unwrap(), PATIENT) else { return };
    let port = six.local_addr().unwrap().port();
    assert!(six.local_addr().unwrap().is_ipv6());
    let _four = listen(SocketAddr::from(([127, 0, 0, 1], port)), PATIENT).expect("the same port is free for IPv4");
}

/// Receives when it is told to, and says that it has a call.
struct Late {
    endpoint: Endpoint,
    has_call: mpsc::SyncSender<()>,
    may_go_on: Mutex<mpsc::Receiver<()>>,
}

impl Receive for Late {
    fn receive(&self) -> Option<Received> {
        let received = self.endpoint.receive();
        let _ = self.has_call.try_send(());
        let _ = self.may_go_on.lock().unwrap().recv();
        received
    }

    fn release(&self) {
        self.endpoint.release();
    }

    fn end(&self) {
        self.endpoint.end();
    }
}

#[test]
fn closing_while_an_endpoint_is_replaced_leaves_no_thread() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let (has_call, greeted) = mpsc::sync_channel(1);
    let (go_on, may_go_on) = mpsc::channel();
    let once = Mutex::new(Some((has_call, may_go_on)));
    let starts = AtomicUsize::new(0);
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        let endpoint = Endpoint::start(&directory, toy())?;
        if starts.fetch_add(1, Ordering::SeqCst) == 0 {
            // Nobody listens there.
            return Ok((directory.join("dead"), Arc::new(endpoint)));
        }
        let (has_call, may_go_on) = once.lock().unwrap().take().expect("it is replaced once");
        let path = endpoint.path().to_path_buf();
        Ok((path, Arc::new(Late { endpoint, has_call, may_go_on: Mutex::new(may_go_on) })))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let mut house = House { door: Some(door), address, _private: private };
    let inside = Arc::clone(house.inside());
    let mut caller = house.connect();
    caller.post("hello");
    greeted.recv_timeout(DEADLINE).unwrap();
    house.door.take().unwrap().close();
    drop(go_on);
    caller.rest();
    wait_until("a thread is left over", || Arc::strong_count(&inside) == 1);
}

#[test]
fn closing_does_not_wait_for_a_greeting() {
    let private = tempfile::tempdir().unwrap();
    let path = private.path().join("deaf");
    let deaf = UnixListener::bind(&path).unwrap();
    let accepting = deaf.try_clone().unwrap();
    let deaf: Arc<dyn Receive> = Arc::new(Deaf::new(deaf));
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> { Ok((path.clone(), Arc::clone(&deaf))) };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let mut house = House { door: Some(door), address, _private: private };
    let mut caller = house.connect();
    caller.post("hello");
    let (mut line, _) = accepting.accept().unwrap();
    assert!(line.read(&mut [0; 1024]).unwrap() > 0);
    let inside = Arc::clone(house.inside());
    house.door.take().unwrap().close();
    assert!(inside.guests.wait_until_empty(Duration::ZERO), "closing gave up waiting for a guest");
}

#[test]
fn a_guest_that_was_refused_keeps_no_turn() {
    let private = tempfile::tempdir().unwrap();
    let directory = private.path().to_path_buf();
    let start = move || -> io::Result<(PathBuf, Arc<dyn Receive>)> {
        // Nobody listens there.
        Ok((directory.join("dead"), Arc::new(Endpoint::start(&directory, toy())?)))
    };
    let listener = listen("127.0.0.1:0".parse().unwrap(), PATIENT).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::open_with(vec![listener], Box::new(start), PATIENT, (3, 10)).unwrap();
    let house = House { door: Some(door), address, _private: private };
    let mut refused: Vec<_> = (0..4).map(|_| house.connect()).collect();
    for caller in &mut refused {
        caller.post(&"x".repeat(20_000));
        assert_eq!(caller.reply().unwrap().status(), "503");
    }
    let start = Instant::now();
    assert_eq!(house.call(&"x".repeat(20_000)).status(), "503");
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    drop(refused);
}

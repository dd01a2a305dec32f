//! Many connections that say nothing, too little, too much, or never listen.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::siege::{LARGE, Siege, full_or};
use crate::harness::{PASSWORD, PATIENCE, call_for, eventually, full, method_call, string};

/// A POST's head without the blank line at its end.
const HEAD: &str = "POST /RPC2 HTTP/1.1\r\nHost: x\r\n";

/// What strangers do to the server of a URL; it ends when the server has made an end of it.
type Attack = fn(&str);

/// Connects; the kernel here takes no more than a few KiB that are not read.
fn connect(url: &str) -> TcpStream {
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// So many connections on which this has been said, as far as the server still listened.
fn connections(url: &str, count: usize, said: &str) -> Vec<TcpStream> {
    let say = |mut stream: TcpStream| {
        _ = stream.write_all(said.as_bytes());
        stream
    };
    (0..count).map(|_| say(connect(url))).collect()
}

/// Waits for the server to end a connection, gently or not.
fn wait_for_end(mut stream: &TcpStream) {
    let ended = io::copy(&mut stream, &mut io::sink());
    let kept = ended.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    assert!(!kept, "the server kept a connection for {PATIENCE:?}");
}

/// Waits for the server to end a connection, without reading a byte of it.
fn wait_for_end_unread(mut stream: &TcpStream) {
    stream.set_nonblocking(true).unwrap();
    eventually("the end of an unread connection", PATIENCE, || match stream.write(b"x") {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Some(()),
        _ => None,
    });
}

fn say_and_wait(url: &str, said: &str) {
    connections(url, full_or(600, 300), said).iter().for_each(wait_for_end);
}

fn nothing(url: &str) {
    say_and_wait(url, "");
}

/// Connections that say nothing and are opened again whenever the server ends them, for three silence limits.
fn nothing_again_and_again(url: &str) {
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let open = || connections(url, 1, "").remove(0);
                let mut silent: Vec<_> = (0..full_or(600, 300) / 4).map(|_| open()).collect();
                while begin.elapsed() < Duration::from_secs(3) {
                    for stream in &mut silent {
                        stream.set_nonblocking(true).unwrap();
                        let ended = stream.read(&mut [0]).map_err(|error| error.kind());
                        if ended != Err(io::ErrorKind::WouldBlock) {
                            *stream = open();
                        }
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
}

fn half_heads(url: &str) {
    say_and_wait(url, "POST /RPC2 HTTP/1.1\r\nHo");
}

fn half_bodies(url: &str) {
    say_and_wait(url, &format!("{HEAD}Content-Length: 1000\r\n\r\n<methodCall>"));
}

/// Large bodies of which nearly everything has come: what they hold together is bounded.
fn long_half_bodies(url: &str) {
    let body = "<".repeat((1 << 20) - 1);
    connections(url, full_or(600, 100), &format!("{HEAD}Content-Length: 1048576\r\n\r\n{body}"))
        .iter()
        .for_each(wait_for_end);
}

/// A byte now and then, which must not make the server wait for longer.
fn drips(url: &str) {
    let begin = Instant::now();
    let mut dripping = Vec::new();
    for said in ["", HEAD, &format!("{HEAD}Content-Length: 1000000\r\n\r\n")] {
        dripping.extend(connections(url, full_or(600, 300) / 3, said));
    }
    while !dripping.is_empty() {
        dripping.retain_mut(|stream| stream.write_all(b"x").is_ok());
        assert!(begin.elapsed() < Duration::from_secs(20), "drips kept {} connections", dripping.len());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes so often that no connection is ever silent; whoever is ended comes back.
fn steady_drips(url: &str, is_over: &AtomicBool) {
    let begin = Instant::now();
    let mut dripping = connections(url, full_or(600, 300), HEAD);
    while !is_over.load(Ordering::Relaxed) && begin.elapsed() < Duration::from_secs(30) {
        for stream in &mut dripping {
            if stream.write_all(b"x").is_err() {
                *stream = connect(url);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn unread_downloads(url: &str) {
    download_unread(url, full_or(60, 20));
}

fn download_unread(url: &str, count: usize) {
    let fetch = call_for(PASSWORD, url, 2, &string(LARGE));
    let length = fetch.len();
    let accepts = ["", "Accept: application/octet-stream\r\n"];
    let downloads: Vec<_> = accepts
        .into_iter()
        .flat_map(|accept| {
            let call = format!("{HEAD}{accept}Content-Length: {length}\r\n\r\n{fetch}");
            connections(url, count / 2, &call)
        })
        .collect();
    downloads.iter().for_each(wait_for_end_unread);
}

/// Connections that are opened and reset at once, some of them in the middle of a call.
fn resets(url: &str) {
    let wrong = method_call("f", &["<value>wrong</value>"; 3]);
    let call = format!("{HEAD}Content-Length: {}\r\n\r\n{wrong}", wrong.len());
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for index in 0..full_or(3000, 600) / 6 {
                    let said = [&call[..0], &call[..30], &call[..call.len() - 1], &call][index % 4];
                    for stream in connections(url, 1, said) {
                        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
}

/// Requests by the ten thousand whose answers nobody reads.
fn unread_answers(url: &str) {
    let wrong = method_call("f", &["<value>wrong</value>"; 3]);
    let calls = [
        format!("{HEAD}Content-Length: {}\r\n\r\n{wrong}", wrong.len()),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("{HEAD}Content-Length: 0\r\n\r\n"),
    ];
    thread::scope(|scope| {
        for index in 0..full_or(30, 3) {
            let calls = calls[index % calls.len()].repeat(10_000);
            scope.spawn(move || connections(url, 1, &calls).iter().for_each(wait_for_end_unread));
        }
    });
}

/// Heads without an end. More is sent than the server discards after its last word, so that it hangs up.
fn endless_heads(url: &str) {
    let heads = [("GET /", "a"), ("POST / HTTP/1.1\r\nX: ", "a"), ("POST / HTTP/1.1\r\n", "X: y\r\n"), ("", "\r\n")];
    thread::scope(|scope| {
        for index in 0..full_or(40, 4) {
            let (start, more) = heads[index % heads.len()];
            scope.spawn(move || {
                let mut stream = connect(url);
                let piece = more.repeat(64 * 1024);
                let sent = (0..2000).take_while(|_| stream.write_all(piece.as_bytes()).is_ok()).count();
                assert!(sent < 2000, "{} bytes of {start:?} and {more:?} were taken", sent * piece.len());
            });
        }
    });
}

/// Callers who take an answer byte by byte.
fn dripping_readers(url: &str) {
    let fetch = call_for(PASSWORD, url, 2, &string(LARGE));
    let call = format!("{HEAD}Content-Length: {}\r\n\r\n{fetch}", fetch.len());
    let begin = Instant::now();
    let mut readers = connections(url, full_or(60, 20), &call);
    while !readers.is_empty() {
        // What has come stays readable after a reset.
        readers.retain_mut(|stream| stream.take_error().unwrap().is_none() && stream.read_exact(&mut [0]).is_ok());
        assert!(begin.elapsed() < Duration::from_secs(60), "{} readers dripped for a minute", readers.len());
        thread::sleep(Duration::from_millis(50));
    }
}

/// All attacks, each with the name that its figures are printed under.
const ATTACKS: [(&str, Attack); 11] = [
    ("nothing said", nothing),
    ("nothing said again and again", nothing_again_and_again),
    ("half heads", half_heads),
    ("half bodies", half_bodies),
    ("long half bodies", long_half_bodies),
    ("drips", drips),
    ("unread downloads", unread_downloads),
    ("resets", resets),
    ("unread answers", unread_answers),
    ("endless heads", endless_heads),
    ("dripping readers", dripping_readers),
];

#[track_caller]
fn survives(attack: Attack) {
    let (name, _) = ATTACKS.iter().find(|(_, known)| std::ptr::fn_addr_eq(*known, attack)).unwrap();
    let mut siege = Siege::new(name);
    siege.endure(attack);
    siege.lift();
}

#[test]
fn connections_that_say_nothing_keep_nobody_waiting() {
    survives(nothing);
}

#[test]
fn connections_that_come_back_whenever_they_are_ended_keep_nobody_waiting() {
    survives(nothing_again_and_again);
}

/// No silence limit helps here: whoever says nothing must make room when others come. The last are too few for that, but
/// hold all that long bodies may.
#[test]
fn strangers_who_stay_for_ever_keep_nobody_waiting() {
    let many = full_or(600, 300);
    for (name, count, said) in [
        ("nothing said for ever", many, String::new()),
        ("half heads for ever", many, HEAD.to_owned()),
        ("half bodies for ever", many, format!("{HEAD}Content-Length: 1000\r\n\r\n<methodCall>")),
        ("long half bodies for ever", 200, format!("{HEAD}Content-Length: 70000\r\n\r\n{}", "<".repeat(69_999))),
    ] {
        let mut siege = Siege::without_limit(name);
        let strangers = connections(siege.url(), count, &said);
        (0..12).for_each(|_| siege.call_honestly());
        drop(strangers);
        siege.lift();
    }
}

/// The same for downloads that nobody reads.
#[test]
fn downloads_that_stand_still_for_ever_keep_nobody_waiting() {
    for count in [60, full_or(600, 300)] {
        let mut siege = Siege::without_limit(&format!("{count} downloads for ever"));
        let fetch = call_for(PASSWORD, siege.url(), 2, &string(LARGE));
        let call = format!("{HEAD}Content-Length: {}\r\n\r\n{fetch}", fetch.len());
        let strangers = connections(siege.url(), count, &call);
        (0..12).for_each(|_| siege.call_honestly());
        drop(strangers);
        siege.lift();
    }
}

#[test]
fn half_heads_keep_nobody_waiting() {
    survives(half_heads);
}

#[test]
fn half_bodies_keep_nobody_waiting() {
    survives(half_bodies);
}

#[test]
fn long_bodies_that_stop_before_their_end_fill_no_memory() {
    survives(long_half_bodies);
}

#[test]
fn a_byte_now_and_then_extends_no_deadline() {
    survives(drips);
}

#[test]
fn downloads_that_nobody_reads_fill_no_memory_and_end() {
    survives(unread_downloads);
}

#[test]
fn readers_of_a_byte_now_and_then_are_given_up() {
    survives(dripping_readers);
}

#[test]
fn connections_that_are_reset_at_once_do_no_harm() {
    survives(resets);
}

#[test]
fn requests_by_the_ten_thousand_whose_answers_nobody_reads_are_cut() {
    survives(unread_answers);
}

#[test]
fn endless_heads_are_cut() {
    survives(endless_heads);
}

/// No silence limit helps here.
#[test]
fn drips_without_a_pause_keep_nobody_waiting() {
    let mut siege = Siege::without_limit("steady drips");
    let (url, is_over) = (siege.url().to_owned(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| steady_drips(&url, &is_over));
        (0..12).for_each(|_| siege.call_honestly());
        is_over.store(true, Ordering::Relaxed);
    });
    siege.lift();
}

/// Runs all attacks at once.
fn all_at_once(url: &str) {
    thread::scope(|scope| {
        for (_, attack) in ATTACKS {
            scope.spawn(move || attack(url));
        }
    });
}

#[test]
fn nothing_is_left_when_all_strangers_have_gone() {
    let mut siege = Siege::new("all at once");
    siege.endure(all_at_once);
    siege.lift_and_recover();
}

/// More connections than descriptors, some with a file.
fn exhaust(url: &str, descriptors: u32) {
    let count = descriptors as usize + 64;
    thread::scope(|scope| {
        scope.spawn(|| connections(url, count, "").iter().for_each(wait_for_end));
        scope.spawn(|| connections(url, count, HEAD).iter().for_each(wait_for_end));
        scope.spawn(|| download_unread(url, count));
    });
}

#[test]
fn a_server_with_fewer_descriptors_than_connections_serves_on() {
    let limits: Vec<u32> = if full() { (40..=256).collect() } else { vec![40, 41, 43, 67, 128] };
    let (next, most_at_once) = (AtomicUsize::new(0), limits.len().min(8));
    thread::scope(|scope| {
        for _ in 0..most_at_once {
            scope.spawn(|| {
                while let Some(&limit) = limits.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut siege = Siege::with_descriptors(limit);
                    siege.endure(|url| exhaust(url, limit));
                    siege.lift_and_recover();
                }
            });
        }
    });
}

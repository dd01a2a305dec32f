//! Private connections, made by hand: the protocol as it is described, somebody in between, and callers who know how to
//! speak but not the password.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use crate::harness::{
    Dir, PASSWORD, PATIENCE, Peak, PrivateCaller, Server, SilentPort, accept_tls, download, full, int, method_call,
    proof, serve, serve_behind, string,
};

fn private<'a>(dir: &'a Dir, options: &[&'a str]) -> Server {
    serve(dir).options(["--private"]).options(options.iter().copied()).start()
}

/// A whole request for the names that match `.`.
fn request(url: &str) -> String {
    let proof = proof(PASSWORD, url);
    let document = method_call("f", &[&string(&proof), &int(1), &string(".")]);
    format!(
        "POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{document}",
        document.len()
    )
}

#[test]
fn a_caller_made_from_the_protocol_is_served() {
    let dir = Dir::with([("a name", &b"content"[..])]);
    let server = private(&dir, &[]);
    let mut caller = PrivateCaller::connect(server.url()).unwrap();
    let confirmation = caller.guess(PASSWORD).unwrap().expect("the server knows the password");
    caller.0.write_all(&[&confirmation[..], request(server.url()).as_bytes()].concat()).unwrap();
    let mut answer = String::new();
    while !answer.contains("</methodResponse>") {
        let mut piece = [0; 1024];
        let count = caller.0.read(&mut piece).unwrap();
        assert!(count > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("<string>a name</string>"), "{answer}");
}

#[test]
fn one_in_between_who_ends_tls_is_refused_on_both_sides() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own_port, port) = (listener.local_addr().unwrap().port(), SilentPort::reserve().port);
    let server = serve(&dir).options(["--private", "--bind", &format!("127.0.0.1:{port}")]).port(own_port).start();
    // It has a key of its own for the caller, and passes on all that is said inside.
    let relay = thread::spawn(move || {
        let mut inner = accept_tls(listener.accept().unwrap().0);
        let mut outer = PrivateCaller::over(TcpStream::connect(("127.0.0.1", port)).unwrap()).unwrap().0;
        let (mut message, mut answer) = ([0; 33], [0; 65]);
        inner.read_exact(&mut message).unwrap();
        outer.write_all(&message).unwrap();
        outer.read_exact(&mut answer).unwrap();
        inner.write_all(&answer).unwrap();
        let mut said = Vec::new();
        _ = inner.read_to_end(&mut said);
        said
    });
    let run = download(&here, server.url()).options(["-j", "1"]).run();
    run.ends(1, &[], &["it has another password, or somebody is in between"]).with_one_complaint();
    assert_eq!(relay.join().unwrap(), b"", "the caller says nothing more");
    server.wait_for_log(&["warning: refused 127.0.0.1: it has another password, or hung up"]);
}

/// Makes this many guesses, this many at once, and hangs up as soon as the server has answered; how many it answered.
fn guess_and_hang_up(url: &str, password: &str, guesses: usize, at_once: usize) -> usize {
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < guesses {
                    let guess = PrivateCaller::connect(url).and_then(|mut caller| caller.guess(password));
                    answered.fetch_add(usize::from(guess.is_ok()), Ordering::Relaxed);
                }
            });
        }
    });
    answered.into_inner()
}

#[test]
fn guesses_that_end_with_the_servers_answer_are_as_few_as_others() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = private(&dir, &[]);
    let peak = Peak::of(server.pid());
    let begun = Instant::now();
    let (guesses, at_once) = if full() { (2000, 250) } else { (200, 25) };
    // Whoever hangs up has guessed, even rightly.
    let answered = [PASSWORD, "wrong"].map(|password| guess_and_hang_up(server.url(), password, guesses, at_once));
    let answered = answered[0] + answered[1];
    let allowed = 10 + usize::try_from(begun.elapsed().as_secs()).unwrap() / 2 + 1;
    assert!((10..=allowed).contains(&answered), "{answered} guesses, of {allowed}, were answered");
    let log = server.log();
    let (refused, many) = (log.matches("refused 127.0.0.1").count(), log.matches("somebody may be guessing").count());
    assert!(refused <= 1 + usize::try_from(begun.elapsed().as_secs()).unwrap() && many == 0, "{log}");
    download(&here, server.url()).run().ends(0, &["file"], &[]);
    drop(server);
    let peak = peak.mib();
    assert!(peak < 60, "{peak} MiB");
}

#[test]
fn new_keys_without_end_and_garbage_inside_tls_are_ended_in_time() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = private(&dir, &["--timeout", "1"]);
    let peak = Peak::of(server.pid());
    // Says this again and again until the server ends the connection.
    let hostile = |say: &(dyn Fn(&mut PrivateCaller) -> io::Result<()> + Sync)| {
        let mut caller = PrivateCaller::connect(server.url()).unwrap();
        let begun = Instant::now();
        while say(&mut caller).is_ok() && begun.elapsed() < PATIENCE {}
        assert!(begun.elapsed() < PATIENCE / 3, "it is not ended in time");
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            // New keys, one after the other, in place of the exchange.
            scope.spawn(|| {
                hostile(&|caller| {
                    caller.0.conn.refresh_traffic_keys().map_err(io::Error::other)?;
                    while caller.0.conn.wants_write() {
                        caller.0.conn.write_tls(&mut caller.0.sock)?;
                    }
                    Ok(())
                });
            });
            // Half an exchange, and then silence.
            scope.spawn(|| {
                hostile(&|caller| {
                    caller.0.write_all(&[7; 20])?;
                    caller.0.read_exact(&mut [0])
                });
            });
            // Bytes that are no record, after the handshake.
            scope.spawn(|| {
                hostile(&|caller| {
                    caller.0.sock.write_all(&[0xff; 5000])?;
                    caller.0.sock.read_exact(&mut [0])
                });
            });
            // A message that is no point of the group.
            scope.spawn(|| {
                hostile(&|caller| {
                    caller.0.write_all(&[0xff; 33])?;
                    caller.0.read_exact(&mut [0])
                });
            });
        }
        let honest = scope.spawn(|| download(&here, server.url()).run());
        honest.join().unwrap().ends(0, &["file"], &[]);
    });
    drop(server);
    let peak = peak.mib();
    assert!(peak < 60, "{peak} MiB");
}

#[test]
fn a_byte_that_is_changed_on_the_way_is_noticed() {
    let (dir, here) = (Dir::with([("file", &vec![b'x'; 3 << 20][..])]), Dir::new());
    let server = serve_behind(&dir, &[], |from, to, is_answer| {
        if is_answer {
            _ = io::copy(&mut from.take(500_000), to);
            let mut byte = [0];
            if from.read_exact(&mut byte).is_ok() {
                _ = to.write_all(&[byte[0] ^ 1]);
            }
        }
        _ = io::copy(from, to);
    });
    let run = download(&here, server.url()).options(["-j", "1"]).run();
    run.ends(1, &[], &["the connection broke off: cannot decrypt peer's message", "'file' is not here"]);
    assert_eq!(here.names(), [""; 0]);
}

#[test]
fn a_cut_connection_is_no_end_of_a_file() {
    let (dir, here) = (Dir::with([("file", &vec![b'x'; 3 << 20][..])]), Dir::new());
    let server = serve_behind(&dir, &[], |from, to, is_answer| {
        _ = io::copy(&mut from.take(if is_answer { 1 << 20 } else { u64::MAX }), to);
        if is_answer {
            _ = to.shutdown(Shutdown::Both);
        }
    });
    let run = download(&here, server.url()).options(["-j", "1"]).run();
    run.ends(1, &[], &["'file' is not here"]);
    assert_eq!(here.names(), [""; 0]);
}

//! Private networks: what a listener sees, who is refused and how that is told, and that nothing falls back.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::harness::{
    Connection, Dir, PASSWORD, PATIENCE, Peak, PrivateCaller, Serve, SilentPort, array, call, download, eventually,
    int, method_call, proof, serve, serve_behind, string, tinyp2p,
};

const MIB: usize = 1 << 20;

fn private(dir: &Dir) -> Serve<'_> {
    serve(dir).options(["--private", "-v"])
}

/// Files of each way in which files are fetched.
fn shared() -> Dir {
    let dir = Dir::new();
    (0..300).for_each(|number| dir.write(&format!("small {number}"), format!("content {number}")));
    dir.write("large", vec![b'x'; 3 * MIB]);
    dir.write("empty", "");
    dir
}

#[test]
fn all_that_goes_on_in_an_open_network_goes_on_in_a_private_one() {
    let [first_dir, here, copy] = [shared(), Dir::new(), Dir::new()];
    let second_dir = Dir::with([("other", &b"content"[..])]);
    let first = private(&first_dir).start();
    assert!(first.url().starts_with("https://127.0.0.1:"), "{}", first.url());
    first.wait_for_log(&["to join:  tinyp2p PASSWORD server --private HOST PORT https://"]);
    let second = private(&second_dir).peers([first.url()]).start();
    first.wait_for_log(&["new peer", second.url()]);
    let run = download(&here, second.url()).run();
    assert_eq!(run.code(), Some(0), "{run}");
    assert_eq!(here.names().len(), 303, "{run}");
    for name in ["large", "small 7", "empty"] {
        assert_eq!(here.read(name), first_dir.read(name));
    }
    for dir in [&first_dir, &second_dir] {
        for name in dir.names() {
            let file = File::options().write(true).open(dir.join(&name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }
    let _mirror = private(&copy).options(["--mirror", "", "--mirror-every", "1"]).peers([first.url()]).start();
    eventually("a whole copy", PATIENCE, || (copy.names().len() == 303).then_some(()));
}

#[test]
fn each_mixture_says_what_is_wrong() {
    let (dir, here) = (shared(), Dir::new());
    let (open, closed) = (serve(&dir).start(), private(&dir).start());
    let other = |url: &str| match url.strip_prefix("https") {
        Some(rest) => format!("http{rest}"),
        None => url.replacen("http", "https", 1),
    };
    let told = format!("{}: it answers, but not privately: it is open, or somebody is in between", other(open.url()));
    download(&here, &other(open.url())).run().ends(1, &[], &[&told]);
    let told = format!(
        "{}: it is private and was called in clear; take a new password, and call it by its https:// URL, {}",
        other(closed.url()),
        closed.url()
    );
    download(&here, &other(closed.url())).run().ends(1, &[], &[&told]);
    let wrong = ["wrong", "client", closed.url(), ""];
    tinyp2p(&here, wrong).ends(1, &[], &["it has another password, or somebody is in between"]).with_one_complaint();
    closed.wait_for_log(&["warning: refused 127.0.0.1: it has another password, or hung up"]);
    let silent = SilentPort::reserve();
    let told = format!("{}: could not connect: connection refused", other(&silent.url()));
    download(&here, &other(&silent.url())).options(["--timeout", "1"]).run().ends(1, &[], &[&told]);
    assert_eq!(here.names(), [""; 0]);
}

#[test]
fn a_private_network_takes_no_open_peers() {
    let dir = shared();
    let server = private(&dir).start();
    let mut caller = PrivateCaller::connect(server.url()).unwrap();
    let confirmation = caller.guess(PASSWORD).unwrap().expect("the server knows the password");
    let peers = array(["http://127.0.0.1:1", "https://127.0.0.1:2"]);
    let document = method_call("f", &[&string(&proof(PASSWORD, server.url())), &int(0), &peers]);
    let head = format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", document.len());
    caller.0.write_all(&[&confirmation[..], head.as_bytes(), document.as_bytes()].concat()).unwrap();
    server.wait_for_log(&["new peer https://127.0.0.1:2"]);
    server.wait_for_log(&["ignored 1 unusable peer URL"]);
    assert!(!server.log().contains("http://127.0.0.1:1"), "{}", server.log());
}

#[test]
fn an_open_network_takes_no_private_peers() {
    let dir = shared();
    let open = serve(&dir).start();
    let known = call(open.url(), 0, &array(["https://127.0.0.1:1", "http://127.0.0.1:2"])).peers();
    assert_eq!(known, [open.url(), "http://127.0.0.1:2"]);
    open.wait_for_log(&["ignored 1 unusable peer URL"]);
}

#[test]
fn a_listener_learns_nothing_and_what_it_repeats_opens_nothing() {
    let (dir, here) = (Dir::with([("a telling name", &b"a telling content"[..])]), Dir::new());
    // What goes each way.
    let heard = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
    let tap = Arc::clone(&heard);
    let server = serve_behind(&dir, &["-v"], move |from, to, is_answer| {
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            tap.lock().unwrap()[usize::from(is_answer)].extend_from_slice(&piece[..count]);
            if to.write_all(&piece[..count]).is_err() {
                return;
            }
        }
    });
    let run = download(&here, server.url()).pattern("tell.*name").options(["-j", "1"]).run();
    run.ends(0, &["a telling name"], &[]);
    let heard = heard.lock().unwrap().clone();
    let proof = proof(PASSWORD, server.url());
    for secret in
        ["a telling name", "a telling content", "tell.*name", "https://", PASSWORD, &proof, "POST /RPC2", "methodCall"]
    {
        let is_heard = heard.iter().any(|way| way.windows(secret.len()).any(|part| part == secret.as_bytes()));
        assert!(!is_heard, "{secret:?} went over the wire");
    }
    let before = server.log().matches("sent 'a telling name'").count();
    let mut again = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    again.write_all(&heard[0]).unwrap();
    again.shutdown(Shutdown::Write).unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    _ = again.read_to_end(&mut answer);
    assert!(!answer.is_empty() && answer.len() < 4096, "a handshake that fails: {} bytes", answer.len());
    assert_eq!((before, server.log().matches("sent 'a telling name'").count()), (1, 1));
}

#[test]
fn callers_in_clear_are_told_and_nothing_else() {
    let dir = shared();
    let server = private(&dir).start();
    let address = server.url().strip_prefix("https://").unwrap();
    let text = format!("this server is private; call it by {}\n", server.url());
    for request in ["GET / HTTP/1.1\r\n\r\n", "POST /RPC2 HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", "\0\0\0", "x"] {
        let mut connection = Connection::open_at(address.parse().unwrap());
        connection.send(request);
        let response = connection.response();
        assert_eq!((response.status, &*response.body), (426, text.as_bytes()), "{request:?}");
    }
}

#[test]
fn handshakes_that_never_end_and_garbage_are_closed_in_time() {
    let dir = shared();
    let server = private(&dir).options(["--timeout", "1"]).start();
    let address = server.url().strip_prefix("https://").unwrap();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let begun = Instant::now();
    let ended = |bytes: &[u8], drips: bool| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        for byte in bytes.chunks(if drips { 1 } else { bytes.len().max(1) }) {
            if stream.write_all(byte).is_err() || matches!(stream.read(&mut [0; 512]), Ok(0)) {
                return;
            }
        }
        eventually("the end of a connection", PATIENCE, || match stream.read(&mut [0; 4096]) {
            Ok(0) => Some(()),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Some(()),
            _ => None,
        });
    };
    let drip: Vec<u8> = hello.iter().copied().chain([0; 500]).collect();
    thread::scope(|scope| {
        let ended = &ended;
        scope.spawn(|| ended(b"", false));
        scope.spawn(|| ended(hello, false));
        scope.spawn(|| ended(&drip, true));
        scope.spawn(|| ended(&[0x16; 5000], false));
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let here = Dir::new();
    assert_eq!(download(&here, server.url()).run().code(), Some(0));
}

#[test]
fn who_guesses_again_and_again_gets_no_answer_and_who_knows_the_password_waits_a_little() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = private(&dir).start();
    let begun = Instant::now();
    let mut answered = 0;
    for _ in 0..16 {
        let run = tinyp2p(&here, ["wrong", "client", "--timeout", "1", server.url(), ""]);
        assert_eq!(run.code(), Some(1), "{run}");
        let is_answered = run.stderr.contains("another password");
        assert!(is_answered || run.stderr.contains("too many callers or wrong passwords from this address"), "{run}");
        answered += u64::from(is_answered);
    }
    let allowed = 10 + begun.elapsed().as_secs() / 2 + 1;
    assert!((10..=allowed).contains(&answered), "{answered} guesses, of {allowed}, were answered");
    download(&here, server.url()).run().ends(0, &["file"], &[]);
}

#[test]
fn many_connections_at_once_fill_no_memory() {
    let dir = shared();
    let server = private(&dir).start();
    let address = server.url().strip_prefix("https://").unwrap();
    let peak = Peak::of(server.pid());
    let connections: Vec<_> = (0..600)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").ok()?;
            Some(stream)
        })
        .collect();
    let here = Dir::new();
    let run = download(&here, server.url()).run();
    assert_eq!(run.code(), Some(0), "{run}");
    drop(connections);
    drop(server);
    let peak = peak.mib();
    assert!(peak < 60, "{peak} MiB");
}

#[test]
fn a_private_peer_that_drips_is_noticed_like_an_open_one() {
    let (dir, here) = (Dir::with([("file", &vec![b'x'; 200_000][..])]), Dir::new());
    let server = serve_behind(&dir, &[], |from, to, is_answer| {
        let (mut piece, mut passed) = (vec![0; 4096], 0);
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let drips = is_answer && passed >= 3000;
            for part in piece[..count].chunks(if drips { 1 } else { count }) {
                if to.write_all(part).is_err() {
                    return;
                }
                if drips {
                    thread::sleep(Duration::from_millis(50));
                }
                passed += part.len();
            }
        }
    });
    let begun = Instant::now();
    let run = download(&here, server.url()).options(["--timeout", "2"]).run();
    run.ends(1, &[], &["'file'", "silent for 2 s"]);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

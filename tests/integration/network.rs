//! Servers among themselves: joining, other implementations in their midst, bad peers, starting and stopping.

use std::{io::Read, process::Command, sync::Arc, thread, time::Duration};

use rustix::process::Signal;

use crate::harness::{
    Connection, Dir, FakePeer, Gate, PASSWORD, PATIENCE, Reply, Running, Server, SilentPort, array, call, call_for,
    download, eventually, serve, serve_python, string, wait_for_partial,
};

/// Ten times the two seconds in which a server ends.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

fn peers(server: &Server) -> Vec<String> {
    call(server.url(), 0, &array([""; 0])).peers()
}

/// Waits until every server knows all of them, and nobody else.
#[track_caller]
fn assert_all_know_each_other(servers: &[&Server]) {
    let mut everyone: Vec<&str> = servers.iter().map(|server| server.url()).collect();
    everyone.sort_unstable();
    for server in servers {
        eventually(&format!("{} knows {everyone:?}", server.url()), PATIENCE, || {
            let answer = call(server.url(), 0, &array([""; 0]));
            let mut known = answer.0.ok()?.texts();
            known.sort_unstable();
            (known == everyone).then_some(())
        });
    }
}

/// Fails unless a client that asks `server` gets one file from each of three directories.
#[track_caller]
fn assert_client_gets_a_b_c(server: &Server) {
    let here = Dir::new();
    download(&here, server.url()).run().ends(0, &["a", "b", "c"], &[]);
    for name in ["a", "b", "c"] {
        assert_eq!(here.read(name), name.as_bytes());
    }
}

fn three_directories() -> [Dir; 3] {
    ["a", "b", "c"].map(|name| Dir::with([(name, name.as_bytes())]))
}

#[test]
fn a_lone_server_lists_itself() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    assert_eq!(peers(&server), [server.url()]);
}

#[test]
fn three_servers_in_a_row_make_one_network() {
    let [a, b, c] = three_directories();
    let a = serve(&a).start();
    let b = serve(&b).peers([a.url()]).start();
    assert_all_know_each_other(&[&a, &b]);
    let c = serve(&c).peers([b.url()]).start();
    assert_all_know_each_other(&[&a, &b, &c]);
    for server in [&a, &b, &c] {
        assert_client_gets_a_b_c(server);
    }
}

#[test]
fn a_server_that_joins_is_logged() {
    let dir = Dir::new();
    let a = serve(&dir).start();
    let b = serve(&dir).peers([a.url()]).start();
    a.wait_for_log(&[b.url()]);
}

#[test]
fn two_servers_that_name_each_other_both_come_up() {
    let [a, b, _] = three_directories();
    let (reserved_a, reserved_b) = (SilentPort::reserve(), SilentPort::reserve());
    let (url_a, url_b) = (reserved_a.url(), reserved_b.url());
    let (port_a, port_b) = (reserved_a.port, reserved_b.port);
    drop((reserved_a, reserved_b));
    let (a, b) = thread::scope(|scope| {
        let a = scope.spawn(|| serve(&a).port(port_a).peers([&*url_b]).start());
        let b = scope.spawn(|| serve(&b).port(port_b).peers([&*url_a]).start());
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!((a.url(), b.url()), (&*url_a, &*url_b));
    assert_all_know_each_other(&[&a, &b]);
}

#[test]
fn a_python_server_stands_between_two_of_ours() {
    let [a, b, c] = three_directories();
    let a = serve(&a).start();
    let b = serve_python(&b).peers([a.url()]).start();
    let c = serve(&c).peers([b.url()]).start();
    assert_all_know_each_other(&[&a, &b, &c]);
    for server in [&a, &b, &c] {
        assert_client_gets_a_b_c(server);
    }
}

#[test]
fn one_of_ours_stands_between_two_python_servers() {
    let [a, b, c] = three_directories();
    let a = serve_python(&a).start();
    let b = serve(&b).peers([a.url()]).start();
    assert_all_know_each_other(&[&a, &b]);
    let c = serve_python(&c).options(["--keep-alive"]).peers([b.url()]).start();
    assert_all_know_each_other(&[&a, &b, &c]);
    assert_client_gets_a_b_c(&b);
}

#[test]
fn the_original_stands_between_two_of_ours() {
    let [a, b, c] = three_directories();
    let a = serve(&a).start();
    let b = serve_python(&b).options(["--original"]).peers([a.url()]).start();
    let c = serve(&c).peers([b.url()]).start();
    assert_all_know_each_other(&[&a, &b, &c]);
    assert_client_gets_a_b_c(&b);
}

#[test]
fn an_original_without_the_repair_learns_of_itself_from_us() {
    let [a, b, c] = three_directories();
    let original = serve_python(&a).options(["--original", "--unlisted"]).start();
    call(original.url(), 0, &array([""; 0])).fault();
    let b = serve(&b).peers([original.url()]).start();
    assert_all_know_each_other(&[&original, &b]);
    let c = serve(&c).peers([original.url()]).start();
    assert_all_know_each_other(&[&original, &b, &c]);
    assert_client_gets_a_b_c(&original);
}

#[test]
fn bad_peers_are_warnings_for_a_server_that_joins() {
    let [a, b, _] = three_directories();
    let good = serve(&a).start();
    let dead = SilentPort::reserve();
    let hanging = FakePeer::new().on_peers(Reply::silence()).start();
    let refusing = FakePeer::new().on_peers(Reply::refusal()).start();
    let faulty = FakePeer::new().on_peers(Reply::fault("no such luck")).start();
    let nonsense = FakePeer::new().on_peers(Reply::document(b"no XML")).start();
    let no_http = FakePeer::new().on_peers(Reply::raw(*b"SSH-2.0-OpenSSH\r\n")).start();
    let cut = FakePeer::new().on_peers(Reply::peers(["http://127.0.0.1:1"]).cut(30)).start();
    let broken = FakePeer::new().on_peers(Reply::raw(*b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")).start();
    let endless = FakePeer::new().on_peers(Reply::without_length(b"<?xml version='1.0'?> ").endless(1)).start();
    let dripping = FakePeer::new().on_peers(Reply::peers([good.url()]).paced(1, Duration::from_millis(50))).start();
    let other_server = serve(&b).password("another").start();
    let bad = [
        &*dead.url(),
        hanging.url(),
        refusing.url(),
        faulty.url(),
        nonsense.url(),
        no_http.url(),
        cut.url(),
        broken.url(),
        endless.url(),
        dripping.url(),
        other_server.url(),
        "http://peer.invalid:4000",
    ];
    let server = serve(&b).options(["--timeout", "1"]).peers(bad).peers([good.url()]).start();
    for url in bad {
        server.wait_for_log(&[url]);
    }
    eventually("the good peer knows the newcomer", PATIENCE, || {
        peers(&good).contains(&server.url().to_owned()).then_some(())
    });
    assert_eq!(call(server.url(), 2, &string("b")).content(), b"b");
}

#[test]
fn a_server_answers_while_it_still_joins() {
    let dir = Dir::with([("file", &b"content"[..])]);
    let hanging = FakePeer::new().on_peers(Reply::silence()).start();
    let server = serve(&dir).peers([hanging.url()]).start();
    assert_eq!(call(server.url(), 2, &string("file")).content(), b"content");
    assert_eq!(peers(&server), [server.url(), hanging.url()]);
    eventually("a call to the peer that hangs", PATIENCE, || (!hanging.calls().is_empty()).then_some(()));
}

#[test]
fn a_server_tells_of_itself_and_of_all_it_knows() {
    let dir = Dir::new();
    let (first, second) = (FakePeer::new(), FakePeer::new().start());
    let list = [first.url(), second.url(), "no URL", "", "ftp://127.0.0.1:1"].map(str::to_owned);
    let first = first.on_peers(Reply::peers(list)).start();
    let server = serve(&dir).peers([first.url()]).start();
    let told = |peer: &FakePeer| {
        let calls = eventually("a call", PATIENCE, || Some(peer.calls()).filter(|calls| !calls.is_empty()));
        assert_eq!(calls[0].op, 0);
        calls[0].arg.clone().texts()
    };
    assert_eq!(told(&first), [server.url(), first.url()]);
    assert_eq!(told(&second), [server.url(), first.url(), second.url()]);
    assert_eq!(peers(&server), [server.url(), first.url(), second.url()]);
}

#[test]
fn a_client_in_the_directory_of_a_server_copies_everything_to_it() {
    let directories = three_directories();
    let [a, b, c] = &directories;
    let a = serve(a).start();
    let b = serve(b).peers([a.url()]).start();
    let c = serve(c).peers([a.url()]).start();
    assert_all_know_each_other(&[&a, &b, &c]);
    download(&directories[0], a.url()).run().ends(0, &["b", "c"], &[]);
    download(&directories[1], b.url()).run().ends(0, &["a", "c"], &[]);
    for server in [&a, &b] {
        assert_eq!(call(server.url(), 1, &string("")).names(), ["a", "b", "c"]);
    }
}

#[test]
fn quiet_servers_say_nothing_but_their_url() {
    let [a, b, _] = three_directories();
    let a = serve(&a).options(["-q"]).start();
    let mut b = serve(&b).options(["-q"]).peers([a.url()]).start();
    assert_all_know_each_other(&[&a, &b]);
    call(b.url(), 2, &string("b"));
    assert!(b.stop(Signal::TERM, ENDS_WITHIN).success());
    assert_eq!(b.log() + &a.log(), "");
}

#[test]
fn a_signal_ends_a_server_with_0_and_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = Dir::with([("file", &b"content"[..])]);
        let mut server = serve(&dir).start();
        call(server.url(), 2, &string("file"));
        let status = server.stop(signal, ENDS_WITHIN);
        assert_eq!(status.code(), Some(0), "{signal:?}\n{server}");
        assert_eq!(server.temporary_files(), [""; 0], "{signal:?}");
        assert_eq!(dir.names(), ["file"]);
    }
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let deaf = |words: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD]);
        command.args(words);
        command
    };
    let mut server = Server::with_command(&dir, deaf(&["server", "127.0.0.1", "0"]));
    let gate = Arc::new(Gate::default());
    let slow = FakePeer::sharing([("slow", Reply::bytes("x".repeat(4 << 20)).half_behind(&gate))]);
    let client = Running::start(&here, deaf(&["client", slow.url(), ""]));
    wait_for_partial(here.path());
    for signal in [Signal::HUP, Signal::INT] {
        server.signal(signal);
        client.signal(signal);
    }
    gate.open();
    client.finish().ends(0, &["slow"], &[]);
    assert_eq!(call(server.url(), 1, &string("")).names(), ["file"]);
    assert_eq!(server.stop(Signal::TERM, ENDS_WITHIN).code(), Some(0), "{server}");
}

#[test]
fn a_signal_ends_a_server_that_is_joining_and_sending() {
    let dir = Dir::new();
    std::fs::File::create(dir.join("zeros")).unwrap().set_len(256 << 20).unwrap();
    let hanging = FakePeer::new().on_peers(Reply::silence()).start();
    let mut server = serve(&dir).peers([hanging.url()]).start();
    eventually("a call to the peer that hangs", PATIENCE, || (!hanging.calls().is_empty()).then_some(()));
    let mut idle = Connection::open(server.url());
    idle.send("POST /RPC2 HTTP/1.1\r\n");
    let mut download = Connection::open(server.url());
    download.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("zeros")));
    download.head();
    let status = server.stop(Signal::TERM, ENDS_WITHIN);
    assert_eq!(status.code(), Some(0), "{server}");
    assert_eq!(server.temporary_files(), [""; 0]);
    // What was under way ends, and is not made to look complete.
    let mut rest = Vec::new();
    _ = download.stream().read_to_end(&mut rest);
    assert!(!rest.ends_with(b"</methodResponse>\n"));
}

#[test]
fn a_server_restarts_on_the_same_port_at_once() {
    let dir = Dir::with([("file", &b"content"[..])]);
    let mut server = serve(&dir).start();
    let port = server.port();
    let mut kept = Connection::open(server.url());
    for _ in 0..3 {
        kept.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("file")));
        assert_eq!(kept.response().answer().content(), b"content");
        assert!(server.stop(Signal::TERM, ENDS_WITHIN).success());
        server = serve(&dir).port(port).start();
        assert_eq!(server.port(), port);
        kept = Connection::open(server.url());
    }
}

#[test]
fn a_peer_that_died_costs_a_client_a_warning() {
    let [a, b, c] = three_directories();
    let a = serve(&a).start();
    let mut b = serve(&b).peers([a.url()]).start();
    assert_all_know_each_other(&[&a, &b]);
    b.stop(Signal::KILL, ENDS_WITHIN);
    let c = serve(&c).peers([a.url()]).start();
    eventually("a knows c", PATIENCE, || peers(&a).contains(&c.url().to_owned()).then_some(()));
    let here = Dir::new();
    download(&here, a.url()).run().ends(0, &["a", "c"], &[b.url()]);
}

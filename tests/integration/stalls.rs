//! The stall timeout at lengths at which the system rounds waits: peers that are stopped, or accept and stay mute.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Dir, FakePeer, PATIENCE, Reply, download, eventually, full, serve};

/// How much longer than the limit a call may take, beside the start of a process.
const OVERRUN: f64 = 1.25;

/// The limits in seconds to be tried; they are waited for, all at once.
fn limits() -> &'static [u32] {
    if full() { &[1, 17, 20, 40] } else { &[1] }
}

#[track_caller]
fn assert_in_time(begun: Instant, limit: u32) {
    let most = Duration::from_secs(limit.into()).mul_f64(OVERRUN) + Duration::from_secs(5);
    assert!(begun.elapsed() < most, "{:?} at a limit of {limit} s", begun.elapsed());
}

#[test]
fn a_peer_that_stays_mute_costs_one_stall_timeout() {
    let runs: Vec<_> = limits()
        .iter()
        .map(|&limit| {
            let (here, peer) = (Dir::new(), FakePeer::new().on_peers(Reply::silence()).start());
            let run = download(&here, peer.url()).options(["--timeout", &limit.to_string()]).start();
            (limit, Instant::now(), here, peer, run)
        })
        .collect();
    for (limit, begun, _here, peer, run) in runs {
        run.finish().ends(1, &[], &[peer.url(), &format!("silent for {limit} s")]).with_one_complaint();
        assert_in_time(begun, limit);
    }
}

#[test]
fn a_server_that_is_stopped_costs_one_stall_timeout() {
    let runs: Vec<_> = limits()
        .iter()
        .map(|&limit| {
            let (here, shared) = (Dir::new(), Dir::with([("file", &b"content"[..])]));
            let server = serve(&shared).start();
            server.signal(Signal::STOP);
            let run = download(&here, server.url()).options(["--timeout", &limit.to_string()]).start();
            (limit, Instant::now(), here, server, run)
        })
        .collect();
    for (limit, begun, _here, server, run) in runs {
        run.finish().ends(1, &[], &[server.url(), &format!("silent for {limit} s")]).with_one_complaint();
        assert_in_time(begun, limit);
        server.signal(Signal::CONT);
    }
}

#[test]
fn a_server_that_is_stopped_holds_up_no_file_of_another_but_the_end() {
    let limit = Duration::from_secs(8);
    let (here, shared, given) = (Dir::new(), Dir::new(), FakePeer::new());
    let stopped = serve(&shared).start();
    let list = Reply::peers([stopped.url(), given.url()]);
    let given = given.on_peers(list).file("file", Reply::content("ab")).start();
    stopped.signal(Signal::STOP);
    let begun = Instant::now();
    let run = download(&here, given.url()).options(["--timeout", "8"]).start();
    let list_dir = Dir::new();
    let list = download(&list_dir, given.url()).options(["--timeout", "8", "-q", "--list"]).start();
    eventually("the file", PATIENCE, || (here.names() == ["file"]).then_some(()));
    assert!(begun.elapsed() < limit / 2, "{:?}", begun.elapsed());
    for run in [run, list] {
        run.finish().ends(0, &["file"], &[stopped.url(), "silent for 8 s"]);
        assert!(begun.elapsed() > limit, "{:?}", begun.elapsed());
    }
    stopped.signal(Signal::CONT);
}

#[test]
fn a_server_notices_that_a_peer_stays_mute() {
    let servers: Vec<_> = limits()
        .iter()
        .map(|&limit| {
            let peer = FakePeer::new().on_peers(Reply::silence()).start();
            let shared = Dir::new();
            let server = serve(&shared).options(["--timeout", &limit.to_string()]).peers([peer.url()]).start();
            (limit, Instant::now(), shared, peer, server)
        })
        .collect();
    for (limit, begun, _shared, _peer, server) in servers {
        server.wait_for_log(&[&format!("silent for {limit} s")]);
        assert_in_time(begun, limit);
    }
}

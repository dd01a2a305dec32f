//! The limits for what is sent and received: they hold, are shared fairly, and keep nobody who asks for little waiting.
//!
//! A limited transfer must not be faster than its limit allows, which no slow machine can make it. Nor may it be slower,
//! which is compared with another on the same machine.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{Connection, Dir, PASSWORD, PATIENCE, call, call_for, download, eventually, post, serve, string};

/// A mebibyte, and the limit of a mebibyte a second.
const MIB: usize = 1 << 20;
const LIMIT: [&str; 2] = ["--limit-rate", "1M"];

/// The time that so many bytes take at the limit, but for what may come at once: a tenth of a second, and what waits in
/// buffers.
fn time_of(bytes: usize) -> Duration {
    Duration::from_millis((bytes * 1000 / MIB) as u64 - 400)
}

/// Two seconds' worth of files: one in packs, one by itself, and many that are neither.
fn shared() -> Dir {
    let dir = Dir::new();
    (0..256).for_each(|number| dir.write(&format!("small {number}"), vec![b'x'; 2048]));
    (0..4).for_each(|number| dir.write(&format!("middle {number}"), vec![b'x'; 128 << 10]));
    dir.write("large", vec![b'x'; MIB]);
    dir
}

#[test]
fn a_server_sends_no_faster_than_its_limit_whatever_it_is_asked_for() {
    let dir = shared();
    let server = serve(&dir).options(LIMIT).start();
    let fetch = |pattern: &str, bytes: usize| {
        let begun = Instant::now();
        let here = Dir::new();
        let run = download(&here, server.url()).pattern(pattern).run();
        assert_eq!(run.code(), Some(0), "{run}");
        assert!(begun.elapsed() >= time_of(bytes), "{pattern} took {:?}", begun.elapsed());
    };
    thread::scope(|scope| {
        let begun = Instant::now();
        let threads = [("small", MIB / 2), ("middle", MIB / 2), ("large", MIB)]
            .map(|(pattern, bytes)| scope.spawn(move || fetch(pattern, bytes)));
        let call = || {
            let begun = Instant::now();
            assert_eq!(call(server.url(), 1, &string("large")).names(), ["large"]);
            begun.elapsed()
        };
        let slowest = (0..10).map(|_| call()).max();
        assert!(slowest.unwrap() < Duration::from_secs(1), "calls are free: {slowest:?}");
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(begun.elapsed() >= time_of(2 * MIB), "all took {:?}", begun.elapsed());
    });
    let begun = Instant::now();
    let content = post(server.url(), call_for(PASSWORD, server.url(), 2, &string("large"))).answer().content();
    assert_eq!((content.len(), begun.elapsed() >= time_of(MIB)), (MIB, true), "as XML: {:?}", begun.elapsed());
}

#[test]
fn a_client_receives_no_faster_than_its_limit_whatever_it_asks_for() {
    let dir = shared();
    let server = serve(&dir).start();
    for limit in ["1M", "1048576"] {
        let here = Dir::new();
        let begun = Instant::now();
        let run = download(&here, server.url()).options(["--limit-rate", limit]).run();
        assert_eq!(run.code(), Some(0), "{run}");
        assert!(begun.elapsed() >= time_of(2 * MIB), "it took {:?}", begun.elapsed());
        here.assert_same_files(&dir);
    }
}

#[test]
fn those_who_fetch_at_once_have_equal_parts() {
    let dir = Dir::with([("file", &vec![b'x'; MIB / 2][..])]);
    let server = serve(&dir).options(LIMIT).start();
    let call = call_for(PASSWORD, server.url(), 2, &string("file"));
    let mut connections: Vec<_> = (0..4).map(|_| Connection::open(server.url())).collect();
    for connection in &mut connections {
        connection.post("/RPC2", &call);
        connection.head();
    }
    let begun = Instant::now();
    let times: Vec<Duration> = thread::scope(|scope| {
        let read = |mut connection: Connection| {
            connection.stream().take(MIB as u64 / 2).read_to_end(&mut Vec::new()).unwrap();
            begun.elapsed()
        };
        let threads: Vec<_> = connections.into_iter().map(|connection| scope.spawn(move || read(connection))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*first * 2 > *last, "one had more than its part: {times:?}");
}

#[test]
fn many_files_are_as_fast_as_one() {
    let dir = Dir::with([("one", &vec![b'x'; 30 * 66_000][..])]);
    (0..30).for_each(|number| dir.write(&format!("many {number}"), vec![b'x'; 66_000]));
    let server = serve(&dir).options(LIMIT).start();
    let [one, many] = ["one", "many"].map(|pattern| {
        let begun = Instant::now();
        let run = download(&Dir::new(), server.url()).pattern(pattern).run();
        assert_eq!(run.code(), Some(0), "{run}");
        begun.elapsed()
    });
    assert!(many < one * 3 / 2, "{many:?} in place of {one:?}");
}

#[test]
fn a_transfer_that_waits_for_the_limit_is_not_taken_for_a_caller_that_is_silent() {
    let dir = Dir::with([("file", &vec![b'x'; MIB / 8][..])]);
    let server = serve(&dir).options(["--limit-rate", "32K"]).start();
    let here = Dir::new();
    let run = download(&here, server.url()).start();
    eventually("a file that is being written", PATIENCE, || run.open_file_sizes().into_iter().find(|size| *size > 0));
    let connections: Vec<_> = (0..300).map(|_| Connection::open(server.url())).collect();
    run.finish().ends(0, &["file"], &[]);
    drop(connections);
}

#[test]
fn more_transfers_than_the_limit_has_room_for_all_end_well() {
    let dir = Dir::with([("file", &vec![b'x'; 3 << 10][..])]);
    // The server lets nobody wait for longer than a second, so some go on without a place.
    let server = serve(&dir).options(["--limit-rate", "16K", "--timeout", "4"]).start();
    thread::scope(|scope| {
        for _ in 0..24 {
            let run = || download(&Dir::new(), server.url()).options(["--timeout", "20"]).run();
            scope.spawn(move || run().ends(0, &["file"], &["1 file, 3.00 KiB"]));
        }
    });
}

#[test]
fn a_limited_server_ends_at_once() {
    let dir = Dir::with([("file", &vec![b'x'; MIB][..])]);
    let mut server = serve(&dir).options(["--limit-rate", "16k"]).start();
    let here = Dir::new();
    let run = download(&here, server.url()).start();
    eventually("a file that is being written", PATIENCE, || run.open_file_sizes().into_iter().find(|size| *size > 0));
    let status = server.stop(Signal::TERM, Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{server}");
    run.finish().ends(1, &[], &["'file' is not here"]);
}

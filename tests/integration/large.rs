//! One large file from everybody who has it, and on from where it was.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    harness::{
        Dir, FakePeer, PATIENCE, Reply, Running, Server, SilentPort, download, eventually, full, is_partial, serve,
    },
    support::{Relay, Wire},
};

const MIB: usize = 1 << 20;

/// What is fetched twice at most after a kill: a block for each of four jobs, and a MiB.
const FETCHED_TWICE: u64 = 17 << 20;

/// Content that is nowhere the same.
fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let words = (0..bytes as u64 / 8).map(|number| (number + seed * 1_000_003).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

/// A server that is called through a wire.
pub(crate) struct Holder {
    server: Server,
    pub(crate) url: String,
    _relay: Relay,
}

pub(crate) fn hold(dir: &Dir, wire: Wire) -> Holder {
    let mut relay = Relay::bind();
    let port = SilentPort::reserve().port;
    let server = serve(dir).port(relay.port()).options(["-v", "--bind", &format!("127.0.0.1:{port}")]).start();
    relay.start(port, wire);
    Holder { server, url: relay.url(), _relay: relay }
}

/// The first server that a client asks, which names these and has nothing itself.
fn guide(holders: &[&Holder]) -> FakePeer {
    FakePeer::new().on_peers(Reply::peers(holders.iter().map(|holder| &holder.url))).start()
}

pub(crate) fn wire(mebibytes: u32) -> Wire {
    Wire { delay: Duration::from_millis(5), rate: Some(mebibytes << 20), ..Wire::default() }
}

/// Waits until a partial file has this many bytes on the disk; its path.
fn wait_for_blocks(dir: &Path, bytes: usize) -> PathBuf {
    eventually("a partial file of that size", PATIENCE, || {
        let entry = fs::read_dir(dir).unwrap().find_map(Result::ok)?;
        let is_large = entry.metadata().ok()?.blocks() * 512 >= bytes as u64;
        (is_large && is_partial(entry.file_name().to_str()?)).then(|| entry.path())
    })
}

/// The bytes of all parts that a server has sent, by its log. A file may count as sent while half of it is in a wire.
fn part_bytes(server: &Server) -> u64 {
    let log = server.log();
    let sent = log.lines().filter(|line| line.contains("sent a part of ")).filter_map(|line| line.rsplit_once(": "));
    sent.filter_map(|(_, figures)| figures.split_once(" bytes")?.0.parse::<u64>().ok()).sum()
}

#[test]
fn a_large_file_comes_from_all_who_have_it() {
    let dir = Dir::with([("film", &*content(64 * MIB, 0))]);
    let holders = [(); 3].map(|()| hold(&dir, wire(16)));
    let guide = guide(&holders.each_ref());
    let here = Dir::new();
    download(&here, guide.url()).run().ends(0, &["film"], &["1 file, 64.0 MiB"]);
    here.assert_same_files(&dir);
    for helper in &holders[1..] {
        helper.server.wait_for_log(&["part", "of", "to 127.0.0.1"]);
    }
    let modified = |dir: &Dir| fs::metadata(dir.join("film")).unwrap().mtime();
    assert_eq!(modified(&here), modified(&dir));
}

#[test]
fn what_differs_under_one_name_never_mixes() {
    let (dir, other) = (Dir::with([("film", &*content(64 * MIB, 0))]), Dir::with([("film", &*content(64 * MIB, 1))]));
    let shorter = Dir::with([("film", &content(64 * MIB, 0)[..40 * MIB])]);
    let holders = [hold(&dir, wire(16)), hold(&other, wire(16)), hold(&shorter, wire(16)), hold(&dir, wire(16))];
    let guide = guide(&holders.each_ref());
    let here = Dir::new();
    let run = download(&here, guide.url()).run().ends(0, &["film"], &["'film' of ", &holders[0].url, "; not used"]);
    assert_eq!(run.stderr.matches(&*format!("'film' of {} differs", holders[1].url)).count(), 1, "{run}");
    here.assert_same_files(&dir);
}

#[test]
fn a_holder_that_dies_and_one_that_stalls_cost_a_block_each() {
    let dir = Dir::with([("film", &*content(96 * MIB, 0))]);
    let mut holders = [(); 4].map(|()| hold(&dir, wire(16)));
    let guide = guide(&holders.each_ref());
    let here = Dir::new();
    let run = download(&here, guide.url()).start();
    wait_for_blocks(here.path(), 40 * MIB);
    holders[1].server.stop(Signal::KILL, PATIENCE);
    holders[2].server.signal(Signal::STOP);
    let run = run.finish();
    holders[2].server.signal(Signal::CONT);
    run.ends(0, &["film"], &[]);
    here.assert_same_files(&dir);
}

#[test]
fn a_slow_peer_does_not_keep_for_itself_what_others_have() {
    let dir = Dir::with([("film", &*content(8 * MIB, 0))]);
    let slow = Wire { rate: Some(100 << 10), ..Wire::default() };
    // From the slow one alone 80 s.
    fetch_within(30, &dir, &[hold(&dir, slow), hold(&dir, wire(16))]);
}

/// Downloads the file that these have, in at most so many seconds.
fn fetch_within<const N: usize>(seconds: u64, dir: &Dir, holders: &[Holder; N]) {
    let guide = guide(&holders.each_ref());
    let (here, begun) = (Dir::new(), Instant::now());
    download(&here, guide.url()).run().ends(0, &["film"], &[]);
    here.assert_same_files(dir);
    assert!(begun.elapsed() < Duration::from_secs(seconds), "{:?}", begun.elapsed());
}

#[test]
fn when_the_reference_dies_another_holder_goes_on() {
    let dir = Dir::with([("film", &*content(96 * MIB, 0))]);
    let mut holders = [hold(&dir, wire(16)), hold(&dir, wire(16))];
    let guide = guide(&holders.each_ref());
    let here = Dir::new();
    let run = download(&here, guide.url()).options(["-v"]).start();
    wait_for_blocks(here.path(), 40 * MIB);
    holders[0].server.stop(Signal::KILL, PATIENCE);
    run.finish().ends(0, &["film"], &["going on with 'film' from ", &holders[1].url]);
    here.assert_same_files(&dir);
}

/// Kills clients and lets others go on, in the directory of one that was killed at this many bytes.
fn kill_and_go_on(signal: Signal, bytes: usize, first: &Holder, second: &Holder, dir: &Dir) {
    let here = Dir::new();
    let run = download(&here, &first.url).start();
    let partial = wait_for_blocks(here.path(), bytes);
    run.signal(signal);
    let run = run.finish();
    if signal == Signal::KILL {
        assert_eq!(run.code(), None, "{run}");
    } else {
        assert!(run.stderr.contains("MiB of 'film' to resume within 7 days"), "{run}");
    }
    let there = fs::metadata(&partial).unwrap().blocks() * 512;
    let before = part_bytes(&second.server);
    download(&here, &second.url).run().ends(0, &["film"], &[]);
    here.assert_same_files(dir);
    let size = fs::metadata(here.join("film")).unwrap().len();
    let (rest, missing) = (part_bytes(&second.server) - before, size.saturating_sub(there));
    let is_right = (missing..=missing + FETCHED_TWICE).contains(&rest);
    assert!(is_right, "{signal:?} at {there}: {rest} bytes were sent after it");
}

#[test]
fn a_download_that_was_ended_goes_on_where_it_was() {
    let dir = Dir::with([("film", &*content(48 * MIB, 0))]);
    let holders = [(); 2].map(|()| hold(&dir, wire(64)));
    let rounds = if full() { 50 } else { 6 };
    for round in 0..rounds {
        let signal = [Signal::INT, Signal::TERM, Signal::KILL][round % 3];
        let bytes = (2 + 44 * round / rounds) * MIB;
        // Every other time the first is not there any more.
        let second = &holders[round / 3 % 2];
        kill_and_go_on(signal, bytes, &holders[0], second, &dir);
    }
}

#[test]
fn a_connection_that_is_cut_ten_times_costs_no_byte_twice() {
    let dir = Dir::with([("film", &*content(32 * MIB, 0))]);
    let holder = hold(&dir, Wire { cut: Some(3 * MIB), ..Wire::default() });
    let here = Dir::new();
    let run = download(&here, &holder.url).options(["-v"]).run().ends(0, &["film"], &["it is tried again in a second"]);
    assert_eq!(run.stderr.matches("going on with 'film'").count(), 10, "{run}");
    here.assert_same_files(&dir);
    // One that breaks before a MiB has come is tried three times.
    let holder = hold(&dir, Wire { cut: Some(MIB - 100_000), ..Wire::default() });
    let here = Dir::new();
    let run = download(&here, &holder.url).options(["-v"]).run().ends(1, &[], &["'film' is not here"]);
    assert_eq!(run.stderr.matches("it is tried again in a second").count(), 2, "{run}");
}

/// What happens to a partial file.
type Change = fn(&mut File);

/// A directory in which a client was killed; the path of its partial file.
fn killed(holder: &Holder) -> (Dir, PathBuf) {
    let here = Dir::new();
    let run = download(&here, &holder.url).start();
    let partial = wait_for_blocks(here.path(), 9 * MIB);
    run.signal(Signal::KILL);
    run.finish();
    (here, partial)
}

#[test]
fn a_partial_file_that_is_something_else_costs_nothing_but_its_digest() {
    let dir = Dir::with([("film", &*content(32 * MIB, 0))]);
    let holder = hold(&dir, wire(32));
    let changes: [(&str, Change); 4] = [
        ("garbage", |file| file.write_all(&content(20 * MIB, 7)).unwrap()),
        ("longer", |file| {
            file.seek(SeekFrom::Start(40 << 20)).unwrap();
            file.write_all(&[1; 5000]).unwrap();
        }),
        ("one byte of the second block", |file| {
            file.write_all_at(&[0x55], 5 << 20).unwrap();
        }),
        ("empty", |file| file.set_len(0).unwrap()),
    ];
    for (what, change) in changes {
        let (here, partial) = killed(&holder);
        change(&mut OpenOptions::new().write(true).open(&partial).unwrap());
        download(&here, &holder.url).run().ends(0, &["film"], &[]);
        assert!(here.read("film") == dir.read("film"), "{what}");
        assert_eq!(here.names(), ["film"], "{what}");
    }
}

/// Who has no answer when it is asked for a digest has not said that it has something else.
#[test]
fn a_partial_file_is_kept_when_it_cannot_be_compared() {
    let dir = Dir::with([("film", &*content(32 * MIB, 0))]);
    let holder = hold(&dir, wire(32));
    let (here, partial) = killed(&holder);
    let there = fs::metadata(&partial).unwrap().blocks();
    for reply in [Reply::silence(), Reply::raw([])] {
        let index = Reply::names([format!("{} 5 film", 32 * MIB)]);
        let peer = FakePeer::new().on_index(index).on_digests(reply).file("film", Reply::raw([])).start();
        let run = download(&here, peer.url()).options(["--timeout", "1"]).run();
        run.ends(1, &[], &["MiB of 'film' to resume within 7 days"]);
        assert_eq!((fs::metadata(&partial).unwrap().blocks(), peer.fetched().len()), (there, 0));
    }
    let index = Reply::names([format!("{} 5 film", 32 * MIB)]);
    let silent = FakePeer::new().on_index(index).on_digests(Reply::silence()).start();
    let run = download(&here, silent.url()).start();
    eventually("the question", PATIENCE, || silent.calls().iter().any(|call| call.op == 3).then_some(()));
    run.signal(Signal::INT);
    run.finish().ends(130, &[], &["MiB of 'film' to resume within 7 days"]);
    assert_eq!(fs::metadata(&partial).unwrap().blocks(), there);
    download(&here, &holder.url).options(["-v"]).run().ends(0, &["film"], &["going on with 'film'"]);
    here.assert_same_files(&dir);
}

#[test]
fn who_agrees_and_then_breaks_off_does_not_keep_others_from_giving_the_file() {
    let dir = Dir::with([("film", &*vec![b'x'; 16 * MIB])]);
    let whole = hold(&dir, wire(32));
    let (here, _) = killed(&whole);
    let breaking = hold(&dir, Wire { cut: Some(500_000), ..Wire::default() });
    // It knows no parts, so it cannot say whether it has what is here.
    let plain = FakePeer::new().file("film", Reply::content(vec![b'x'; 16 * MIB]));
    let list = [plain.url().to_owned(), breaking.url.clone()];
    let plain = plain.on_peers(Reply::peers(list)).start();
    download(&here, plain.url()).run().ends(0, &["film"], &[]);
    here.assert_same_files(&dir);
    assert!(plain.fetched().len() <= 3, "{:?}", plain.fetched());
}

#[test]
fn the_beginning_of_a_block_is_not_fetched_again() {
    let dir = Dir::with([("film", &*content(16 * MIB, 0))]);
    let holder = hold(&dir, Wire { cut: Some(3 * MIB), ..Wire::default() });
    let here = Dir::new();
    let run = download(&here, &holder.url).start();
    let partial = wait_for_blocks(here.path(), 2 * MIB);
    let file = OpenOptions::new().write(true).open(&partial).unwrap();
    eventually("the second between two attempts", PATIENCE, || file.try_lock().ok());
    run.signal(Signal::KILL);
    run.finish();
    file.unlock().unwrap();
    let run = download(&here, &holder.url).options(["-v"]).run().ends(0, &["film"], &["going on with 'film'"]);
    let first = run.stderr.lines().find(|line| line.contains("going on with 'film'")).unwrap();
    assert!(first.contains(": 2.9") || first.contains(": 3.00 MiB"), "{run}");
    here.assert_same_files(&dir);
}

#[test]
fn what_another_writes_to_a_partial_file_between_two_attempts_is_seen() {
    let dir = Dir::with([("film", &*content(32 * MIB, 0))]);
    let holder = hold(&dir, Wire { cut: Some(20 * MIB), ..Wire::default() });
    let here = Dir::new();
    let run = download(&here, &holder.url).start();
    let partial = wait_for_blocks(here.path(), 18 * MIB);
    let file = OpenOptions::new().write(true).open(&partial).unwrap();
    eventually("the second between two attempts", PATIENCE, || file.try_lock().ok());
    file.write_all_at(&[0x55; 5000], 9 << 20).unwrap();
    file.unlock().unwrap();
    run.finish().ends(0, &["film"], &[]);
    here.assert_same_files(&dir);
}

#[test]
fn slow_helpers_do_not_hold_up_the_end() {
    let dir = Dir::with([("film", &*content(48 * MIB, 0))]);
    let slow = Wire { rate: Some(20 << 10), ..Wire::default() };
    // A block takes 200 s there.
    fetch_within(40, &dir, &[hold(&dir, wire(12)), hold(&dir, slow), hold(&dir, slow)]);
}

#[test]
fn a_reference_that_is_replaced_meanwhile_gives_the_old_or_the_new_content() {
    let dir = Dir::with([("film", &*content(64 * MIB, 0)), ("new", &content(64 * MIB, 1))]);
    let spare = Dir::with([("film", &*content(64 * MIB, 0))]);
    let holders = [hold(&dir, wire(16)), hold(&spare, wire(16))];
    let guide = guide(&holders.each_ref());
    let here = Dir::new();
    let run = download(&here, guide.url()).pattern("film").start();
    wait_for_blocks(here.path(), 30 * MIB);
    fs::rename(dir.join("new"), dir.join("film")).unwrap();
    run.finish().ends(0, &["film"], &[]);
    let got = here.read("film");
    assert!(got == dir.read("film") || got == spare.read("film"), "neither the old nor the new content");
}

#[test]
fn two_clients_for_one_name_in_one_directory_end_with_one_file() {
    let dir = Dir::with([("film", &*content(32 * MIB, 0))]);
    let holder = hold(&dir, wire(32));
    let here = Dir::new();
    let first = download(&here, &holder.url).start();
    wait_for_blocks(here.path(), 2 * MIB);
    let second = download(&here, &holder.url).start();
    let codes = [first, second].map(Running::finish).map(|run| run.code());
    assert_eq!(codes, [Some(0), Some(0)]);
    here.assert_same_files(&dir);
}

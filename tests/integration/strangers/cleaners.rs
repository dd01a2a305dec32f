//! Cleaners of temporary files, and whatever else takes the private sockets of a server away.

use std::{
    fs::{self, File, FileTimes},
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::Signal;

use super::siege::{Siege, full_or};
use crate::harness::{Connection, Dir, PASSWORD, PATIENCE, Server, array, call, call_for, post, serve, string};

/// How many requests are under way at once in a round; each has a backend with a private socket of its own.
const CALLERS: usize = 40;

/// After this time without calls no backend is left.
const BACKENDS_GONE: Duration = Duration::from_secs(8);

/// How often the temporary directory is emptied at least.
const REMOVALS: usize = 100;

/// Removes everything below a directory, as `systemd-tmpfiles --clean` does. Returns how many entries it found.
fn clean(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().filter_map(Result::ok);
    let removed = entries.filter(|entry| {
        // The server may have been quicker.
        fs::remove_dir_all(entry.path()).is_ok()
    });
    removed.count()
}

/// Calls from many connections at once, each its own.
fn call_from_everywhere(url: &str) {
    let document = call_for(PASSWORD, url, 0, &array([""; 0]));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut connection = Connection::open(url);
                for _ in 0..5 {
                    connection.post("/RPC2", &document);
                    assert_eq!(connection.response().answer().peers(), [url]);
                }
            });
        }
    });
}

/// Says that the calls are over when it is dropped, by a failure too: else the cleaner would go on for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Empties the temporary directory until calls have been made in several waves, each of which opens backends anew.
#[test]
fn private_sockets_that_are_taken_away_cost_nothing() {
    let mut siege = Siege::new("a cleaner of temporary files");
    let directory = siege.server().temporary_path().to_owned();
    let (removals, found) = siege.endure(|url| {
        let calls_are_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let cleaner = scope.spawn(|| {
                let (mut removals, mut found) = (0, 0);
                while removals < REMOVALS || !calls_are_over.load(Ordering::Relaxed) {
                    found += clean(&directory);
                    removals += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                (removals, found)
            });
            let over = Over(&calls_are_over);
            call_from_everywhere(url);
            for _ in 1..full_or(5, 1) {
                thread::sleep(BACKENDS_GONE);
                call_from_everywhere(url);
            }
            drop(over);
            cleaner.join().unwrap()
        })
    });
    println!("{removals} removals, in which the cleaner found {found} private directories");
    let log = siege.server().log();
    assert!(!log.contains("error"), "{log}");
    siege.lift_and_recover();
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_server_leaves_no_temporary_files() {
    let dir = Dir::with([("small", &b"content"[..])]);
    let mut server = serve(&dir).start();
    for _ in 0..3 {
        call_from_everywhere(server.url());
    }
    let mut kept = Connection::open(server.url());
    kept.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("small")));
    assert_eq!(kept.response().answer().content(), b"content");
    server.stop(Signal::KILL, PATIENCE);
    assert_eq!(server.temporary_files(), [""; 0]);
}

/// Makes a directory look as if nobody had changed anything in it for ten days.
fn age(directory: &Path) {
    let days_ago = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
    let times = FileTimes::new().set_modified(days_ago).set_accessed(days_ago);
    File::open(directory).unwrap().set_times(times).unwrap();
}

#[test]
fn what_killed_servers_left_is_removed_by_the_next() {
    let (dir, temporary) = (Dir::with([("small", &b"content"[..])]), Dir::new());
    let socket = |directory: &str, name: &str| {
        fs::create_dir(temporary.join(directory)).unwrap();
        UnixListener::bind(temporary.join(directory).join(name)).unwrap()
    };
    // Of version 0.1, of one that was killed with its socket, and of one that was killed before it had one.
    drop(socket("tinyp2p-9pKuxA", "line-0"));
    drop(socket("tinyp2p-0123456789abcdef", "http"));
    fs::create_dir(temporary.join("tinyp2p-fedcba9876543210")).unwrap();
    // Of servers that live, of one that starts at this moment, and what is no server's.
    let _old = socket("tinyp2p-aaaaaa", "line-0");
    let _new = socket("tinyp2p-aaaaaaaaaaaaaaaa", "http");
    drop(socket("tinyp2p-bbbbbbbbbbbbbbbb", "http"));
    drop(socket("tinyp2p-cccccc", "other"));
    fs::create_dir(temporary.join("tinyp2p-dddddd")).unwrap();
    temporary.write("tinyp2p-dddddd/line-0", "somebody's file");
    fs::create_dir(temporary.join("tinyp2p-test-eeeeee")).unwrap();
    fs::create_dir(temporary.join("elsewhere")).unwrap();
    symlink("elsewhere", temporary.join("tinyp2p-ffffff")).unwrap();
    for name in temporary.names() {
        if name != "tinyp2p-bbbbbbbbbbbbbbbb" {
            age(&temporary.join(&name));
        }
    }
    let mut command = Command::new("sh");
    command.args(["-c", "TMPDIR=$1; export TMPDIR; shift; exec \"$@\"", "sh"]).arg(temporary.path());
    command.args([env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD, "server", "127.0.0.1", "0"]);
    let server = Server::with_command(&dir, command);
    assert_eq!(call(server.url(), 2, &string("small")).content(), b"content");
    let left = [
        "elsewhere",
        "tinyp2p-aaaaaa",
        "tinyp2p-aaaaaaaaaaaaaaaa",
        "tinyp2p-bbbbbbbbbbbbbbbb",
        "tinyp2p-cccccc",
        "tinyp2p-dddddd",
        "tinyp2p-ffffff",
        "tinyp2p-test-eeeeee",
    ];
    assert_eq!(temporary.names(), left);
}

/// Where that is not installed there is nothing to prove.
#[test]
fn a_server_with_the_default_directory_outlives_systemd_tmpfiles() {
    if Command::new("systemd-tmpfiles").arg("--version").output().is_err() {
        return;
    }
    let dir = Dir::with([("small", &b"content"[..])]);
    let mut command = Command::new("env");
    command.args(["-u", "TMPDIR", env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD, "server", "127.0.0.1", "0"]);
    let server = Server::with_command(&dir, command);
    // By age 0 it removes what is there, of ours alone: others use this directory, too.
    let rules = Dir::new();
    rules.write("rules.conf", format!("e /tmp/tinyp2p-{} - - - 0\n", "[0-9a-f]".repeat(16)));
    for _ in 0..3 {
        for _ in 0..10 {
            assert_eq!(call(server.url(), 2, &string("small")).content(), b"content");
        }
        let cleaned = Command::new("systemd-tmpfiles").arg("--clean").arg(rules.join("rules.conf")).output().unwrap();
        assert!(cleaned.status.success(), "{cleaned:?}");
        call_from_everywhere(server.url());
        assert_eq!(call(server.url(), 2, &string("small")).content(), b"content");
    }
    assert!(!server.log().contains("error"), "{server}");
}

#[test]
fn a_temporary_directory_that_goes_away_is_an_error_in_the_log_and_no_end() {
    let dir = Dir::with([("small", &b"content"[..])]);
    let server = serve(&dir).start();
    let directory = server.temporary_path();
    fs::remove_dir(directory).unwrap();
    // More large requests than are answered at once, and each finds that none has kept its permit.
    let many_peers = vec!["http://127.0.0.1:1".to_owned(); 1000];
    let large = call_for(PASSWORD, server.url(), 0, &array(many_peers.iter().map(String::as_str)));
    for _ in 0..10 {
        assert_eq!(post(server.url(), &large).status, 503);
    }
    let line = server.wait_for_log(&["error", directory.to_str().unwrap()]);
    assert!(line.contains("private socket"), "{line}");
    let errors = server.log().lines().filter(|line| line.contains("error")).count();
    assert_eq!(errors, 1, "{server}");
    fs::create_dir(directory).unwrap();
    assert_eq!(call(server.url(), 2, &string("small")).content(), b"content");
}

//! Machines that fail: processes that are killed at any moment, full disks, missing permission, no descriptors left,
//! directories that go away, files that change while they are sent. What has a name is whole, what is printed as saved
//! is safe, and what is broken is said.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::statvfs,
    process::{Pid, Signal, geteuid, kill_process},
};

use crate::harness::{
    Connection, Dir, FakePeer, Gate, PASSWORD, PATIENCE, Reply, Run, Running, Server, call, call_for, content_answer,
    download, eventually, full, is_partial, serve, string, wait_for_partial,
};

fn text(content: impl AsRef<[u8]>) -> Reply {
    Reply::content(content)
}

/// A client that a shell starts after these commands.
fn client_behind(commands: &str, url: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{commands}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tinyp2p")]);
    command.args(["--timeout", "10", PASSWORD, "client", url, ""]);
    command
}

/// Says that a case could not be tried here, and why.
pub(crate) fn skip(case: &str, why: &str) {
    eprintln!("SKIPPED: {case}: {why}");
}

// Clients that are killed.

#[test]
fn a_client_killed_at_any_moment_leaves_nothing_that_is_not_whole() {
    let kills = if full() { 200 } else { 12 };
    let shared = Dir::new();
    for number in 0..150_u32 {
        let line = format!("{number} ").repeat(3);
        shared.write(&format!("file{number:03}"), line.repeat(usize::try_from(number * number / 8).unwrap()));
    }
    let server = serve(&shared).start();
    let expected = shared.files();
    // The first run is the slowest; how long the others take is learnt from those that were over too early.
    let (mut here, begun) = (Dir::new(), Instant::now());
    download(&here, server.url()).run();
    let mut whole_run = begun.elapsed();
    here.assert_same_files(&shared);
    let (mut hits, mut misses, mut saved, mut left) = (0, 0, 0, 0);
    while hits < kills {
        if here.names().iter().filter(|name| !is_partial(name)).count() == expected.len() {
            here = Dir::new();
        }
        let run = download(&here, server.url()).start();
        // This pause is the case itself: any moment from before the first call to behind the last file.
        thread::sleep(whole_run.mul_f64(fastrand::f64()));
        run.signal(Signal::KILL);
        let run = run.finish();
        if run.code().is_none() {
            hits += 1;
            whole_run = whole_run.mul_f64(1.02);
        } else {
            misses += 1;
            whole_run = whole_run.mul_f64(0.8);
        }
        let found = here.files();
        for (name, content) in &found {
            if is_partial(name.to_str().unwrap()) {
                left += 1;
            } else {
                assert!(expected[name] == *content, "{name:?} is not whole\n{run}");
            }
        }
        for name in run.stdout.lines() {
            saved += 1;
            assert!(found.contains_key(OsStr::new(name)), "{name} was said to be saved\n{run}");
        }
    }
    let last = download(&here, server.url()).run();
    assert_eq!(last.code(), Some(0), "{last}");
    here.assert_same_files(&shared);
    assert_eq!(here.names(), shared.names(), "what the killed ones left is gone");
    eprintln!(
        "{hits} kills of a running client, {misses} came too late; {saved} names were printed before, {left} partial \
         files were left and reclaimed"
    );
}

#[test]
fn a_client_whose_reader_goes_away_saves_all_the_same() {
    let shared = Dir::new();
    (0..300).for_each(|number| shared.write(&format!("file{number}"), "content"));
    let (server, here) = (serve(&shared).start(), Dir::new());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args([PASSWORD, "client", server.url(), ""]);
    let run = Running::start_unheard(&here, command).finish();
    assert_eq!(run.code(), Some(0), "{run}");
    here.assert_same_files(&shared);
}

#[test]
fn what_cannot_be_printed_is_saved_and_is_a_failure() {
    let Ok(full_device) = OpenOptions::new().write(true).open("/dev/full") else {
        return skip("a full device as standard output", "no /dev/full");
    };
    let shared = Dir::new();
    (0..50).for_each(|number| shared.write(&format!("file{number}"), "content"));
    let (server, here) = (serve(&shared).start(), Dir::new());
    for words in [&[][..], &["--list"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
        command.args([PASSWORD, "client", server.url(), ""]).args(words);
        let run = Running::start_with(&here, command, full_device.try_clone().unwrap().into()).finish();
        let run = run.ends(1, &[], &["could not print to standard output: no space left on device"]);
        assert_eq!(run.stderr.matches("could not print").count(), 1, "{run}");
        if words.is_empty() {
            here.assert_same_files(&shared);
            here.names().iter().for_each(|name| fs::remove_file(here.join(name)).unwrap());
        }
    }
}

#[cfg(target_os = "linux")] // Elsewhere the queue of a listener is never full.
#[test]
fn ctrl_c_ends_a_client_in_every_phase() {
    let hole = crate::harness::FullPort::fill();
    let (here, gate) = (Dir::new(), Arc::new(Gate::default()));
    let interrupt = |phase: &str, run: Running| {
        let begun = Instant::now();
        run.signal(Signal::INT);
        let run = run.finish().ends(130, &[], &[]);
        assert!(begun.elapsed() < Duration::from_secs(15), "{phase}: {:?}", begun.elapsed());
        let lines = run.stderr.lines().filter(|line| !line.contains("of 'file' to resume within"));
        assert!(lines.count() <= 1, "{phase}: nobody is to blame\n{run}");
        assert!(here.names().iter().all(|name| is_partial(name)), "{phase}");
    };
    let called = |peer: &FakePeer| eventually("a call", PATIENCE, || (!peer.calls().is_empty()).then_some(()));

    let run = download(&here, &hole.url()).start();
    hole.wait_for_attempts(1);
    interrupt("connecting", run);

    let silent = FakePeer::new().on_peers(Reply::silence()).start();
    let run = download(&here, silent.url()).start();
    called(&silent);
    interrupt("waiting for the peer list", run);

    let silent = [(); 3].map(|()| FakePeer::new().on_names(Reply::silence()).start());
    let mut list: Vec<String> = silent.iter().map(|peer| peer.url().to_owned()).collect();
    list.push(hole.url());
    let given = FakePeer::new().on_peers(Reply::peers(list)).on_names(Reply::silence()).start();
    let run = download(&here, given.url()).start();
    silent.iter().for_each(called);
    hole.wait_for_attempts(1);
    interrupt("waiting for listings", run);

    let slow = Reply::bytes("x".repeat(4 << 20)).half_behind(&gate);
    let holders = FakePeer::sharing([("file", slow), ("nothing", Reply::silence())]);
    let run = download(&here, holders.url()).start();
    holders.wait_for_fetches(2);
    wait_for_partial(here.path());
    interrupt("fetching", run);
    gate.open();
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_cannot_be_reached_costs_one_silence_limit() {
    let hole = crate::harness::FullPort::fill();
    let here = Dir::new();
    let begun = Instant::now();
    let run = download(&here, &hole.url()).options(["--timeout", "1"]).run();
    run.ends(1, &[], &["could not connect", &hole.url()]).with_one_complaint();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_client_that_was_stopped_for_longer_than_the_limit_goes_on() {
    let gate = Arc::new(Gate::default());
    let peer = FakePeer::sharing([
        ("in the middle", Reply::bytes("x".repeat(4 << 20)).half_behind(&gate)),
        ("before the head", text("content").behind(&gate)),
    ]);
    let here = Dir::new();
    let run = download(&here, peer.url()).options(["--timeout", "2"]).start();
    wait_for_partial(here.path());
    peer.wait_for_fetches(2);
    run.signal(Signal::STOP);
    // The limit itself is what is waited for.
    thread::sleep(Duration::from_millis(2500));
    gate.open();
    run.signal(Signal::CONT);
    run.finish().ends(0, &["in the middle", "before the head"], &[]);
}

#[test]
fn a_client_that_is_interrupted_keeps_no_place_at_its_server() {
    let shared = Dir::new();
    for number in 0..4 {
        File::create(shared.join(&format!("file{number}"))).unwrap().set_len(1 << 40).unwrap();
    }
    // No limit ends what the client has left.
    let server = serve(&shared).options(["--timeout", "3600"]).start();
    let sent = || server.log().matches("could not send 'file").count();
    for round in 0..5 {
        let (here, before) = (Dir::new(), sent());
        let run = download(&here, server.url()).start();
        wait_for_partial(here.path());
        let under_way = here.names().len();
        run.signal(Signal::INT);
        run.finish().ends(130, &[], &[]);
        eventually(&format!("the end of {under_way} downloads, round {round}"), PATIENCE, || {
            (sent() >= before + under_way).then_some(())
        });
    }
}

// Servers that are killed.

/// A server that shares one file of this size, all holes.
fn server_of_holes(shared: &Dir, name: &str, size: u64) -> Server {
    File::create(shared.join(name)).unwrap().set_len(size).unwrap();
    serve(shared).start()
}

#[test]
fn a_server_that_dies_costs_the_file_or_nothing() {
    let (shared, spare) = (Dir::new(), Dir::with([("file", &b"content"[..])]));
    for has_another_holder in [true, false] {
        let here = Dir::new();
        // No client can have all of it before the server is dead.
        let mut dying = server_of_holes(&shared, "file", 1 << 40);
        let other = serve(&spare).start();
        let given = FakePeer::new();
        let mut list = vec![given.url().to_owned(), dying.url().to_owned()];
        list.extend(has_another_holder.then(|| other.url().to_owned()));
        let given = given.on_peers(Reply::peers(list)).start();
        let run = download(&here, given.url()).options(["-v"]).start();
        wait_for_partial(here.path());
        dying.stop(Signal::KILL, PATIENCE);
        let run = run.finish();
        if has_another_holder {
            run.ends(0, &["file"], &[]);
            assert_eq!(here.files().into_values().collect::<Vec<_>>(), [b"content"]);
        } else {
            let told = ["'file'", dying.url(), "after ", "it is tried again in a second", "could not connect", "kept "];
            run.ends(1, &[], &told);
            assert!(here.names().len() == 1 && is_partial(&here.names()[0]), "{:?}", here.names());
        }
    }
}

#[test]
fn a_server_that_ends_while_many_files_come_is_named_once_for_all() {
    let shared = Dir::new();
    for number in 0..40 {
        File::create(shared.join(&format!("file{number}"))).unwrap().set_len(1 << 40).unwrap();
    }
    let mut server = serve(&shared).start();
    let here = Dir::new();
    let run = download(&here, server.url()).options(["--timeout", "1"]).start();
    wait_for_partial(here.path());
    server.stop(Signal::KILL, PATIENCE);
    let run = run.finish().ends(1, &[], &[server.url(), "gave up", "40 failed"]);
    assert!(run.stderr.lines().count() < 30, "{run}");
    assert!(here.names().iter().all(|name| is_partial(name)), "{:?}", here.names());
}

/// Behind a relay, a server that has ended looks like one that takes each connection and says nothing.
#[test]
fn a_peer_that_only_breaks_off_is_given_up() {
    let names: Vec<String> = (0..100).map(|number| format!("file{number}")).collect();
    let peer = names.iter().fold(FakePeer::new(), |peer, name| peer.file(name, Reply::raw([]))).start();
    let here = Dir::new();
    let run = download(&here, peer.url()).run().ends(1, &[], &["gave up", peer.url(), "100 failed"]);
    assert!(run.stderr.lines().count() < 60, "{run}");
    assert!(peer.fetched().len() < 60, "{:?}", peer.fetched());
}

// Disks that are full.

#[test]
fn a_file_beyond_the_limit_of_its_size_is_a_failure_and_no_death() {
    let peer = FakePeer::sharing([
        ("large", text("x".repeat(1 << 20))),
        ("large in pieces", text("x".repeat(1 << 20)).paced(10_000, Duration::ZERO)),
        ("small", text("content")),
        ("also small", text("x".repeat(10_000))),
    ]);
    // The signal that comes with the error ends those who do not care for it.
    for commands in ["ulimit -f 64", "trap '' XFSZ; ulimit -f 64"] {
        let here = Dir::new();
        let run = Running::start(&here, client_behind(commands, peer.url())).finish();
        run.ends(1, &["small", "also small"], &["could not save 'large': file too large", "'large in pieces'"]);
        assert_eq!(here.names(), ["also small", "small"]);
    }
}

/// Whether a disk that only some processes see can be mounted.
pub(crate) fn can_mount() -> bool {
    let probe =
        Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

/// A client in a directory of its own that has only so much room, and the directory as it is seen from here; nothing
/// where that cannot be made.
fn client_on_small_disk(here: &Dir, kib: usize, words: &[&str], url: &str) -> Option<(Running, PathBuf)> {
    if !can_mount() {
        skip("a full disk", "needs root, unshare and mount");
        return None;
    }
    // The mount is seen by these processes alone and gone with them. The shell waits until it is told to end, so that
    // the directory can be looked at.
    let script = format!(
        "mount -t tmpfs -o size={kib}k tmpfs \"$PWD\" && cd \"$PWD\" && \"$0\" \"$@\"; status=$?; touch ../ended; \
         while test ! -e ../seen; do sleep 0.01; done; exit $status"
    );
    fs::create_dir(here.join("disk")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("cd disk; {script}"), env!("CARGO_BIN_EXE_tinyp2p")]);
    command.args([PASSWORD, "client", url, ""]).args(words);
    let run = Running::start(here, command);
    let disk = PathBuf::from(format!("/proc/{}/cwd", run.pid()));
    eventually("the small disk", PATIENCE, || {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", run.pid())).unwrap_or_default();
        mounts.contains(here.join("disk").to_str().unwrap()).then_some(())
    });
    Some((run, disk))
}

/// Waits for the end of a client on a small disk: how it ended, and the names and sizes of what is there.
fn see_small_disk(here: &Dir, run: Running, disk: &Path) -> (Run, Vec<(String, u64)>) {
    eventually("the client's end", PATIENCE, || here.join("ended").exists().then_some(()));
    let mut files: Vec<_> = fs::read_dir(disk)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    here.write("seen", "");
    (run.finish(), files)
}

#[test]
fn a_full_disk_costs_what_has_no_room_and_nothing_else() {
    let (here, content) = (Dir::new(), "x".repeat(100_000));
    let small: Vec<String> = (0..10).map(|number| format!("small{number}")).collect();
    let peer = small.iter().fold(FakePeer::new(), |peer, name| peer.file(name, text(&content)));
    let peer = peer.file("large", text("x".repeat(4 << 20))).start();
    let Some((run, disk)) = client_on_small_disk(&here, 2048, &[], peer.url()) else { return };
    let (run, files) = see_small_disk(&here, run, &disk);
    let saved: Vec<&str> = small.iter().map(String::as_str).collect();
    run.ends(1, &saved, &["could not save 'large': no space left on device"]);
    assert_eq!(files, small.into_iter().map(|name| (name, 100_000)).collect::<Vec<_>>());
    assert_eq!(peer.fetched().iter().filter(|name| *name == "large").count(), 2, "it is tried once more at the end");
}

#[test]
fn what_found_no_room_is_tried_once_more_when_there_may_be_some() {
    let here = Dir::new();
    let (begin, end) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let content = "x".repeat(1_500_000);
    // The first takes nearly all room and comes to nothing; the second starts when that room is taken.
    let document = content_answer(format!("<string>{content}"));
    let broken = Reply::without_length(&document[..document.len() - 100]).ended_behind(&end);
    let whole = text(&content).behind(&begin);
    let peer = FakePeer::sharing([("broken", broken), ("second", whole), ("third", text("content"))]);
    let Some((run, disk)) = client_on_small_disk(&here, 2048, &["--jobs", "2"], peer.url()) else { return };
    eventually("the first, which has no name", PATIENCE, || {
        let room = statvfs(&disk).unwrap();
        ((room.f_blocks - room.f_bfree) * room.f_frsize > 1_200_000).then_some(())
    });
    begin.open();
    // The third has its turn when the second has failed.
    peer.wait_for_fetches(3);
    end.open();
    let (run, files) = see_small_disk(&here, run, &disk);
    run.ends(1, &["second", "third"], &["'broken' is not here"]);
    assert_eq!(files, [("second".to_owned(), 1_500_000), ("third".to_owned(), 7)]);
    assert_eq!(peer.fetched()[2..], ["third", "second"]);
}

#[test]
fn nothing_is_kept_of_a_file_for_which_there_is_no_room() {
    let (here, shared) = (Dir::new(), Dir::with([("large", &*vec![b'x'; 8 << 20]), ("small", b"content")]));
    let server = serve(&shared).start();
    let Some((run, disk)) = client_on_small_disk(&here, 4096, &[], server.url()) else { return };
    let (run, files) = see_small_disk(&here, run, &disk);
    let run = run.ends(1, &["small"], &["could not save 'large': no space left on device"]);
    assert!(!run.stderr.contains("kept"), "{run}");
    assert_eq!(files, [("small".to_owned(), 7)]);
}

// Directories that give way.

#[test]
fn a_directory_that_cannot_be_written_is_a_failure_at_once() {
    let (here, peer) = (Dir::new(), FakePeer::new().never_called().start());
    let script = if geteuid().is_root() {
        "mount --bind \"$PWD\" \"$PWD\" && mount -o remount,bind,ro \"$PWD\" && cd \"$PWD\""
    } else {
        "chmod 555 ."
    };
    let client = client_behind(script, peer.url());
    let mut command = if geteuid().is_root() { Command::new("unshare") } else { Command::new("env") };
    if geteuid().is_root() {
        let can_unshare = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
        if !can_unshare.is_ok_and(|status| status.success()) {
            return skip("a read-only directory", "root needs unshare for that");
        }
        command.arg("-m");
    }
    command.arg(client.get_program()).args(client.get_args());
    let run = Running::start(&here, command).finish();
    let why = if geteuid().is_root() { "read-only file system" } else { "permission denied" };
    run.ends(1, &[], &["could not use directory '.'", why]).with_one_complaint();
    assert_eq!(here.names(), [""; 0]);
}

/// A server that shares a directory and is not root, to whom every file would be readable.
pub(crate) fn serve_unprivileged(shared: &Dir) -> Server {
    if !geteuid().is_root() {
        return serve(shared).start();
    }
    // Where others may run it.
    let program = shared.join(".program");
    // By another process: while this one writes, what another test starts would hold the file open.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tinyp2p")).arg(&program).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(shared.path(), PermissionsExt::from_mode(0o755)).unwrap();
    Server::as_nobody(shared, &program, &[PASSWORD, "server", "127.0.0.1", "0"])
}

#[test]
fn a_file_that_may_not_be_read_is_left_out_and_told() {
    let shared = Dir::with([("secret", &b"secret"[..]), ("file", b"content")]);
    let forbid = |name: &str, mode| fs::set_permissions(shared.join(name), PermissionsExt::from_mode(mode)).unwrap();
    forbid("secret", 0o000);
    let server = serve_unprivileged(&shared);
    server.wait_for_log(&["warning: not shared: 1 file that this user may not read (-v names them)"]);
    let names = || call(server.url(), 1, &string("^[fls]")).names();
    assert_eq!(names(), ["file"]);
    let here = Dir::new();
    download(&here, server.url()).pattern("^[fs]").run().ends(0, &["file"], &[]);
    let fault = call(server.url(), 2, &string("secret")).fault();
    assert_eq!(fault.text, "could not open 'secret': permission denied");
    server.wait_for_log(&["warning: could not open 'secret': permission denied; 127.0.0.1 gets a fault"]);
    // One that comes later is known when it has failed, and one that may be read again is shared again.
    shared.write("later", "later");
    forbid("later", 0o000);
    call(server.url(), 2, &string("later")).fault();
    assert_eq!(names(), ["file"]);
    forbid("secret", 0o644);
    assert_eq!(names(), ["file", "secret"]);
    assert_eq!(call(server.url(), 2, &string("secret")).content(), b"secret");
}

#[test]
fn a_directory_that_is_removed_ends_the_run_and_does_not_come_back() {
    let (outer, gate) = (Dir::new(), Arc::new(Gate::default()));
    let here = outer.join("here");
    fs::create_dir(&here).unwrap();
    let slow = || Reply::bytes("x".repeat(4 << 20)).half_behind(&gate);
    let peer = FakePeer::sharing([("a", slow()), ("b", slow()), ("c", slow()), ("d", slow()), ("e", slow())]);
    let run = download(&outer, peer.url()).options(["--dir", here.to_str().unwrap()]).start();
    peer.wait_for_fetches(4);
    wait_for_partial(&here);
    fs::remove_dir_all(&here).unwrap();
    gate.open();
    let run = run.finish().ends(1, &[], &["could not save '", "no such file or directory"]);
    assert_eq!(run.stderr.matches("could not save").count(), 1, "it is said once for all\n{run}");
    assert_eq!(outer.names(), [""; 0]);
}

#[test]
fn a_client_gets_along_with_few_descriptors() {
    let shared = Dir::new();
    for number in 0..200 {
        shared.write(&format!("file{number}"), format!("content {number} ").repeat(number * 10));
    }
    let servers: Vec<Server> = (0..12).map(|_| serve(&shared).start()).collect();
    let given = FakePeer::new();
    let list: Vec<String> =
        [given.url()].into_iter().chain(servers.iter().map(Server::url)).map(str::to_owned).collect();
    let given = given.on_peers(Reply::peers(list)).start();
    for descriptors in [18, 20, 24, 32, 48] {
        let here = Dir::new();
        let run = Running::start(&here, client_behind(&format!("ulimit -n {descriptors}"), given.url())).finish();
        assert_eq!(run.code(), Some(0), "{descriptors} descriptors\n{run}");
        here.assert_same_files(&shared);
    }
}

#[test]
fn a_server_without_descriptors_says_so() {
    let (dir, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    for descriptors in [6, 8, 13, 23] {
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD, "server", "127.0.0.1", "0"]);
        let told = format!(
            "tinyp2p: at most {descriptors} files may be open at once, and a server needs 24 (ulimit -n raises that)\n"
        );
        let run = Running::start(&dir, command).finish().ends(1, &[], &[]);
        assert_eq!(run.stderr, told, "{run}");
    }
    let server = serve(&dir).descriptors(24).start();
    download(&here, server.url()).run().ends(0, &["file"], &[]);
}

#[test]
fn a_client_without_descriptors_says_so() {
    let (here, peer) = (Dir::new(), FakePeer::sharing([("file", text("content"))]));
    let mut failures = 0;
    for descriptors in 4..=18 {
        let run = Running::start(&here, client_behind(&format!("ulimit -n {descriptors}"), peer.url())).finish();
        if !run.stderr.contains("tinyp2p: ") {
            // Too few to start any program at all.
            continue;
        }
        if run.code() == Some(0) {
            assert_eq!(here.read("file"), b"content");
            fs::remove_file(here.join("file")).unwrap();
        } else {
            failures += 1;
            run.ends(1, &[], &["too many open files"]);
        }
        assert_eq!(here.names(), [""; 0], "{descriptors} descriptors");
    }
    assert!(failures > 0, "this program takes no descriptors");
}

// Power that fails.

/// A system call that a traced client made.
struct Traced {
    call: String,
    /// The line on which it began and the one on which it had returned.
    begun: usize,
    ended: usize,
}

/// The calls of a client that had no errors, in the order in which they returned; nothing where nothing can be traced.
fn trace(here: &Dir, traced: &str, url: &str) -> Option<(Run, Vec<Traced>)> {
    let (outer, filter) = (Dir::new(), format!("trace={traced}"));
    let log = outer.join("trace");
    let run = run_traced(here, &["-y", "-s", "100000", "-e", &filter, "-o", log.to_str().unwrap()], url)?;
    let (mut calls, mut pending) = (Vec::new(), HashMap::new());
    for (number, line) in fs::read_to_string(log).unwrap().lines().enumerate() {
        let (pid, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            pending.insert(pid.to_owned(), (start.to_owned(), number));
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let (start, begun) = pending.remove(pid).unwrap();
            calls.push(Traced { call: start + end, begun, ended: number });
        } else {
            calls.push(Traced { call: rest.to_owned(), begun: number, ended: number });
        }
    }
    Some((run, calls))
}

/// Runs a client under strace; nothing where nothing can be traced.
fn run_traced(here: &Dir, words: &[&str], url: &str) -> Option<Run> {
    start_traced(here, words, url).map(Running::finish)
}

fn start_traced(here: &Dir, words: &[&str], url: &str) -> Option<Running> {
    let can_trace = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !can_trace.is_ok_and(|status| status.success()) {
        skip("what reaches the disk, and when", "strace is not there or may not trace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(words).arg(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args([PASSWORD, "client", url, ""]);
    Some(Running::start(here, command))
}

fn shared_files(count: usize) -> Dir {
    let shared = Dir::new();
    (0..count).for_each(|number| shared.write(&format!("file{number:02}"), format!("content {number}")));
    shared
}

/// Adds files that are large enough to be resumed.
fn large_files(shared: &Dir, count: usize) {
    (0..count)
        .for_each(|number| shared.write(&format!("large{number:02}"), format!("content {number} ").repeat(150_000)));
}

#[test]
fn content_is_synced_before_it_gets_its_name_and_the_name_before_it_is_printed() {
    let (shared, here) = (shared_files(30), Dir::new());
    large_files(&shared, 10);
    let server = serve(&shared).start();
    let traced = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat";
    let Some((run, calls)) = trace(&here, traced, server.url()) else { return };
    assert_eq!(run.code(), Some(0), "{run}");
    let (mut written, mut synced) = (HashMap::new(), HashMap::new());
    let (mut named, mut directory_synced) = (HashMap::new(), Vec::new());
    let mut printed = HashMap::new();
    // What was last written to under each descriptor, for a file without a name is called by that.
    let mut written_by = HashMap::new();
    // What a partial file was called before it could be resumed.
    let mut resumable = HashMap::new();
    let directory = here.path().to_str().unwrap();
    for Traced { call, begun, ended } in &calls {
        let path = || call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap().0.to_owned();
        if call.starts_with("write(1<") {
            let text = call.split('"').nth(1).unwrap();
            text.split_terminator("\\n").for_each(|name| _ = printed.insert(name.to_owned(), *begun));
        } else if call.starts_with("write(") || call.starts_with("pwrite64(") {
            written.insert(path(), *ended);
            let descriptor = call.split_once('(').and_then(|(_, rest)| rest.split_once('<')).unwrap().0;
            written_by.insert(descriptor.to_owned(), path());
        } else if call.starts_with("fsync(") || call.starts_with("fdatasync(") {
            assert!(call.ends_with(" = 0"), "{call}");
            if path() == directory {
                directory_synced.push((*begun, *ended));
            } else {
                synced.insert(path(), *ended);
            }
        } else {
            let [from, whole] = call.split('"').skip(1).step_by(2).collect::<Vec<_>>()[..] else { panic!("{call}") };
            let from = match from.strip_prefix("/proc/self/fd/") {
                Some(descriptor) => written_by.get(descriptor).cloned().unwrap_or_default(),
                None if from.is_empty() => path(),
                None => resumable.get(from).cloned().unwrap_or(from.to_owned()),
            };
            // One that can be resumed, or a trial whether files without a name can get one.
            if whole.contains(".tinyp2p-") {
                resumable.insert(whole.to_owned(), from);
                continue;
            }
            assert!(call.ends_with(" = 0"), "{call}");
            named.insert(whole.rsplit('/').next().unwrap().to_owned(), (from, *begun, *ended));
        }
    }
    assert_eq!(named.keys().collect::<HashSet<_>>(), shared.names().iter().collect(), "names given");
    assert_eq!(printed.keys().collect::<HashSet<_>>(), named.keys().collect(), "names printed");
    for (name, (partial, begun, ended)) in &named {
        assert!(written[partial] < synced[partial], "{name}: written to after the sync");
        assert!(synced[partial] < *begun, "{name}: has its name before it is synced");
        let is_durable = directory_synced.iter().any(|sync| *ended < sync.0 && sync.1 < printed[name]);
        assert!(is_durable, "{name}: printed before the directory is synced");
    }
    eprintln!("{} names, {} syncs of content, {} of the directory", named.len(), synced.len(), directory_synced.len());
}

#[test]
fn what_cannot_be_synced_or_named_is_not_there() {
    let (small, shared) = (shared_files(5), Dir::new());
    large_files(&shared, 5);
    let (small_server, server) = (serve(&small).start(), serve(&shared).start());
    // The first that is named by a link is a trial.
    for (url, fault) in [
        (small_server.url(), "fdatasync:error=EIO"),
        (small_server.url(), "linkat:error=EIO:when=2+"),
        (server.url(), "fdatasync:error=EIO"),
        (server.url(), "renameat2:error=EIO"),
    ] {
        let here = Dir::new();
        let inject = format!("inject={fault}");
        let Some(run) = run_traced(&here, &["-e", &inject, "-o", "/dev/null"], url) else { return };
        run.ends(1, &[], &["could not save '", "input/output error"]);
        assert!(here.names().iter().all(|name| is_partial(name)), "{fault}: {:?}", here.names());
    }
    // Names that may not last are not printed, though the files are whole.
    let here = Dir::new();
    let words = ["-e", "inject=fsync:error=EIO", "-o", "/dev/null"];
    run_traced(&here, &words, server.url()).unwrap().ends(1, &[], &["could not save 'large0", "input/output error"]);
    let whole = here.names().into_iter().filter(|name| !is_partial(name));
    whole.for_each(|name| assert!(here.read(&name) == shared.read(&name), "{name}"));
    // A file system that cannot rename without replacing: by a link then, with the same end.
    let here = Dir::new();
    let words = ["-e", "inject=renameat2:error=EINVAL", "-o", "/dev/null"];
    let saved = shared.names();
    let saved: Vec<&str> = saved.iter().map(String::as_str).collect();
    run_traced(&here, &words, server.url()).unwrap().ends(0, &saved, &[]);
    here.assert_same_files(&shared);
    // One that names no file that has no name: by partial names then.
    let here = Dir::new();
    let words = ["-e", "inject=linkat:error=EPERM", "-o", "/dev/null"];
    let saved = small.names();
    let saved: Vec<&str> = saved.iter().map(String::as_str).collect();
    run_traced(&here, &words, small_server.url()).unwrap().ends(0, &saved, &[]);
    here.assert_same_files(&small);
}

#[test]
fn a_disk_that_is_found_full_only_at_the_sync_costs_what_has_no_room() {
    let (shared, here) = (shared_files(3), Dir::new());
    let server = serve(&shared).options(["-v"]).start();
    let words = ["-e", "inject=fdatasync:error=ENOSPC", "-o", "/dev/null"];
    let Some(run) = run_traced(&here, &words, server.url()) else { return };
    let told = ["'file00': no space left on device", "'file01': no space", "'file02': no space", "3 failed"];
    run.ends(1, &[], &told);
    assert_eq!(here.names(), [""; 0]);
    eventually("a second try of each", PATIENCE, || {
        (server.log().matches("sent 'file").count() == 2 * shared.names().len()).then_some(())
    });
}

#[test]
fn ctrl_c_ends_a_client_that_waits_for_the_disk() {
    let here = Dir::new();
    let peer = FakePeer::sharing([("file", Reply::bytes("content ".repeat(300_000)))]);
    // The tracer holds the client to the end of the delay, but a client that waited for that would have saved the file.
    let words = ["-e", "inject=fdatasync:delay_enter=4000000", "-o", "/dev/null"];
    let Some(run) = start_traced(&here, &words, peer.url()) else { return };
    wait_for_partial(here.path());
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let client: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(client).unwrap(), Signal::INT).unwrap();
    run.finish().ends(130, &[], &[]);
    assert!(here.names().iter().all(|name| is_partial(name)), "{:?} was not synced", here.names());
    download(&here, peer.url()).run().ends(0, &["file"], &[]);
    assert_eq!(here.names(), ["file"]);
}

// Files that change while they are sent.

/// What a server sends of a file to which something happens when the first half MiB has come.
fn fetch_during(server: &Server, name: &str, accepts_raw: bool, happens: impl FnOnce()) -> (u64, Vec<u8>) {
    let mut connection = Connection::open(server.url());
    let document = call_for(PASSWORD, server.url(), 2, &string(name));
    let accept = if accepts_raw { "Accept: application/octet-stream\r\n" } else { "" };
    let length = document.len();
    let head = format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\n{accept}Content-Length: {length}\r\n\r\n");
    assert!(connection.send([head.as_bytes(), document.as_bytes()].concat()));
    let announced = connection.head().header("Content-Length").unwrap().parse().unwrap();
    let mut body = vec![0; 512 << 10];
    connection.stream().read_exact(&mut body).unwrap();
    happens();
    // A connection that was cut may end in an error.
    _ = connection.stream().take(announced - body.len() as u64).read_to_end(&mut body);
    (announced, body)
}

/// More than the buffers of two sockets hold.
const SIZE: usize = 16 << 20;

/// What happens to a file.
type Change = fn(&Path);

#[test]
fn a_file_that_changes_while_it_is_sent_arrives_whole_as_it_was_or_is_cut() {
    let binary: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
    let letters: Vec<u8> = (0..SIZE).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let changes: &[(&str, bool, Change)] = &[
        ("truncated", false, |path| OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("emptied", false, |path| drop(File::create(path).unwrap())),
        ("grown", false, |path| {
            OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("overwritten", false, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(b"other", SIZE as u64 - 1000).unwrap();
        }),
        ("overwritten where it was sent", false, |path| {
            OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"other", 0).unwrap();
        }),
        ("replaced", true, |path| {
            fs::write(path.with_extension("new"), "other").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("deleted", true, |path| fs::remove_file(path).unwrap()),
        ("made unreadable", true, |path| {
            fs::set_permissions(path, PermissionsExt::from_mode(0o000)).unwrap();
        }),
        ("linked", true, |path| fs::hard_link(path, path.with_extension("link")).unwrap()),
        ("left with its directory", true, |path| {
            let parent = path.parent().unwrap();
            fs::rename(parent, parent.with_extension("away")).unwrap();
            fs::create_dir(parent).unwrap();
        }),
    ];
    for (form, content) in [("raw", &binary), ("base64", &binary), ("text", &letters)] {
        for (how, arrives, change) in changes {
            let outer = Dir::new();
            let shared = outer.join("shared");
            fs::create_dir(&shared).unwrap();
            fs::write(shared.join("file"), content).unwrap();
            let server = Server::with_words(&outer, &["--dir", "shared", PASSWORD, "server", "127.0.0.1", "0"]);
            let (announced, body) = fetch_during(&server, "file", form == "raw", || change(&shared.join("file")));
            let is_whole = body.len() as u64 == announced;
            assert_eq!(is_whole, *arrives, "{form} {how}: {} of {announced} bytes\n{server}", body.len());
            if is_whole {
                let received = if form == "raw" { body } else { crate::harness::Answer::parse(&body).content() };
                assert!(received == *content, "{form} {how}: another content");
            }
            fs::write(shared.join("next"), "content").unwrap();
            assert_eq!(call(server.url(), 2, &string("next")).content(), b"content", "{form} {how}: it goes on");
        }
    }
}

#[test]
fn a_shared_directory_may_go_away_and_come_back() {
    let outer = Dir::new();
    fs::create_dir(outer.join("shared")).unwrap();
    fs::write(outer.join("shared").join("file"), "content").unwrap();
    let server = Server::with_words(&outer, &["--dir", "shared", PASSWORD, "server", "127.0.0.1", "0"]);
    let here = Dir::new();
    for _ in 0..2 {
        assert_eq!(call(server.url(), 1, &string("")).names(), ["file"]);
        fs::rename(outer.join("shared"), outer.join("away")).unwrap();
        let fault = call(server.url(), 1, &string("")).fault();
        assert!(fault.text.contains("no such file") && !fault.text.contains("shared"), "{fault:?}");
        let fault = call(server.url(), 2, &string("file")).fault();
        assert!(fault.text.contains("no such file"), "{fault:?}");
        download(&here, server.url()).run().ends(1, &[], &["could not list", "no such file"]);
        fs::rename(outer.join("away"), outer.join("shared")).unwrap();
    }
    // Another directory under the same name is as good.
    fs::remove_dir_all(outer.join("shared")).unwrap();
    fs::create_dir(outer.join("shared")).unwrap();
    fs::write(outer.join("shared").join("other"), "content").unwrap();
    download(&here, server.url()).run().ends(0, &["other"], &[]);
}

// Many in one directory.

#[test]
fn a_server_in_the_directory_of_a_client_shares_only_what_is_whole() {
    let (here, gate) = (Dir::with([("old", &b"content"[..])]), Arc::new(Gate::default()));
    let server = serve(&here).start();
    let peer = FakePeer::sharing([("new", Reply::bytes("x".repeat(4 << 20)).half_behind(&gate))]);
    let run = download(&here, peer.url()).start();
    let partial = wait_for_partial(here.path());
    let partial = partial.file_name().unwrap().to_str().unwrap();
    assert_eq!(call(server.url(), 1, &string("")).names(), ["old"]);
    assert!(call(server.url(), 2, &string(partial)).fault().text.contains("partial"), "it was asked for by its name");
    gate.open();
    run.finish().ends(0, &["new"], &[]);
    assert_eq!(call(server.url(), 1, &string("")).names(), ["new", "old"]);
    assert_eq!(call(server.url(), 2, &string("new")).content().len(), 4 << 20);
}

#[test]
fn clients_and_servers_in_one_directory_end_with_each_file_once() {
    let (shared, here) = (Dir::new(), Dir::new());
    for number in 0..60 {
        shared.write(&format!("file{number}"), format!("content {number} ").repeat(number * 50));
    }
    let origin = serve(&shared).start();
    let beside = serve(&here).peers([origin.url()]).start();
    beside.wait_for_log(&["joined"]);
    let begun = Instant::now();
    let runs = [(); 3].map(|()| download(&here, beside.url()).start());
    // Whatever the server lists meanwhile is whole.
    let mut looks = 0;
    while here.names().iter().filter(|name| !is_partial(name)).count() < 60 && begun.elapsed() < PATIENCE {
        for name in call(beside.url(), 1, &string("")).names() {
            assert_eq!(call(beside.url(), 2, &string(&name)).content(), shared.read(&name), "{name}");
            looks += 1;
        }
    }
    let mut saved = Vec::new();
    for run in runs {
        let run = run.finish();
        saved.extend(run.stdout.lines().map(str::to_owned));
        assert_eq!(run.code(), Some(0), "{run}");
    }
    saved.sort();
    assert_eq!(saved, shared.names(), "each name is said once");
    here.assert_same_files(&shared);
    eprintln!("{looks} files were fetched while they came");
}

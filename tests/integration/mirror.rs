//! Servers that mirror: what they fetch and when, what they never do, and what bad peers cost them.
//!
//! A mirror that runs each second asks for a rest of a tenth of one; ages of hours stand for all times that matter.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Signal;

use crate::{
    faults::{can_mount, skip},
    harness::{
        Dir, FakePeer, PASSWORD, PATIENCE, Reply, Serve, Server, eventually, is_partial, peak_memory, serve,
        serve_python, tinyp2p,
    },
    large::{hold, wire},
    packs::{file, pack},
};

const MIB: usize = 1 << 20;

/// A mirror of everything that runs each second.
fn mirror(dir: &Dir) -> Serve<'_> {
    serve(dir).options(["--mirror", "", "--mirror-every", "1", "-v"])
}

/// Writes a file that was last changed an hour ago.
fn write_rested(dir: &Dir, name: &str, content: impl AsRef<[u8]>) {
    dir.write(name, content);
    let file = File::options().write(true).open(dir.join(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
}

#[track_caller]
fn wait_for(dir: &Dir, name: &str, content: &[u8]) {
    eventually(name, PATIENCE, || (fs::read(dir.join(name)).ok()? == content).then_some(()));
}

/// Waits until a mirror has made so many more runs.
fn wait_for_runs(server: &Server, count: usize) {
    let runs = || server.log().matches("already here, ").count();
    let before = runs();
    eventually("runs of a mirror", PATIENCE, || (runs() >= before + count).then_some(()));
}

#[test]
fn all_have_all_whoever_had_it_first() {
    let dirs = [Dir::new(), Dir::new(), Dir::new(), Dir::new()];
    for (number, dir) in dirs.iter().enumerate() {
        write_rested(dir, &format!("first {number}"), format!("content {number}"));
        write_rested(dir, "same name", format!("own content {number}"));
    }
    let first = mirror(&dirs[0]).start();
    let second = mirror(&dirs[1]).peers([first.url()]).start();
    let _third = mirror(&dirs[2]).peers([first.url()]).start();
    let _python = serve_python(&dirs[3]).peers([first.url()]).start();
    let wait_for_all = |what: &str| {
        for (dir, number) in dirs[..3].iter().flat_map(|dir| (0..4).map(move |number| (dir, number))) {
            wait_for(dir, &format!("{what} {number}"), format!("content {number}").as_bytes());
        }
    };
    wait_for_all("first");
    for (number, dir) in dirs.iter().enumerate() {
        dir.write(&format!("later {number}"), format!("content {number}"));
    }
    wait_for_all("later");
    for (number, dir) in dirs[..3].iter().enumerate() {
        assert_eq!(dir.read("same name"), format!("own content {number}").as_bytes(), "each keeps its own");
        assert_eq!(dir.names().len(), 9);
    }
    let line = second.wait_for_log(&["mirrored ", " files, "]);
    assert!(line.ends_with(", 0 failed"), "{line}");
    assert!(!second.log().contains("stdout: "), "standard output has the own URL alone");
}

#[test]
fn what_is_still_being_written_is_left_alone() {
    // At this period the rest is six seconds, and the first run comes after one.
    let here = Dir::new();
    let peer = FakePeer::new()
        .on_index(Reply::names(["5 5 young", "5 6 old"]))
        .file("young", Reply::content("12345"))
        .file("old", Reply::content("12345"))
        .start();
    let server = serve(&here).options(["--mirror", "", "--mirror-every", "60"]).peers([peer.url()]).start();
    server.wait_for_log(&["mirrored 1 file, 5 B"]);
    assert_eq!((peer.fetched(), here.names()), (vec!["old".to_owned()], vec!["old".to_owned()]));
}

#[test]
fn a_file_that_grows_is_mirrored_when_it_has_rested_and_whole() {
    let [there, here] = [Dir::new(), Dir::new()];
    let server = serve(&there).start();
    let _mirror = serve(&here).options(["--mirror", "", "--mirror-every", "5"]).peers([server.url()]).start();
    let begun = Instant::now();
    // The rest is half a second, and ages are told in whole ones. On a machine that stops for so long nothing is shown.
    let (mut content, mut written) = (Vec::new(), Instant::now());
    while begun.elapsed() < Duration::from_secs(6) && written.elapsed() < Duration::from_millis(500) {
        written = Instant::now();
        content.extend_from_slice(b"a frame of the film");
        there.write("film", &content);
        assert!(!here.join("film").exists(), "a part of it is here after {:?}", begun.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    wait_for(&here, "film", &content);
}

#[test]
fn what_was_deleted_here_is_fetched_again_only_after_a_restart() {
    let [there, here] = [Dir::new(), Dir::new()];
    write_rested(&there, "file", "content");
    write_rested(&here, "own", "content");
    let server = mirror(&there).start();
    let mut first = mirror(&here).peers([server.url()]).start();
    wait_for(&here, "file", b"content");
    wait_for(&there, "own", b"content");
    for name in ["file", "own"] {
        fs::remove_file(here.join(name)).unwrap();
    }
    write_rested(&there, "later", "content");
    wait_for(&here, "later", b"content");
    wait_for_runs(&first, 2);
    assert_eq!(here.names(), ["later"]);
    assert_eq!(there.names(), ["file", "later", "own"], "deleted elsewhere, nothing happens here");
    first.stop(Signal::TERM, PATIENCE);
    let _second = mirror(&here).peers([server.url()]).start();
    wait_for(&here, "file", b"content");
    wait_for(&here, "own", b"content");
}

#[test]
fn a_peer_without_an_index_must_have_listed_a_name_for_a_period() {
    let here = Dir::new();
    let peer = FakePeer::sharing([("file", Reply::content("content"))]);
    let options = ["--mirror", "", "--mirror-every", "2", "-v"];
    let begun = Instant::now();
    let _server = serve(&here).options(options).peers([peer.url()]).start();
    wait_for(&here, "file", b"content");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn what_no_holder_can_send_is_not_asked_for_again_soon() {
    let here = Dir::new();
    let peer = FakePeer::new()
        .on_index(Reply::names(["5 3600 refused", "5 3600 liar"]))
        .file("refused", Reply::fault("no"))
        .file("liar", Reply::content("x".repeat(MIB)))
        .start();
    let server = mirror(&here).peers([peer.url()]).start();
    server.wait_for_log(&["mirrored 0 files", "2 failed"]);
    wait_for_runs(&server, 2);
    let mut fetched = peer.fetched();
    fetched.sort();
    assert_eq!((fetched, here.names().len()), (vec!["liar".to_owned(), "refused".to_owned()], 0));
    assert!(server.log().contains("larger than it was listed as"), "{server}");
}

#[test]
fn nothing_that_has_a_name_is_touched() {
    let [there, here] = [Dir::new(), Dir::new()];
    for name in ["file", "directory", "link", "new"] {
        write_rested(&there, name, "theirs");
    }
    here.write("file", "ours");
    fs::create_dir(here.join("directory")).unwrap();
    std::os::unix::fs::symlink("nowhere", here.join("link")).unwrap();
    let server = serve(&there).start();
    let _mirror = mirror(&here).peers([server.url()]).start();
    wait_for(&here, "new", b"theirs");
    assert_eq!((here.read("file"), here.names().len()), (b"ours".to_vec(), 4));
}

#[test]
fn a_signal_ends_a_run_and_the_next_server_goes_on_with_it() {
    let [there, here] = [Dir::new(), Dir::new()];
    let content: Vec<u8> = (0..8 * MIB).map(|number| u8::try_from(number % 251).unwrap()).collect();
    write_rested(&there, "large", &content);
    let holder = hold(&there, wire(2));
    let mut first = mirror(&here).peers([&*holder.url]).start();
    eventually("two mebibytes of it", PATIENCE, || {
        let metadata = fs::metadata(here.join(here.names().iter().find(|name| is_partial(name))?)).ok()?;
        (metadata.len() > 2 << 20).then_some(())
    });
    let status = first.stop(Signal::TERM, Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{first}");
    let second = mirror(&here).peers([&*holder.url]).start();
    second.wait_for_log(&["going on with 'large'"]);
    wait_for(&here, "large", &content);
    assert_eq!(here.names(), ["large"]);
}

/// A mirror in a directory of its own that has only 64 MiB and this number of inodes, and the directory as it is seen from
/// here.
fn mirror_on_small_disk(here: &Dir, inodes: usize, peer: &str) -> Option<(Server, PathBuf)> {
    if !can_mount() {
        skip("a full disk", "needs root, unshare and mount");
        return None;
    }
    fs::create_dir(here.join("disk")).unwrap();
    let script = format!("mount -t tmpfs -o size=64m,nr_inodes={inodes} tmpfs disk && cd disk && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD, "server"]);
    command.args(["--mirror", "", "--mirror-every", "1", "-v", "127.0.0.1", "0", peer]);
    let server = Server::with_command(here, command);
    let disk = PathBuf::from(format!("/proc/{}/cwd", server.pid()));
    Some((server, disk))
}

/// The bytes that are free on a disk, and the names there.
fn see(disk: &Path) -> (u64, Vec<String>) {
    let room = rustix::fs::statvfs(disk).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(disk).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (room.f_bavail * room.f_frsize, names)
}

#[test]
fn a_twentieth_of_the_disk_stays_free() {
    let [there, here] = [Dir::new(), Dir::new()];
    let server = serve(&there).start();
    let Some((mirror, disk)) = mirror_on_small_disk(&here, 10_000, server.url()) else { return };
    for name in ["one", "two"] {
        write_rested(&there, name, vec![b'x'; 40 * MIB]);
    }
    mirror.wait_for_log(&["warning: no room to mirror 1 file, 40.0 MiB"]);
    write_rested(&there, "small", "content");
    eventually("the small file", PATIENCE, || see(&disk).1.contains(&"small".to_owned()).then_some(()));
    let (free, names) = see(&disk);
    assert!(free >= 64 * MIB as u64 / 20 && names.len() == 2, "{free} bytes beside {names:?}");
    write_rested(&there, "just too large", vec![b'x'; 21 * MIB]);
    mirror.wait_for_log(&["warning: no room to mirror 2 files, 61.0 MiB"]);
    assert_eq!(see(&disk).1.len(), 2);
}

#[test]
fn a_twentieth_of_the_inodes_stays_free() {
    let [there, here] = [Dir::new(), Dir::new()];
    let past = SystemTime::now() - Duration::from_secs(3600);
    for number in 0..21_000 {
        let path = there.join(&format!("file {number}"));
        File::create(path).unwrap().set_modified(past).unwrap();
    }
    let server = serve(&there).start();
    let Some((mirror, disk)) = mirror_on_small_disk(&here, 20_000, server.url()) else { return };
    mirror.wait_for_log(&["warning: no room to mirror", "files"]);
    wait_for_runs(&mirror, 2);
    let free = rustix::fs::statvfs(&disk).unwrap().f_favail;
    // The two jobs had a pack of 256 each under way.
    assert!((1000 - 512..=1000).contains(&free), "{free} inodes");
}

#[test]
fn a_file_without_end_takes_half_of_the_room_and_is_gone_again() {
    let here = Dir::new();
    let endless =
        Reply::without_length(b"<?xml version='1.0'?><methodResponse><params><param><value><string>xx").endless(1);
    let peer = FakePeer::sharing([("endless", endless), ("file", Reply::content("content"))]);
    let Some((mirror, disk)) = mirror_on_small_disk(&here, 10_000, peer.url()) else { return };
    let mut least = u64::MAX;
    eventually("the end of it", PATIENCE, || {
        least = least.min(see(&disk).0);
        mirror.log().contains("larger than it was listed as, or than half of the room").then_some(())
    });
    let (free, names) = see(&disk);
    assert!(least > 30 * MIB as u64 && free > 60 * MIB as u64, "{least} bytes were free, and {free} are");
    eventually("the other file", PATIENCE, || see(&disk).1.contains(&"file".to_owned()).then_some(()));
    assert!(!names.contains(&"endless".to_owned()));
    wait_for_runs(&mirror, 2);
    assert_eq!(peer.fetched().iter().filter(|name| *name == "endless").count(), 1, "not again soon");
}

#[test]
fn a_directory_that_cannot_be_written_is_told_at_the_start() {
    let dir = Dir::new();
    let words = ["--dir", "missing", PASSWORD, "server", "--mirror", "", "127.0.0.1", "0"];
    tinyp2p(&dir, words).ends(1, &[], &["could not use directory"]).with_one_complaint();
    let words = [PASSWORD, "server", "--mirror-every", "5", "127.0.0.1", "0"];
    tinyp2p(&dir, words).ends(2, &[], &["--mirror"]).with_one_complaint();
}

#[test]
fn a_peer_that_lists_without_end_fills_no_memory() {
    let here = Dir::new();
    let names = (0..2_000_000).map(|number| format!("5 3600 {number:07} a name that is as long as names of films are"));
    let peer = FakePeer::new().on_index(Reply::names(names)).start();
    let other = Dir::new();
    write_rested(&other, "file", "content");
    let good = serve(&other).start();
    let server = mirror(&here).options(["--timeout", "5"]).peers([peer.url(), good.url()]).start();
    wait_for(&here, "file", b"content");
    let peak = peak_memory(server.pid());
    assert!(peak < 100 << 10, "{peak} KiB");
}

#[test]
fn what_is_not_what_it_was_listed_as_is_not_taken() {
    let [there, here] = [Dir::new(), Dir::new()];
    for name in ["packed", "single"] {
        write_rested(&there, name, "the content");
    }
    // Another content in packs and by itself than in the index, shorter and longer; an honest peer has both.
    for content in ["short", "longer than it was listed as"] {
        let liar = FakePeer::new()
            .on_index(Reply::names(["11 3600 packed", "11 3600 single", "11 3600 third"]))
            .on_packs([pack(&[file("packed", content)])]);
        let liar =
            ["packed", "single", "third"].iter().fold(liar, |peer, name| peer.file(name, Reply::content(content)));
        let liar = liar.start();
        let honest = serve(&there).peers([liar.url()]).start();
        let mirror = mirror(&here).peers([honest.url()]).start();
        for name in ["packed", "single"] {
            wait_for(&here, name, b"the content");
        }
        wait_for_runs(&mirror, 2);
        assert_eq!(here.names(), ["packed", "single"]);
        for name in ["packed", "single"] {
            fs::remove_file(here.join(name)).unwrap();
        }
    }
}

#[test]
fn a_peer_that_sends_a_little_for_ever_holds_up_nobody_for_ever() {
    let [there, here] = [Dir::new(), Dir::new()];
    write_rested(&there, "first", "content");
    let drip = || Reply::content("x".repeat(5_000_000)).paced(1200, Duration::from_millis(700));
    let liar = FakePeer::new()
        .on_index(Reply::names(["5000000 3600 drip 1", "5000000 3600 drip 2", "5000000 3600 drip 3"]))
        .file("drip 1", drip())
        .file("drip 2", drip())
        .file("drip 3", drip())
        .start();
    let honest = serve(&there).start();
    let _mirror = mirror(&here).options(["--timeout", "2"]).peers([liar.url(), honest.url()]).start();
    wait_for(&here, "first", b"content");
    liar.wait_for_fetches(2);
    write_rested(&there, "later", "content");
    wait_for(&here, "later", b"content");
}

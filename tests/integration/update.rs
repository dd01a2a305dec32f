//! Files that are here in another state than elsewhere: the summary tells, and `--update` fetches what is newer.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::Signal;

use crate::{
    harness::{Dir, FakePeer, Gate, PATIENCE, Reply, download, eventually, is_partial, serve, wait_for_partial},
    large::{hold, wire},
};

/// A day and an hour, in seconds.
const DAY: u64 = 86_400;
const HOUR: u64 = 3_600;

/// Bytes of a file that is worth resuming.
const LARGE: usize = 3 << 20;

/// A name, the content and the age of the file here, and those of the file there.
type Versions<'a> = (&'a str, &'a [u8], u64, &'a [u8], u64);

/// Writes a file that was last changed so many seconds ago.
fn write_aged(dir: &Dir, name: &str, content: impl AsRef<[u8]>, age: u64) {
    dir.write(name, content);
    set_age(dir, name, age);
}

fn set_age(dir: &Dir, name: &str, age: u64) {
    let file = File::options().write(true).open(dir.join(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
}

#[test]
fn what_differs_here_is_counted_and_with_v_named() {
    let [one, other, here] = [Dir::new(), Dir::new(), Dir::new()];
    for (name, ours, first, second) in [("a", "1", "22", "333"), ("b", "22", "22", "22"), ("c", "22", "1", "22")] {
        here.write(name, ours);
        one.write(name, first);
        other.write(name, second);
    }
    one.write("d", "new");
    let first = serve(&one).start();
    let second = serve(&other).peers([first.url()]).start();
    first.wait_for_log(&["new peer"]);
    let (first, second) = (first.url(), second.url());
    let a = format!("'a' differs: 1 bytes here, 2 at {first}");
    let c = format!("'c' differs: 2 bytes here, 1 at {first}");
    let also = format!("'a' differs: 1 bytes here, 3 at {second}");
    let run = download(&here, first).options(["-v"]).run();
    run.ends(0, &["d"], &[&a, &also, &c, "3 already here, 2 of them differ, 0 failed"]);
    here.write("a", "22");
    fs::remove_file(other.join("a")).unwrap();
    let run = download(&here, first).run().ends(0, &[], &["4 already here, 1 of them differs, 0 failed"]);
    assert!(!run.stderr.contains("differs:"), "{run}");
}

#[test]
fn what_is_newer_and_of_another_content_is_fetched_again() {
    let [there, here] = [Dir::new(), Dir::new()];
    let large = vec![7; LARGE];
    let mut edited = large.clone();
    edited[LARGE - 1] = 8;
    let files: [Versions; 8] = [
        ("newer", b"old", DAY, b"new one", HOUR),
        ("newer of the same size", b"old", DAY, b"new", HOUR),
        ("newer and the same", b"same", DAY, b"same", HOUR),
        ("newer, large and the same", &large, DAY, &large, HOUR),
        ("newer, large and edited", &large, DAY, &edited, HOUR),
        ("older", b"edited here", HOUR, b"old", DAY),
        ("hardly newer", b"old", HOUR, b"new one", HOUR - 30),
        ("emptied", b"old", DAY, b"", HOUR),
    ];
    let fill = |update: bool| {
        for (name, ours, our_age, theirs, their_age) in files {
            write_aged(&here, name, ours, our_age);
            write_aged(&there, name, theirs, their_age);
        }
        if update {
            write_aged(&there, "not here", "x", HOUR);
        }
    };
    fill(false);
    fs::set_permissions(here.join("newer"), fs::Permissions::from_mode(0o640)).unwrap();
    let server = serve(&there).start();
    let before = here.files();
    download(&here, server.url()).run().ends(0, &[], &["0 files", "8 already here, 4 of them differ, 0 failed"]);
    assert_eq!(here.files(), before, "nothing is replaced unless asked");
    fill(true);
    let updated = ["newer", "newer of the same size", "newer, large and edited", "emptied"];
    let saved = [&updated[..], &["not here"]].concat();
    let told = ["5 files", "4 of them updated, 4 already here, 2 of them differ, 0 failed"];
    download(&here, server.url()).options(["--update"]).run().ends(0, &saved, &told);
    for (name, ours, _, theirs, _) in files {
        assert_eq!(here.read(name), if updated.contains(&name) { theirs } else { ours }, "{name}");
    }
    let metadata = fs::metadata(here.join("newer")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_eq!(metadata.mtime(), fs::metadata(there.join("newer")).unwrap().mtime());
    let told = ["0 files", "9 already here, 2 of them differ, 0 failed"];
    download(&here, server.url()).options(["--update"]).run().ends(0, &[], &told);
}

#[test]
fn the_newest_of_several_is_fetched() {
    let [old, newer, newest, here] = [Dir::new(), Dir::new(), Dir::new(), Dir::new()];
    write_aged(&here, "file", "ours", 4 * DAY);
    for (dir, content, age) in [(&old, "old", 3 * DAY), (&newer, "newer", 2 * DAY), (&newest, "newest!", DAY)] {
        write_aged(dir, "file", content, age);
    }
    let first = serve(&old).start();
    let _others = [&newer, &newest].map(|dir| {
        let server = serve(dir).peers([first.url()]).start();
        first.wait_for_log(&[server.url()]);
        server
    });
    download(&here, first.url()).options(["--update"]).run().ends(0, &["file"], &["1 of them updated"]);
    assert_eq!(here.read("file"), b"newest!");
}

#[test]
fn a_link_stays_and_so_does_what_it_leads_to() {
    let [there, here, elsewhere] = [Dir::new(), Dir::new(), Dir::new()];
    write_aged(&elsewhere, "target", "ours", DAY);
    symlink(elsewhere.join("target"), here.join("file")).unwrap();
    write_aged(&there, "file", "theirs!", HOUR);
    let server = serve(&there).start();
    let told = ["warning: 'file' is a link here and is not updated", "1 already here, 1 of them differs, 0 failed"];
    download(&here, server.url()).options(["--update"]).run().ends(0, &[], &told);
    assert!(fs::symlink_metadata(here.join("file")).unwrap().is_symlink());
    assert_eq!(elsewhere.read("target"), b"ours");
}

#[test]
fn what_is_edited_here_meanwhile_stays() {
    for remove in [false, true] {
        let here = Dir::new();
        write_aged(&here, "file", "ours", DAY);
        let gate = Arc::new(Gate::default());
        let reply = Reply::content("theirs, in full").half_behind(&gate);
        let peer = FakePeer::new().on_index(Reply::names(["15 5 file"])).file("file", reply).start();
        let run = download(&here, peer.url()).options(["--update"]).start();
        peer.wait_for_fetches(1);
        if remove {
            fs::remove_file(here.join("file")).unwrap();
        } else {
            here.write("file", "edited");
        }
        gate.open();
        if remove {
            run.finish().ends(0, &["file"], &["1 file, 15 B"]);
            assert_eq!(here.read("file"), b"theirs, in full");
        } else {
            let told = ["warning: 'file' changed here meanwhile; it is left as it is", "0 files", "1 already here"];
            run.finish().ends(0, &[], &told);
            assert_eq!((here.read("file"), here.names().len()), (b"edited".to_vec(), 1));
        }
    }
}

#[test]
fn an_update_that_fails_leaves_what_is_here() {
    let here = Dir::new();
    write_aged(&here, "file", "ours", DAY);
    let peer = FakePeer::new().on_index(Reply::names(["6 5 file"])).file("file", Reply::fault("no")).start();
    let told = ["could not update 'file': no peer could send it", "0 already here, 1 failed"];
    download(&here, peer.url()).options(["--update"]).run().ends(1, &[], &told);
    assert_eq!(here.read("file"), b"ours");
}

#[test]
fn who_reads_a_file_that_is_updated_reads_the_old_one() {
    let [there, here] = [Dir::new(), Dir::new()];
    let (old, new) = (vec![1; LARGE], vec![2; LARGE + 1]);
    write_aged(&here, "file", &old, DAY);
    write_aged(&there, "file", &new, HOUR);
    let mut reader = File::open(here.join("file")).unwrap();
    let mut read = vec![0; LARGE / 2];
    reader.read_exact(&mut read).unwrap();
    let server = serve(&there).start();
    let ours = hold(&here, wire(1));
    let inbox = Dir::new();
    let slow = download(&inbox, &ours.url).start();
    wait_for_partial(inbox.path());
    download(&here, server.url()).options(["--update"]).run().ends(0, &["file"], &["1 of them updated"]);
    assert_eq!(here.read("file"), new);
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, old);
    slow.finish().ends(0, &["file"], &[]);
    assert_eq!(inbox.read("file"), old, "the server has it open still");
}

#[test]
fn a_partial_file_of_an_update_waits_although_its_file_is_there() {
    let [there, here] = [Dir::new(), Dir::new()];
    let (old, new) = (vec![1; LARGE], vec![2; LARGE + 1]);
    write_aged(&here, "file", &old, DAY);
    write_aged(&there, "file", &new, HOUR);
    let server = hold(&there, wire(1));
    let run = download(&here, &server.url).options(["--update"]).start();
    wait_for_partial(here.path());
    run.signal(Signal::INT);
    run.finish().ends(130, &[], &["kept", "of 'file'"]);
    assert_eq!(here.read("file"), old);
    let plain = download(&here, &server.url).run().ends(0, &[], &["1 already here, 1 of them differs"]);
    assert!(here.names().iter().any(|name| is_partial(name)), "{plain}");
    let run = download(&here, &server.url).options(["--update", "-v"]).run();
    run.ends(0, &["file"], &["going on with 'file'", "1 of them updated"]);
    assert_eq!((here.read("file"), here.names().len()), (new, 1));
}

#[test]
fn a_kill_at_any_moment_of_an_update_leaves_the_old_or_the_new_whole() {
    let there = Dir::new();
    let (old, new) = (vec![1; LARGE], vec![2; LARGE + 1]);
    write_aged(&there, "large", &new, HOUR);
    (0..100).for_each(|number| write_aged(&there, &format!("small {number}"), "new one", HOUR));
    let server = serve(&there).start();
    let (mut untouched, mut done) = (0, 0);
    for moment in 0..20 {
        let here = Dir::new();
        write_aged(&here, "large", &old, DAY);
        (0..100).for_each(|number| write_aged(&here, &format!("small {number}"), "old", DAY));
        let run = download(&here, server.url()).options(["--update", "-q"]).start();
        // Every other time when it has begun to replace, however slow the machine is.
        if moment % 2 == 0 {
            eventually("a file that is new", PATIENCE, || (here.read("small 0") == b"new one").then_some(()));
        } else {
            thread::sleep(Duration::from_millis(3 * moment));
        }
        run.signal(Signal::KILL);
        let _ = run.finish();
        let files = here.files();
        for (name, content) in &files {
            let name = name.to_str().unwrap();
            let (before, after): (&[u8], &[u8]) = if name == "large" { (&old, &new) } else { (b"old", b"new one") };
            assert!(is_partial(name) || content == before || content == after, "{name} is neither");
            untouched += u32::from(content == before);
            done += u32::from(content == after);
        }
        assert_eq!(files.keys().filter(|name| !is_partial(name.to_str().unwrap())).count(), 101);
        let run = download(&here, server.url()).options(["--update", "-q"]).run();
        assert_eq!(run.code(), Some(0), "{run}");
        assert_eq!(here.names().len(), 101, "what was left is gone");
    }
    assert!(untouched > 0 && done > 0, "no kill came in time: {untouched} old, {done} new");
}

//! What a shared directory lists and opens, and what its readers get while files change.

use std::{
    ffi::OsStr,
    fs::{File, FileTimes, OpenOptions, Permissions},
    io::{Read, Write},
    os::unix::{fs::symlink, net::UnixListener},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::support::make_fifo;

fn name(text: &str) -> FileName {
    FileName::from_bytes(text.as_bytes()).unwrap()
}

fn listed(share: &SharedDir) -> Vec<String> {
    share.list(&|_| true).unwrap().iter().map(|name| name.as_str().to_owned()).collect()
}

/// Writes a file whose last change lies long ago.
fn write_old(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    age(path);
}

fn age(path: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(hour_ago)).unwrap();
}

/// One of everything that may stand in a directory.
fn zoo() -> (TempDir, SharedDir) {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_old(&at("b.txt"), b"12345");
    write_old(&at(".dot"), b"123");
    write_old(&at("empty"), b"");
    write_old(&at("back\\slash"), b"");
    write_old(&at("line\nend"), b"");
    // Not every file system takes such a name.
    let _ = fs::write(dir.path().join(OsStr::from_bytes(b"latin-\xe9")), b"");
    write_old(&at(".tinyp2p-x.part"), b"half");
    fs::create_dir(at("directory")).unwrap();
    make_fifo(at("fifo"));
    UnixListener::bind(at("socket")).unwrap();
    symlink("b.txt", at("a-link")).unwrap();
    symlink("directory", at("link-to-directory")).unwrap();
    symlink("fifo", at("link-to-fifo")).unwrap();
    symlink("/dev/null", at("link-to-device")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let share = SharedDir::open(dir.path()).unwrap();
    (dir, share)
}

#[test]
fn regular_files_and_links_to_them_are_listed_in_order_and_nothing_else() {
    let (_dir, share) = zoo();
    assert_eq!(listed(&share), [".dot", "a-link", "b.txt", "empty"]);
}

#[test]
fn a_listing_holds_what_is_wanted_only() {
    let (_dir, share) = zoo();
    let names = share.list(&|name| name.ends_with('t')).unwrap();
    assert_eq!(names, [name(".dot"), name("b.txt")]);
}

/// The sizes and names in an index of everything.
fn indexed(share: &SharedDir) -> Vec<(u64, String)> {
    share.index(&|_| true).unwrap().iter().map(|entry| (entry.size, entry.name.as_str().to_owned())).collect()
}

#[test]
fn an_index_names_what_a_listing_does_with_the_size_behind_a_link() {
    let (_dir, share) = zoo();
    let entries = indexed(&share);
    let sizes: Vec<u64> = entries.iter().map(|(size, _)| *size).collect();
    assert_eq!(sizes, [3, 5, 5, 0]);
    assert_eq!(entries.into_iter().map(|(_, name)| name).collect::<Vec<_>>(), listed(&share));
    let wanted = share.index(&|name| name == "b.txt").unwrap();
    assert!(wanted.len() == 1 && (3600..3700).contains(&wanted[0].age), "{wanted:?}");
}

#[test]
fn a_time_that_lies_ahead_counts_from_the_last_change_of_status() {
    let (dir, path, _) = opened(b"content");
    let changed = SystemTime::now();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(changed + Duration::from_secs(1 << 40))).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(super::age(&metadata, changed + Duration::from_secs(100)) / 10, 10);
    assert_eq!(super::age(&metadata, changed - Duration::from_secs(100)), 0, "an age is never negative");
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH - Duration::from_secs(7))).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(super::age(&metadata, UNIX_EPOCH + Duration::from_secs(3)), 10, "of a time before 1970");
    drop(dir);
}

#[test]
fn an_index_leaves_out_what_vanishes_meanwhile() {
    let (dir, share) = zoo();
    let remove = |name: &str| {
        if name == "b.txt" {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        name != "a-link"
    };
    let names: Vec<_> = share.index(&remove).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, [name(".dot"), name("empty")]);
}

#[test]
fn files_put_there_later_are_seen_at_once() {
    let (dir, share) = zoo();
    write_old(&dir.path().join("c"), b"new");
    assert!(listed(&share).contains(&String::from("c")));
    assert_eq!(io::read_to_string(share.open_file(&name("c")).unwrap()).unwrap(), "new");
}

#[test]
fn what_is_listed_can_be_opened_and_nothing_else() {
    let (dir, share) = zoo();
    let (sender, outcomes) = mpsc::channel();
    let path = dir.path().to_owned();
    // In a thread of its own, for a FIFO that is opened the wrong way blocks for ever.
    thread::spawn(move || {
        let mut texts: Vec<String> =
            fs::read_dir(&path).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect();
        texts.push(String::from("missing"));
        let share = SharedDir::open(&path).unwrap();
        for text in texts {
            if let Ok(name) = FileName::from_bytes(text.as_bytes()) {
                let opened = share.open_file(&name).map(|_| ());
                sender.send((text, opened)).unwrap();
            }
        }
    });
    let mut opened = Vec::new();
    loop {
        match outcomes.recv_timeout(Duration::from_secs(30)) {
            Ok((text, Ok(()))) => opened.push(text),
            Ok((text, Err(error))) => {
                let shown = error.to_string();
                assert!(!shown.contains(&dir.path().display().to_string()), "{text}: {shown}");
                match text.as_str() {
                    "directory" | "link-to-directory" => assert_eq!(error.kind(), ErrorKind::IsADirectory),
                    "missing" | "dangling" => assert_eq!(error.kind(), ErrorKind::NotFound),
                    _ => {}
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("opening blocks"),
        }
    }
    opened.sort();
    assert_eq!(opened, listed(&share));
}

#[test]
fn a_request_for_a_fifo_does_not_wake_its_writer() {
    let (dir, share) = zoo();
    let fifo = dir.path().join("fifo");
    let writer = thread::spawn({
        let fifo = fifo.clone();
        move || fs::write(fifo, "for its own reader")
    });
    for _ in 0..1000 {
        assert!(share.open_file(&name("fifo")).is_err());
    }
    let (sender, content) = mpsc::channel();
    thread::spawn(move || sender.send(fs::read_to_string(fifo)));
    assert_eq!(content.recv_timeout(Duration::from_secs(30)).unwrap().unwrap(), "for its own reader");
    writer.join().unwrap().unwrap();
}

#[test]
fn statistics_count_what_is_shared_and_what_is_refused() {
    let (dir, share) = zoo();
    let mut statistics = share.statistics().unwrap();
    statistics.refused.sort_by(|one, other| one.0.cmp(&other.0));
    let mut refused = vec![
        (OsString::from("back\\slash"), InvalidFileName::Separator),
        (OsString::from("line\nend"), InvalidFileName::Control),
    ];
    let latin = OsStr::from_bytes(b"latin-\xe9");
    if dir.path().join(latin).exists() {
        refused.insert(1, (latin.to_owned(), InvalidFileName::NotUtf8));
    }
    let expected =
        Statistics { files: 4, bytes: 5 + 5 + 3, hidden: 1, refused, unreadable: Vec::new(), directories: 2 };
    assert_eq!(statistics, expected);
}

#[test]
fn only_a_directory_can_be_shared() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let refusal = |name: &str| SharedDir::open(&dir.path().join(name)).err().expect("it was opened").kind();
    assert_eq!(refusal("missing"), ErrorKind::NotFound);
    assert_eq!(refusal("file"), ErrorKind::NotADirectory);
}

#[test]
fn a_directory_that_vanished_is_an_error_until_it_is_back() {
    let dir = tempdir().unwrap();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let share = SharedDir::open(&shared).unwrap();
    fs::remove_dir(&shared).unwrap();
    assert_eq!(share.list(&|_| true).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(share.open_file(&name("a")).err().unwrap().kind(), ErrorKind::NotFound);
    fs::create_dir(&shared).unwrap();
    write_old(&shared.join("a"), b"");
    assert_eq!(listed(&share), ["a"]);
}

/// A shared file of the given content, opened, and its path.
fn opened(content: &[u8]) -> (TempDir, PathBuf, SharedFile) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file");
    write_old(&path, content);
    let file = SharedDir::open(dir.path()).unwrap().open_file(&name("file")).unwrap();
    (dir, path, file)
}

/// Reads in small pieces until the end or an error; what was handed out, and how it ended.
fn drain(file: &mut SharedFile) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let mut piece = [0; 7];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) => return (all, Err(error)),
        }
    }
}

#[test]
fn a_file_is_read_whole_and_again_after_rewinding() {
    let content: Vec<u8> = (0..=255).collect();
    let (_dir, _, mut file) = opened(&content);
    assert_eq!(file.size(), 256);
    file.read_exact(&mut [0; 100]).unwrap();
    for _ in 0..2 {
        file.rewind().unwrap();
        let (all, end) = drain(&mut file);
        end.unwrap();
        assert_eq!(all, content);
    }
    let (_dir, _, mut empty) = opened(b"");
    assert_eq!(empty.size(), 0);
    assert!(drain(&mut empty).1.is_ok());
}

#[test]
fn a_truncated_file_ends_in_an_error() {
    for size in [0, 50, 99] {
        let (_dir, path, mut file) = opened(&[b'a'; 100]);
        file.read_exact(&mut [0; 10]).unwrap();
        OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
        let (rest, end) = drain(&mut file);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(rest.len() < 90);
    }
}

#[test]
fn a_file_that_has_grown_is_not_completed() {
    for content in [&[b'a'; 100][..], b""] {
        let (_dir, path, mut file) = opened(content);
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
        let (all, end) = drain(&mut file);
        assert!(end.is_err());
        assert!(all.len() < 100);
    }
}

#[test]
fn a_file_overwritten_in_place_is_not_completed() {
    let (_dir, path, mut file) = opened(&[b'a'; 100]);
    file.read_exact(&mut [0; 50]).unwrap();
    OpenOptions::new().write(true).open(path).unwrap().write_all(&[b'b'; 100]).unwrap();
    let (rest, end) = drain(&mut file);
    assert!(end.is_err());
    assert!(rest.len() < 50);
    file.rewind().unwrap();
    assert!(drain(&mut file).1.is_err(), "the snapshot was renewed");
}

#[test]
fn a_change_right_after_another_is_seen() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file");
    let share = SharedDir::open(dir.path()).unwrap();
    for _ in 0..10 {
        fs::write(&path, [b'a'; 100]).unwrap();
        let mut file = share.open_file(&name("file")).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().write_all(&[b'b'; 100]).unwrap();
        assert!(drain(&mut file).1.is_err());
    }
}

#[test]
fn a_file_is_opened_only_once_its_last_change_is_over() {
    let (dir, path, _) = opened(b"content");
    let share = SharedDir::open(dir.path()).unwrap();
    let change = SystemTime::now();
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(change)).unwrap();
    share.open_file(&name("file")).unwrap();
    assert!(change.elapsed().unwrap() > Duration::from_millis(10), "the longest tick is not over");
}

#[test]
fn a_file_from_the_future_is_read_like_any_other() {
    let (dir, path, _) = opened(b"content");
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(tomorrow)).unwrap();
    let file = SharedDir::open(dir.path()).unwrap().open_file(&name("file")).unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "content");
}

#[test]
fn what_happens_to_names_and_modes_does_not_cut_a_reader() {
    let (dir, path, mut file) = opened(&[b'a'; 100]);
    file.read_exact(&mut [0; 10]).unwrap();
    fs::hard_link(&path, dir.path().join("second")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    fs::write(dir.path().join("other"), [b'b'; 100]).unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    fs::remove_file(&path).unwrap();
    let (rest, end) = drain(&mut file);
    end.unwrap();
    assert_eq!(rest, [b'a'; 90]);
}

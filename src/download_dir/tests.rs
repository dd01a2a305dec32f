//! How files are downloaded, with other clients and other files in the same directory.

use std::{
    io::{Read, Write},
    os::unix::fs::{FileTypeExt, symlink},
    sync::mpsc,
    time::SystemTime,
};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::support::{make_fifo, names_in};

fn name(text: &str) -> FileName {
    FileName::from_bytes(text.as_bytes()).unwrap()
}

fn open(dir: &TempDir) -> DownloadDir {
    DownloadDir::open(dir.path()).unwrap()
}

fn partial(downloads: &DownloadDir, content: &[u8]) -> PartialFile {
    let partial = downloads.create().unwrap();
    partial.file().write_all(content).unwrap();
    partial
}

/// The directory as it is where files without a name can be made, in one way or the other, and where they cannot.
fn ways(dir: &TempDir) -> Vec<DownloadDir> {
    let with = |link_method| DownloadDir { link_method, ..open(dir) };
    let anonymous = [LinkMethod::ByDescriptor, LinkMethod::ByProc]
        .into_iter()
        .filter(|link_method| with(None).supports(*link_method));
    anonymous.map(Some).chain([None]).map(with).collect()
}

/// Saves one file whose content is known at once.
fn save(downloads: &DownloadDir, text: &str, content: &[u8]) -> io::Result<Committed> {
    let partial = downloads.create()?;
    partial.file().write_all(content)?;
    let mut results = downloads.commit_batch(vec![(name(text), partial, None)]);
    assert_eq!(results.len(), 1);
    results.remove(0)
}

fn entries(dir: &TempDir) -> Vec<String> {
    names_in(dir.path())
}

#[test]
fn a_saved_file_is_whole_and_alone_under_its_name() {
    let dir = tempdir().unwrap();
    let content: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    for downloads in ways(&dir) {
        assert_eq!(save(&downloads, "a b", &content).unwrap(), Committed::Saved);
        assert_eq!(save(&downloads, "empty", b"").unwrap(), Committed::Saved);
        assert_eq!(fs::read(dir.path().join("a b")).unwrap(), content, "{:?}", downloads.link_method);
        assert_eq!(entries(&dir), ["a b", "empty"], "{:?}", downloads.link_method);
        for name in ["a b", "empty"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_saved_file_has_the_mode_of_any_new_file() {
    let dir = tempdir().unwrap();
    File::create(dir.path().join("ordinary")).unwrap();
    let mode = |name: &str| dir.path().join(name).metadata().unwrap().mode();
    for (index, downloads) in ways(&dir).into_iter().enumerate() {
        let name = index.to_string();
        save(&downloads, &name, b"x").unwrap();
        assert_eq!(mode(&name), mode("ordinary"), "{:?}", downloads.link_method);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_partial_file_has_no_name_where_that_can_be() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let Some(link_method) = downloads.link_method else { return eprintln!("SKIPPED: no files without a name here") };
    let anonymous = partial(&downloads, b"content");
    assert_eq!(entries(&dir), [""; 0], "{link_method:?}");
    drop(anonymous);
    assert_eq!(entries(&dir), [""; 0], "{link_method:?}");
}

#[test]
fn a_partial_file_has_a_name_that_is_never_shared_and_goes_when_dropped() {
    let dir = tempdir().unwrap();
    let downloads = DownloadDir { link_method: None, ..open(&dir) };
    let partial = partial(&downloads, b"half");
    let names = entries(&dir);
    assert!(names.len() == 1 && crate::file_name::is_partial(&names[0]), "{names:?}");
    drop(partial);
    assert_eq!(entries(&dir), [""; 0]);
}

#[test]
fn opening_removes_what_was_left_behind_and_nothing_else() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at(".tinyp2p-killed.part"), b"left by a kill").unwrap();
    let innocent =
        [".tinyp2p-a", ".tinyp2p-directory.part", ".tinyp2p-fifo.part", ".tinyp2p-link.part", "a.part", "target"];
    for name in [".tinyp2p-a", "a.part", "target"] {
        fs::write(at(name), b"").unwrap();
    }
    fs::create_dir(at(".tinyp2p-directory.part")).unwrap();
    make_fifo(at(".tinyp2p-fifo.part"));
    symlink("target", at(".tinyp2p-link.part")).unwrap();
    let (sender, opened) = mpsc::channel();
    let path = dir.path().to_owned();
    // In a thread of its own, for a FIFO that is opened the wrong way blocks for ever.
    thread::spawn(move || sender.send(DownloadDir::open(&path).map(|_| ())));
    opened.recv_timeout(Duration::from_secs(30)).expect("opening blocks").unwrap();
    assert_eq!(entries(&dir), innocent);
}

#[test]
fn a_living_clients_partial_file_is_not_removed() {
    let dir = tempdir().unwrap();
    let first = DownloadDir { link_method: None, ..open(&dir) };
    let partial = partial(&first, b"going on");
    let second = open(&dir);
    assert_eq!(entries(&dir).len(), 1);
    assert_eq!(save(&second, "other", b"").unwrap(), Committed::Saved);
    let results = first.commit_batch(vec![(name("mine"), partial, None)]);
    assert!(matches!(results[0], Ok(Committed::Saved)), "{results:?}");
    assert_eq!(fs::read(dir.path().join("mine")).unwrap(), b"going on");
    assert_eq!(entries(&dir), ["mine", "other"]);
}

/// A file that was kept, of this many bytes.
fn keep(downloads: &DownloadDir, text: &str, content: &[u8]) -> PathBuf {
    let partial = downloads.make_resumable(&name(text), partial(downloads, content));
    assert!(downloads.keep(&name(text), partial));
    downloads.path.join(resumable_name(&name(text)))
}

#[test]
fn a_partial_file_that_was_kept_is_opened_again_by_its_name() {
    let dir = tempdir().unwrap();
    for downloads in ways(&dir) {
        let path = keep(&downloads, "a", b"half");
        let next = DownloadDir { link_method: downloads.link_method, ..open(&dir) };
        assert!(next.reopen(&name("b")).is_none());
        let partial = next.reopen(&name("a")).expect("it was kept");
        assert!(next.reopen(&name("a")).is_none() && open(&dir).reopen(&name("a")).is_none(), "it is locked");
        assert!(path.exists(), "whoever has no lock removes nothing");
        let mut content = Vec::new();
        partial.read_from(1).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, b"alf");
        let second = next.make_resumable(&name("a"), self::partial(&next, b"second"));
        assert!(!next.keep(&name("a"), second), "its name is taken");
        assert!(matches!(next.commit_batch(vec![(name("a"), partial, None)])[0], Ok(Committed::Saved)));
        assert_eq!(entries(&dir), ["a"]);
        fs::remove_file(dir.path().join("a")).unwrap();
        keep(&downloads, "a", b"half");
        drop(downloads.reopen(&name("a")).expect("it was kept just now"));
        assert_eq!(entries(&dir), [""; 0], "not kept again");
    }
}

#[test]
fn a_kept_file_is_removed_when_it_is_old_or_its_file_is_there() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let [old, young, whole] = ["old", "young", "whole"].map(|text| keep(&downloads, text, b"half"));
    fs::write(dir.path().join("whole"), b"whole").unwrap();
    // Not by this time, which may be that of the original.
    File::options().write(true).open(&young).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    DownloadDir::read_only(dir.path()).unwrap();
    assert_eq!(entries(&dir).len(), 4, "to look removes nothing");
    open(&dir);
    assert_eq!((old.exists(), young.exists(), whole.exists()), (true, true, false));
    fs::remove_file(&young).unwrap();
    thread::sleep(Duration::from_millis(1001)); // Its age is known in seconds.
    downloads.remove_stale_partials(Duration::ZERO).unwrap();
    assert!(!old.exists());
}

#[test]
fn what_is_not_ours_is_neither_opened_nor_touched_under_the_name_of_a_kept_file() {
    let dir = tempdir().unwrap();
    let path = dir.path().join(resumable_name(&name("a")));
    fs::write(dir.path().join("target"), b"target").unwrap();
    let things: [&dyn Fn(&Path); 5] = [
        // A file of another user, where this one may make such.
        &|path| {
            fs::write(path, b"theirs").unwrap();
            if std::os::unix::fs::chown(path, Some(65_534), None).is_err() {
                fs::hard_link(path, dir.path().join("second name")).unwrap();
            }
        },
        &|path| symlink("target", path).unwrap(),
        &|path| make_fifo(path),
        &|path| fs::create_dir(path).unwrap(),
        &|path| fs::hard_link(dir.path().join("target"), path).unwrap(),
    ];
    for (number, thing) in things.into_iter().enumerate() {
        thing(&path);
        let before = path.symlink_metadata().unwrap().ino();
        for downloads in ways(&dir) {
            assert!(downloads.reopen(&name("a")).is_none(), "{number}");
            let partial = downloads.make_resumable(&name("a"), partial(&downloads, b"x"));
            assert!(!downloads.keep(&name("a"), partial), "{number}");
        }
        assert_eq!(path.symlink_metadata().unwrap().ino(), before, "{number}");
        let _ = fs::remove_file(dir.path().join("second name"));
        assert_eq!(entries(&dir).len(), 2, "{number}");
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
    assert_eq!(fs::read(dir.path().join("target")).unwrap(), b"target");
}

#[test]
fn where_there_is_data_is_known_unless_the_file_system_does_not_tell() {
    use std::os::unix::fs::FileExt;
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let empty = partial(&downloads, b"");
    assert_eq!(empty.data(), []);
    empty.file().write_all_at(&[1; 4096], 1 << 20).unwrap();
    let data = empty.data();
    assert_eq!((data.len(), data[0].end), (1, (1 << 20) + 4096), "{data:?}");
}

#[test]
fn no_file_is_lost_to_clients_that_open_meanwhile() {
    const FILES: usize = 300;
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reopen = || {
            while !done.load(Ordering::Relaxed) {
                open(&dir);
            }
        };
        let openers = [scope.spawn(reopen), scope.spawn(reopen)];
        let texts = (0..FILES).map(|number| number.to_string());
        let results: Vec<_> = texts.map(|text| save(&downloads, &text, text.as_bytes())).collect();
        done.store(true, Ordering::Relaxed);
        for opener in openers {
            opener.join().unwrap();
        }
        assert!(results.iter().all(|result| matches!(result, Ok(Committed::Saved))), "{results:?}");
    });
    open(&dir);
    assert_eq!(entries(&dir).len(), FILES);
    for text in entries(&dir) {
        assert_eq!(fs::read_to_string(dir.path().join(&text)).unwrap(), text);
    }
}

#[test]
fn only_a_regular_file_or_a_link_to_one_is_a_file() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), b"").unwrap();
    fs::create_dir(at("directory")).unwrap();
    make_fifo(at("fifo"));
    let targets = ["file", "directory", "fifo", "nothing", "link to link to nothing"];
    for target in targets {
        symlink(target, at(&format!("link to {target}"))).unwrap();
    }
    let expected = [
        ("nothing", None),
        ("file", Some(Entry::File)),
        ("directory", Some(Entry::Obstacle("a directory"))),
        ("fifo", Some(Entry::Obstacle("a special file"))),
        ("link to file", Some(Entry::File)),
        ("link to directory", Some(Entry::Obstacle("a link to a directory"))),
        ("link to fifo", Some(Entry::Obstacle("a link to a special file"))),
        ("link to nothing", Some(Entry::Obstacle("a broken link"))),
        ("link to link to link to nothing", Some(Entry::Obstacle("a broken link"))),
    ];
    for (text, entry) in expected {
        assert_eq!(downloads.entry(&name(text)), entry, "{text}");
    }
}

#[test]
fn whatever_stands_under_the_name_stays_as_it_is() {
    let dir = tempdir().unwrap();
    let outside = tempdir().unwrap();
    let downloads = open(&dir);
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), b"theirs").unwrap();
    fs::create_dir(at("directory")).unwrap();
    make_fifo(at("fifo"));
    symlink(outside.path().join("nothing"), at("dangling")).unwrap();
    symlink("file", at("link")).unwrap();
    let before = entries(&dir);
    for text in &before {
        assert!(downloads.entry(&name(text)).is_some(), "{text}");
        for downloads in ways(&dir) {
            assert_eq!(
                save(&downloads, text, b"ours").unwrap(),
                Committed::AlreadyExists,
                "{text} {:?}",
                downloads.link_method
            );
        }
    }
    assert_eq!(entries(&dir), before);
    assert_eq!(fs::read(at("file")).unwrap(), b"theirs");
    assert!(at("directory").symlink_metadata().unwrap().is_dir());
    assert!(at("fifo").symlink_metadata().unwrap().file_type().is_fifo());
    assert_eq!(fs::read_link(at("dangling")).unwrap(), outside.path().join("nothing"));
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("file"));
    assert_eq!(entries(&outside), [""; 0]);
}

#[test]
fn a_batch_has_a_result_for_each_file_in_order() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    fs::write(dir.path().join("7"), b"theirs").unwrap();
    let mut batch: Vec<_> = (0..MAX_BATCH - 1)
        .map(|number| number.to_string())
        .map(|text| (name(&text), partial(&downloads, text.as_bytes()), None))
        .collect();
    batch.push((name("3"), partial(&downloads, b"the second of this name"), None));
    for (number, result) in downloads.commit_batch(batch).into_iter().enumerate() {
        let is_taken = number == 7 || number == 63;
        let committed = if is_taken { Committed::AlreadyExists } else { Committed::Saved };
        assert_eq!(result.unwrap(), committed, "{number}");
    }
    assert_eq!(fs::read(dir.path().join("3")).unwrap(), b"3");
    assert_eq!(fs::read(dir.path().join("7")).unwrap(), b"theirs");
    assert_eq!(entries(&dir).len(), MAX_BATCH - 1);
    assert!(downloads.commit_batch(Vec::new()).is_empty());
}

#[test]
fn a_batch_is_synced_by_many_threads_where_syncing_is_slow() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    downloads.syncs_slowly.store(true, Ordering::Relaxed);
    let texts: Vec<String> = (0..MAX_BATCH).map(|number| number.to_string()).collect();
    let batch = texts.iter().map(|text| (name(text), partial(&downloads, text.as_bytes()), None)).collect();
    for (result, text) in downloads.commit_batch(batch).into_iter().zip(&texts) {
        assert_eq!(result.unwrap(), Committed::Saved, "{text}");
        assert_eq!(fs::read_to_string(dir.path().join(text)).unwrap(), *text);
    }
    assert_eq!(entries(&dir).len(), MAX_BATCH);
}

#[test]
fn only_a_directory_can_be_opened() {
    let dir = tempdir().unwrap();
    let refusal = |path: &Path| DownloadDir::open(path).err().expect("it was opened").kind();
    assert_eq!(refusal(&dir.path().join("missing")), ErrorKind::NotFound);
    fs::write(dir.path().join("file"), b"").unwrap();
    assert_eq!(refusal(&dir.path().join("file")), ErrorKind::NotADirectory);
    make_fifo(dir.path().join("fifo"));
    assert_eq!(refusal(&dir.path().join("fifo")), ErrorKind::NotADirectory);
}

#[test]
fn a_directory_that_vanished_is_an_error_of_each_file() {
    let dir = tempdir().unwrap();
    let downloads = open(&dir);
    let partial = partial(&downloads, b"x");
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(downloads.create().err().unwrap().kind(), ErrorKind::NotFound);
    let results = downloads.commit_batch(vec![(name("a"), partial, None)]);
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(downloads.entry(&name("a")), None);
    fs::create_dir(&dir).unwrap();
    let error = save(&downloads, "a", b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a name in another directory was not synced");
}

//! What a client makes of good and of bad answers: its exit status, the files that are there afterwards and those that
//! are not, and what it says.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Signal;

use crate::harness::{
    Dir, FakePeer, Gate, PASSWORD, PATIENCE, Reply, Running, SilentPort, call, content_answer, download, eventually,
    make_fifo, serve, serve_python, string, tinyp2p, wait_for_partial,
};

fn text(content: &str) -> Reply {
    Reply::content(content)
}

// The exit status is 1 when the URL given gave no peer list or no listing.

#[test]
fn a_given_peer_that_gives_no_listing_is_a_failure_but_the_others_are_asked() {
    let other = FakePeer::sharing([("other", text("content"))]);
    for reply in [Reply::fault("what a pity"), Reply::document(b"no XML"), Reply::refusal(), Reply::raw(*b"")] {
        let here = Dir::new();
        let given = FakePeer::new().on_names(reply);
        let list = Reply::peers([given.url(), other.url()]);
        let given = given.on_peers(list).start();
        download(&here, given.url()).run().ends(1, &["other"], &[given.url()]);
        assert_eq!(here.read("other"), b"content");
    }
}

#[test]
fn the_given_peer_is_asked_also_when_it_does_not_list_itself() {
    let here = Dir::new();
    let peer = FakePeer::new().on_peers(Reply::peers([""; 0])).file("file", text("content")).start();
    download(&here, peer.url()).run().ends(0, &["file"], &[]);
}

// The exit status is 1 when a name that was listed, matches and passes the check is not here at the end.

#[test]
fn content_is_read_in_every_legal_spelling_and_no_other() {
    let good: &[(&str, &[u8], &[u8])] = &[
        ("string", b"<string>a</string>", b"a"),
        ("untyped", b"  a\r\n ", b"  a\r\n "),
        ("untyped and empty", b"", b""),
        ("white space", b"<string> \r\n\t a \r</string>", b" \r\n\t a \r"),
        ("space around the type", b"\n <string>a</string>\n ", b"a"),
        ("empty", b"<string></string>", b""),
        ("empty element", b"<string/>", b""),
        ("entities", b"<string>&amp;&lt;&gt;&quot;&apos;</string>", b"&<>\"'"),
        ("references", b"<string>&#13;&#x41;&#233;&#x1F980;</string>", "\rA\u{e9}\u{1f980}".as_bytes()),
        ("cdata", b"<string>a<![CDATA[<b>&amp;]]>c</string>", b"a<b>&amp;c"),
        ("comment", b"<string>a<!-- <b> & -->c</string>", b"ac"),
        ("raw", b"<string>\x00\x01\xff\xc3</string>", b"\x00\x01\xff\xc3"),
        ("bracket", b"<string>a]]b]>c</string>", b"a]]b]>c"),
        ("base64", b"<base64>AAH/</base64>", b"\x00\x01\xff"),
        ("padded base64", b"<base64>AAH/AA==</base64>", b"\x00\x01\xff\x00"),
        ("wrapped base64", b"<base64>\r\nAA\n H/\t\n</base64>", b"\x00\x01\xff"),
        ("empty base64", b"<base64></base64>", b""),
        ("empty base64 element", b"<base64/>", b""),
    ];
    let bad: &[(&str, &[u8])] = &[
        ("unknown entity", b"<string>&nbsp;</string>"),
        ("bare ampersand", b"<string>a & b</string>"),
        ("reference to nothing", b"<string>&#xD800;</string>"),
        ("element inside", b"<string>a<b>c</b></string>"),
        ("number", b"<int>1</int>"),
        ("array", b"<array><data></data></array>"),
        ("true", b"<boolean>1</boolean>"),
        ("no base64", b"<base64>A*==</base64>"),
        ("cut base64", b"<base64>AAH</base64>"),
        ("two types", b"<string>a</string><string>b</string>"),
        ("wrong end", b"<string>a</base64>"),
    ];
    let junk = [content_answer("<string>a</string>"), b"<more/>".to_vec()].concat();
    let doctype = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b \"c\">]>".to_owned();
    let doctype = doctype + str::from_utf8(&content_answer("<string>a</string>")[22..]).unwrap();
    let here = Dir::new();
    let mut peer = FakePeer::new()
        .file("junk after the end", Reply::document(&junk))
        .file("doctype", Reply::document(doctype.as_bytes()));
    for (name, value, _) in good {
        peer = peer.file(name, Reply::spelled(value));
    }
    for (name, value) in bad {
        peer = peer.file(name, Reply::spelled(value));
    }
    let peer = peer.start();
    let mut told: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    told.extend(["junk after the end", "doctype"]);
    let saved: Vec<&str> = good.iter().map(|(name, ..)| *name).collect();
    download(&here, peer.url()).run().ends(1, &saved, &told);
    for (name, _, content) in good {
        assert_eq!(&here.read(name), content, "{name}");
    }
    assert_eq!(here.names().len(), good.len());
}

// All else is a warning and leaves 0.

#[test]
fn a_bad_peer_among_good_ones_is_a_warning() {
    let good = FakePeer::sharing([("good", text("content"))]);
    let dead = SilentPort::reserve();
    let bad = [
        Reply::silence(),
        Reply::refusal(),
        Reply::fault("what a pity"),
        Reply::document(b"no XML"),
        Reply::spelled("<string>no array</string>"),
        Reply::names(["a", "b"]).cut(20),
        Reply::names(["a", "b"]).stalled(20),
        Reply::names(["a", "b"]).paced(1, Duration::from_millis(50)),
        Reply::without_length(b"<?xml version='1.0'?><methodResponse> ").endless(1),
        Reply::without_length(
            b"<?xml version='1.0'?><methodResponse><params><param><value><array><data><value><array><data>\
              <value>a</value>",
        )
        .endless(16),
        Reply::without_length(b"<?xml version='1.0'?><methodResponse><params><param><value><array>").endless(7),
        Reply::raw(*b"HTTP/1.1 200 OK\r\nX: y\r\n").endless(6),
        Reply::raw(*b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/RPC2\r\nContent-Length: 0\r\n\r\n"),
        Reply::raw(*b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops"),
        Reply::raw(*b"\x16\x03\x01\x02\x00"),
    ]
    .map(|reply| FakePeer::new().on_names(reply).start());
    let mut urls: Vec<String> = bad.iter().map(|peer| peer.url().to_owned()).collect();
    urls.push(dead.url());
    urls.push("http://peer.invalid:4000".to_owned());
    let given = FakePeer::new();
    let mut list = urls.clone();
    list.insert(0, given.url().to_owned());
    list.push(good.url().to_owned());
    let given = given.on_peers(Reply::peers(list)).file("given", text("content")).start();
    let here = Dir::new();
    let told: Vec<&str> = urls.iter().map(String::as_str).collect();
    download(&here, given.url()).options(["--timeout", "1"]).run().ends(0, &["good", "given"], &told);
    assert_eq!(here.names(), ["given", "good"]);
}

#[test]
fn redirections_are_not_followed() {
    let elsewhere = FakePeer::new().never_called().start();
    let location = format!("HTTP/1.1 307 Elsewhere\r\nLocation: {}/RPC2\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let peer = FakePeer::new().on_peers(Reply::raw(location)).start();
    download(&Dir::new(), peer.url()).run().ends(1, &[], &[peer.url()]).with_one_complaint();
}

#[test]
fn texts_on_the_peer_list_that_are_no_url_are_skipped() {
    let here = Dir::new();
    let peer = FakePeer::new();
    let long = format!("http://{}:1", "x".repeat(100_000));
    let list = ["", "nonsense", "http://", "http://a b:1", "file:///etc/passwd", peer.url(), peer.url(), &long];
    let list = Reply::peers(list);
    let peer = peer.on_peers(list).file("file", text("content")).start();
    download(&here, peer.url()).run().ends(0, &["file"], &[]);
    assert_eq!(peer.calls().iter().filter(|call| call.op == 1).count(), 2, "for an index and for names: asked once");
}

#[test]
fn the_next_holder_is_asked_when_one_fails() {
    let names: Vec<String> = (0..16).map(|number| format!("file{number}")).collect();
    let bad_reply = |number: usize| match number % 4 {
        0 => text("some other content").cut(70),
        1 => Reply::fault("what a pity"),
        2 => Reply::refusal(),
        _ => Reply::raw(*b""),
    };
    let (bad, mut good) = (FakePeer::new(), FakePeer::new());
    let list = Reply::peers([bad.url(), good.url()]);
    let mut bad = bad.on_peers(list);
    for (number, name) in names.iter().enumerate() {
        bad = bad.file(name, bad_reply(number));
        good = good.file(name, text("content"));
    }
    let (bad, good) = (bad.start(), good.start());
    let here = Dir::new();
    let saved: Vec<&str> = names.iter().map(String::as_str).collect();
    download(&here, bad.url()).run().ends(0, &saved, &[]);
    assert!(!bad.fetched().is_empty(), "the bad peer was never asked for a file");
    assert_eq!(good.fetched().len(), names.len());
    for name in names {
        assert_eq!(here.read(&name), b"content");
    }
}

#[test]
fn a_file_whose_connection_breaks_is_asked_for_again() {
    let long = || text(&"x".repeat(1 << 20));
    let broken = || long().cut(1000);
    let peer = FakePeer::new()
        .file_in_turn("mended", [broken(), Reply::raw(*b""), long()])
        .file("broken", broken())
        .file_in_turn("refused", [broken(), Reply::fault("what a pity")])
        .file("faulty", Reply::fault("what a pity"))
        .start();
    let here = Dir::new();
    let begun = Instant::now();
    let told = ["'broken' is not here", "'refused' is not here", "'faulty' is not here", "the connection broke off"];
    let run = download(&here, peer.url()).run().ends(1, &["mended"], &told);
    assert!(!run.stderr.contains("'mended'"), "what comes in the end is worth no word\n{run}");
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(here.read("mended").len(), 1 << 20);
    let fetched = peer.fetched();
    for (name, attempts) in [("mended", 3), ("broken", 3), ("refused", 2), ("faulty", 1)] {
        assert_eq!(fetched.iter().filter(|fetched| *fetched == name).count(), attempts, "{name}");
    }
}

#[test]
fn names_that_come_later_join_and_nothing_is_lost_before() {
    let gate = Arc::new(Gate::default());
    let slow = FakePeer::new()
        .on_names(Reply::names(["both", "late"]).behind(&gate))
        .file("both", text("content"))
        .file("late", text("content"))
        .start();
    let given = FakePeer::new();
    let list = Reply::peers([given.url(), slow.url()]);
    let given = given.on_peers(list).file("both", Reply::fault("what a pity")).file("first", text("content"));
    let given = given.file("lost", Reply::fault("what a pity")).start();
    let here = Dir::new();
    let run = download(&here, given.url()).start();
    given.wait_for_fetches(3);
    eventually("the first file", PATIENCE, || (here.names() == ["first"]).then_some(()));
    gate.open();
    let told = ["'lost' is not here: no peer could send it", "3 files", "0 already here, 1 failed"];
    let run = run.finish().ends(1, &["first", "both", "late"], &told);
    assert!(!run.stderr.contains("'both' is not here"), "{run}");
}

#[test]
fn a_name_that_several_list_is_fetched_once() {
    let names: Vec<String> = (0..20).map(|number| format!("file{number}")).collect();
    let [mut a, mut b, mut c] = [(); 3].map(|()| FakePeer::new());
    a = a.on_peers(Reply::peers([b.url(), c.url()]));
    for name in &names {
        [a, b, c] = [a, b, c].map(|peer| peer.file(name, text("content")));
    }
    // One names each of them twice.
    c = c.on_names(Reply::names(names.iter().chain(&names)));
    let peers = [a, b, c].map(FakePeer::start);
    let here = Dir::new();
    let saved: Vec<&str> = names.iter().map(String::as_str).collect();
    download(&here, peers[0].url()).run().ends(0, &saved, &[]);
    let mut fetched: Vec<String> = peers.iter().flat_map(FakePeer::fetched).collect();
    fetched.sort();
    assert_eq!(fetched, here.names());
}

#[test]
fn names_that_could_do_harm_are_reported_and_skipped() {
    let parent = Dir::new();
    fs::create_dir(parent.join("here")).unwrap();
    // Of many only the first ones are named.
    let bad: &[&[u8]] = &[
        b"../escaped",
        b"escape\x1b[2J",
        b"sub/file",
        b"",
        b".",
        b"..",
        b"/tmp/tinyp2p-absolute",
        b"back\\slash",
        b"line\nbreak",
        b"tab\there",
        b"delete\x7f",
        "c1\u{9b}31m".as_bytes(),
        b"zero\0byte",
        b"caf\xe9",
        "\u{fffe}".as_bytes(),
        b".tinyp2p-x.part",
        &[b'x'; 256],
    ];
    let mut names = bad.to_vec();
    names.push(b"good");
    let peer = FakePeer::new().on_names(Reply::names(names)).file("good", text("content")).start();
    let dir = parent.join("here");
    let words = ["--dir", dir.to_str().unwrap(), PASSWORD, "client", peer.url(), ""];
    let run = tinyp2p(&parent, words).ends(0, &["good"], &["../escaped", "sub/file", peer.url()]);
    assert!(run.stderr.contains("\\u{1b}[2J"), "what could steer a terminal is shown as an escape\n{run}");
    assert_eq!(peer.fetched(), ["good"]);
    assert_eq!(parent.names(), ["here"]);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1);
}

#[test]
fn a_name_that_was_not_asked_for_is_reported_and_skipped() {
    let here = Dir::new();
    let peer = FakePeer::sharing([("a.txt", text("content")), ("b.exe", text("content"))]);
    download(&here, peer.url()).pattern(r"\.txt$").run().ends(0, &["a.txt"], &["b.exe", peer.url()]);
    assert_eq!(peer.fetched(), ["a.txt"]);
}

#[test]
fn directories_that_the_original_lists_are_warnings() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    fs::create_dir(shared.join("directory")).unwrap();
    let original = serve_python(&shared).options(["--original"]).start();
    download(&here, original.url()).run().ends(0, &["file"], &["directory"]);
    assert_eq!(here.names(), ["file"]);
    let python_2 = "&lt;type 'exceptions.IOError'&gt;:[Errno 21] Is a directory: 'directory'";
    let peer = FakePeer::sharing([("directory", Reply::fault(python_2))]);
    download(&here, peer.url()).run().ends(0, &[], &["directory"]);
}

#[cfg(target_os = "linux")] // Other systems refuse to make such a file.
#[test]
fn names_of_the_original_that_are_not_utf_8_cost_themselves_alone() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    for name in [&b"caf\xe9"[..], b"escape\x1b[2J", b"\xff\xfe"] {
        fs::write(shared.path().join(OsStr::from_bytes(name)), "content").unwrap();
    }
    let original = serve_python(&shared).options(["--original"]).start();
    download(&here, original.url()).run().ends(0, &["file"], &[original.url()]);
    assert_eq!(here.names(), ["file"]);
}

// What is already there is never touched.

#[test]
fn a_name_that_appears_meanwhile_is_left_alone_and_is_a_warning() {
    let here = Dir::new();
    let gate = Arc::new(Gate::default());
    let theirs = || text("theirs").behind(&gate);
    let peer = FakePeer::sharing([("file", theirs()), ("link", theirs())]);
    let run = download(&here, peer.url()).start();
    peer.wait_for_fetches(2);
    here.write("file", "mine");
    symlink("file", here.join("link")).unwrap();
    gate.open();
    let told = ["'file' appeared here meanwhile; it is left as it is", "'link' appeared here"];
    run.finish().ends(0, &[], &told);
    assert_eq!(here.read("file"), b"mine");
    assert_eq!(here.names(), ["file", "link"], "no partial file");
}

#[test]
fn what_is_no_file_is_not_already_here_whenever_it_appears() {
    let names = ["directory", "fifo", "file", "link", "link to a directory", "link to a file"];
    let told = [
        "could not save 'directory': a directory has this name",
        "could not save 'fifo': a special file has this name",
        "could not save 'link': a broken link has this name",
        "could not save 'link to a directory': a link to a directory has this name",
        "2 already here, 4 failed",
    ];
    for appears_meanwhile in [false, true] {
        let here = Dir::new();
        let appear = || {
            here.write("file", "mine");
            fs::create_dir(here.join("directory")).unwrap();
            make_fifo(here.join("fifo"));
            symlink("target", here.join("link")).unwrap();
            symlink("directory", here.join("link to a directory")).unwrap();
            symlink("file", here.join("link to a file")).unwrap();
        };
        let gate = Arc::new(Gate::default());
        let peer = if appears_meanwhile {
            FakePeer::sharing(names.map(|name| (name, text("theirs").behind(&gate))))
        } else {
            appear();
            FakePeer::new().on_names(Reply::names(names)).start()
        };
        if !appears_meanwhile {
            let missing = ["directory", "fifo", "link", "link to a directory"];
            download(&here, peer.url()).options(["-q", "--list"]).run().ends(0, &missing, &[]);
        }
        let run = download(&here, peer.url()).start();
        if appears_meanwhile {
            peer.wait_for_fetches(4);
            appear();
        }
        gate.open();
        run.finish().ends(1, &[], &told);
        assert_eq!(here.read("file"), b"mine");
        assert_eq!(here.names(), names, "neither the link's target nor a partial file");
    }
}

#[test]
fn a_file_gets_the_mode_that_the_umask_gives() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = serve(&shared).start();
    for (umask, mode) in [("027", 0o640), ("000", 0o666), ("077", 0o600)] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tinyp2p")]);
        command.args([PASSWORD, "client", server.url(), ""]);
        Running::start(&here, command).finish().ends(0, &["file"], &[]);
        assert_eq!(fs::metadata(here.join("file")).unwrap().permissions().mode() & 0o777, mode, "{umask}");
        fs::remove_file(here.join("file")).unwrap();
    }
}

#[test]
fn a_file_gets_the_time_that_its_peer_tells() {
    let known = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let future = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    let cases: [(&str, usize, &str, Option<SystemTime>); 9] = [
        ("small", 10, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(known)),
        ("empty", 0, "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(known)),
        ("large", 100_000, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(known)),
        ("future", 10, "Last-Modified: Fri, 01 Jan 2100 00:00:00 GMT\r\n", Some(future)),
        ("untold", 10, "", None),
        ("before 1970", 10, "Last-Modified: Sun, 06 Nov 1960 08:49:37 GMT\r\n", None),
        ("no date", 10, "Last-Modified: yesterday\r\n", None),
        ("no such day", 10, "Last-Modified: Sun, 99 Nov 1994 08:49:37 GMT\r\n", None),
        ("not ASCII", 10, "Last-Modified: S\u{fc}nday\r\n", None),
    ];
    let peer = FakePeer::sharing(cases.map(|(name, length, header, _)| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
        (name, Reply::raw(format!("{head}{header}Content-Length: {length}\r\n\r\n{}", "x".repeat(length))))
    }));
    // A file system may know seconds only.
    let begun = SystemTime::now() - Duration::from_secs(2);
    let here = Dir::new();
    download(&here, peer.url()).run().ends(0, &cases.map(|case| case.0), &[]);
    for (name, length, _, expected) in cases {
        let found = fs::metadata(here.join(name)).unwrap();
        assert_eq!(found.len(), length as u64, "{name}");
        let modified = found.modified().unwrap();
        let is_right = expected.map_or(begun <= modified && modified <= SystemTime::now(), |time| modified == time);
        assert!(is_right, "{name}: {modified:?}");
    }
}

#[test]
fn what_is_too_little_to_resume_is_not_told_as_kept() {
    let here = Dir::new();
    let peer = FakePeer::sharing([("file", Reply::bytes(vec![b'x'; 3 << 20]).cut((3 << 20) - 500_000))]);
    let run = download(&here, peer.url()).run().ends(1, &[], &["'file' is not here"]);
    assert!(!run.stderr.contains("kept"), "{run}");
    assert_eq!(here.names(), [""; 0]);
}

// What is half done has no name, and is kept for a while.

/// A peer whose file begins and then stalls.
fn stalling_peer() -> FakePeer {
    FakePeer::sharing([("file", Reply::bytes("x".repeat(2 << 20)).stalled(1000))])
}

#[test]
fn signals_end_a_client_with_their_status_and_what_came_is_kept() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let here = Dir::new();
        let peer = stalling_peer();
        let run = download(&here, peer.url()).start();
        let partial = wait_for_partial(here.path());
        run.signal(signal);
        run.finish().ends(status, &[], &["kept ", " of 'file' to resume within 7 days"]);
        assert_eq!(here.names(), [partial.file_name().unwrap().to_str().unwrap()], "{signal:?}");
    }
}

#[test]
fn what_a_killed_client_left_is_reclaimed_by_the_next() {
    let here = Dir::new();
    let stalling = stalling_peer();
    let run = download(&here, stalling.url()).start();
    let partial = wait_for_partial(here.path());
    run.signal(Signal::KILL);
    assert_eq!(run.finish().code(), None);
    assert_eq!(here.names(), [partial.file_name().unwrap().to_str().unwrap()]);
    let server = serve(&here).start();
    assert_eq!(call(server.url(), 1, &string("")).names(), [""; 0]);
    let peer = FakePeer::sharing([("file", text("content"))]);
    download(&here, peer.url()).run().ends(0, &["file"], &[]);
    assert_eq!(here.names(), ["file"], "{} is still there", partial.display());
}

#[test]
fn a_client_under_way_keeps_its_partial_file_from_the_next() {
    let here = Dir::new();
    let gate = Arc::new(Gate::default());
    let slow = Reply::bytes("x".repeat(4 << 20)).half_behind(&gate);
    let first_peer = FakePeer::sharing([("slow", slow)]);
    let first = download(&here, first_peer.url()).start();
    wait_for_partial(here.path());
    let other_peer = FakePeer::sharing([("other", text("content"))]);
    download(&here, other_peer.url()).run().ends(0, &["other"], &[]);
    gate.open();
    first.finish().ends(0, &["slow"], &[]);
    assert_eq!(here.names(), ["other", "slow"]);
    assert_eq!(here.read("slow").len(), 4 << 20);
}

// Gentle with others, patient with the slow.

#[test]
fn at_most_four_calls_go_to_one_peer_and_no_connection_without_one() {
    for close in [false, true] {
        let here = Dir::new();
        let names: Vec<String> = (0..24).map(|number| format!("file{number}")).collect();
        let document = content_answer("<string>content</string>");
        let peer = names.iter().fold(FakePeer::new(), |peer, name| {
            let reply = if close { Reply::without_length(&document) } else { text("content") };
            peer.file(name, reply.delayed(Duration::from_millis(50)))
        });
        let peer = peer.start();
        let saved: Vec<&str> = names.iter().map(String::as_str).collect();
        download(&here, peer.url()).run().ends(0, &saved, &[]);
        let (calls, connections) = peer.most_at_once();
        assert!(calls <= 4 && connections <= 4, "{calls} calls and {connections} connections at once");
        assert_eq!(peer.connections_without_a_call(), 0);
    }
}

#[test]
fn a_transfer_that_goes_on_may_take_longer_than_the_silence_limit() {
    let here = Dir::new();
    let content = "x".repeat(40 << 10);
    let peer = FakePeer::sharing([("file", text(&content).paced(2 << 10, Duration::from_millis(150)))]);
    let begin = Instant::now();
    download(&here, peer.url()).options(["--timeout", "1"]).run().ends(0, &["file"], &[]);
    assert!(begin.elapsed() > Duration::from_secs(2), "the transfer was too fast to show anything");
    assert_eq!(here.read("file"), content.as_bytes());
}

#[cfg(target_os = "linux")]
#[test]
fn receiving_takes_little_memory_whatever_the_size() {
    let content = vec![b'x'; 96 << 20];
    let base64 = base64_simd::STANDARD.encode_to_string(&content);
    for (here, reply) in [
        (Dir::new(), Reply::content(&content)),
        (Dir::new(), Reply::spelled(format!("<base64>{base64}</base64>"))),
        (Dir::new(), Reply::without_length(&content_answer(&content))),
    ] {
        let peer = FakePeer::sharing([("file", reply.stalled(1))]);
        let run = download(&here, peer.url()).start();
        eventually("the partial file to grow", PATIENCE, || {
            run.open_file_sizes().iter().any(|size| *size > 90 << 20).then_some(())
        });
        let peak = crate::harness::peak_memory(run.pid());
        assert!(peak < 40 << 10, "{peak} KiB");
    }
}

#[test]
fn quiet_clients_say_errors_and_warnings_only() {
    let here = Dir::new();
    let peer = FakePeer::sharing([("good", text("content"))]);
    let run = download(&here, peer.url()).options(["-q"]).run().ends(0, &["good"], &[]);
    assert_eq!(run.stderr, "");
    let peer = FakePeer::new();
    let dead = SilentPort::reserve();
    let list = Reply::peers([peer.url(), &dead.url()]);
    let peer = peer.on_peers(list).on_names(Reply::names(["other", "../bad"])).file("other", text("content")).start();
    let run = download(&here, peer.url()).options(["-q"]).run().ends(0, &["other"], &["skipped", "../bad"]);
    assert!(run.stderr.lines().all(|line| line.starts_with("tinyp2p: warning: ")), "{run}");
    let peer = FakePeer::sharing([("bad", Reply::refusal())]);
    download(&here, peer.url()).options(["-q"]).run().ends(1, &[], &["'bad' is not here"]);
}

// What comes from outside cannot steer a terminal.

#[test]
fn what_is_told_of_others_is_escaped() {
    let here = Dir::new();
    let evil = "\u{1b}[2J\u{202e}\u{9b}31m\r\ntinyp2p: forged";
    let name = "right\u{202e}to left";
    let peer = FakePeer::sharing([("faulty", Reply::fault(evil)), (name, text("content"))]);
    let run = download(&here, peer.url()).run();
    assert_eq!(run.code(), Some(1), "{run}");
    let lines = run.stdout.clone();
    let run = run.ends(1, &lines.lines().collect::<Vec<_>>(), &["faulty", "\\u{1b}[2J\\u{202e}\\u{9b}31m"]);
    assert_eq!(run.stdout, format!("{name}\n"), "what is no terminal gets the name as it is");
    assert!(run.stderr.lines().all(|line| line != "tinyp2p: forged"), "{run}");
    assert_eq!(here.names(), [name]);
}

//! What a client makes of indices and packs, good and bad. A bad one costs the answer and no file: what it did not
//! bring is fetched as it always was.

use std::{
    io::Read,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use crate::{
    faults::serve_unprivileged,
    harness::{
        Connection, Dir, FakePeer, PASSWORD, PATIENCE, Peak, Reply, Server, Value, array, call, call_for, download,
        eventually, int, method_call, names_answer, proof, serve, string,
    },
};

/// The files of the scripted peers: names, and contents in packs and by themselves, which differ to tell which came.
const FILES: [(&str, &str, &str); 3] =
    [("a", "packed a", "single a"), ("b", "packed b", "single b"), ("c", "", "single c")];

/// How long a run may take that waits for one limit of a second: ten times that.
const SOON: Duration = Duration::from_secs(10);

/// An entry of a tar archive: its header, and its content in blocks.
fn entry(kind: u8, name: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let numbers = [(100, 0o644), (108, 0), (116, 0), (136, 1_000_000_000)];
    for (start, number) in numbers {
        header[start..start + 8].copy_from_slice(&format!("{number:08o}").as_bytes()[..8]);
    }
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(format!("{:011o}", 1_000_000_000).as_bytes());
    header[147] = 0;
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar  \0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

pub(crate) fn file(name: &str, content: &str) -> Vec<u8> {
    entry(b'0', name, content.len() as u64, content.as_bytes())
}

fn chunked(media: &str, body: &[u8]) -> Reply {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    Reply::raw([head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat())
}

/// A pack with its end blocks.
pub(crate) fn pack(entries: &[Vec<u8>]) -> Reply {
    chunked("application/x-tar", &[entries.concat(), vec![0; 1024]].concat())
}

fn good_pack() -> Reply {
    pack(&FILES.map(|(name, packed, _)| file(name, packed)))
}

fn index() -> Reply {
    Reply::names(FILES.map(|(name, packed, _)| format!("{} 5 {name}", packed.len())))
}

/// A peer that shares the files.
fn peer(index: Reply, pack: Reply) -> FakePeer {
    let peer = FakePeer::new().on_index(index).on_packs([pack]);
    FILES.iter().fold(peer, |peer, (name, _, single)| peer.file(name, Reply::content(single))).start()
}

/// How often a peer was asked for: an index, a listing, a pack.
fn counts(peer: &FakePeer) -> (usize, usize, usize) {
    let is_array = |arg: &Value| matches!(arg, Value::List(_));
    let count = |op, array| peer.calls().iter().filter(|call| call.op == op && is_array(&call.arg) == array).count();
    (count(1, true), count(1, false), count(4, true))
}

/// Between the two end blocks of a pack a pause may fall.
#[test]
fn a_pack_may_come_in_pieces() {
    let last_block = 512 + b"\r\n0\r\n\r\n".len();
    for bytes_after in [0, 1, last_block - 1, last_block, last_block + 1, last_block + 512] {
        let pack = good_pack();
        let piece = pack.length() - bytes_after;
        let (peer, here) = (peer(index(), pack.paced(piece, Duration::from_millis(20))), Dir::new());
        download(&here, peer.url()).options(["-v"]).run().ends(0, &["a", "b", "c"], &["fetched 3 files"]);
        assert_eq!((counts(&peer), peer.fetched()), ((1, 0, 1), vec![]), "{bytes_after}");
    }
}

#[test]
fn small_files_come_in_a_pack_with_their_times() {
    let (peer, here) = (peer(index(), good_pack()), Dir::new());
    download(&here, peer.url()).run().ends(0, &["a", "b", "c"], &[]);
    for (name, packed, _) in FILES {
        assert_eq!(here.read(name), packed.as_bytes(), "{name}");
        let modified = std::fs::metadata(here.path().join(name)).unwrap().modified().unwrap();
        assert_eq!(modified, std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000), "{name}");
    }
    assert_eq!((counts(&peer), peer.fetched()), ((1, 0, 1), vec![]));
}

#[test]
fn a_bad_pack_costs_itself_and_no_file() {
    let first = || file("a", "packed a");
    let with = |bad: Vec<u8>| pack(&[first(), bad, file("b", "packed b")]);
    // What the pack is, how many of its files count, and what is said of it.
    let cases = [
        ("nonsense", chunked("application/x-tar", &[b'x'; 5000]), 0, "not a tar archive"),
        ("nothing", pack(&[]), 0, ""),
        ("a document", Reply::content("content"), 0, "not a pack"),
        ("a fault", Reply::fault("no packs here"), 0, "no packs here"),
        ("false", Reply::refusal(), 0, "refused"),
        ("an HTTP error", Reply::raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"), 0, "HTTP status 500"),
        (
            "compressed",
            Reply::raw(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
            ),
            0,
            "compressed",
        ),
        ("cut in the second file", good_pack().cut(2048 + 7 + 200), 1, ""),
        ("cut after the second file", good_pack().cut(1024 + 512 + 7), 2, ""),
        ("another name", with(file("d", "what is this")), 1, "a file that was not asked for"),
        ("a name twice", with(first()), 1, "a file that was not asked for"),
        ("out of order", pack(&[file("b", "packed b"), first()]), 1, "a file that was not asked for"),
        ("too large a file", with(entry(b'0', "b", (1 << 20) + 1, b"")), 1, "too large for a pack"),
        ("a link", with(entry(b'2', "b", 0, b"")), 1, "more than regular files"),
        ("a device", with(entry(b'3', "b", 0, b"")), 1, "more than regular files"),
        ("a sparse file", with(entry(b'S', "b", 0, b"")), 1, "more than regular files"),
        ("a pax record", with(entry(b'x', "b", 10, b"9 path=b\n")), 1, "more than regular files"),
        (
            "a long name that is too long",
            with(entry(b'L', "././@LongLink", 257, &[b'n'; 257])),
            1,
            "a name is too long",
        ),
        (
            "more after its end",
            chunked("application/x-tar", &[first(), vec![0; 100_000]].concat()),
            1,
            "goes on after its end",
        ),
        ("endless content", with(entry(b'0', "b", 1 << 20, b"")).endless(512), 1, ""),
        ("endless long names", with(entry(b'L', "././@LongLink", 2, b"x\0")).endless(1024), 1, ""),
        ("silence", Reply::silence(), 0, ""),
        ("silence in the second file", good_pack().stalled(2048 + 7 + 200), 1, ""),
    ];
    for (what, reply, counting, said) in cases {
        let (peer, here) = (peer(index(), reply), Dir::new());
        let begun = Instant::now();
        let run = download(&here, peer.url()).options(["--timeout", "1"]).run();
        let saved: Vec<&str> = if what == "out of order" { vec!["b", "a", "c"] } else { vec!["a", "b", "c"] };
        run.ends(0, &saved, &[said]);
        let packed = saved.iter().take(counting);
        let fetched: Vec<_> =
            FILES.iter().map(|(name, ..)| *name).filter(|name| !packed.clone().any(|own| own == name)).collect();
        let mut asked = peer.fetched();
        asked.sort();
        assert_eq!(asked, fetched, "{what}");
        for (name, packed, single) in FILES {
            let expected = if fetched.contains(&name) { single } else { packed };
            assert_eq!(here.read(name), expected.as_bytes(), "{what}: {name}");
        }
        assert_eq!(here.names(), ["a", "b", "c"], "{what}: nothing else is left");
        assert_eq!(counts(&peer), (1, 0, 1), "{what}");
        assert!(begun.elapsed() < SOON, "{what} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_peer_without_an_index_is_asked_once_and_then_as_ever() {
    let entry = "<value><string>1 5 a</string></value>\n";
    let document = String::from_utf8(names_answer(["1 5 a"])).unwrap();
    let beginning = &document[..document.find(entry).unwrap() + entry.len()];
    let endless = Reply::without_length(beginning.as_bytes()).endless(entry.len());
    for (what, reply) in [
        ("plain names", Reply::names(["a", "b", "c"])),
        ("no names", Reply::names([""; 0])),
        ("a fault", Reply::fault("unhashable type: 'list'")),
        ("one entry of another form", Reply::names(["1 5 a", "b", "1 5 c"])),
        ("a negative size", Reply::names(["-1 5 a"])),
        ("no name", Reply::names(["1 5 "])),
        ("nonsense", Reply::document(b"<nonsense/>")),
        ("half", index().cut(150)),
        ("an HTTP error", Reply::raw("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")),
        ("endless", endless),
    ] {
        let (peer, here) = (peer(reply, good_pack()), Dir::new());
        let run = download(&here, peer.url()).options(["--timeout", "1"]).run();
        run.ends(0, &["a", "b", "c"], &[]);
        assert_eq!(counts(&peer), (1, 1, 0), "{what}");
        assert_eq!(peer.fetched().len(), 3, "{what}");
        for (name, _, single) in FILES {
            assert_eq!(here.read(name), single.as_bytes(), "{what}: {name}");
        }
    }
}

#[test]
fn a_refused_password_and_silence_are_not_asked_again() {
    for (reply, said) in [(Reply::refusal(), "the password is wrong"), (Reply::silence(), "silent for 1 s")] {
        let peer = peer(reply, good_pack());
        download(&Dir::new(), peer.url()).options(["--timeout", "1"]).run().ends(1, &[], &[said]);
        assert_eq!(counts(&peer), (1, 0, 0));
    }
}

#[test]
fn what_a_good_pack_leaves_out_is_fetched_by_itself_and_packs_go_on() {
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    let left_out = |number: usize| number % 50 == 7;
    let packed = |range: std::ops::Range<usize>| {
        let files: Vec<_> =
            range.filter(|number| !left_out(*number)).map(|number| file(&names[number], "packed")).collect();
        pack(&files)
    };
    let mut peer = FakePeer::new().on_index(Reply::names(names.iter().map(|name| format!("6 1 {name}"))));
    peer = peer.on_packs([packed(0..256), packed(256..300)]);
    for name in &names {
        peer = peer.file(name, Reply::content("single"));
    }
    let (peer, here) = (peer.start(), Dir::new());
    let run = download(&here, peer.url()).options(["-j", "1", "-q"]).run();
    assert_eq!(run.code(), Some(0), "{run}");
    for (number, name) in names.iter().enumerate() {
        let expected = if left_out(number) { "single" } else { "packed" };
        assert_eq!(here.read(name), expected.as_bytes(), "{name}");
    }
    assert_eq!(counts(&peer), (1, 0, 2));
    assert_eq!(peer.fetched().len(), 6);
}

#[test]
fn an_endless_pack_takes_little_memory() {
    let endless = pack(&[entry(b'0', "a", 1 << 20, b"")]).endless(1024);
    let (peer, here) = (peer(index(), endless), Dir::new());
    let run = download(&here, peer.url()).start();
    let peak = Peak::of(run.pid());
    run.finish().ends(0, &["a", "b", "c"], &[]);
    let peak = peak.mib();
    assert!(peak < 24, "{peak} MiB");
}

#[test]
fn sizes_are_listed_as_the_peer_tells_that_is_asked() {
    let other = FakePeer::sharing([("plain", Reply::content("x"))]);
    let index = Reply::names(["12345 9 large file", "0 9 small"]);
    let given = FakePeer::new();
    let list = Reply::peers([given.url(), other.url()]);
    let given = given.on_peers(list).on_index(index).start();
    let run = download(&Dir::new(), given.url()).options(["--list"]).run();
    let listed = "12345 large file\n    - plain\n    0 small\n";
    assert_eq!((&*run.stdout, run.code()), (listed, Some(0)), "{run}");
    assert_eq!(run.stderr, "tinyp2p: 3 files, 12.1 KiB and 1 of unknown size\n", "{run}");
    let run = download(&Dir::new(), given.url()).options(["-q", "--list"]).run();
    assert_eq!((&*run.stdout, &*run.stderr), ("large file\nplain\nsmall\n", ""), "{run}");
}

#[test]
fn verbose_lists_tell_the_sizes_of_holders_that_differ() {
    let (short, long) = (Dir::with([("file", &b"1"[..])]), Dir::with([("file", &b"22"[..])]));
    let first = serve(&short).start();
    let second = serve(&long).peers([first.url()]).start();
    first.wait_for_log(&["new peer"]);
    let run = download(&Dir::new(), first.url()).options(["--list", "-v"]).run();
    let listed = format!("1 file\t{} {} (2 bytes)\n", first.url(), second.url());
    assert_eq!((&*run.stdout, run.code()), (&*listed, Some(0)), "{run}");
}

#[test]
fn a_run_that_will_not_fit_says_so_at_its_start() {
    let index = Reply::names(["4611686018427387904 9 huge"]);
    let peer = FakePeer::new().on_index(index).file("huge", Reply::content("small")).start();
    let run = download(&Dir::new(), peer.url()).run();
    run.ends(0, &["huge"], &["warning: the files to come take 4.00 EiB, but there is room for"]);
}

// What our server answers.

/// Asks for a pack; the head of the answer and its body, as far as it comes.
fn ask_for_pack(server: &Server, version: &str, accept: &str, names: &[&str]) -> (String, Vec<u8>) {
    let call = method_call("f", &[&string(&proof(PASSWORD, server.url())), &int(4), &array(names)]);
    let mut connection = Connection::open(server.url());
    let length = call.len();
    let head =
        format!("POST / HTTP/{version}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{accept}\r\n");
    assert!(connection.send(head + &call));
    let head = connection.head();
    let (body, _) = connection.rest_and_end();
    (format!("{head:?}"), body)
}

const ACCEPT: &str = "Accept: application/x-tar\r\n";

/// The names and contents in a tar archive without long names.
fn unpack(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    while bytes[0] != 0 {
        let name = bytes[..100].split(|byte| *byte == 0).next().unwrap();
        let size = usize::from_str_radix(str::from_utf8(&bytes[124..135]).unwrap(), 8).unwrap();
        files.push((String::from_utf8(name.to_vec()).unwrap(), bytes[512..512 + size].to_vec()));
        bytes = &bytes[512 + size.next_multiple_of(512)..];
    }
    assert_eq!(bytes, [0; 1024], "the end blocks");
    files
}

/// What the chunks of a body hold, as far as they came, and what stands after the last chunk; nothing if that is missing.
fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut content = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if length == 0 {
            return (content, bytes.strip_prefix(b"\r\n"));
        }
        content.extend_from_slice(&bytes[..length.min(bytes.len())]);
        match bytes.get(length..).and_then(|rest| rest.strip_prefix(b"\r\n")) {
            Some(rest) => bytes = rest,
            None => break,
        }
    }
    (content, None)
}

#[test]
fn an_index_tells_sizes_and_ages_of_what_is_listed() {
    let dir = Dir::with([("b c", &b"12345"[..]), ("a", b""), ("other.txt", b"1")]);
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
    let changed = std::fs::File::options().write(true).open(dir.path().join("a")).unwrap();
    changed.set_modified(long_ago).unwrap();
    let changed = std::fs::File::options().write(true).open(dir.path().join("b c")).unwrap();
    changed.set_modified(std::time::SystemTime::now() + Duration::from_secs(5000)).unwrap();
    let server = serve(&dir).start();
    let entries = call(server.url(), 1, &array(["^[ab]"])).names();
    let entries: Vec<Vec<&str>> = entries.iter().map(|entry| entry.splitn(3, ' ').collect()).collect();
    let [a, b] = &*entries else { panic!("{entries:?}") };
    assert_eq!((a[0], a[2], b[0], b[2]), ("0", "a", "5", "b c"));
    assert!((1000..1100).contains(&a[1].parse().unwrap()), "{entries:?}");
    assert!((0..100).contains(&b[1].parse().unwrap()), "a time ahead counts as the last change of status: {entries:?}");
    assert_eq!(call(server.url(), 1, &array(["nothing"])).names(), [""; 0]);
}

#[test]
fn a_pack_holds_what_can_be_opened_in_the_order_asked_for() {
    let largest = vec![b'l'; 1 << 20];
    let dir = Dir::with([("a", &b"one"[..]), ("empty", b""), ("largest", &largest), ("-\u{e9}", &[0; 512])]);
    dir.write("too large", vec![b'l'; (1 << 20) + 1]);
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    let server = serve(&dir).start();
    let names = ["largest", "missing", "a", "directory", "empty", "../a", "too large", "-\u{e9}"];
    let (head, body) = ask_for_pack(&server, "1.0", ACCEPT, &names);
    assert!(head.contains("application/x-tar") && !head.contains("chunked"), "{head}");
    let expected = [("largest", largest), ("a", b"one".to_vec()), ("empty", vec![]), ("-\u{e9}", vec![0; 512])];
    assert_eq!(unpack(&body), expected.map(|(name, content)| (name.to_owned(), content)));
    let (head, chunks) = ask_for_pack(&server, "1.1", ACCEPT, &names);
    assert!(head.contains("chunked"), "{head}");
    assert!(unchunk(&chunks) == (body, Some(&[][..])), "the same pack, and nothing after it");
}

#[test]
fn a_connection_is_kept_after_a_pack() {
    let dir = Dir::with([("a", &b"one"[..]), ("b", b"")]);
    let server = serve(&dir).start();
    let call = method_call("f", &[&string(&proof(PASSWORD, server.url())), &int(4), &array(["b", "a"])]);
    let mut connection = Connection::open(server.url());
    for _ in 0..3 {
        let length = call.len();
        assert!(connection.send(format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n{ACCEPT}\r\n{call}")));
        let head = connection.head();
        assert!(!head.closes(), "{head:?}");
        let mut chunks = Vec::new();
        while unchunk(&chunks).1.is_none() {
            let mut byte = [0];
            connection.stream().read_exact(&mut byte).unwrap();
            chunks.push(byte[0]);
        }
        let files = unpack(&unchunk(&chunks).0);
        assert_eq!(files, [("b".to_owned(), vec![]), ("a".to_owned(), b"one".to_vec())]);
        connection.post("/", call_for(PASSWORD, server.url(), 1, &array(["a"])));
        assert!(connection.response().answer().names()[0].ends_with(" a"));
    }
}

#[test]
fn a_pack_leaves_out_what_may_not_be_read_and_goes_on() {
    let dir = Dir::with([("a", &b"one"[..]), ("secret", b"two"), ("c", b"six")]);
    std::fs::set_permissions(dir.join("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    let server = serve_unprivileged(&dir);
    let (_, body) = ask_for_pack(&server, "1.0", ACCEPT, &["a", "secret", "c"]);
    assert_eq!(unpack(&body), [("a".to_owned(), b"one".to_vec()), ("c".to_owned(), b"six".to_vec())]);
}

#[test]
fn a_pack_needs_a_caller_who_takes_it_and_a_right_proof() {
    let dir = Dir::with([("a", &b"one"[..])]);
    let server = serve(&dir).start();
    let (_, body) = ask_for_pack(&server, "1.1", "Accept: */*\r\n", &["a"]);
    assert!(String::from_utf8(body).unwrap().contains("Accept: application/x-tar"), "a fault that tells");
    assert_eq!(call(server.url(), 4, &string("a")).content(), b"one", "with a string it is a fetch");
    let mut connection = Connection::open(server.url());
    connection.post("/", call_for("another", server.url(), 4, &array(["a"])));
    connection.response().answer().assert_false();
}

#[test]
fn a_file_that_changes_in_a_pack_is_never_sent_as_if_whole() {
    for version in ["1.0", "1.1"] {
        change_files_during_a_pack(version);
    }
}

fn change_files_during_a_pack(version: &str) {
    let dir = Dir::new();
    let large = vec![b'1'; 1 << 20];
    let names: Vec<String> = (0..64).map(|number| format!("file{number:02}")).collect();
    for name in &names {
        dir.write(name, &large);
    }
    let server = serve(&dir).options(["--timeout", "60"]).start();
    let call = method_call("f", &[&string(&proof(PASSWORD, server.url())), &int(4), &array(&names)]);
    let mut connection = Connection::open(server.url());
    let head = format!("POST / HTTP/{version}\r\nContent-Length: {}\r\n{ACCEPT}\r\n", call.len());
    assert!(connection.send(head + &call));
    connection.head();
    // When no more arrives the server waits within one of the first files; whichever it is, it is changed.
    let mut buffer = vec![0; 32 << 20];
    let mut before = 0;
    eventually("a server that waits for its caller", PATIENCE, || {
        let arrived = connection.stream().get_ref().peek(&mut buffer).unwrap();
        (std::mem::replace(&mut before, arrived) == arrived).then_some(())
    });
    for name in &names {
        dir.write(name, &large[..1000]);
    }
    let (mut bytes, is_end) = connection.rest_and_end();
    if version == "1.1" {
        let (content, end) = unchunk(&bytes);
        assert_eq!(end, None, "the last chunk says that a pack is whole");
        bytes = content;
    }
    let whole = bytes.chunks(512 + (1 << 20)).filter(|file| file.len() == 512 + (1 << 20)).count();
    assert!(whole < 64 && !is_end, "{whole} files, {} bytes\n{server}", bytes.len());
    assert!(
        bytes.chunks(512 + (1 << 20)).all(|file| file.iter().skip(512).all(|byte| *byte == b'1')),
        "no zeros in its place"
    );
    server.wait_for_log(&["could not send 'file"]);
}

#[test]
fn a_pack_makes_one_line_in_the_log_and_each_file_one_with_verbose() {
    let dir = Dir::with([("a", &b"one"[..]), ("b", b"two"), ("c", b"six")]);
    let server = serve(&dir).start();
    download(&Dir::new(), server.url()).run().ends(0, &["a", "b", "c"], &[]);
    let log = server.wait_for_log(&["sent 3 files to 127.0.0.1: 9 B in "]);
    assert!(!log.contains("sent 'a'"), "{log}");
    let server = serve(&dir).options(["-v"]).start();
    download(&Dir::new(), server.url()).run().ends(0, &["a", "b", "c"], &[]);
    for line in ["sent 'a' to", "sent 'b' to", "sent 'c' to"] {
        server.wait_for_log(&[line]);
    }
}

#[test]
fn python_unpacks_a_pack() {
    let long = "\u{e9}".repeat(127);
    let dir = Dir::with([("a", &b"one"[..]), ("empty", b""), (&long, &[7; 5000]), ("not this", b"x")]);
    let (server, here) = (serve(&dir).start(), Dir::new());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/packs.py");
    let mut command = std::process::Command::new("python3");
    command.arg(script).args([server.url(), PASSWORD, "^[^n]"]).arg(here.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for name in ["a", "empty", &long] {
        assert_eq!(here.read(name), dir.read(name), "{name}");
    }
    assert_eq!(here.names().len(), 3, "{output:?}");
}

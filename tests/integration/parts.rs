//! Parts of files and their digests, as a server gives them.

use std::{
    fs::{self, File},
    process::Command,
    sync::{Arc, Barrier},
    thread,
};

use crate::{
    harness::{Connection, Dir, PASSWORD, Server, array, call, call_for, serve, string},
    support::Response,
};

const DIGITS: &[u8] = b"0123456789";

/// Asks for a part as bytes.
fn raw_part(server: &Server, name: &str, offset: &str, length: &str) -> Response {
    let body = call_for(PASSWORD, server.url(), 2, &array([name, offset, length]));
    let mut caller = Connection::open(server.url());
    let head = format!(
        "POST /RPC2 HTTP/1.1\r\nHost: x\r\nAccept: application/octet-stream, text/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    caller.send(head + &body);
    caller.response()
}

/// The digest of a part: SHA-256, version, size and age.
fn digest(server: &Server, name: &str, offset: &str, length: &str) -> [String; 4] {
    call(server.url(), 3, &array([name, offset, length])).peers().try_into().unwrap()
}

#[test]
fn a_part_is_cut_at_the_end_of_the_file_and_names_its_state() {
    let dir = Dir::with([("digits", DIGITS), ("empty", b"")]);
    let server = serve(&dir).start();
    for (offset, length, part) in [
        ("0", "10", "0123456789"),
        ("0", "18446744073709551615", "0123456789"),
        ("3", "4", "3456"),
        ("9", "2", "9"),
        ("10", "1", ""),
        ("4", "0", ""),
    ] {
        let response = raw_part(&server, "digits", offset, length);
        assert_eq!((response.status, &*response.body), (200, part.as_bytes()), "{offset} {length}");
        assert_eq!(response.header("Content-Type"), Some("application/octet-stream"));
        assert_eq!(response.length(), Some(part.len() as u64));
        let [_, version, size, _] = digest(&server, "digits", "0", "0");
        assert_eq!((response.header("ETag"), &*size), (Some(&*format!("\"{version}\"")), "10"));
        let content = call(server.url(), 2, &array(["digits", offset, length])).content();
        assert_eq!(content, part.as_bytes(), "{offset} {length} as XML");
    }
    assert_eq!(raw_part(&server, "empty", "0", "5").body, b"");
    for (name, offset, text) in [
        ("digits", "11", "could not open 'digits': the file is shorter than that"),
        ("none", "0", "could not open 'none': no such file or directory"),
        ("../digits", "0", "could not open '../digits': it holds a path separator"),
    ] {
        for op in [2, 3] {
            let fault = call(server.url(), op, &array([name, offset, "1"])).fault();
            assert_eq!((fault.code, &*fault.text), (1, text), "op {op}");
        }
    }
}

#[test]
fn a_digest_is_of_the_part_alone() {
    let dir = Dir::with([("digits", DIGITS)]);
    let server = serve(&dir).start();
    // sha256sum of "345", of "9" and of nothing.
    for (offset, length, sha256) in [
        ("3", "3", "da70dfa4d9f95ac979f921e8e623358236313f334afcd06cddf8a5621cf6a1e9"),
        ("9", "67108864", "19581e27de7ced00ff1ce50b2047e7a567c76b1cbaebabe5ef03f7c3017bb5b7"),
        ("10", "1", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ] {
        assert_eq!(digest(&server, "digits", offset, length)[0], sha256, "{offset} {length}");
    }
    let fault = call(server.url(), 3, &array(["digits", "0", "67108865"])).fault();
    assert_eq!((fault.code, &*fault.text), (1, "op 3 takes parts of at most 67108864 bytes"));
    let fault = call(server.url(), 3, &array(["digits", "0"])).fault();
    assert_eq!((fault.code, &*fault.text), (2, "a part is an array of three strings: name, offset, length"));
    assert_eq!(call(server.url(), 3, &string("digits")).content(), b"0123456789", "a fetch, as in the original");
}

#[test]
fn another_state_of_a_file_has_another_version() {
    let dir = Dir::with([("digits", DIGITS)]);
    let server = serve(&dir).start();
    let before = digest(&server, "digits", "0", "10");
    assert_eq!(digest(&server, "digits", "0", "0")[1], before[1]);
    dir.write("new", DIGITS);
    fs::rename(dir.join("new"), dir.join("digits")).unwrap();
    let after = digest(&server, "digits", "0", "10");
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
}

#[test]
fn parts_have_a_line_in_the_log() {
    let dir = Dir::with([("digits", DIGITS)]);
    let server = serve(&dir).start();
    raw_part(&server, "digits", "2", "3");
    server.wait_for_log(&["sent a part of 'digits' to 127.0.0.1: 3 bytes in"]);
    raw_part(&server, "digits", "0", "5");
    raw_part(&server, "digits", "5", "5");
    server.wait_for_log(&["sent 2 parts of files to 127.0.0.1: 10 B in"]);
}

/// Two digests are computed at once. The others wait their turn, and for a quarter of the limit at most.
#[test]
fn who_asks_for_too_many_digests_hears_that_the_server_is_busy() {
    const CALLERS: usize = 24;
    let dir = Dir::new();
    File::create(dir.join("large")).unwrap().set_len(64 << 20).unwrap();
    let server = serve(&dir).options(["--timeout", "1"]).start();
    let body = call_for(PASSWORD, server.url(), 3, &array(["large", "0", "67108864"]));
    let start = Arc::new(Barrier::new(CALLERS));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (mut caller, body, start) = (Connection::open(server.url()), body.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                caller.post("/RPC2", body);
                caller.response().status
            })
        })
        .collect();
    let statuses: Vec<u16> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let [_, _, size, _] = digest(&server, "large", "0", "0");
    assert_eq!(size, "67108864", "it goes on");
}

#[test]
fn python_takes_a_file_in_parts() {
    let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let dir = Dir::with([("bytes", &*content), ("text", b"one\r\ntwo\r\n")]);
    let server = serve(&dir).start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/parts.py");
    for (name, length) in [("bytes", "77"), ("text", "5")] {
        let output = Command::new("python3").arg(script).args([server.url(), PASSWORD, name, length]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, dir.read(name), "{name}");
    }
}

//! What a server shares and what it never does, and how content is spelled on the wire.

use std::{
    ffi::OsStr,
    fs,
    io::{BufReader, Read},
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    process::Command,
};

use crate::harness::{
    Connection, Dir, PASSWORD, Running, Server, Value, call, call_for, full, int, make_fifo, method_call, post, proof,
    serve, string,
};

fn names(server: &Server) -> Vec<String> {
    call(server.url(), 1, &string("")).names()
}

fn fetch(server: &Server, name: &str) -> Value {
    call(server.url(), 2, &string(name)).value()
}

#[test]
fn regular_files_are_shared_and_symbolic_links_to_them() {
    let (dir, elsewhere) = (Dir::with([("file", &b"1"[..]), (".hidden", b"2")]), Dir::with([("target", &b"3"[..])]));
    symlink(elsewhere.join("target"), dir.join("link")).unwrap();
    symlink("link", dir.join("link to a link")).unwrap();
    let server = serve(&dir).start();
    assert_eq!(names(&server), [".hidden", "file", "link", "link to a link"]);
    for (name, content) in [("file", b"1"), (".hidden", b"2"), ("link", b"3"), ("link to a link", b"3")] {
        assert_eq!(call(server.url(), 2, &string(name)).content(), content, "{name}");
    }
}

#[test]
fn nothing_else_is_listed_or_fetched() {
    let dir = Dir::with([("file", &b"shared"[..])]);
    fs::create_dir(dir.join("directory")).unwrap();
    fs::write(dir.join("directory/inside"), "secret").unwrap();
    make_fifo(dir.join("fifo"));
    let _listener = UnixListener::bind(dir.join("socket")).unwrap();
    symlink("missing", dir.join("dangling")).unwrap();
    symlink("directory", dir.join("link to a directory")).unwrap();
    symlink("fifo", dir.join("link to a fifo")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink("/dev/zero", dir.join("link to a device")).unwrap();
    dir.write(".tinyp2p-x.part", "partial");
    dir.write("line\nbreak", "secret");
    dir.write("back\\slash", "secret");
    dir.write("escape\u{1b}", "secret");
    dir.write("c1\u{9b}", "secret");
    let server = serve(&dir).start();
    assert_eq!(names(&server), ["file"]);
    for name in dir.names().iter().map(String::as_str).filter(|name| *name != "file") {
        if name.contains('\u{1b}') {
            continue; // No XML document can hold this name.
        }
        let fault = call(server.url(), 2, &string(name)).fault();
        assert!(!fault.text.is_empty(), "{name}");
    }
    assert_eq!(call(server.url(), 2, &string("file")).content(), b"shared");
}

#[cfg(target_os = "linux")] // Other systems refuse to make such a file.
#[test]
fn names_that_no_client_takes_are_counted_at_the_start() {
    let dir = Dir::with([("file", &b"shared"[..])]);
    for name in [&b"caf\xe9"[..], b"tab\t", b"back\\slash"] {
        fs::write(dir.path().join(OsStr::from_bytes(name)), "content").unwrap();
    }
    fs::write(dir.path().join("tab\t2"), "content").unwrap();
    let server = serve(&dir).start();
    for reason in [
        "1 file whose name no peer would take: it is not UTF-8 (-v names them)",
        "2 files whose name no peer would take: it holds a control character (-v names them)",
        "1 file whose name no peer would take: it holds a path separator (-v names them)",
    ] {
        server.wait_for_log(&[&format!("warning: not shared: {reason}")]);
    }
    assert_eq!(names(&server), ["file"]);
    let server = serve(&dir).options(["-v"]).start();
    for line in [
        "not shared: 'caf\u{fffd}': its name is refused: it is not UTF-8",
        "not shared: 'tab\\t': its name is refused: it holds a control character",
        "warning: not shared: 2 files whose name no peer would take: it holds a control character",
    ] {
        server.wait_for_log(&[line]);
    }
    assert!(!server.log().contains("-v"), "{server}");
}

#[test]
fn a_directory_of_nothing_but_directories_says_that_those_are_not_shared() {
    let dir = Dir::new();
    fs::create_dir(dir.join("music")).unwrap();
    let text = "warning: directories are not shared, and ";
    serve(&dir).start().wait_for_log(&[text, " holds no files beside them"]);
    dir.write("file", "content");
    let server = serve(&dir).start();
    server.wait_for_log(&["to fetch"]);
    assert!(!server.log().contains(text), "{server}");
}

#[test]
fn a_directory_that_was_deleted_is_no_empty_one() {
    let dir = Dir::new();
    fs::create_dir(dir.join("shared")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "cd shared && rmdir ../shared && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_tinyp2p")]);
    command.args([PASSWORD, "server", "127.0.0.1", "0"]);
    let run = Running::start(&dir, command).finish();
    run.ends(1, &[], &["tinyp2p: could not use directory '.': no such file or directory\n"]);

    fs::create_dir(dir.join("shared")).unwrap();
    let server = serve(&dir).options(["--dir", "shared"]).start();
    fs::remove_dir(dir.join("shared")).unwrap();
    let text = "could not list the directory: no such file or directory";
    assert_eq!(call(server.url(), 1, &string("")).fault().text, text);
    server.wait_for_log(&[&format!("warning: {text}; 127.0.0.1 gets a fault")]);
}

#[test]
fn names_that_lead_elsewhere_are_faults_that_reveal_no_path() {
    let outside = Dir::with([("secret", &b"secret"[..])]);
    fs::create_dir(outside.join("shared")).unwrap();
    fs::create_dir(outside.join("shared/sub")).unwrap();
    fs::write(outside.join("shared/sub/file"), "secret").unwrap();
    fs::write(outside.join("shared/file"), "shared").unwrap();
    let shared = outside.join("shared");
    let server = serve(&outside).options(["--dir", "shared"]).start();
    let absolute = shared.join("file");
    for name in [
        "../secret",
        "..",
        ".",
        "",
        "/",
        "/etc/passwd",
        "sub/file",
        "sub",
        "./file",
        "file/",
        "file/../file",
        "..\\secret",
        absolute.to_str().unwrap(),
        "no such file",
        "\u{9b}31m\u{202e}",
        &"x".repeat(255),
        &"x".repeat(256),
        &"x".repeat(100_000),
    ] {
        let fault = call(server.url(), 2, &string(name)).fault();
        // What the caller said is no secret.
        let root = outside.path().to_str().unwrap();
        let reveals = fault.text.contains(root) && !name.contains(root);
        assert!(!reveals && fault.text.len() < 2_000, "{name:.100}: {fault:?}");
    }
    assert_eq!(call(server.url(), 2, &string("file")).content(), b"shared");
}

#[test]
fn what_is_put_there_or_taken_away_later_is_seen_at_once() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    assert_eq!(names(&server), [""; 0]);
    dir.write("later", "content");
    assert_eq!(names(&server), ["later"]);
    assert_eq!(call(server.url(), 2, &string("later")).content(), b"content");
    dir.write("later", "changed");
    assert_eq!(call(server.url(), 2, &string("later")).content(), b"changed");
    fs::remove_file(dir.join("later")).unwrap();
    assert_eq!(names(&server), [""; 0]);
    call(server.url(), 2, &string("later")).fault();
}

#[test]
fn names_are_found_as_python_finds_them() {
    let dir =
        Dir::with(["file0", "file1", "a.txt", "b.TXT", "caf\u{e9}", "\u{65e5}\u{672c}"].map(|name| (name, &b""[..])));
    let server = serve(&dir).start();
    for (pattern, found) in [
        ("file*", &["file0", "file1"][..]),
        ("e[0-9]$", &["file0", "file1"]),
        (r"\.txt$", &["a.txt"]),
        (r"(?i)\.txt\Z", &["a.txt", "b.TXT"]),
        ("^.{4}$", &["caf\u{e9}"]),
        (r"^\w+$", &["caf\u{e9}", "file0", "file1", "\u{65e5}\u{672c}"]),
        ("\u{672c}", &["\u{65e5}\u{672c}"]),
        ("zzz", &[]),
    ] {
        assert_eq!(call(server.url(), 1, &string(pattern)).names(), found, "{pattern}");
    }
}

#[test]
fn legal_text_is_sent_as_a_string_and_all_else_as_base64() {
    let text = [
        "",
        "plain\n",
        " white space at both ends \t\n ",
        "a\r\nb\rc\n\r",
        "<b>&amp;</b> ]]> &#13; ]]&gt;",
        "caf\u{e9} \u{65e5}\u{672c} \u{1f980}",
        "\u{7f}\u{85}\u{2028}\u{d7ff}\u{e000}\u{fffd}\u{10ffff}",
        "\u{feff}byte order mark",
    ];
    let binary = [
        &b"\0"[..],
        b"text\x0bwith a vertical tab",
        b"\x1b[0m",
        b"caf\xe9",
        b"cut \xf0\x9f\xa6",
        b"surrogate \xed\xa0\x80",
        b"\xef\xbf\xbe",
        b"\xef\xbf\xbf",
        b"\xc0\x80",
    ];
    let dir = Dir::new();
    let server = serve(&dir).start();
    for content in text {
        dir.write("file", content);
        assert_eq!(fetch(&server, "file"), Value::Text(content.as_bytes().to_vec()), "{content:?}");
    }
    for content in binary {
        dir.write("file", content);
        assert_eq!(fetch(&server, "file"), Value::Base64(content.to_vec()), "{content:?}");
    }
}

#[test]
fn characters_that_lie_across_the_edge_of_a_buffer_are_text() {
    let dir = Dir::new();
    let server = serve(&dir).start();
    for edge in [8 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        for before in 1..4 {
            let content = "x".repeat(edge - before) + "\u{1f980}\r\n";
            dir.write("file", &content);
            assert_eq!(fetch(&server, "file"), Value::Text(content.into_bytes()), "{before} bytes before {edge}");
        }
        let mut broken = vec![b'x'; edge - 1];
        broken.extend_from_slice(b"\xc3x");
        dir.write("file", &broken);
        assert_eq!(fetch(&server, "file"), Value::Base64(broken), "{edge}");
    }
}

/// The raw body of the answer to a fetch; its length was announced.
fn raw_fetch(server: &Server, name: &str) -> Vec<u8> {
    let mut connection = Connection::open(server.url());
    connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string(name)));
    let response = connection.response();
    let length = response.header("Content-Length").expect("the length is announced in advance");
    assert_eq!(length.parse(), Ok(response.body.len()));
    response.body
}

#[test]
fn any_parser_of_xml_gets_every_byte() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let dir = Dir::with([("text", &b"a\r\nb\rc ]]> <&>"[..]), ("binary", &every_byte)]);
    let server = serve(&dir).start();
    let text = String::from_utf8(raw_fetch(&server, "text")).unwrap();
    assert!(text.contains("<string>a&#13;\nb&#13;c ]]&gt; &lt;&amp;&gt;</string>"), "{text:?}");
    let binary = String::from_utf8(raw_fetch(&server, "binary")).unwrap();
    let base64 = binary.split_once("<base64>").and_then(|(_, rest)| rest.split_once("</base64>")).unwrap().0;
    assert_eq!(base64, base64_simd::STANDARD.encode_to_string(&every_byte), "base64 has no line breaks");
}

#[test]
fn servers_of_different_passwords_share_one_directory() {
    let dir = Dir::with([("file", &b"content"[..])]);
    let one = serve(&dir).start();
    let other = serve(&dir).password("another").start();
    assert_eq!(call(one.url(), 2, &string("file")).content(), b"content");
    post(other.url(), call_for(PASSWORD, other.url(), 2, &string("file"))).answer().assert_false();
    let answer = post(other.url(), call_for("another", other.url(), 2, &string("file"))).answer();
    assert_eq!(answer.content(), b"content");
}

#[test]
fn what_is_sent_and_what_is_refused_is_logged_without_secrets() {
    let dir = Dir::with([("some file.txt", &b"twelve bytes"[..])]);
    let server = serve(&dir).start();
    call(server.url(), 2, &string("some file.txt"));
    server.wait_for_log(&["some file.txt", "12", "127.0.0.1"]);
    let wrong = "0123456789abcdef0123456789abcdef";
    let call = method_call("f", &[&string(wrong), &int(2), &string("some file.txt")]);
    post(server.url(), call).answer().assert_false();
    server.wait_for_log(&["127.0.0.1", "proof"]);
    let log = server.log();
    assert!(!log.contains(wrong) && !log.contains(&proof(PASSWORD, server.url())), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn sending_takes_the_same_memory_whatever_the_size() {
    let dir = Dir::new();
    let size: u64 = if full() { 1 << 30 } else { 128 << 20 };
    fs::File::create(dir.join("zeros")).unwrap().set_len(size).unwrap();
    dir.write("text", "some text\r\n".repeat(4 << 20));
    let server = serve(&dir).start();
    for name in ["zeros", "text"] {
        let mut connection = Connection::open(server.url());
        connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string(name)));
        let length: u64 = connection.head().header("Content-Length").unwrap().parse().unwrap();
        let mut body = BufReader::with_capacity(1 << 20, connection.stream().take(length));
        assert_eq!(std::io::copy(&mut body, &mut std::io::sink()).unwrap(), length);
    }
    let peak = crate::harness::peak_memory(server.pid());
    assert!(peak < 40 << 10, "{peak} KiB");
}

#[test]
fn text_up_to_64_mib_is_a_string_and_beyond_that_base64() {
    if !full() {
        return;
    }
    let dir = Dir::new();
    dir.write("file", vec![b'x'; 64 << 20]);
    let server = serve(&dir).start();
    assert!(matches!(fetch(&server, "file"), Value::Text(text) if text.len() == 64 << 20));
    dir.write("file", vec![b'x'; (64 << 20) + 1]);
    assert!(matches!(fetch(&server, "file"), Value::Base64(bytes) if bytes.len() == (64 << 20) + 1));
}

#[test]
fn a_caller_that_stops_reading_is_cut_off() {
    let dir = Dir::new();
    fs::File::create(dir.join("zeros")).unwrap().set_len(256 << 20).unwrap();
    let server = serve(&dir).options(["--timeout", "1"]).start();
    let mut connection = Connection::open(server.url());
    connection.post("/RPC2", call_for(PASSWORD, server.url(), 2, &string("zeros")));
    let announced: u64 = connection.head().header("Content-Length").unwrap().parse().unwrap();
    server.wait_for_log(&["could not send", "zeros"]);
    let mut body = Vec::new();
    _ = connection.stream().take(announced).read_to_end(&mut body);
    assert!((body.len() as u64) < announced);
}

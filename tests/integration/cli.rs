//! How words on the command line become passwords, patterns and options, and what happens when they cannot.

use std::{net::TcpListener, process::Command};

use rustix::process::Signal;

use crate::harness::{
    Dir, PASSWORD, PATIENCE, Running, Server, SilentPort, array, call, call_for, download, eventually, post, serve,
    string, tinyp2p, try_call,
};

/// Words that a password may be; the second says how to write it on the command line.
const PASSWORDS: [(&str, &[&str]); 18] = [
    ("plain", &["plain"]),
    ("", &[""]),
    ("server", &["server"]),
    ("client", &["client"]),
    ("help", &["help"]),
    ("two words", &["two words"]),
    ("p\u{e4}ssw\u{f6}rd", &["p\u{e4}ssw\u{f6}rd"]),
    ("$(x) 'y' \"z\"\n", &["$(x) 'y' \"z\"\n"]),
    ("-x", &["-x"]),
    ("-1", &["-1"]),
    ("--no-such-option", &["--no-such-option"]),
    ("-x", &["--", "-x"]),
    ("-q", &["--", "-q"]),
    ("--help", &["--", "--help"]),
    ("--timeout", &["--", "--timeout"]),
    ("--", &["--", "--"]),
    ("server", &["--", "server"]),
    ("--dir=x", &["-q", "--timeout", "20", "--", "--dir=x"]),
];

#[test]
fn any_word_is_a_password() {
    for (password, words) in PASSWORDS {
        let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
        let server = Server::with_words(&shared, &[words, &["server", "127.0.0.1", "0"]].concat());
        let answer = post(server.url(), call_for(password, server.url(), 0, &array([""; 0]))).answer();
        assert_eq!(answer.peers(), [server.url()], "{words:?} is not read as {password:?}");
        tinyp2p(&here, [words, &["client", server.url(), ""]].concat()).ends(0, &["file"], &[]);
    }
}

#[test]
fn options_of_both_modes_stand_before_the_password_or_after_the_mode() {
    let (shared, elsewhere) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let path = shared.path().to_str().unwrap();
    let with_equals = format!("--dir={path}");
    for words in [
        &["--dir", path, PASSWORD, "server", "127.0.0.1", "0"][..],
        &[&with_equals, "-v", PASSWORD, "server", "127.0.0.1", "0"],
        &[PASSWORD, "server", "--dir", path, "127.0.0.1", "0"],
        &[PASSWORD, "server", "127.0.0.1", &with_equals, "0", "-q"],
        &["-q", PASSWORD, "server", "127.0.0.1", "0", "--timeout=5", "--dir", path],
    ] {
        let server = Server::with_words(&elsewhere, words);
        assert_eq!(call(server.url(), 1, &string("")).names(), ["file"], "{words:?}");
        let here = Dir::new();
        let path = here.path().to_str().unwrap();
        tinyp2p(&elsewhere, [PASSWORD, "client", "--dir", path, server.url(), ""]).ends(0, &["file"], &[]);
        assert_eq!(here.names(), ["file"]);
    }
    assert_eq!(elsewhere.names(), [""; 0]);
}

#[test]
fn any_word_is_a_pattern() {
    let shared = Dir::with([("-x", &b"1"[..]), ("-q", b"2"), ("--", b"3"), ("a", b"4")]);
    let server = serve(&shared).start();
    for (words, saved) in [
        (&["-x"][..], &["-x"][..]),
        (&["--", "-x"], &["-x"]),
        (&["--", "-q"], &["-q"]),
        (&["-q", "a"], &["a"]),
        (&["a", "-q"], &["a"]),
        (&["--", "--"], &["--"]),
        (&["-"], &["--", "-q", "-x"]),
        (&[""], &["--", "-q", "-x", "a"]),
        (&["^[^-]"], &["a"]),
    ] {
        let here = Dir::new();
        tinyp2p(&here, [&[PASSWORD, "client", server.url()], words].concat()).ends(0, saved, &[]);
        assert_eq!(here.names(), saved, "{words:?}");
    }
}

// What is said of others stands in `texts`, word for word.
#[test]
fn wrong_words_are_usage_errors_of_one_clear_line() {
    let dir = Dir::new();
    let url = "http://127.0.0.1:1";
    for (words, told) in [
        (&[PASSWORD, "server", "127.0.0.1", "http"][..], &["http"][..]),
        (&[PASSWORD, "server", "127.0.0.1", "4000", "https://localhost:4001"], &["--private"]),
        (&[PASSWORD, "server", "--private", "127.0.0.1", "4000", "http://localhost:1"], &["https://localhost:1"]),
        (&[PASSWORD, "server", "http://localhost", "4000"], &["http://localhost"]),
        (&[PASSWORD, "client", url, "-q"], &["PATTERN"]),
        (&[PASSWORD, "client", "http://localhost", ""], &["http://localhost:PORT"]),
        (&[PASSWORD, "client", "http://localhost:4000/RPC2", ""], &["http://localhost:4000"]),
        (&[PASSWORD, "client", url, "a.txt", "--no-such"], &["--no-such"]),
        (&[PASSWORD, "client", url, "("], &[]),
        (&[PASSWORD, "client", url, r"(a)\1"], &[]),
        (&[PASSWORD, "client", "--list", "--update", url, ""], &["--list", "--update"]),
        (&[PASSWORD, "server", "--limit-rate", "15K", "127.0.0.1", "4000"], &["at least 16K"]),
        (&[PASSWORD, "client", "--limit-rate", "\u{e9}", url, ""], &["at least 16K"]),
        (&[PASSWORD, "client", "--limit-rate", "99999999999G", url, ""], &["at least 16K"]),
        (&["--timeout", "soon", PASSWORD, "client", url, ""], &["--timeout", "soon"]),
        (&[PASSWORD, "server", "--bind", "nonsense", "127.0.0.1", "4000"], &["nonsense"]),
        (&[PASSWORD, "client", "--bind", "127.0.0.1:0", url, ""], &["--bind"]),
        (&[PASSWORD, "client", "\u{202e}\u{1b}[2J:1", ""], &["http://"]),
        (&[PASSWORD, "\u{1b}[2J"], &[]),
    ] {
        let words: Vec<&str> = words.iter().map(|word| if *word == PASSWORD { "pw" } else { word }).collect();
        let run = tinyp2p(&dir, &words).ends(2, &[], told).with_one_complaint();
        assert!(run.stderr.lines().count() <= 12, "a wall of text\n{run}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_a_failure_of_the_local_side() {
    let (dir, shared) = (Dir::with([("file", &b""[..])]), Dir::new());
    let server = serve(&shared).start();
    for path in ["missing", "file"] {
        tinyp2p(&dir, ["--dir", path, PASSWORD, "client", server.url(), ""]).ends(1, &[], &[path]).with_one_complaint();
        tinyp2p(&dir, ["--dir", path, PASSWORD, "server", "127.0.0.1", "0"]).ends(1, &[], &[path]).with_one_complaint();
    }
}

#[test]
fn a_temporary_directory_that_cannot_be_used_is_named() {
    let dir = Dir::new();
    let long = dir.join(&"x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    for path in [dir.join("missing"), long] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
        command.args([PASSWORD, "server", "127.0.0.1", "0"]).env("TMPDIR", &path);
        let run = Running::start(&dir, command).finish();
        run.ends(1, &[], &[path.to_str().unwrap()]).with_one_complaint();
    }
}

#[test]
fn bind_listens_at_another_address_than_the_own_url_names() {
    let shared = Dir::with([("file", &b"content"[..])]);
    let port = SilentPort::reserve().port;
    let words = [PASSWORD, "server", "--bind", &format!("127.0.0.1:{port}"), "peer.invalid", "4000"];
    let server = Server::with_words(&shared, &words);
    assert_eq!(server.url(), "http://peer.invalid:4000");
    let listening = format!("http://127.0.0.1:{port}");
    let document = call_for(PASSWORD, server.url(), 0, &array([""; 0]));
    assert_eq!(post(&listening, document).answer().peers(), [server.url()]);
}

#[test]
fn port_0_with_bind_gives_the_own_url_the_real_port() {
    let dir = Dir::new();
    let server = serve(&dir).host("peer.invalid").options(["--bind", "127.0.0.1:0"]).start();
    let listening = format!("http://127.0.0.1:{}", server.port());
    let document = call_for(PASSWORD, server.url(), 0, &array([""; 0]));
    assert_eq!(post(&listening, document).answer().peers(), [format!("http://peer.invalid:{}", server.port())]);
}

#[test]
fn a_host_is_a_name_or_an_address_of_either_kind() {
    let dir = Dir::with([("file", &b"content"[..])]);
    let mut hosts = vec![("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")];
    if TcpListener::bind("[::1]:0").is_ok() {
        hosts.extend([("::1", "[::1]"), ("[::1]", "[::1]")]);
    }
    for (host, in_url) in hosts {
        let server = serve(&dir).host(host).start();
        assert_eq!(server.url(), format!("http://{in_url}:{}", server.port()));
        let here = Dir::new();
        download(&here, server.url()).run().ends(0, &["file"], &[]);
    }
}

#[test]
fn a_trailing_slash_is_dropped() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = serve(&shared).start();
    download(&here, &format!("{}/", server.url())).run().ends(0, &["file"], &[]);
    let other = serve(&here).peers([&*format!("{}/", server.url())]).start();
    eventually("the other server on the list", PATIENCE, || {
        let peers = call(server.url(), 0, &array([""; 0])).peers();
        (peers == [server.url(), other.url()]).then_some(())
    });
}

/// Starts the program with a standard output that nobody reads any more.
fn unheard(dir: &Dir, words: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args(words);
    Running::start_unheard(dir, command)
}

#[test]
fn a_closed_standard_output_is_no_crash() {
    let files: Vec<String> = (0..50).map(|number| format!("file{number}")).collect();
    let shared = Dir::with(files.iter().map(|name| (&**name, &b"content"[..])));
    let server = serve(&shared).start();
    let here = Dir::new();
    for words in [&["--help"][..], &["--version"], &[PASSWORD, "client", server.url(), ""]] {
        unheard(&here, words).finish().ends(0, &[], &[]);
    }
    here.assert_same_files(&shared);
}

#[test]
fn a_list_that_nobody_can_get_is_a_failure() {
    let shared = Dir::with([("file", &b"content"[..])]);
    let server = serve(&shared).start();
    for (redirection, status, told) in [
        (">&-", 1, "tinyp2p: could not print to standard output: it is closed\n"),
        ("> /dev/null", 0, "tinyp2p: 1 file, 7 B\n"),
    ] {
        let mut command = Command::new("sh");
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_tinyp2p"), PASSWORD, "client", "--list", server.url(), ""]);
        let run = Running::start(&Dir::new(), command).finish().ends(status, &[], &[]);
        assert_eq!(run.stderr, told, "{run}");
    }
}

#[test]
fn a_server_serves_although_nobody_reads_its_url() {
    let dir = Dir::new();
    let port = SilentPort::reserve().port.to_string();
    let url = format!("http://127.0.0.1:{port}");
    let server = unheard(&dir, &[PASSWORD, "server", "127.0.0.1", &port]);
    let answer = eventually("an answer of the server", PATIENCE, || try_call(&url, 0, &array([""; 0])));
    assert_eq!(answer.peers(), [url]);
    server.signal(Signal::TERM);
    server.finish().ends(0, &[], &[]);
}

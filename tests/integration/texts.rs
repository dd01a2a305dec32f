//! What the program says, word for word: help, complaints, summaries and logs. Whoever changes a text changes it here
//! too, and sees it as a whole. Ports, paths and times are put in.

use std::{fs, net::TcpListener, process::Command};

use regex::Regex;
use rustix::process::Signal;

use crate::harness::{
    Dir, FakePeer, PASSWORD, PATIENCE, Reply, Run, Running, Server, SilentPort, array, call, call_for, download, post,
    serve, string, tinyp2p,
};

/// A command that runs our program with these words.
fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args(words).env_remove("TINYP2P_PASSWORD");
    command
}

/// A text with its times and rates put out of the way.
fn timeless(text: &str) -> String {
    let text = Regex::new(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ").unwrap().replace_all(text, "TIME ");
    let text = Regex::new(r"in \d+\.\d+ s").unwrap().replace_all(&text, "in T s");
    Regex::new(r"\([0-9.]+ ([KMGT]i)?B/s\)").unwrap().replace_all(&text, "(RATE)").into_owned()
}

#[track_caller]
fn assert_complaint(run: &Run, status: i32, complaint: &str) {
    assert_eq!((run.code(), &*run.stdout), (Some(status), ""), "{run}");
    assert_eq!(run.stderr, format!("tinyp2p: {complaint}\n"), "{run}");
}

// Help and version.

#[test]
fn each_help_is_as_it_is_meant_and_fits_a_screen() {
    let dir = Dir::new();
    for (words, text) in [
        (&["--help"][..], include_str!("texts/help.txt")),
        (&["-h"], include_str!("texts/help.txt")),
        (&["server", "--help"], include_str!("texts/server.txt")),
        (&[PASSWORD, "client", "-h"], include_str!("texts/client.txt")),
    ] {
        let run = tinyp2p(&dir, words);
        assert_eq!((run.code(), &*run.stderr), (Some(0), ""), "{run}");
        assert_eq!(run.stdout, text, "{words:?}");
        assert!(text.lines().count() <= 24, "{words:?} does not fit a screen");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{words:?} is too wide");
    }
}

#[test]
fn the_readme_has_the_forms_and_the_options_of_the_help() {
    let readme = include_str!("../../README.md");
    let helps = [include_str!("texts/help.txt"), include_str!("texts/server.txt"), include_str!("texts/client.txt")];
    let (form, option) = (Regex::new("tinyp2p PASSWORD .*").unwrap(), Regex::new("--[a-z]{2,}").unwrap());
    for text in helps.iter().flat_map(|help| form.find_iter(help).chain(option.find_iter(help))) {
        let is_usual = ["--help", "--version"].contains(&text.as_str());
        assert!(is_usual || readme.contains(text.as_str()), "{text:?} is missing in the README");
    }
}

#[test]
fn the_version_is_one_line() {
    for word in ["--version", "-V"] {
        let run = tinyp2p(&Dir::new(), [word]);
        assert_eq!((&*run.stdout, &*run.stderr), (concat!("tinyp2p ", env!("CARGO_PKG_VERSION"), "\n"), ""), "{run}");
    }
}

// Command lines that cannot be used.

#[test]
fn each_usage_error_is_one_line_that_says_what_is_wrong() {
    let url = "http://127.0.0.1:1";
    let address = "expected an address and a port, such as 0.0.0.0:4000 or [::]:4000";
    let seconds = "expected a number of seconds from 1 to 86400";
    let missing = "the following required arguments were not provided:";
    let modes = "expected server or client after PASSWORD";
    let kinds = "[possible values: bash, fish, zsh, man]";
    let dir = Dir::new();
    for (words, mode, complaint) in [
        (&[][..], "", &*format!("{missing} <PASSWORD>")),
        (&["--timeout"], "", "a value is required for '--timeout <SECONDS>' but none was supplied"),
        (&["--timeout", "5"], "", &format!("{missing} <PASSWORD>")),
        (&["pw"], "", modes),
        (&["server"], " server", &format!("{missing} <HOST> <PORT>")),
        (&["client", url, "x"], " client", &format!("{missing} <PASSWORD>")),
        (&["pw", "sideways"], "", &format!("{modes}, not 'sideways'")),
        (&["--no-such", "pw", "client", url, "x"], " client", &format!("{modes}, not 'pw'")),
        (&["pw", "--no-such", "client", url, "x"], " client", "unknown option '--no-such'"),
        (&["pw", "server"], " server", &format!("{missing} <HOST> <PORT>")),
        (&["pw", "server", "a"], " server", &format!("{missing} <PORT>")),
        (
            &["pw", "server", "a", "65536"],
            " server",
            "invalid value '65536' for '<PORT>': expected a number from 0 to 65535",
        ),
        (&["pw", "server", "a", "-1"], " server", "unknown option '-1'"),
        (
            &["pw", "server", "a/b", "4000"],
            " server",
            "invalid value 'a/b' for '<HOST>': expected a name or an address",
        ),
        (
            &["pw", "server", "a", "4000", "b:4001"],
            " server",
            "invalid value 'b:4001' for '[URL]...': write http://b:4001",
        ),
        (
            &["pw", "server", "a", "4000", "--bind", "b:4000"],
            " server",
            &format!("invalid value 'b:4000' for '--bind <ADDR:PORT>': {address}"),
        ),
        (&["pw", "server", "--jobs", "4", "a", "1"], " server", "unknown option '--jobs'"),
        (&["pw", "client"], " client", &format!("{missing} <URL> <PATTERN>")),
        (&["pw", "client", url], " client", &format!("{missing} <PATTERN>")),
        (&["pw", "client", "a", ""], " client", "invalid value 'a' for '<URL>': write http://a:PORT"),
        (
            &["pw", "client", url, "a.txt", "b.txt"],
            " client",
            "unexpected argument after PATTERN: 'b.txt' (quote PATTERN, or the shell expands it)",
        ),
        (
            &["pw", "client", url, "*.txt"],
            " client",
            "invalid value '*.txt' for '<PATTERN>': nothing to repeat at character 1; a pattern is a regular expression, \
             write '\\.txt$' instead of the glob",
        ),
        (
            &["pw", "client", url, "(?!x)"],
            " client",
            "invalid value '(?!x)' for '<PATTERN>': look-ahead other than directly after a leading ^ is not supported at \
             character 1",
        ),
        (
            &["--timeout", "0", "pw", "client", url, ""],
            " client",
            &format!("invalid value '0' for '--timeout <SECONDS>': {seconds}"),
        ),
        (
            &["pw", "client", "-j0", url, ""],
            " client",
            "invalid value '0' for '--jobs <N>': expected a number from 1 to 64",
        ),
        (&["pw", "client", url, "", "--dir"], " client", "a value is required for '--dir <DIR>' but none was supplied"),
        (
            &["pw", "client", url, "", "--list=x"],
            " client",
            "unexpected value 'x' for '--list' found; no more were expected",
        ),
        (&["pw", "client", "-q", "-v", url, ""], " client", "the argument '--quiet' cannot be used with '--verbose'"),
        (&["--generate"], "", &format!("a value is required for '--generate <KIND>' but none was supplied {kinds}")),
        (&["--generate", "tcsh"], "", &format!("invalid value 'tcsh' for '--generate <KIND>' {kinds}")),
    ] {
        assert_complaint(&tinyp2p(&dir, words), 2, &format!("{complaint}; see tinyp2p{mode} --help"));
    }
}

#[test]
fn what_a_usage_error_repeats_cannot_steer_a_terminal() {
    let (word, shown) = ("\u{1b}[2J\u{202e}", r"\u{1b}[2J\u{202e}");
    let url = "http://127.0.0.1:1";
    for (words, complaint) in [
        (&["pw", word][..], format!("expected server or client after PASSWORD, not '{shown}'; see tinyp2p --help")),
        (
            &["pw", "server", "a", word],
            format!(
                "invalid value '{shown}' for '<PORT>': expected a number from 0 to 65535; see tinyp2p server --help"
            ),
        ),
        (&["pw", "client", url, "x", "--\u{1b}"], r"unknown option '--\u{1b}'; see tinyp2p client --help".to_owned()),
    ] {
        assert_complaint(&tinyp2p(&Dir::new(), words), 2, &complaint);
    }
}

// What goes wrong on the way.

#[test]
fn a_wrong_password_and_a_wrong_url_are_told() {
    let (shared, here) = (Dir::new(), Dir::new());
    let server = serve(&shared).start();
    let refused =
        "refused: the password is wrong, or the server calls itself by another URL (take the one that it prints)";
    let port = server.port();
    let of_address = format!("is it http://localhost:{port}, or with another address of this machine?");
    let run = tinyp2p(&here, ["wrong", "client", server.url(), ""]);
    assert_complaint(&run, 1, &format!("could not get the peer list of {}: {refused}; {of_address}", server.url()));
    let localhost = format!("http://localhost:{port}");
    let complaint = format!("could not get the peer list of {localhost}: {refused}; is it {}?", server.url());
    assert_complaint(&download(&here, &localhost).run(), 1, &complaint);
    let named = serve(&shared).host("localhost").start();
    let address = format!("http://127.0.0.1:{}", named.port());
    let of_address = of_address.replace(&port.to_string(), &named.port().to_string());
    let complaint = format!("could not get the peer list of {address}: {refused}; {of_address}");
    assert_complaint(&download(&here, &address).run(), 1, &complaint);
    download(&here, &named.url().replace("http", "HTTP")).run().ends(0, &[], &[]);
}

#[test]
fn hosts_by_which_nobody_can_call_a_server_are_told() {
    let dir = Dir::new();
    let zone = "a link-local address needs a zone id, which differs from machine to machine; take another address";
    let unspecified = "others cannot call it; give an address of this machineOWN (--bind 0.0.0.0:PORT still listens at \
                       all of them)";
    let own = Regex::new(", such as [0-9a-f.:]+( or [0-9a-f.:]+)?").unwrap();
    for (host, complaint) in [
        ("0.0.0.0", unspecified),
        ("0", unspecified),
        ("::", unspecified),
        ("[::]", unspecified),
        ("::ffff:127.0.0.1", "write the address as 127.0.0.1"),
        ("fe80::1%eth0", zone),
        ("fe80::1", zone),
        ("255.255.255.255%x", "expected a name or an address"),
        ("224.0.0.1", "that is the address of a group, not of a machine"),
    ] {
        let run = tinyp2p(&dir, ["pw", "server", "--bind", "127.0.0.1:0", host, "0"]);
        assert_eq!((run.code(), &*run.stdout), (Some(2), ""), "{run}");
        let text = own.replace(&run.stderr, "OWN").replace("machine (", "machineOWN (");
        let complaint = format!("invalid value '{host}' for '<HOST>': {complaint}; see tinyp2p server --help");
        assert_eq!(text, format!("tinyp2p: {complaint}\n"), "{run}");
    }
    for (url, complaint) in [
        ("http://[fe80::1%eth0]:4000", zone),
        ("http://[fe80::1]:4000", zone),
        ("http://[::ffff:127.0.0.1]:4000", "write the address as 127.0.0.1"),
    ] {
        let complaint = format!("invalid value '{url}' for '<URL>': {complaint}; see tinyp2p client --help");
        assert_complaint(&tinyp2p(&dir, ["pw", "client", url, ""]), 2, &complaint);
    }
}

#[test]
fn a_server_on_loopback_with_a_peer_elsewhere_is_warned() {
    let dir = Dir::new();
    let warning = |peer: &str, host: &str| {
        format!(
            "TIME warning: {peer} cannot call this server by {host}, which each machine takes for itself; give an address \
             of this machine"
        )
    };
    for (host, peer, is_told) in [
        ("127.0.0.1", "http://peer.invalid:4000", true),
        ("localhost", "http://192.0.2.1:4000", true),
        ("127.0.0.1", "http://localhost:1", false),
        ("localhost", "http://[::1]:1", false),
        ("peer.invalid", "http://192.0.2.1:4000", false),
    ] {
        // With `--bind` no name is looked up.
        let server = serve(&dir).host(host).options(["--bind", "127.0.0.1:0", "--timeout", "1"]);
        let mut server = server.peers(["http://127.0.0.1:1", peer]).start();
        server.stop(Signal::TERM, PATIENCE);
        server.wait_for_log(&["stopped"]);
        let warnings: Vec<String> = log(&server).into_iter().filter(|line| line.contains("cannot call")).collect();
        assert_eq!(warnings.len(), usize::from(is_told), "{server}");
        assert!(warnings.iter().all(|line| line.starts_with(&warning(peer, host))), "{server}");
    }
}

#[test]
fn a_server_that_is_none_is_told() {
    let html = "<!DOCTYPE html><html><body>hello</body></html>";
    let page = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 46\r\n\r\n{html}");
    let head = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    for (reply, complaint) in [
        (Reply::raw(head("404 Not Found")), "not a TinyP2P server: the answer is HTTP status 404"),
        (Reply::raw(head("501 Unsupported method")), "not a TinyP2P server: the answer is HTTP status 501"),
        (Reply::raw(head("301 Elsewhere")), "not a TinyP2P server: the answer is HTTP status 301"),
        (Reply::raw(page), "not a TinyP2P server: the answer is a web page"),
        (Reply::raw(*b"SSH-2.0-OpenSSH_9.6\r\n"), "not a TinyP2P server: the answer is not HTTP"),
        (Reply::raw(*b"\x15\x03\x01\x00\x02\x02\x16"), "not a TinyP2P server: the answer is not HTTP"),
        (Reply::raw(head("503 Busy")), "too busy (HTTP status 503)"),
        (Reply::raw(head("500 Oops")), "the answer is HTTP status 500"),
        (Reply::raw(*b""), "the connection broke off: no answer came"),
        (Reply::silence(), "silent for 1 s (fewer than 1,024 bytes came)"),
        (Reply::document(b"<html></html>"), "the answer makes no sense: not an XML-RPC response: unknown tag <html>"),
        (Reply::fault("what a\u{202e} pity"), r"fault: what a\u{202e} pity"),
    ] {
        let peer = FakePeer::new().on_peers(reply).start();
        let run = download(&Dir::new(), peer.url()).options(["--timeout", "1"]).run();
        assert_complaint(&run, 1, &format!("could not get the peer list of {}: {complaint}", peer.url()));
    }
}

#[test]
fn a_port_where_nobody_listens_and_an_unknown_host_are_told() {
    let (dir, dead) = (Dir::new(), SilentPort::reserve());
    let complaint = format!(
        "could not get the peer list of {}: could not connect: connection refused (is a server running there?)",
        dead.url()
    );
    assert_complaint(&download(&dir, &dead.url()).run(), 1, &complaint);
    let complaint = "could not get the peer list of http://peer.invalid:4000: could not connect: the name of the host is \
                     unknown";
    assert_complaint(&download(&dir, "http://peer.invalid:4000").run(), 1, complaint);
}

#[test]
#[cfg(target_os = "linux")]
fn the_silence_of_a_firewall_is_told() {
    let port = crate::harness::FullPort::fill();
    let run = download(&Dir::new(), &port.url()).options(["--timeout", "1"]).run();
    let complaint = "could not connect: no answer within 1 s (is there a firewall in between?)";
    assert_complaint(&run, 1, &format!("could not get the peer list of {}: {complaint}", port.url()));
}

#[test]
fn a_server_that_cannot_listen_says_why_and_what_to_do() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let run = tinyp2p(&dir, ["pw", "server", "127.0.0.1", &address.port().to_string()]);
    let reason = "the port is in use (is a server running there? port 0 takes a free one)";
    assert_complaint(&run, 1, &format!("could not listen on {address}: {reason}"));
    // An address that is kept for examples.
    let run = tinyp2p(&dir, ["pw", "server", "192.0.2.1", "4000"]);
    let reason = "not an address of this machine (--bind ADDR:PORT listens elsewhere)";
    assert_complaint(&run, 1, &format!("could not listen on 192.0.2.1:4000: {reason}"));
    // What the system says of an unknown name differs.
    let run = tinyp2p(&dir, ["pw", "server", "peer.invalid", "4000"]);
    let told = Regex::new(
        "^tinyp2p: could not find an address for 'peer.invalid': [a-z ,]+ \\(--bind ADDR:PORT listens without one\\)\n$",
    );
    assert!(run.code() == Some(1) && told.unwrap().is_match(&run.stderr), "{run}");
}

#[test]
fn a_directory_that_cannot_be_used_is_told() {
    let dir = Dir::new();
    let missing = dir.join("missing");
    let missing = missing.to_str().unwrap();
    for mode in [&["client", "http://127.0.0.1:1", ""][..], &["server", "127.0.0.1", "0"]] {
        let run = tinyp2p(&dir, [&["--dir", missing, "pw"], mode].concat());
        assert_complaint(&run, 1, &format!("could not use directory '{missing}': no such file or directory"));
    }
}

// The password from elsewhere.

/// Runs a client with PASSWORD `-`, with this variable and standard input.
fn ask_with(variable: Option<&str>, input: &str, url: &str) -> Run {
    let mut command = Command::new("sh");
    let script = "printf \"$INPUT\" | \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_tinyp2p"), "-", "client", "-q", "--list", url, ""]);
    command.env("INPUT", input).env_remove("TINYP2P_PASSWORD");
    if let Some(password) = variable {
        command.env("TINYP2P_PASSWORD", password);
    }
    Running::start(&Dir::new(), command).finish()
}

#[test]
fn the_password_comes_from_the_variable_else_from_the_first_line_of_standard_input() {
    let shared = Dir::with([("file", &b""[..])]);
    let server = serve(&shared).start();
    for (variable, input) in [
        (Some(PASSWORD), ""),
        (Some(PASSWORD), "wrong\n"),
        (None, "open-sesame\n"),
        (None, "open-sesame"),
        (None, "open-sesame\r\nmore\n"),
        (None, "\\357\\273\\277open-sesame\r\n"),
        (Some("open-sesame\n"), ""),
        (Some("open-sesame\r"), ""),
        (Some("open-sesame\r\n"), ""),
        (Some("\u{feff}open-sesame"), ""),
    ] {
        ask_with(variable, input, server.url()).ends(0, &["file"], &[]);
    }
    ask_with(Some("wrong"), "open-sesame\n", server.url()).ends(1, &[], &["refused"]);
    ask_with(None, "\nopen-sesame\n", server.url()).ends(1, &[], &["empty"]);
}

#[test]
fn an_empty_password_from_elsewhere_is_an_error() {
    let url = "http://127.0.0.1:1";
    let nothing = "the first line of standard input is empty, and TINYP2P_PASSWORD is not set";
    for (variable, input, reason) in [
        (Some(""), "open-sesame\n", "TINYP2P_PASSWORD is empty"),
        (None, "", nothing),
        (None, "\n", nothing),
        (None, "\r\n", nothing),
        (None, "\\357\\273\\277\n", nothing),
        (Some("\r\n"), "", "TINYP2P_PASSWORD is empty"),
        (None, "\\377\n", "the first line of standard input is not UTF-8"),
        (None, &"x".repeat(70_000), "the first line of standard input is too long"),
    ] {
        assert_complaint(&ask_with(variable, input, url), 1, &format!("could not get the password: {reason}"));
    }
}

#[test]
fn white_space_at_an_end_of_the_password_is_told() {
    let warning = "tinyp2p: warning: the password begins or ends with white space, which is taken as part of it\n";
    let dir = Dir::new();
    for (password, variable, is_told) in [
        ("two words ", None, true),
        ("\ttwo words", None, true),
        ("two words\n", None, true),
        ("two words", None, false),
        ("-", Some("two words "), true),
        ("-", Some("two words\n\n"), true),
        ("-", Some("two words\n"), false),
    ] {
        let mut command = program(&[password, "client", "http://127.0.0.1:1", ""]);
        variable.map(|variable| command.env("TINYP2P_PASSWORD", variable));
        let run = Running::start(&dir, command).finish().ends(1, &[], &["could not get the peer list"]);
        assert_eq!(run.stderr.starts_with(warning), is_told, "{run}");
    }
    let server = serve(&dir).password("").start();
    server.wait_for_log(&["Z warning: the password is empty, so everybody can guess it"]);
    let server = serve(&dir).password(" x").start();
    server.wait_for_log(&["Z warning: the password begins or ends with white space, which is taken as part of it"]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_list_of_processes_shows_no_password_from_elsewhere() {
    let dir = Dir::new();
    let mut command = program(&["-", "server", "127.0.0.1", "0"]);
    command.env("TINYP2P_PASSWORD", PASSWORD);
    let server = Server::with_command(&dir, command);
    let answer = post(server.url(), call_for(PASSWORD, server.url(), 0, &array([""; 0]))).answer();
    assert_eq!(answer.peers(), [server.url()]);
    let words = fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert_eq!(words.split('\0').collect::<Vec<_>>()[1..], ["-", "server", "127.0.0.1", "0", ""]);
}

// What a client says.

#[test]
fn in_a_pipe_there_are_names_and_a_summary() {
    let shared = Dir::with([("a", &b"1"[..]), ("b", b"22"), ("c", b"333")]);
    let server = serve(&shared).start();
    let here = Dir::with([("b", &b"mine"[..])]);
    let run = download(&here, server.url()).run().ends(0, &["a", "c"], &[]);
    assert_eq!(
        timeless(&run.stderr),
        "tinyp2p: 2 files, 4 B in T s (RATE), 1 already here, 1 of them differs, 0 failed\n"
    );
    let run = download(&Dir::new(), server.url()).pattern("^a$").run().ends(0, &["a"], &[]);
    assert_eq!(timeless(&run.stderr), "tinyp2p: 1 file, 1 B in T s (RATE), 0 already here, 0 failed\n");
    let run = download(&here, server.url()).pattern("z").run().ends(0, &[], &[]);
    let nothing =
        "tinyp2p: 0 files, 0 B in T s (RATE), 0 already here, 0 failed; nobody who answered has a matching file\n";
    assert_eq!(timeless(&run.stderr), nothing);
}

#[test]
fn a_pattern_that_finds_nothing_and_looks_like_a_glob_is_told() {
    let (shared, here) = (Dir::with([("IMG_1.jpg", &b"1"[..])]), Dir::new());
    let server = serve(&shared).start();
    let hint =
        "tinyp2p: warning: PATTERN is a regular expression, in which * repeats what stands before it; .* is anything";
    for (pattern, is_told) in [("IMG_*.jpg", true), ("IMG*5", true), ("img.*", false), ("[a-z]*\\.png", false)] {
        let run = download(&here, server.url()).pattern(pattern).run().ends(0, &[], &[]);
        assert_eq!(run.stderr.starts_with(hint), is_told, "{run}");
    }
    let run = download(&here, server.url()).pattern("IMG_*1").run().ends(0, &["IMG_1.jpg"], &[]);
    assert!(!run.stderr.contains("warning"), "{run}");
}

#[test]
fn quiet_leaves_errors_and_warnings_and_verbose_adds_who_has_what() {
    let dead = SilentPort::reserve();
    let other = FakePeer::sharing([("both", Reply::content("1")), ("other", Reply::content("22"))]);
    let given = FakePeer::new();
    let list = Reply::peers([given.url(), other.url(), &dead.url()]);
    let given =
        given.on_peers(list).file("both", Reply::fault("what a pity")).file("lost", Reply::fault("gone")).start();
    let fetch = |option: &str| {
        let run = download(&Dir::new(), given.url()).options([option]).run().ends(1, &["both", "other"], &[]);
        let text = timeless(&run.stderr);
        let text = text.replace(given.url(), "GIVEN").replace(other.url(), "OTHER").replace(&dead.url(), "DEAD");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let verbose = fetch("-v");
    let mut expected = vec![
        "tinyp2p: 'lost' is not here: no peer could send it",
        "tinyp2p: 2 files, 3 B in T s (RATE), 0 already here, 1 failed",
        "tinyp2p: GIVEN gives no index: the answer makes no sense: not an index",
        "tinyp2p: GIVEN has 2 matching files",
        "tinyp2p: OTHER gives no index: the answer makes no sense: not an index",
        "tinyp2p: OTHER has 2 matching files",
        "tinyp2p: fetched 'both' from OTHER: 1 B",
        "tinyp2p: fetched 'other' from OTHER: 2 B",
        "tinyp2p: warning: could not fetch 'both' from GIVEN: fault: what a pity",
        "tinyp2p: warning: could not fetch 'lost' from GIVEN: fault: gone",
        "tinyp2p: warning: skipped DEAD: could not connect: connection refused",
    ];
    // Whoever is less busy is asked first.
    let is_possible = |line: &&str, found: &[String]| {
        !line.contains("could not fetch 'both'") || found.iter().any(|other| other == line)
    };
    expected.retain(|line| is_possible(line, &verbose));
    assert_eq!(verbose, expected);
    let quiet = fetch("-q");
    let mut expected = vec![
        "tinyp2p: 'lost' is not here: no peer could send it",
        "tinyp2p: warning: could not fetch 'both' from GIVEN: fault: what a pity",
        "tinyp2p: warning: could not fetch 'lost' from GIVEN: fault: gone",
        "tinyp2p: warning: skipped DEAD: could not connect: connection refused",
    ];
    expected.retain(|line| is_possible(line, &quiet));
    assert_eq!(quiet, expected);
}

#[test]
fn the_list_is_sorted_names_and_with_verbose_their_holders() {
    let other = FakePeer::sharing([("b", Reply::content("")), ("c", Reply::content(""))]);
    let given = FakePeer::new();
    let list = Reply::peers([given.url(), other.url()]);
    let given = given.on_peers(list).file("a", Reply::content("")).file("c", Reply::content("")).start();
    let here = Dir::with([("b", &b""[..])]);
    let run = download(&here, given.url()).options(["--list"]).run();
    assert_eq!(
        (&*run.stdout, &*run.stderr, run.code()),
        ("- a\n- c\n", "tinyp2p: 2 files, 0 B and 2 of unknown size\n", Some(0)),
        "{run}"
    );
    let run = download(&here, given.url()).options(["--list", "-v"]).run();
    let (given_url, other_url) = (given.url(), other.url());
    let listed = format!("- a\t{given_url}\n- b\t{other_url}\n- c\t{given_url} {other_url}\n");
    assert_eq!((&*run.stdout, run.code()), (&*listed, Some(0)), "{run}");
    assert_eq!(here.names(), ["b"]);
    assert_eq!((given.fetched(), other.fetched()), (vec![], vec![]));
}

// What a server says.

/// The log so far, with what differs from run to run put in.
fn log(server: &Server) -> Vec<String> {
    let text = timeless(&server.log()).replace(server.url(), "OWN");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_start_of_a_server_says_what_it_does() {
    let shared = Dir::with([("a", &b"1"[..]), (".hidden", b"22"), ("b", b"333")]);
    shared.write("bad\nname", "");
    let friend = FakePeer::new().start();
    let server = serve(&shared).peers([friend.url()]).start();
    server.wait_for_log(&["joined"]);
    let path = fs::canonicalize(shared.path()).unwrap();
    let expected = [
        &format!("TIME sharing {}: 3 files, 6 B (1 of them hidden)", path.display()),
        "TIME warning: not shared: 1 file whose name no peer would take: it holds a control character (-v names them)",
        "TIME to join:  tinyp2p PASSWORD server HOST PORT OWN",
        "TIME to fetch: tinyp2p PASSWORD client OWN PATTERN",
        &format!("TIME joined the network through {}, which knows 1 peer", friend.url()),
    ];
    assert_eq!(log(&server), expected);
}

#[test]
fn a_home_and_the_root_are_not_shared_without_a_warning() {
    let home = Dir::new();
    let path = fs::canonicalize(home.path()).unwrap();
    let warning = |path: &str| {
        format!(
            "TIME warning: {path} holds more than is meant for others: whoever knows the password can fetch its files, \
             hidden ones too"
        )
    };
    for (dir, shown) in [(".", path.to_str().unwrap()), ("/", "/")] {
        let mut command = program(&[PASSWORD, "server", "127.0.0.1", "0", "--dir", dir]);
        command.env("HOME", home.path());
        let server = Server::with_command(&home, command);
        server.wait_for_log(&["to fetch"]);
        assert!(log(&server).contains(&warning(shown)), "no warning for {shown}\n{server}");
    }
    let server = serve(&home).start();
    server.wait_for_log(&["to fetch"]);
    assert!(!server.log().contains("holds more"), "{server}");
}

#[test]
fn the_log_has_a_line_for_each_event_with_the_callers_address() {
    let shared = Dir::with([("a\u{202e}b", &b"content"[..])]);
    let mut server = serve(&shared).options(["-v", "--announce", "0"]).start();
    server.wait_for_log(&["to fetch"]);
    let begin = log(&server).len();
    let new = SilentPort::reserve();
    post(server.url(), call_for("wrong", server.url(), 0, &array([""; 0]))).answer().assert_false();
    server.wait_for_log(&["refused"]);
    call(server.url(), 1, &string("\u{1b}\\[|a")).names();
    server.wait_for_log(&["listed"]);
    call(server.url(), 2, &string("a\u{202e}b")).content();
    server.wait_for_log(&["sent"]);
    call(server.url(), 2, &string("no\nsuch")).fault();
    server.wait_for_log(&["control"]);
    call(server.url(), 0, &array([&*new.url(), "nonsense"])).peers();
    server.wait_for_log(&["could not exchange"]);
    server.stop(Signal::TERM, PATIENCE);
    server.wait_for_log(&["stopped"]);
    let refused = "TIME warning: refused 127.0.0.1: its proof is wrong; another password, or it calls this server by \
                   another URL than OWN";
    let expected = [
        refused,
        r"TIME listed for 127.0.0.1 what matches '\u{1b}\[|a': 1 file",
        r"TIME sent 'a\u{202e}b' to 127.0.0.1: 7 bytes in T s",
        r"TIME 127.0.0.1 gets a fault: could not open 'no\nsuch': it holds a control character",
        &format!("TIME new peer {}, says 127.0.0.1", new.url()),
        "TIME ignored 1 unusable peer URL from 127.0.0.1",
        &format!("TIME warning: could not exchange peers with {}: could not connect: connection refused", new.url()),
        "TIME stopped by a signal",
    ];
    assert_eq!(log(&server)[begin..], expected);
}

#[test]
fn a_server_logs_a_line_for_many_files_and_with_verbose_one_for_each() {
    let shared = Dir::new();
    for number in 0..500 {
        shared.write(&format!("file{number}"), [b'x'; 1024]);
    }
    let sent = |options: &[&str]| {
        let mut server = serve(&shared).options(options.iter().copied()).start();
        download(&Dir::new(), server.url()).run().ends(
            0,
            &shared.names().iter().map(|name| &**name).collect::<Vec<_>>(),
            &[],
        );
        server.stop(Signal::TERM, PATIENCE);
        server.wait_for_log(&["stopped"]);
        log(&server).into_iter().filter(|line| line.contains(" sent ")).collect::<Vec<_>>()
    };
    let lines = sent(&[]);
    let files = |line: &str| {
        let (files, rest) = line.strip_prefix("TIME sent ").unwrap().split_once(" files to 127.0.0.1: ").unwrap();
        assert!(rest.ends_with(" in T s"), "{line}");
        files.parse::<usize>().unwrap()
    };
    // One for each few seconds that it took.
    assert!(lines.len() < 20, "{lines:?}");
    assert_eq!(lines.iter().map(|line| files(line)).sum::<usize>(), 500, "{lines:?}");
    let lines = sent(&["-v"]);
    assert_eq!(lines.len(), 500);
    assert!(
        lines.iter().all(|line| line.starts_with("TIME sent 'file") && line.ends_with("1024 bytes in T s")),
        "{lines:?}"
    );
}

#[test]
fn a_quiet_server_says_nothing_of_the_ordinary() {
    let shared = Dir::with([("file", &b"content"[..])]);
    let mut server = serve(&shared).options(["-q"]).start();
    call(server.url(), 2, &string("file")).content();
    assert_eq!(server.log(), "");
    post(server.url(), call_for("wrong", server.url(), 0, &array([""; 0]))).answer().assert_false();
    server.stop(Signal::TERM, PATIENCE);
    let refused = "TIME warning: refused 127.0.0.1: its proof is wrong; another password, or it calls this server by \
                   another URL than OWN";
    server.wait_for_log(&["refused"]);
    assert_eq!(log(&server), [refused]);
}

// Files for packagers.

fn generated(kind: &str) -> String {
    let run = tinyp2p(&Dir::new(), ["--generate", kind]);
    assert_eq!((run.code(), &*run.stderr), (Some(0), ""), "{run}");
    run.stdout
}

/// Whether a program is here, to try a generated file with.
fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn bash_completes_behind_any_password() {
    let dir = Dir::new();
    dir.write("completions", generated("bash"));
    if !is_here("bash") {
        return;
    }
    dir.write(
        "try",
        "set -eu; source ./completions; complete -p tinyp2p > /dev/null\n\
         try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _tinyp2p tinyp2p \"${@: -1}\" \"${@: -2:1}\"\n\
         echo \"${COMPREPLY[*]}\"; }\n\
         try tinyp2p word ''; try tinyp2p - s; try tinyp2p word server --b; try tinyp2p --dir / word client --\n",
    );
    let mut command = Command::new("bash");
    command.arg("./try");
    let run = Running::start(&dir, command).finish();
    let expected = "-q -v -h -V --generate --dir --timeout --limit-rate --quiet --verbose --help --version server client\n\
                    server\n--bind\n--jobs --list --update --timeout --limit-rate --quiet --verbose --dir --help\n";
    assert_eq!((&*run.stdout, &*run.stderr), (expected, ""), "{run}");
}

#[test]
fn fish_and_zsh_look_for_the_mode_behind_the_password() {
    let fish = generated("fish");
    assert!(fish.contains("-n \"not __fish_seen_subcommand_from server client\" -a \"server\""), "{fish}");
    assert!(fish.contains("-n \"__fish_seen_subcommand_from client\" -l list"), "{fish}");
    assert!(!fish.contains("__fish_tinyp2p"), "{fish}");
    assert!(fish.contains("-l generate") && fish.contains("man\\t''\""), "the list of kinds is whole\n{fish}");
    let zsh = generated("zsh");
    assert!(zsh.starts_with("#compdef tinyp2p\n"), "{zsh}");
    for (shell, text) in [("fish", fish), ("zsh", zsh)] {
        if is_here(shell) {
            let dir = Dir::new();
            dir.write("completions", text);
            let mut command = Command::new(shell);
            command.args(["-n", "completions"]);
            let run = Running::start(&dir, command).finish();
            assert_eq!((run.code(), &*run.stderr), (Some(0), ""), "{run}");
        }
    }
}

#[test]
fn the_manual_is_one_page_for_both_modes() {
    let manual = generated("man");
    for text in [
        "<\\fIPASSWORD\\fR>",
        "\\-\\-generate",
        "\n.SH SERVER\n",
        "\n.SH CLIENT\n",
        "\\-\\-bind",
        "\\-\\-jobs",
        "Exit status",
        "\\(aq\\e.pdf$\\(aq",
    ] {
        assert!(manual.contains(text), "{text:?} is missing\n{manual}");
    }
    if is_here("groff") {
        let dir = Dir::new();
        dir.write("page", &manual);
        let mut command = Command::new("groff");
        command.args(["-man", "-Tascii", "-ww", "-P-c", "page"]);
        let run = Running::start(&dir, command).finish();
        assert_eq!((run.code(), &*run.stderr), (Some(0), ""), "{run}");
        assert!(run.stdout.contains("tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'        download"), "{run}");
    }
}

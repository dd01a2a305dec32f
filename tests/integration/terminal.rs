//! At a terminal: bars, what they leave behind, ctrl-c, and the prompt for the password. The terminal is modelled by a
//! script, which fails on anything but text and the few sequences that bars need.

use std::{fs, sync::Arc, time::Duration};

use regex::Regex;

use crate::harness::{Dir, FakePeer, Gate, Look, PASSWORD, Reply, SilentPort, Terminal, serve};

/// A usual size in columns and rows.
const USUAL: (u16, u16) = (80, 24);

/// Long enough for bars to appear, were there any.
const LONG: Duration = Duration::from_millis(700);

/// The bytes of a file as one of our servers sends them, so that the length is known.
fn raw(length: usize) -> Reply {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length:";
    Reply::raw([format!("{head} {length}\r\n\r\n").as_bytes(), &vec![b'x'; length]].concat())
}

/// A peer with three files, two of which stay half way until the gate opens: one of known length and one of unknown.
fn halting(gate: &Arc<Gate>) -> FakePeer {
    let text = "x".repeat(100_000);
    FakePeer::sharing([
        ("done.txt", Reply::content("content")),
        ("half.bin", raw(100_000).half_behind(gate)),
        ("half.txt", Reply::content(text).half_behind(gate)),
    ])
}

/// A client's words. What waits for a gate is not silent for too long, however slow the machine is.
fn fetch<'a>(options: &[&'a str], peer: &'a FakePeer) -> Vec<&'a str> {
    [&[PASSWORD, "client", "--timeout", "600", peer.url(), ""], options].concat()
}

/// Whether the bars of `halting` are there, all of them within the width, half way.
fn has_bars(look: &Look) -> bool {
    let half = look.row("half.bin").is_some_and(|row| row.starts_with("===") && row.contains(" 48."));
    half && ["half.txt", "1/3 files"].iter().all(|text| look.row(text).is_some())
}

#[track_caller]
fn assert_matches(text: &str, pattern: &str) {
    assert!(Regex::new(&format!("^{pattern}$")).unwrap().is_match(text), "{text:?} is not {pattern}");
}

/// Fails unless the screen holds these names in any order, then this summary, and nothing else.
#[track_caller]
fn assert_only(look: &Look, names: &[&str], summary: &str) {
    let mut lines = look.lines();
    let last = lines.pop().unwrap_or_default();
    lines.sort();
    let mut names = names.to_vec();
    names.sort_unstable();
    assert_eq!(lines, names, "\n{look}");
    assert_matches(&last, &format!("tinyp2p: {summary}"));
}

const SUMMARY: &str = r"3 files, 195 KiB in \d+\.\d s \([0-9.]+ [KM]?i?B/s\), 0 already here, 0 failed";
const NAMES: [&str; 3] = ["done.txt", "half.bin", "half.txt"];

#[test]
fn bars_show_the_total_and_the_files_under_way_and_leave_names_and_a_summary() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let peer = halting(&gate);
    let mut terminal = Terminal::start(&here, USUAL, &fetch(&[], &peer));
    let look = terminal.wait_for("bars", has_bars);
    let rows = look.rows();
    assert_eq!(rows.len(), 4, "a finished name, two files and the total\n{look}");
    assert_eq!(rows[0], "done.txt");
    assert_matches(&look.row("half.bin").unwrap(), r"={3,4}>-{3,4} 48\.\d KiB  half.bin");
    assert_matches(&look.row("half.txt").unwrap(), r"-------- +[0-9.]+ K?i?B  half.txt");
    assert_matches(&rows[3], r"1/3 files, [0-9.]+ KiB(, \d+[smhdwy])?, [0-9.]+ [KM]?i?B/s +=+>-+");
    gate.open();
    let look = terminal.finish();
    assert_eq!(look.status, Some(0), "{look}");
    assert_only(&look, &NAMES, SUMMARY);
}

#[test]
fn bars_fit_a_narrow_terminal() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let peer = halting(&gate);
    let mut terminal = Terminal::start(&here, (40, 24), &fetch(&[], &peer));
    let look = terminal.wait_for("bars", has_bars);
    assert_matches(&look.row("1/3").unwrap(), r"1/3 files, [0-9.]+ KiB(, \d+[smhdwy])?, [0-9.]+ [KM]?i?B/s");
    gate.open();
    assert_only(&terminal.finish(), &NAMES, SUMMARY);
}

#[test]
fn ctrl_c_takes_the_bars_away_and_says_what_was_saved() {
    for columns in [80, 40] {
        let (gate, here) = (Arc::new(Gate::default()), Dir::new());
        let peer = halting(&gate);
        let mut terminal = Terminal::start(&here, (columns, 24), &fetch(&[], &peer));
        terminal.wait_for("bars", has_bars);
        terminal.type_text("\x03");
        let look = terminal.finish();
        let summary = r"interrupted: 1 file, 7 B in \d+\.\d s \(\d+ B/s\), 0 already here, 0 failed, 2 not fetched";
        assert_only(&look, &["done.txt"], summary);
        assert_eq!(look.status, Some(130), "{look}");
        assert_eq!(here.names(), ["done.txt"], "no partial file stays");
        gate.open();
    }
}

#[test]
fn messages_and_names_stand_above_the_bars() {
    let (gate, late, here) = (Arc::new(Gate::default()), Arc::new(Gate::default()), Dir::new());
    let peer = FakePeer::sharing([
        ("early.txt", Reply::content("content")),
        ("faulty.txt", Reply::fault("what a pity").behind(&late)),
        ("half.bin", raw(100_000).half_behind(&gate)),
        ("late.txt", Reply::content("content").behind(&late)),
    ]);
    let mut terminal = Terminal::start(&here, USUAL, &fetch(&[], &peer));
    terminal.wait_for("bars", |look| look.row("half.bin").is_some() && look.row("1/4 files").is_some());
    late.open();
    let complaint = format!("tinyp2p: warning: could not fetch 'faulty.txt' from {}: fault: what a pity", peer.url());
    let lost = "tinyp2p: 'faulty.txt' is not here: no peer could send it";
    let look = terminal.wait_for("3 of 4 files", |look| look.row("3/4 files").is_some());
    let rows = look.rows();
    assert!(rows[rows.len() - 2].ends_with("  half.bin"), "{look}");
    gate.open();
    let summary = r"3 files, 97\.7 KiB in \d+\.\d s \([0-9.]+ [KM]?i?B/s\), 0 already here, 1 failed";
    let look = terminal.finish();
    assert_only(&look, &["early.txt", "half.bin", "late.txt", &complaint, lost], summary);
    assert_eq!(look.status, Some(1), "{look}");
}

#[test]
fn names_of_any_width_neither_wrap_nor_steer() {
    let long = "x".repeat(200);
    let wide = "\u{65e5}\u{672c}\u{8a9e}".repeat(20);
    let accents = "e\u{301}".repeat(60);
    let names = [&*long, &*wide, &*accents, "a\u{202e}gnp.exe"];
    for columns in [80, 40] {
        let (gate, here) = (Arc::new(Gate::default()), Dir::new());
        let peer = FakePeer::sharing(names.map(|name| (name, raw(100_000).half_behind(&gate))));
        let mut terminal = Terminal::start(&here, (columns, 24), &fetch(&[], &peer));
        let look = terminal.wait_for("bars", |look| {
            ["xxxx", "\u{65e5}\u{672c}", "e\u{301}e\u{301}", "a\\u{2", "0/4"]
                .iter()
                .all(|text| look.row(text).is_some())
        });
        assert_eq!(look.rows().len(), 5, "{look}");
        gate.open();
        let shown = [&*long, &*wide, &*accents, "a\\u{202e}gnp.exe"];
        let summary = r"4 files, 391 KiB in \d+\.\d s \([0-9.]+ [KM]?i?B/s\), 0 already here, 0 failed";
        assert_only(&terminal.finish(), &shown, summary);
    }
}

#[test]
fn the_total_is_seen_also_when_more_files_are_under_way_than_there_are_rows() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let (mut a, mut b) = (FakePeer::new(), FakePeer::new());
    let list = Reply::peers([a.url(), b.url()]);
    a = a.on_peers(list);
    for number in 0..4 {
        a = a.file(&format!("a{number}"), raw(1000).half_behind(&gate));
        b = b.file(&format!("b{number}"), raw(1000).half_behind(&gate));
    }
    let (a, _b) = (a.start(), b.start());
    let mut terminal = Terminal::start(&here, (80, 6), &fetch(&["-j", "8"], &a));
    let look = terminal.wait_for("bars", |look| look.row("0/8 files").is_some() && look.rows().len() > 1);
    assert!(look.rows().len() <= 5, "{look}");
    gate.open();
    let names = ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"];
    let summary = r"8 files, 7\.81 KiB in \d+\.\d s \([0-9.]+ [KM]?i?B/s\), 0 already here, 0 failed";
    assert_only(&terminal.finish(), &names, summary);
}

#[test]
fn names_that_go_to_a_file_are_not_on_the_screen() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let (peer, elsewhere) = (halting(&gate), Dir::new());
    let names = elsewhere.join("names");
    let script = format!("exec \"$@\" > '{}'", names.display());
    let words = fetch(&[], &peer);
    let words = [&["sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_tinyp2p")], &*words].concat();
    let mut terminal = Terminal::start_command(&here, USUAL, &words);
    let look = terminal.wait_for("bars", has_bars);
    assert_eq!(look.rows().len(), 3, "{look}");
    gate.open();
    assert_only(&terminal.finish(), &[], SUMMARY);
    let mut saved: Vec<String> = fs::read_to_string(names).unwrap().lines().map(str::to_owned).collect();
    saved.sort();
    assert_eq!(saved, NAMES);
}

#[test]
fn no_color_changes_nothing_for_there_is_none() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let peer = halting(&gate);
    let words = fetch(&[], &peer);
    let words = [&["env", "NO_COLOR=1", env!("CARGO_BIN_EXE_tinyp2p")], &*words].concat();
    let mut terminal = Terminal::start_command(&here, USUAL, &words);
    terminal.wait_for("bars", has_bars);
    gate.open();
    assert_only(&terminal.finish(), &NAMES, SUMMARY);
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    for variable in ["TERM=dumb", "TERM="] {
        let (peer, here) = (FakePeer::sharing([("file", raw(1000).delayed(LONG))]), Dir::new());
        let words = fetch(&[], &peer);
        let words = [&["env", variable, env!("CARGO_BIN_EXE_tinyp2p")], &*words].concat();
        let look = Terminal::start_command(&here, USUAL, &words).finish();
        assert_eq!(look.escapes, 0, "{look}");
        assert_only(&look, &["file"], r"1 file, 1000 B in \d\.\d s .*");
    }
}

#[test]
fn quiet_shows_names_only() {
    let (peer, here) = (FakePeer::sharing([("file", raw(1000).delayed(LONG))]), Dir::new());
    let look = Terminal::start(&here, USUAL, &fetch(&["-q"], &peer)).finish();
    assert_eq!((look.escapes, look.lines()), (0, vec!["file".to_owned()]), "{look}");
}

#[test]
fn waiting_for_a_silent_peer_is_shown_and_can_be_ended() {
    let (peer, here) = (FakePeer::new().on_peers(Reply::silence()).start(), Dir::new());
    let mut terminal = Terminal::start(&here, (60, 24), &fetch(&[], &peer));
    let waiting = format!("waiting for {} to name its peers", peer.url());
    terminal.wait_for("a word of whom it waits for", |look| look.row(&waiting).is_some());
    terminal.type_text("\x03");
    let look = terminal.finish();
    assert_eq!((look.lines(), look.status), (vec!["tinyp2p: interrupted".to_owned()], Some(130)), "{look}");
    let (silent, given) = (FakePeer::new().on_names(Reply::silence()), FakePeer::new());
    let list = Reply::peers([given.url(), silent.url()]);
    let (_silent, given) = (silent.start(), given.on_peers(list).start());
    let mut terminal = Terminal::start(&here, (60, 24), &fetch(&[], &given));
    terminal.wait_for("how many are silent", |look| look.row("waiting for 1 of 2 peers to list their files").is_some());
    terminal.type_text("\x03");
    let look = terminal.finish();
    assert_only(&look, &[], "interrupted: 0 files, .*");
    assert_eq!(look.status, Some(130), "{look}");
}

#[test]
fn a_window_that_is_closed_ends_the_client_and_leaves_no_partial_file() {
    let (gate, here) = (Arc::new(Gate::default()), Dir::new());
    let peer = halting(&gate);
    let mut terminal = Terminal::start(&here, USUAL, &fetch(&[], &peer));
    terminal.wait_for("bars", has_bars);
    terminal.hang_up();
    assert_eq!(terminal.finish().status, Some(129));
    assert_eq!(here.names(), ["done.txt"]);
    gate.open();
}

// The prompt for the password.

#[test]
fn the_password_is_asked_for_and_not_shown() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = serve(&shared).start();
    for redirection in ["", "2> /dev/null"] {
        let script = format!("exec \"$@\" {redirection}");
        let program = env!("CARGO_BIN_EXE_tinyp2p");
        let words = ["sh", "-c", &script, "sh", program, "-", "client", server.url(), "", "-q", "--list"];
        let mut terminal = Terminal::start_command(&here, USUAL, &words);
        let look = terminal.wait_for("a prompt", |look| look.row("password:").is_some() && !look.echoes);
        assert_eq!(look.lines(), ["password:"]);
        // What the terminal would do on ctrl-z must not end half way; a word typed wrong can be erased.
        terminal.type_text("\x1awrong\x15");
        terminal.type_text(&format!("{PASSWORD}\r"));
        let look = terminal.finish();
        assert_eq!(look.lines(), ["password:", "file"], "{look}");
        assert_eq!((look.status, look.echoes), (Some(0), true), "{look}");
    }
}

#[test]
fn ctrl_c_at_the_prompt_gives_the_echo_back() {
    let here = Dir::new();
    let url = SilentPort::reserve().url();
    let mut terminal = Terminal::start(&here, USUAL, &["-", "client", &url, ""]);
    terminal.wait_for("a prompt", |look| look.row("password:").is_some() && !look.echoes);
    terminal.type_text("sec\x03");
    let look = terminal.finish();
    assert_eq!((look.lines(), look.status, look.echoes), (vec!["password:".to_owned()], Some(130), true), "{look}");
}

#[test]
fn no_password_at_the_prompt_is_an_error() {
    let here = Dir::new();
    let url = SilentPort::reserve().url();
    for typed in ["\r", "\x04"] {
        let mut terminal = Terminal::start(&here, USUAL, &["-", "server", "127.0.0.1", "0", &url]);
        terminal.wait_for("a prompt", |look| look.row("password:").is_some() && !look.echoes);
        terminal.type_text(typed);
        let look = terminal.finish();
        assert_eq!(look.lines(), ["password:", "tinyp2p: could not get the password: nothing was typed"], "{look}");
        assert_eq!((look.status, look.echoes), (Some(1), true), "{look}");
    }
}

//! Every kind of content and of name, carried between all pairs of peers that can meet, and compared byte for byte.

use std::process::Command;

use crate::harness::{Dir, PASSWORD, Run, Running, download, full, python_client, serve, serve_python};

/// Files of awkward contents and of awkward names.
fn awkward_files() -> Dir {
    let dir = Dir::new();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (name, content) in [
        ("every byte", &*every_byte),
        ("every byte twice", &[&*every_byte, &every_byte].concat()),
        ("empty", b""),
        ("lf", b"a\nb\n"),
        ("crlf", b"a\r\nb\r\n"),
        ("cr", b"\ra\r\r"),
        ("only cr", b"\r"),
        ("only lf", b"\n"),
        ("blank", b" \t\r\n "),
        ("white space at both ends", b"  a  \n\n"),
        ("cdata", b"<![CDATA[x]]> ]]> ]]&gt;"),
        ("entities", b"&amp;&lt;&gt;&#13;&#x0;&unknown; & < > \" '"),
        ("markup", b"</string></value><value><string><!-- x --><?xml?>"),
        ("one zero", b"\0"),
        ("escape", b"\x1b[31mred\x1b[0m"),
        ("latin-1", b"caf\xe9"),
        ("utf-8", "caf\u{e9} \u{65e5}\u{672c} \u{1f980}\u{10ffff}".as_bytes()),
        ("no character", "\u{fffe}\u{ffff}".as_bytes()),
        ("byte order mark", "\u{feff}x".as_bytes()),
        ("cut character", b"x\xf0\x9f\xa6"),
        ("one", b"1"),
        ("two", b"\xff2"),
        ("three", b"\xff23"),
    ] {
        dir.write(name, content);
    }
    for name in NAMES {
        dir.write(name, name);
    }
    dir.write(&"n".repeat(255), "a long name");
    dir.write(&"\u{e9}".repeat(127), "a long name of two-byte characters");
    dir
}

/// Names that are awkward somewhere: on a command line, in XML, in a URL, in a shell, on another system.
const NAMES: [&str; 26] = [
    "-rf",
    "--",
    "--dir",
    ".hidden",
    "...",
    " leading space",
    "trailing space ",
    "'single' \"double\"",
    "a&b<c>d.txt",
    "]]>",
    "&amp;",
    "na\u{ef}ve",
    "nai\u{308}ve, decomposed",
    "\u{65e5}\u{672c}\u{8a9e}",
    "\u{1f980}",
    "*",
    "?",
    "[a]",
    "%41",
    "a%2fb",
    "$HOME",
    "~",
    "a:b",
    "a;b|c",
    "CON",
    "x.part",
];

/// Contents around the sizes at which buffers end, as text and as binary.
fn edge_files() -> Dir {
    let dir = Dir::new();
    let mut random = fastrand::Rng::with_seed(1);
    let edges: &[usize] = if full() {
        &[
            1 << 10,
            4 << 10,
            8 << 10,
            16 << 10,
            48 << 10,
            64 << 10,
            96 << 10,
            128 << 10,
            192 << 10,
            256 << 10,
            512 << 10,
            768 << 10,
            1 << 20,
            3 << 20,
            16 << 20,
        ]
    } else {
        &[8 << 10, 64 << 10, 192 << 10, 256 << 10, 1 << 20]
    };
    for &edge in edges {
        for size in [edge - 1, edge, edge + 1] {
            let mut binary = vec![0; size];
            random.fill(&mut binary);
            dir.write(&format!("{size}.bin"), &binary);
            let text: String = (0..size).map(|_| *random.choice(b"ab \n\r&<>]\"'").unwrap() as char).collect();
            dir.write(&format!("{size}.txt"), &text);
            let wide = "\u{1f980}".repeat(size / 4) + &"x".repeat(size % 4);
            dir.write(&format!("{size}.utf8"), &wide);
        }
    }
    dir
}

/// Takes everything and fails unless it arrived byte for byte, each name was said once, and a second run takes nothing.
#[track_caller]
fn carry(shared: &Dir, url: &str) {
    let here = Dir::new();
    let names = shared.names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    download(&here, url).run().ends(0, &names, &[]);
    here.assert_same_files(shared);
    assert_eq!(here.names(), names, "nothing but the files is left");
    download(&here, url).run().ends(0, &[], &[]);
}

#[test]
fn ours_to_ours_awkward_files() {
    let shared = awkward_files();
    carry(&shared, serve(&shared).start().url());
}

#[test]
fn ours_to_ours_around_the_edges_of_buffers() {
    let shared = edge_files();
    carry(&shared, serve(&shared).start().url());
}

#[test]
fn python_to_ours_awkward_files() {
    let shared = awkward_files();
    carry(&shared, serve_python(&shared).start().url());
}

#[test]
fn python_to_ours_around_the_edges_of_buffers() {
    let shared = edge_files();
    carry(&shared, serve_python(&shared).options(["--keep-alive"]).start().url());
}

#[test]
fn the_original_to_ours_awkward_files() {
    let shared = awkward_files();
    carry(&shared, serve_python(&shared).options(["--original"]).start().url());
}

#[test]
fn the_original_to_ours_around_the_edges_of_buffers() {
    let shared = edge_files();
    carry(&shared, serve_python(&shared).options(["--original"]).start().url());
}

/// Runs the Python client; it says the names that it saved.
fn python_takes(shared: &Dir, url: &str) {
    let here = Dir::new();
    let run: Run = Running::start(&here, python_client(url)).finish();
    assert_eq!(run.code(), Some(0), "{run}");
    here.assert_same_files(shared);
}

#[test]
fn ours_to_python_awkward_files() {
    let shared = awkward_files();
    python_takes(&shared, serve(&shared).start().url());
}

#[test]
fn ours_to_python_around_the_edges_of_buffers() {
    let shared = edge_files();
    python_takes(&shared, serve(&shared).start().url());
}

#[test]
fn a_file_of_many_megabytes_arrives() {
    let shared = Dir::new();
    let mut content = vec![0; if full() { 512 << 20 } else { 20 << 20 }];
    fastrand::Rng::with_seed(2).fill(&mut content);
    shared.write("random", &content);
    shared.write("text", "a line of text\r\n".repeat(1 << 20));
    carry(&shared, serve(&shared).start().url());
}

#[test]
fn a_thousand_small_files_arrive() {
    let shared = Dir::new();
    for number in 0..1000 {
        shared.write(&format!("file {number}"), format!("content {number}\n"));
    }
    carry(&shared, serve(&shared).start().url());
}

#[test]
fn proxies_of_the_environment_are_not_asked() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = serve(&shared).start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinyp2p"));
    command.args([PASSWORD, "client", server.url(), ""]);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(variable, "http://127.0.0.1:1");
    }
    Running::start(&here, command).finish().ends(0, &["file"], &[]);
}

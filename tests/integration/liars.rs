//! Peers that answer a client with whatever harms it most: HTTP that is cut, stalled, endless or no HTTP, XML-RPC of
//! every wrong shape, listings and peer lists made to fill memory. The client loses nothing but what only they had.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, symlink},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{
    Dir, FakePeer, PATIENCE, Peak, Reply, array, content_answer, download, eventually, full, make_fifo, names_answer,
    peers_answer, serve,
};

/// The silence limit where one is waited for.
const SILENCE: [&str; 2] = ["--timeout", "1"];

/// The end of a run that has waited for limits of one second: ten times what is promised.
const SOON: Duration = Duration::from_secs(20);

/// The most memory in MiB that a client may take, whatever it is told.
const MEMORY: u64 = 100;

/// How HTTP says where an answer ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    End,
}

impl Framing {
    const ALL: [Self; 3] = [Self::Length, Self::Chunked, Self::End];

    /// An answer with this body, and how many bytes of it are enough to know that the body is whole.
    fn wrap(self, media: &str, body: &[u8]) -> (Vec<u8>, usize) {
        let head = |version: &str, length: &str| {
            format!("HTTP/{version} 200 OK\r\nContent-Type: {media}\r\n{length}\r\n").into_bytes()
        };
        match self {
            Self::Length => {
                let answer = [head("1.1", &format!("Content-Length: {}\r\n", body.len())), body.to_vec()].concat();
                let length = answer.len();
                (answer, length)
            }
            Self::Chunked => {
                let mut answer = head("1.1", "Transfer-Encoding: chunked\r\n");
                for chunk in body.chunks(7) {
                    answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
                // The empty line behind the last chunk says nothing more, but half of it is half an answer.
                let length = answer.len() - 2;
                (answer, length)
            }
            Self::End => {
                let answer = [head("1.0", ""), body.to_vec()].concat();
                // Nor does the line end behind the last tag.
                let length = answer.len() - usize::from(body.ends_with(b"\n"));
                (answer, length)
            }
        }
    }
}

fn text(content: &str) -> Reply {
    Reply::content(content)
}

/// A peer that is named to the client, tells it of these others and has one good file.
fn introducing<'a>(others: impl IntoIterator<Item = &'a str>) -> FakePeer {
    let peer = FakePeer::new();
    let mut list = vec![peer.url().to_owned()];
    list.extend(others.into_iter().map(str::to_owned));
    peer.on_peers(Reply::peers(list)).file("good", text("content")).start()
}

fn strings(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

// Answers that are cut.

#[test]
fn an_answer_to_a_fetch_that_is_cut_at_any_byte_leaves_no_file() {
    let bodies: [(&str, &str, Vec<u8>); 4] = [
        ("string", "text/xml", content_answer("<string>a &amp; b</string>")),
        ("untyped", "text/xml", content_answer("a &amp; b")),
        ("base64", "text/xml", content_answer("<base64>YSAm\nIGI=</base64>")),
        ("raw", "application/octet-stream", b"a & b".to_vec()),
    ];
    let mut peer = FakePeer::new();
    let (mut saved, mut lost) = (Vec::new(), Vec::new());
    for framing in Framing::ALL {
        for (spelling, media, body) in &bodies {
            let (answer, enough) = framing.wrap(media, body);
            let has_end = *spelling != "raw" || matches!(framing, Framing::Length);
            for at in 0..=answer.len() {
                let name = format!("{framing:?} {spelling} {at:03}");
                peer = peer.file(&name, Reply::raw(&answer[..at]));
                let is_half_a_line = matches!(framing, Framing::Chunked) && at + 1 == answer.len();
                if has_end && at >= enough && !is_half_a_line { saved.push(name) } else { lost.push(name) }
            }
        }
    }
    assert!(lost.len() > 2000, "only {} cuts", lost.len());
    let (peer, here) = (peer.start(), Dir::new());
    let told: Vec<String> = lost.iter().map(|name| format!("'{name}'")).collect();
    download(&here, peer.url()).options(["--jobs", "8"]).run().ends(1, &strings(&saved), &strings(&told));
    assert_eq!(here.names(), sorted(&saved));
    assert!(here.files().values().all(|content| content == b"a & b"), "a file is not what was sent");
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

#[test]
fn a_listing_that_is_cut_at_any_byte_counts_for_nothing() {
    let step = if full() { 1 } else { 9 };
    for framing in Framing::ALL {
        let (answer, enough) = framing.wrap("text/xml", &names_answer(["cut"]));
        let cuts: Vec<usize> = (0..enough).rev().step_by(step).collect();
        for cuts in cuts.chunks(50) {
            let liars: Vec<FakePeer> =
                cuts.iter().map(|&at| FakePeer::new().on_names(Reply::raw(&answer[..at])).start()).collect();
            let given = introducing(liars.iter().map(FakePeer::url));
            let told: Vec<String> = liars.iter().map(|liar| format!("skipped {}: ", liar.url())).collect();
            let here = Dir::new();
            download(&here, given.url()).run().ends(0, &["good"], &strings(&told));
            assert_eq!(here.names(), ["good"], "{framing:?}");
        }
    }
}

#[test]
fn a_peer_list_that_is_cut_at_any_byte_ends_the_run() {
    let step = if full() { 1 } else { 29 };
    for framing in Framing::ALL {
        let (answer, enough) = framing.wrap("text/xml", &peers_answer(["http://127.0.0.1:1"]));
        for at in (0..enough).rev().step_by(step) {
            let (liar, here) = (FakePeer::new().on_peers(Reply::raw(&answer[..at])).start(), Dir::new());
            download(&here, liar.url()).run().ends(1, &[], &[liar.url()]).with_one_complaint();
            assert_eq!(here.names(), [""; 0], "{framing:?} {at}");
        }
    }
}

// Answers that take their time.

/// Every way not to come to an end with this document; each answer is named.
fn stalls(document: &[u8]) -> Vec<(&'static str, Reply)> {
    let whole = || Reply::document(document);
    let second = Duration::from_secs(1);
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::raw([head, body].concat())
    };
    let in_one_chunk = |more: &str| {
        let document = String::from_utf8(document.to_vec()).unwrap();
        chunked(&format!("{:x}\r\n{document}\r\n0\r\n{more}", document.len()))
    };
    let head = || Reply::raw(*b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n");
    vec![
        ("no answer", Reply::silence()),
        ("a version", Reply::raw(*b"HTTP/1.1 20").stalled(0)),
        ("half a head", head().stalled(0)),
        ("a head", Reply::without_length(b"").stalled(0)),
        ("half a body", whole().stalled(document.len() / 2)),
        ("nearly all", whole().stalled(1)),
        ("half a body of no length", Reply::without_length(document).stalled(document.len() / 2)),
        ("a body of no length", Reply::without_length(document).stalled(0)),
        ("half a size of a chunk", chunked("1").stalled(0)),
        ("no chunk", chunked("11\r\n").stalled(0)),
        ("no last chunk", in_one_chunk("\r\n").stalled(5)),
        ("no end of chunks", in_one_chunk("").stalled(0)),
        ("a trailer", in_one_chunk("X: y").stalled(0)),
        ("one byte a second", whole().paced(1, second)),
        ("400 bytes in half a second", Reply::without_length(document).endless(1).paced(400, second / 2)),
        ("a chunk a second", chunked(&"1\r\n \r\n".repeat(1000)).paced(6, second)),
        ("a line of the head a second", head().endless(6).paced(6, second)),
        ("endless status", Reply::raw(*b"HTTP/1.1 200 OK").endless(1)),
        ("endless header", Reply::raw(*b"HTTP/1.1 200 OK\r\nX: y").endless(1)),
        ("endless headers", Reply::raw(*b"HTTP/1.1 200 OK\r\nX: y\r\n").endless(6)),
        ("endless preludes", Reply::raw(*b"HTTP/1.1 100 Continue\r\n\r\n").endless(25)),
        ("endless hints", Reply::raw(*b"HTTP/1.1 103 Early Hints\r\n\r\n").endless(28)),
        ("endless size of a chunk", chunked("0").endless(1)),
        ("endless extension of a chunk", chunked("1;x").endless(1)),
        ("endless trailers", in_one_chunk("X: y\r\n").endless(6)),
        ("endless blanks before", Reply::without_length(b" ").endless(1)),
        ("endless comments before", Reply::without_length(b"<!-- -->").endless(8)),
        ("an endless comment", Reply::without_length(b"<!-- ").endless(1)),
        ("an endless tag", Reply::without_length(b"<a").endless(1)),
        ("an endless attribute", Reply::without_length(b"<methodResponse a='").endless(1)),
        ("endless blanks behind", Reply::without_length(document).endless(1)),
        ("endless comments behind", Reply::without_length(&[document, b"<!-- -->"].concat()).endless(8)),
        ("endless text behind", Reply::without_length(&[document, b"x"].concat()).endless(1)),
        ("endless failure", Reply::raw(*b"HTTP/1.1 500 Oops\r\nContent-Length: 999999999999\r\n\r\nOops").endless(1)),
        ("endless absence", Reply::raw(*b"HTTP/1.1 404 Not Found\r\n\r\nOops").endless(1)),
        ("endless redirection", Reply::raw(*b"HTTP/1.1 307 Elsewhere\r\nLocation: /RPC2\r\n\r\nOops").endless(1)),
    ]
}

#[test]
fn no_peer_list_keeps_a_client_longer_than_the_silence_limit() {
    let stalls = stalls(&peers_answer(["http://127.0.0.1:1"]));
    let liars: Vec<_> =
        stalls.into_iter().map(|(how, reply)| (how, FakePeer::new().on_peers(reply).start(), Dir::new())).collect();
    let begun = Instant::now();
    let runs: Vec<_> = liars
        .iter()
        .map(|(how, liar, here)| (how, liar, download(here, liar.url()).options(SILENCE).start()))
        .collect();
    for (how, liar, run) in runs {
        let run = run.finish();
        eprintln!("{how}: {}", run.stderr.trim());
        run.ends(1, &[], &[liar.url()]).with_one_complaint();
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn no_listing_keeps_a_client_longer_than_the_silence_limit() {
    let mut stalls = stalls(&names_answer(["stalled"]));
    let within = |inside: &str| {
        let start = "<?xml version='1.0'?><methodResponse><params><param><value><array><data><value><array><data>";
        Reply::without_length(&[start.as_bytes(), inside.as_bytes()].concat())
    };
    stalls.extend([
        ("endless names", within("<value>x</value>").endless(16)),
        ("an endless name", within("<value>x").endless(1)),
        ("endless empty names", within("<value/>").endless(8)),
        ("endless blanks between", within(" ").endless(1)),
        ("endless depth", within("<value><array><data>").endless(20)),
        // Never silent, and never done: 2 KiB a second.
        ("a name now and then", within("<value>x</value>").endless(16).paced(512, Duration::from_millis(250))),
    ]);
    let liars: Vec<_> = stalls.into_iter().map(|(how, reply)| (how, FakePeer::new().on_names(reply).start())).collect();
    let given = introducing(liars.iter().map(|(_, liar)| liar.url()));
    let told: Vec<String> = liars.iter().map(|(_, liar)| format!("skipped {}: ", liar.url())).collect();
    let (here, begun) = (Dir::new(), Instant::now());
    let run = download(&here, given.url()).options(SILENCE).start();
    let peak = Peak::of(run.pid());
    run.finish().ends(0, &["good"], &strings(&told));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let peak = peak.mib();
    assert!(peak < MEMORY, "{peak} MiB");
    assert_eq!(here.names(), ["good"]);
}

#[test]
fn no_file_keeps_a_client_longer_than_the_silence_limit() {
    let mut stalls = stalls(&content_answer("<string>content</string>"));
    let within = |inside: &str| {
        let start = "<?xml version='1.0'?><methodResponse><params><param><value>";
        Reply::without_length(&[start.as_bytes(), inside.as_bytes()].concat())
    };
    let raw = |length: &str| {
        let start = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
        Reply::raw([start.as_bytes(), length.as_bytes(), b"\r\ncontent"].concat())
    };
    stalls.extend([
        ("endless blanks in base64", within("<base64>YQ== ").endless(1)),
        ("endless lines in base64", within("<base64>\n").endless(1)),
        ("endless comments in a string", within("<string>x<!-- -->").endless(8)),
        ("endless sections in a string", within("<string><![CDATA[]]>").endless(12)),
        ("an endless entity", within("<string>&a").endless(1)),
        ("an endless section", within("<string><![CDATA[x").endless(1)),
        ("a raw file that stalls", raw("Content-Length: 8\r\n").stalled(0)),
        ("a raw file of no length", raw("").endless(1)),
        ("a raw file in chunks", raw("Transfer-Encoding: chunked\r\n").endless(1)),
    ]);
    // One peer each, for none is asked more than four files at once, or again when it was silent.
    let liars: Vec<_> = stalls.into_iter().map(|(how, reply)| (how, FakePeer::sharing([(how, reply)]))).collect();
    let given = introducing(liars.iter().map(|(_, liar)| liar.url()));
    let told: Vec<String> = liars.iter().map(|(how, liar)| format!("'{how}' from {}: ", liar.url())).collect();
    let (here, begun) = (Dir::new(), Instant::now());
    let run = download(&here, given.url()).options(SILENCE).options(["--jobs", "64"]).start();
    let peak = Peak::of(run.pid());
    run.finish().ends(1, &["good"], &strings(&told));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let peak = peak.mib();
    assert!(peak < MEMORY, "{peak} MiB");
    assert_eq!(here.names(), ["good"]);
}

// Answers of the wrong kind.

/// Answers that hold no answer, whatever was asked.
fn nonsense() -> Vec<Reply> {
    let page = "<!DOCTYPE html><html><head><title>It works</title></head><body><br></body></html>";
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n";
    let with = |head: &str, body: &[u8]| Reply::raw([head.as_bytes(), b"\r\n", body].concat());
    let xml = |inside: &str| Reply::document(format!("<?xml version='1.0'?>{inside}").as_bytes());
    let mut nonsense: Vec<Reply> =
        [201, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 404, 418, 500, 503, 599, 999]
            .map(|status| {
                with(&format!("HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n"), b"Oops")
            })
            .into();
    nonsense.extend([
        Reply::document(b""),
        Reply::document(b"\n"),
        Reply::document(b"\xff\xfe<\0?\0"),
        Reply::document(b"\0\0\0\0"),
        Reply::document(page.as_bytes()),
        with("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", page.as_bytes()),
        with(&format!("{head}Content-Encoding: gzip\r\n"), gzip),
        with(&format!("{head}Transfer-Encoding: gzip, chunked\r\n"), b"a\r\n0123456789\r\n0\r\n\r\n"),
        with(&format!("{head}Content-Length: -1\r\n"), b"x"),
        with(&format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n"), b"xx"),
        with(&format!("{head}Content-Length: 99999999999999999999999\r\n"), b"x"),
        with(&format!("{head}Transfer-Encoding: chunked\r\n"), b"-1\r\nx"),
        with(&format!("{head}Transfer-Encoding: chunked\r\n"), b"ffffffffffffffffffff\r\nx"),
        with(&format!("{head}Transfer-Encoding: chunked\r\n"), b"ffffffffffffffff\r\nx"),
        with(&format!("{head}Transfer-Encoding: chunked\r\n"), b"zz\r\nx"),
        with(&format!("{head}Transfer-Encoding: chunked\r\n"), b"1\r\nxyz\r\n0\r\n\r\n"),
        with("HTTP/2.0 200 OK\r\n", b"x"),
        with("HTTP/1.1 20 OK\r\n", b"x"),
        with("HTTP/1.1 200 OK\r\nno header\r\n", b"x"),
        with("HTTP/1.1 200 OK\r\nX\x1b[2J: \x1b[2J\u{9b}\r\n", b"x"),
        with("HTTP/1.1 200 \x1b[2J\r\n", b"\x1b[2J"),
        with("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n", b"x"),
        Reply::raw(*b"\x15\x03\x03\x00\x02\x02\x28"),
        Reply::raw(*b"220 ftp.example ready\r\n"),
        Reply::raw(*b"\r\n\r\n\r\n"),
        Reply::raw(*b"\0"),
        Reply::raw("<?xml version='1.0'?><methodResponse/>"),
        xml(""),
        xml("<methodResponse/>"),
        xml("<methodResponse><params/></methodResponse>"),
        xml("<methodResponse><params><param/></params></methodResponse>"),
        xml("<methodCall><methodName>f</methodName></methodCall>"),
        xml("<methodResponse><fault/></methodResponse>"),
        xml("<methodResponse><fault><value/></fault></methodResponse>"),
        xml("<methodResponse><fault><value><struct/></value></fault></methodResponse>"),
        xml("<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><methodResponse>&b;</methodResponse>"),
        xml("\x1b[2J"),
        xml("<\x1b[2J>"),
        Reply::spelled("<int>1</int>"),
        Reply::spelled("<boolean>1</boolean>"),
        Reply::spelled("<boolean>2</boolean>"),
        Reply::spelled("<double>1.5</double>"),
        Reply::spelled("<nil/>"),
        Reply::spelled("<struct></struct>"),
        Reply::spelled("<array><data><value>a</value></data></array><array/>"),
        Reply::spelled("<array>".repeat(1000)),
        Reply::spelled("</value></param><param><value>a"),
        Reply::spelled("</value><value>a"),
        Reply::refusal(),
        Reply::fault("what a \u{1b}[2J\u{9b}31m\u{202e}pity\r\ntinyp2p: forged"),
        Reply::fault("x".repeat(1 << 20)),
    ]);
    nonsense
}

#[test]
fn nonsense_in_place_of_a_peer_list_ends_the_run_with_one_line() {
    let mut nonsense = nonsense();
    nonsense.extend([Reply::spelled("a"), Reply::spelled("<array><data><value><int>1</int></value></data></array>")]);
    for reply in nonsense {
        let (liar, here) = (FakePeer::new().on_peers(reply).start(), Dir::new());
        let run = download(&here, liar.url()).options(SILENCE).run().ends(1, &[], &[liar.url()]).with_one_complaint();
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
        assert!(run.stderr.len() < 2000, "{run}");
        assert_eq!(here.names(), [""; 0]);
    }
}

#[test]
fn nonsense_in_place_of_a_listing_costs_the_listing() {
    let mut nonsense = nonsense();
    nonsense.extend([
        Reply::spelled("a"),
        Reply::spelled(array(["not in an array of arrays"]).trim_start_matches("<value>").trim_end_matches("</value>")),
        Reply::spelled("<array><data></data></array>"),
    ]);
    let liars: Vec<_> = nonsense.into_iter().map(|reply| FakePeer::new().on_names(reply).start()).collect();
    let given = introducing(liars.iter().map(FakePeer::url));
    let told: Vec<String> = liars.iter().map(|liar| format!("skipped {}: ", liar.url())).collect();
    let here = Dir::new();
    let run = download(&here, given.url()).options(SILENCE).run().ends(0, &["good"], &strings(&told));
    assert_eq!(run.stderr.lines().count(), told.len() + 1, "{run}");
    assert_eq!(here.names(), ["good"]);
}

#[test]
fn nonsense_in_place_of_a_file_leaves_none() {
    let bad_base64 = [
        "A",
        "AA",
        "AAA",
        "AAAAA",
        "A===",
        "====",
        "=",
        "AA=A",
        "AA==AAAA",
        "AB==",
        "AAB=",
        "AA-_",
        "AA.A",
        "AA\u{e9}A",
        "A\0AA",
        "AA==x",
        "AAA==",
        "AAAA=",
        "AAAA==",
        "&#xD800;AAA",
        "AA<i4/>AA",
    ];
    let strings_that_are_none = [
        "<string>a</string><string>b</string>",
        "<string>a<b/></string>",
        "<string>a</base64>",
        "<string>a",
        "a<string>b</string>",
        "<string>a</string>b",
        "<string>&unknown;</string>",
        "<string>&#0;</string>",
        "<string>&#x110000;</string>",
        "<string>& </string>",
        "<string>&amp</string>",
        "<string><![CDATA[a]]</string>",
        "<string><!-- a</string>",
        "<string><?a</string>",
        "<String>a</String>",
        "<base64>AAAA</base64>AAAA",
        "<base64>AAAA</base64><string>a</string>",
    ];
    let document = content_answer("<string>a</string>");
    let behind = |more: &[u8]| Reply::document(&[&document, more].concat());
    let raw = |head: &str, body: &str| {
        let start = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
        Reply::raw([start, head, "\r\n", body].concat())
    };
    let mut replies = nonsense();
    replies.extend(bad_base64.map(|value| Reply::spelled(format!("<base64>{value}</base64>"))));
    replies.extend(strings_that_are_none.map(Reply::spelled));
    replies.extend([
        Reply::spelled("<array><data></data></array>"),
        behind(b"x"),
        behind(b"<a/>"),
        behind(b"<![CDATA[ ]]>"),
        behind(b"\0"),
        behind(&document),
        raw("", "content"),
        raw("Content-Length: 8\r\n", "content"),
        raw("Content-Length: -7\r\n", "content"),
        raw("Content-Length: 7x\r\n", "content"),
        raw("Content-Length: 7\r\nContent-Length: 6\r\n", "content"),
        raw("Content-Length: 18446744073709551615\r\n", "content"),
        raw("Content-Length: 18446744073709551616\r\n", "content"),
        raw("Content-Length: 7\r\nContent-Encoding: gzip\r\n", "content"),
        raw("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "4\r\ncont\r\n0\r\n\r\n"),
        raw("Transfer-Encoding: chunked\r\n", "7\r\ncontent\r\n0\r\n\r\n"),
        raw("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "7\r\ncontent\r\n0\r\n\r\n"),
    ]);
    let mut peer = FakePeer::new().file("good", text("content"));
    let names: Vec<String> = (0..replies.len()).map(|number| format!("bad{number}")).collect();
    for (name, reply) in names.iter().zip(replies) {
        peer = peer.file(name, reply);
    }
    let (peer, here) = (peer.start(), Dir::new());
    let told: Vec<String> = names.iter().map(|name| format!("'{name}' from {}: ", peer.url())).collect();
    let run = download(&here, peer.url()).options(SILENCE).run();
    let run = run.ends(1, &["good"], &strings(&told));
    assert_eq!(run.stderr.lines().count(), 2 * names.len() + 1, "one line for each refusal and each loss\n{run}");
    assert_eq!(here.names(), ["good"]);
}

#[test]
fn a_raw_file_is_as_long_as_it_was_announced() {
    let raw = |length: &str, body: &str| {
        Reply::raw(format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{length}\r\n{body}"))
    };
    let peer = FakePeer::sharing([
        ("whole", raw("Content-Length: 7\r\n", "content")),
        ("more behind", raw("Content-Length: 7\r\n", "contentHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
        ("said twice", raw("Content-Length: 7\r\nContent-Length: 7\r\n", "content")),
        ("empty", raw("Content-Length: 0\r\n", "")),
        ("in chunks", raw("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "7\r\ncontent\r\n0\r\n\r\n")),
    ]);
    let here = Dir::new();
    let saved = ["whole", "more behind", "said twice", "empty", "in chunks"];
    download(&here, peer.url()).run().ends(0, &saved, &[]);
    for name in saved {
        assert_eq!(here.read(name), if name == "empty" { &b""[..] } else { b"content" }, "{name}");
    }
}

// Listings and peer lists made to fill memory, or the network.

#[test]
fn a_million_names_fit_into_memory() {
    let count = if full() { 1_000_000 } else { 200_000 };
    // As long as a million of them may be before they are too much.
    let name = |number: usize| format!("{number:07} {}", "x".repeat(34));
    let start = "<?xml version='1.0'?><methodResponse><params><param><value><array><data><value><array><data>";
    let end = "</data></array></value></data></array></value></param></params></methodResponse>";
    let values: Vec<String> = (0..count).map(|number| format!("<value>{}</value>", name(number))).collect();
    let document = [start, &values.concat(), end].concat();
    let peer = FakePeer::new().on_names(Reply::document(document.as_bytes())).start();
    let here = Dir::with([(&*name(7), &b""[..])]);
    let run = download(&here, peer.url()).options(["--list"]).start();
    let peak = Peak::of(run.pid());
    let run = run.finish();
    assert_eq!(run.code(), Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), count - 1);
    let peak_of_listing = peak.mib();
    let run = download(&here, peer.url()).start();
    let peak = Peak::of(run.pid());
    peer.wait_for_fetches(100);
    run.signal(Signal::INT);
    assert_eq!(run.finish().code(), Some(130));
    let peak = peak.mib();
    eprintln!("{count} names: {peak_of_listing} MiB to list, {peak} MiB to fetch");
    assert!(peak.max(peak_of_listing) < MEMORY, "{peak_of_listing} MiB, {peak} MiB");
}

#[test]
fn ten_million_names_are_refused_at_the_limit() {
    let start = "<?xml version='1.0'?><methodResponse><params><param><value><array><data><value><array><data>";
    let endless = |name: &str| {
        let value = format!("<value>{name}</value>");
        Reply::without_length(&[start.as_bytes(), value.as_bytes()].concat()).endless(value.len())
    };
    let longest = "x".repeat(255);
    for (name, told) in
        [("x", "1000000 names"), ("", "1000000 names"), (&*longest, "67108864 bytes"), ("../x", "1000000 names")]
    {
        let liar = FakePeer::new().on_names(endless(name)).start();
        let here = Dir::new();
        let run = download(&here, liar.url()).start();
        let peak = Peak::of(run.pid());
        run.finish().ends(1, &[], &[liar.url(), told]);
        let peak = peak.mib();
        eprintln!("endless {:?}...: {peak} MiB", &name[..name.len().min(8)]);
        assert!(peak < MEMORY, "{peak} MiB");
        assert_eq!(here.names(), [""; 0]);
    }
}

#[test]
fn a_gang_of_liars_does_not_fill_memory() {
    let (gang, silence) = if full() { (250, "10") } else { (40, "1") };
    let start = "<?xml version='1.0'?><methodResponse><params><param><value><array><data>";
    let within = |inside: &str| Reply::without_length(&[start.as_bytes(), inside.as_bytes()].concat());
    let many: Vec<String> = (0..50_000).map(|number| format!("{number:05}{}", "x".repeat(200))).collect();
    let replies = [
        // Large and whole, large and stalled, endless, and one piece of markup that never ends.
        Reply::names(&many),
        Reply::names(&many).stalled(1),
        within("<value><array><data><value>x</value>").endless(16),
        within(&format!("<value><array><data><value>{}", "x".repeat(1000))).endless(1),
        within("<!-- ").endless(1),
        within("<![CDATA[ ").endless(1),
        within("<value a='").endless(1),
    ];
    let liars: Vec<_> =
        (0..gang).map(|number| FakePeer::new().on_names(replies[number % replies.len()].clone()).start()).collect();
    let given = introducing(liars.iter().map(FakePeer::url));
    let here = Dir::new();
    let run = download(&here, given.url()).pattern("^good$|x$").options(["--timeout", silence]).start();
    let peak = Peak::of(run.pid());
    given.wait_for_fetches(1);
    liars.iter().for_each(FakePeer::wait_for_listing);
    run.signal(Signal::INT);
    let run = run.finish();
    assert!(matches!(run.code(), Some(0 | 130)), "where no listing of a liar found room, it may have ended\n{run}");
    let peak = peak.mib();
    eprintln!("a gang of {gang}: {peak} MiB");
    assert!(peak < MEMORY, "{peak} MiB");
}

#[test]
fn sixty_four_files_at_once_fit_into_memory() {
    // Larger than all buffers, and each without its last bytes.
    let content = base64_simd::STANDARD.encode_to_string(vec![b'x'; 3 << 20]);
    let comment = format!("<string><!-- {} -->x", "x".repeat(60_000));
    let replies =
        [Reply::spelled(format!("<base64>{content}</base64>")), Reply::spelled(format!("{comment}</string>"))];
    let peers: Vec<_> = (0..16)
        .map(|peer| {
            (0..4).fold(FakePeer::new(), |liar, number| {
                liar.file(&format!("file{peer}-{number}"), replies[number % 2].clone().stalled(100))
            })
        })
        .map(FakePeer::start)
        .collect();
    let given = FakePeer::new().on_peers(Reply::peers(peers.iter().map(FakePeer::url))).start();
    let here = Dir::new();
    let run = download(&here, given.url()).options(["--jobs", "64"]).start();
    let peak = Peak::of(run.pid());
    for peer in &peers {
        peer.wait_for_fetches(4);
    }
    // Of the others nothing is written before their buffers are full.
    eventually("the end of what comes", PATIENCE, || {
        (run.open_file_sizes().into_iter().filter(|size| *size >= 2 << 20).count() == 32).then_some(())
    });
    run.signal(Signal::INT);
    let run = run.finish();
    assert_eq!(run.code(), Some(130), "{run}");
    assert_eq!(here.names(), [""; 0]);
    let peak = peak.mib();
    eprintln!("64 files at once: {peak} MiB");
    assert!(peak < MEMORY, "{peak} MiB");
}

#[test]
fn a_peer_list_of_a_hundred_thousand_is_cut_to_what_a_network_may_have() {
    // Nobody listens there, and it is known at once.
    let others: Vec<String> = (0..100_000)
        .map(|n| format!("http://127.{}.{}.{}:1", 1 + n / 62_500, 1 + n / 250 % 250, 1 + n % 250))
        .collect();
    let peer = FakePeer::new().on_peers(Reply::peers(&others)).file("good", text("content")).start();
    let (here, begun) = (Dir::new(), Instant::now());
    let run = download(&here, peer.url()).options(SILENCE).start();
    let peak = Peak::of(run.pid());
    let run = run.finish().ends(0, &["good"], &["http://127.1.1.1:1: could not connect"]);
    let skipped = run.stderr.lines().filter(|line| line.contains("skipped http://127.")).count();
    assert_eq!(skipped, 4095, "4,096 peers at most, the given one among them");
    let peak = peak.mib();
    eprintln!("100,000 peers: {:?}, {peak} MiB", begun.elapsed());
    assert!(peak < MEMORY, "{peak} MiB");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn one_server_under_many_spellings_is_asked_for_its_files_once() {
    let (shared, here) = (Dir::with([("file", &b"content"[..])]), Dir::new());
    let server = serve(&shared).start();
    let port = server.port();
    let hosts = [
        "localhost",
        "LOCALHOST",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "127.0.0.1",
    ];
    let mut spellings: Vec<String> = hosts.map(|host| format!("http://{host}:{port}/")).into();
    let spelled = spellings.clone();
    spellings.extend([format!("http://127.0.0.1:0{port}"), server.url().to_owned()]);
    let strange = [
        "file:///etc/passwd",
        "ftp://127.0.0.1:21",
        "https://127.0.0.1:443",
        "http://user:secret@127.0.0.1:1",
        "http://127.0.0.1:1/RPC2",
        "http://127.0.0.1:1?x",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://\u{1b}[2J:1",
        "HTTP://127.0.0.1:1",
        " http://127.0.0.1:1",
        "http://[fe80::1]:1",
        "",
    ];
    spellings.extend(strange.map(str::to_owned));
    let liar = FakePeer::new().on_peers(Reply::peers(&spellings)).start();
    let told: Vec<&str> = spelled[..7].iter().map(|url| url.trim_end_matches('/')).collect();
    let run = download(&here, liar.url()).run().ends(0, &["file"], &told);
    assert!(run.stderr.contains("[fe80::1]:1: could not connect"), "{run}");
    assert!(run.stderr.contains("ignored 14 unusable peer URLs"), "{run}");
    assert_eq!(here.names(), ["file"]);
    server.wait_for_log(&["sent 'file'"]);
    assert_eq!(server.log().matches("sent 'file'").count(), 1, "{server}");
}

#[test]
fn a_name_that_is_listed_a_thousand_times_is_fetched_once() {
    let (twin, here) = (FakePeer::new(), Dir::new());
    let names = || Reply::names(["file"].repeat(1000));
    let list = Reply::peers([twin.url()]);
    let twin = twin.on_names(names()).file("file", text("content")).start();
    let peer = FakePeer::new().on_peers(list).on_names(names()).file("file", text("content")).start();
    download(&here, peer.url()).run().ends(0, &["file"], &[]);
    assert_eq!(peer.fetched().len() + twin.fetched().len(), 1);
}

#[test]
fn names_that_nobody_gives_are_asked_of_each_liar_once() {
    let liars = 30;
    let names: Vec<String> = (0..20).map(|number| format!("file{number}")).collect();
    let liars: Vec<_> = (0..liars)
        .map(|_| names.iter().fold(FakePeer::new(), |peer, name| peer.file(name, Reply::fault("what a pity"))).start())
        .collect();
    let honest = names.iter().fold(FakePeer::new(), |peer, name| peer.file(name, text("content"))).start();
    let others = liars[1..].iter().chain([&honest]).map(FakePeer::url);
    let given = introducing([liars[0].url()].into_iter().chain(others));
    let here = Dir::new();
    let saved: Vec<&str> = names.iter().map(String::as_str).chain(["good"]).collect();
    download(&here, given.url()).run().ends(0, &saved, &[]);
    for liar in liars {
        let mut fetched = liar.fetched();
        let count = fetched.len();
        fetched.sort();
        fetched.dedup();
        assert_eq!(fetched.len(), count, "{} was asked twice for a name", liar.url());
    }
    assert_eq!(honest.fetched().len(), names.len());
}

// Connections that do not last.

#[test]
fn a_connection_that_was_closed_meanwhile_is_opened_again() {
    // It answers one call a connection and says nothing of closing it.
    let document = content_answer("<string>content</string>");
    let once = Framing::Length.wrap("text/xml", &document).0;
    let names: Vec<String> = (0..50).map(|number| format!("file{number:02}")).collect();
    let peer = names.iter().fold(FakePeer::new(), |peer, name| peer.file(name, Reply::raw(&*once))).start();
    let here = Dir::new();
    download(&here, peer.url()).run().ends(0, &strings(&names), &[]);
    assert_eq!(here.names(), names);
    assert_eq!(peer.fetched().len(), names.len(), "nothing is fetched twice");
}

#[test]
fn connections_that_break_when_they_are_used_again_are_opened_again() {
    // It closes each connection, with the call unread, when the second call comes over it: all that are kept are bad.
    let document = content_answer("<string>content</string>");
    let names: Vec<String> = (0..50).map(|number| format!("file{number:02}")).collect();
    let once = || Reply::document(&document).stalled(0);
    let peer = names.iter().fold(FakePeer::new(), |peer, name| peer.file(name, once()));
    let list = Reply::peers([peer.url()]).stalled(0);
    let peer = peer.on_peers(list).on_names(Reply::names(&names).stalled(0)).start();
    let here = Dir::new();
    download(&here, peer.url()).run().ends(0, &strings(&names), &[]);
    assert_eq!(here.names(), names);
    assert_eq!(peer.fetched().len(), names.len(), "nothing is fetched twice");
}

// What stands in the directory already.

#[test]
fn nothing_that_stands_under_a_name_is_touched_or_followed() {
    let (here, elsewhere) = (Dir::with([("file", &b"mine"[..])]), Dir::with([("target", &b"mine"[..])]));
    fs::create_dir(here.join("directory")).unwrap();
    symlink(elsewhere.join("target"), here.join("link")).unwrap();
    symlink(elsewhere.join("nothing"), here.join("dangling")).unwrap();
    symlink("loop", here.join("loop")).unwrap();
    symlink(elsewhere.path(), here.join("link to a directory")).unwrap();
    make_fifo(here.join("fifo"));
    let before = here.names();
    let peer = before.iter().fold(FakePeer::new(), |peer, name| peer.file(name, text("theirs")));
    let peer = peer.file("new", text("content")).start();
    download(&here, peer.url()).run().ends(1, &["new"], &["2 already here, 5 failed"]);
    assert_eq!(peer.fetched(), ["new"]);
    assert_eq!(here.names(), sorted(&[before, vec!["new".to_owned()]].concat()));
    assert_eq!(here.read("file"), b"mine");
    assert_eq!(elsewhere.names(), ["target"]);
    assert_eq!(elsewhere.read("target"), b"mine");
    assert!(fs::symlink_metadata(here.join("fifo")).unwrap().file_type().is_fifo());
}

#[test]
fn what_has_the_name_of_a_partial_file_and_is_none_is_left_alone() {
    let (here, elsewhere) = (Dir::new(), Dir::with([("target", &b"mine"[..])]));
    fs::create_dir(here.join(".tinyp2p-directory.part")).unwrap();
    symlink(elsewhere.join("target"), here.join(".tinyp2p-link.part")).unwrap();
    symlink(elsewhere.join("nothing"), here.join(".tinyp2p-dangling.part")).unwrap();
    make_fifo(here.join(".tinyp2p-fifo.part"));
    let before = here.names();
    let listed = before.iter().map(String::as_str).chain(["file"]);
    let peer = FakePeer::new().on_names(Reply::names(listed)).file("file", text("content")).start();
    download(&here, peer.url()).run().ends(0, &["file"], &[".tinyp2p-dangling.part", "refused 1 more name"]);
    assert_eq!(here.names(), sorted(&[before, vec!["file".to_owned()]].concat()));
    assert_eq!(elsewhere.names(), ["target"]);
    assert_eq!(elsewhere.read("target"), b"mine");
    assert_eq!(peer.fetched(), ["file"]);
}

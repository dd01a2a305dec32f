//! What a writer produces, and that it never closes what is not whole.

use super::*;

#[test]
fn only_legal_text_of_at_most_64_mib_goes_out_as_a_string() {
    for (bytes, expected) in [
        (&b""[..], true),
        (b"plain\ttext\r\n", true),
        ("\u{7f}\u{80}\u{9f}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}".as_bytes(), true),
        (b"]]>&<>", true),
        (b"\0", false),
        (b"a\x1b", false),
        (b"a\x0b", false),
        (b"caf\xe9", false),
        (b"cut \xe2\x82", false),
        (b"\xed\xa0\x80", false),
        ("\u{fffe}".as_bytes(), false),
        ("\u{ffff}".as_bytes(), false),
    ] {
        let document = written(bytes);
        assert_eq!(is_text(&document), expected, "{bytes:?}");
        assert_eq!(content_of(&document[..]).unwrap(), bytes);
        assert!(!document.contains(&b'\r'));
    }
    let limit = 64 * 1024 * 1024;
    let frame = written(b"").len() as u64;
    let text = Content::prepare(&mut io::repeat(b'x').take(limit), limit).unwrap();
    assert_eq!(text.length(), frame + limit);
    let larger = Content::prepare(&mut io::empty(), limit + 1).unwrap();
    assert_eq!(larger.length(), frame + (limit + 1).div_ceil(3) * 4, "larger files are not even looked at");
}

#[test]
fn small_content_goes_out_in_one_write_and_large_in_few() {
    for (bytes, most) in [(vec![], 1), (vec![b'x'; 1000], 1), (vec![b'&'; 500_000], 7), (vec![0; 1_000_000], 12)] {
        let content = Content::prepare(&mut &bytes[..], bytes.len() as u64).unwrap();
        let mut sink = Sink { room: usize::MAX, writes: vec![] };
        content.write(&mut &bytes[..], &mut sink).unwrap();
        assert!(sink.writes.len() <= most, "{} writes for {} bytes", sink.writes.len(), bytes.len());
        assert!(bytes.len() < 10_000 || sink.writes[0].len() > 100_000, "the head goes out with the first bytes");
    }
}

#[test]
fn a_source_that_is_not_what_was_prepared_never_gets_closing_tags() {
    let text = "é&x\n".repeat(100_000).into_bytes();
    let binary = vec![0xff; 500_001];
    let replaced = |bytes: &[u8], at: usize, by: &[u8]| [&bytes[..at], by, &bytes[at + by.len()..]].concat();
    for (prepared, found) in [
        (&text, vec![]),
        (&text, text[..text.len() - 5].to_vec()),
        (&text, [&text[..], b"x"].concat()),
        (&text, text.repeat(3)),
        (&text, replaced(&text, 499_997, b"xx")),
        (&text, replaced(&text, 499_998, b"&")),
        (&text, replaced(&text, 499_998, b"\0")),
        (&text, replaced(&text, 499_995, b"\xff")),
        (&binary, vec![]),
        (&binary, binary[..500_000].to_vec()),
        (&binary, vec![0xff; 500_002]),
        (&binary, vec![0xff; 500_004]),
        (&binary, vec![0xff; 5_000_000]),
        (&vec![b'x'; 10], vec![b'x'; 11]),
        (&vec![0xff; 10], vec![0xff; 11]),
    ] {
        let content = Content::prepare(&mut &prepared[..], prepared.len() as u64).unwrap();
        let mut out = Vec::new();
        content.write(&mut &found[..], &mut out).unwrap_err();
        assert!((out.len() as u64) < content.length() - 60);
        assert!(!out.windows(2).any(|window| window == b"</"));
    }
    assert!(Content::prepare(&mut &b"abc"[..], 2).is_err(), "a source that grew while it was prepared");
    assert!(Content::prepare(&mut &b"abc"[..], 4).is_err(), "a source that shrank while it was prepared");
    assert!(Content::prepare(&mut io::repeat(b'x'), 4).is_err(), "a source without end");
}

#[test]
fn faults_are_written_as_legal_xml() {
    let fault = Fault { code: i32::MIN, text: "a\0\x1b\u{fffe}<&>\r\n\u{9b}".into() };
    let read = fault_of(&write_fault(&fault));
    assert_eq!(read, Fault { code: i32::MIN, text: "a\u{fffd}\u{fffd}\u{fffd}<&>\r\n\u{9b}".into() });
}

//! Documents that end too early or never, and connections, sinks and stacks that give way.

use std::io::BufReader;

use super::*;

#[test]
fn a_document_cut_anywhere_is_an_error() {
    for (name, request, response) in WIRE {
        let base64 = written(&[0xff; 100]);
        for document in [response, &base64] {
            let whole = document.trim_ascii_end().len();
            for end in 0..whole {
                assert!(content_of(&document[..end]).is_err(), "{name} cut at {end}");
                assert!(strings_of(&document[..end], 1).is_err(), "{name} cut at {end}");
                assert!(strings_of(&document[..end], 2).is_err(), "{name} cut at {end}");
            }
        }
        for end in 0..request.trim_ascii_end().len() {
            assert!(read_call(&request[..end]).is_err(), "{name} cut at {end}");
        }
    }
}

/// A document without end: a beginning, and then the same bytes again and again.
struct Endless {
    start: &'static [u8],
    again: Vec<u8>,
    position: usize,
    read: u64,
}

impl Endless {
    fn new(start: &'static str, again: &str) -> Self {
        Self { start: start.as_bytes(), again: again.as_bytes().repeat(64 * 1024 / again.len()), position: 0, read: 0 }
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Endless {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(if self.start.is_empty() { &self.again[self.position..] } else { self.start })
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount as u64;
        if self.start.is_empty() {
            self.position = (self.position + amount) % self.again.len();
        } else {
            self.start = &self.start[amount..];
        }
    }
}

#[test]
fn documents_without_end_are_given_up() {
    let listing = "<methodResponse><params><param><value><array><data><value><array><data>";
    let content = "<methodResponse><params><param><value>";
    for (start, again) in [
        ("", " "),
        ("<", "a"),
        ("<!--", "x"),
        ("<?", "x"),
        ("<!DOCTYPE a [", "<!ENTITY a 'b'>"),
        ("<a b='", "x"),
        ("", "<!-- x -->"),
        (listing, "<value/>"),
        (listing, "<value>name</value>"),
        ("<methodResponse><params><param><value><array><data><value><array><data><value>", "x"),
        ("<methodResponse><params><param><value><array><data><value><array><data><value><![CDATA[", "x"),
        ("<methodResponse><fault><value><struct>", "<member><name>x</name><value/></member>"),
        ("<methodResponse><fault><value><struct><member><name>faultString</name><value>", "x"),
        ("<methodResponse><fault><value><struct><member><name>", "x"),
        ("<methodResponse><params><param><value/></param></params></methodResponse>", "\n"),
        (content, "<!---->"),
        ("<methodResponse><params><param><value>a", "<![CDATA[x]]>"),
        ("<methodResponse><params><param><value><boolean>", "1"),
        ("<methodResponse><params><param><value><base64>YQ==", " "),
        ("<methodResponse><params><param><value><base64>", "\r\n"),
    ] {
        let mut document = Endless::new(start, again);
        let error = read_content(&mut document, &mut io::sink()).unwrap_err();
        assert!(document.read <= 17 * LIMIT, "{start}{again}...: {} bytes as content", document.read);
        let is_limit = matches!(error, Error::TooLarge(_));
        let is_shape = start.starts_with("<methodResponse><params><param><value><array>") || start.contains("<base64>");
        assert!(is_limit || is_shape, "{start}{again}...: {error}");

        let mut document = Endless::new(start, again);
        let error = strings_of(&mut document, 2).unwrap_err();
        assert!(document.read <= LIMIT + 3, "{start}{again}...: {} bytes as a listing", document.read);
        let is_shape = start.starts_with("<methodResponse><params><param><value") && !start.starts_with(listing);
        assert!(error.starts_with("more than ") || is_shape, "{start}{again}...: {error}");
    }
}

#[test]
fn no_markup_is_held_beyond_64_kib() {
    for start in ["<a b='", "<!--", "<methodResponse><params><param><value>a<![CDATA["] {
        let mut document = Endless::new(start, "x");
        let error = read_content(&mut document, &mut io::sink()).unwrap_err();
        assert!(matches!(error, Error::TooLarge(ref more) if more == "65536 bytes of XML"), "{start}: {error}");
        assert!(document.read <= LIMIT / 8);
    }
}

#[test]
fn a_limit_of_exactly_the_length_suffices() {
    let document = response("peers");
    let read = |limit| read_strings(document, 1, limit, |_| Ok::<(), Error>(())).map_err(|error| error.to_string());
    assert_eq!(read(document.len() as u64), Ok(()));
    assert_eq!(read(document.len() as u64 - 1), Err(format!("more than {} bytes of XML", document.len() - 1)));
}

#[test]
fn nesting_without_end_is_refused_before_it_can_hurt() {
    for (open, close) in [
        ("<value><array><data>", "</data></array></value>"),
        ("<value><struct><member><name/>", "</member></struct></value>"),
    ] {
        let deep = |levels| call(&[open.repeat(levels), "<value/>".into(), close.repeat(levels)].concat());
        assert!(read_call(&deep(16)).is_ok());
        assert_eq!(read_call(&deep(25_000)).unwrap_err().to_string(), "elements are nested too deep");
        let skipped = format!("<methodResponse><fault><value><struct><member><name>x</name>{}", open.repeat(25_000));
        assert!(content_of(skipped.as_bytes()).is_err());
    }
}

#[test]
fn a_call_may_have_32768_values_and_no_more() {
    for (open, piece, close, others) in [
        ("<value><array><data>", "<value/>", "</data></array></value>", 1),
        ("<value/>", "</param><param><value/>", "", 1),
    ] {
        let many = |count: usize| call(&[open, &piece.repeat(count), close].concat());
        assert!(read_call(&many(32_768 - others)).is_ok(), "{piece}");
        let error = read_call(&many(32_769 - others)).unwrap_err();
        assert_eq!(error.to_string(), "more than 32768 values", "{piece}");
    }
}

#[test]
fn input_is_read_to_its_very_end_through_interruptions() {
    for (name, _, document) in WIRE {
        let depth = if name.starts_with("list") { 2 } else { 1 };
        let read = |input: &mut dyn BufRead| {
            if name.starts_with("fetch") {
                content_of(input).map(|content| vec![content])
            } else {
                strings_of(input, depth)
            }
        };
        let mut rough = ChunkedReader::new(document, 5).interrupted();
        assert_eq!(read(&mut BufReader::with_capacity(16, &mut rough)), read(&mut &document[..]), "{name}");
        assert!(rough.end_was_read(), "{name}");
    }
}

#[test]
fn an_error_of_the_connection_arrives_as_it_is() {
    let document = response("fetch-text");
    for end in 0..=document.len() {
        let cut = ChunkedReader::new(&document[..end], 5).interrupted();
        let mut rough = cut.failing(|| io::Error::from_raw_os_error(104));
        let error = read_content(BufReader::with_capacity(16, &mut rough), &mut io::sink()).unwrap_err();
        let Error::Io(error) = error else { panic!("{error} after {end} bytes") };
        assert_eq!(error.raw_os_error(), Some(104), "after {end} bytes");
    }
}

#[test]
fn a_sink_that_fails_is_told_from_a_document_that_does() {
    for bytes in [vec![b'x'; 2_000_000], vec![0xff; 2_000_000], b"x&".repeat(1_000_000)] {
        for room in [0, 1_000_000] {
            let mut sink = Sink { room, writes: vec![] };
            let error = read_content(&written(&bytes)[..], &mut sink).unwrap_err();
            assert!(matches!(error, Error::Sink(error) if error.kind() == io::ErrorKind::StorageFull));
        }
    }
}

#[test]
fn content_goes_to_the_sink_in_large_writes() {
    for bytes in [b"x&".repeat(500_000), (0..=255).cycle().take(1_000_000).collect()] {
        for step in [101, 8191, usize::MAX] {
            let mut sink = Sink { room: usize::MAX, writes: vec![] };
            read_content(ChunkedReader::new(&written(&bytes), step), &mut sink).unwrap();
            assert!(sink.writes.len() < 20, "{} writes", sink.writes.len());
            assert!(sink.writes.iter().all(|write| write.len() <= 512 * 1024));
            assert_eq!(sink.writes.concat(), bytes);
        }
    }
}

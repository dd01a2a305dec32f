//! Properties that hold for any bytes. `PROPTEST_CASES` raises the number of cases.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Documents made of what documents are made of, in any order.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const MARKUP: &str = "<value> </value> <value/> <string> </string> <string/> <base64> </base64> <array> </array> \
        <data> </data> <data/> <struct> </struct> <member> </member> <name> </name> <int> </int> <i4> </i4> <boolean> \
        </boolean> <nil/> <fault> </fault> <params> </params> <param> </param> <methodResponse> </methodResponse> \
        <methodCall> </methodCall> <methodName>f</methodName> <?xml <!-- --> - -- <![CDATA[ ]]> ] <!DOCTYPE <!doctype [ \
        <!ENTITY <!ELEMENT <!ATTLIST <!NOTATION <!E <! <? ?> ? < > / /> </ ' \" = & ; &amp; &# x &#x41; &#49; 1 0 aGVsbG8= \
        QUJD + faultCode faultString";
    let others: [&[u8]; 10] = [b" ", b"\n", b"\r\n", b"\t", b"\xef\xbb\xbf", b"\xef", b"\xff", b"\0", b"\xc3", b"\xa9"];
    let tokens: Vec<&[u8]> = MARKUP.split_whitespace().map(str::as_bytes).chain(others).collect();
    vec(select(tokens), 0..60).prop_map(|tokens| tokens.concat())
}

/// A fixture or an answer of ours with a few bytes changed, removed or doubled.
fn mutant() -> impl Strategy<Value = Vec<u8>> {
    let mut documents: Vec<Vec<u8>> =
        WIRE.iter().flat_map(|(_, request, response)| [request.to_vec(), response.to_vec()]).collect();
    documents.push(written(&[0xff; 100]));
    let change = (any::<prop::sample::Index>(), 0..3, soup());
    (select(documents), vec(change, 1..4)).prop_map(|(mut document, changes)| {
        for (index, kind, soup) in changes {
            let at = index.index(document.len() + 1);
            let end = if kind == 0 { at } else { document.len().min(at + soup.len() % 20) };
            document.splice(at..end, soup.into_iter().take(if kind == 1 { 0 } else { 12 }));
        }
        document
    })
}

/// The soup where content, a string or a value is expected.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec![
        ("<methodResponse><params><param><value>", "</value></param></params></methodResponse>"),
        ("<methodResponse><params><param><value><string>", "</string></value></param></params></methodResponse>"),
        ("<methodResponse><params><param><value><base64>", "</base64></value></param></params></methodResponse>"),
        (
            "<methodResponse><params><param><value><array><data>",
            "</data></array></value></param></params></methodResponse>",
        ),
        ("<methodResponse><fault><value><struct>", "</struct></value></fault></methodResponse>"),
        ("<methodCall><methodName>f</methodName><params><param><value>", "</value></param></params></methodCall>"),
        ("<!DOCTYPE a [", "]>"),
    ];
    (select(frames), soup()).prop_map(|((start, end), soup)| [start.as_bytes(), &soup, end.as_bytes()].concat())
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..200), soup(), mutant(), framed()]
}

/// Files: any bytes, or text with what needs care.
fn file() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(any::<u8>(), 0..2000),
        20 => "[a-z&<>\r\n\\]é日😀\u{fffd}]{0,500}".prop_map(String::into_bytes),
        20 => any::<String>().prop_map(String::into_bytes),
        1 => (any::<u8>(), 262_000..263_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        1 => (196_600..196_612_usize).prop_map(|length| "é&".repeat(length / 3).into_bytes()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error_however_they_are_cut(document in hostile(), step in 1..8_usize) {
        let whole = content_of(&document[..]);
        let dribbled = content_of(ChunkedReader::new(&document, step));
        prop_assert_eq!(whole, dribbled);
        for depth in [1, 2] {
            let whole = strings_of(&document[..], depth);
            prop_assert_eq!(whole, strings_of(ChunkedReader::new(&document, step), depth));
        }
        let _ = read_call(&document);
    }

    #[test]
    fn what_is_written_is_read_again(bytes in file(), step in select(vec![1_usize, 2, 3, 7, 4096, usize::MAX])) {
        let document = written(&bytes);
        let is_legal = std::str::from_utf8(&bytes).is_ok_and(|text| {
            text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..))
        });
        prop_assert_eq!(is_text(&document), is_legal);
        let step = if document.len() > 100_000 { step.max(1000) } else { step };
        prop_assert_eq!(content_of(ChunkedReader::new(&document, step)), Ok(bytes));
    }

    #[test]
    fn a_file_in_a_string_as_the_original_sends_it_arrives_whole(bytes in vec(any::<u8>(), 0..500), step in 1..8_usize) {
        let mut escaped = Vec::new();
        for byte in &bytes {
            match byte {
                b'&' => escaped.extend(b"&amp;"),
                b'<' => escaped.extend(b"&lt;"),
                b'>' => escaped.extend(b"&gt;"),
                byte => escaped.push(*byte),
            }
        }
        let frame = response("fetch-empty");
        let at = frame.windows(9).position(|window| window == b"</string>").unwrap();
        let document = [&frame[..at], &escaped, &frame[at..]].concat();
        prop_assert_eq!(content_of(ChunkedReader::new(&document, step)), Ok(bytes));
    }

    #[test]
    fn wrapped_base64_is_decoded(bytes in vec(any::<u8>(), 0..1000), width in 1..100_usize, step in 1..100_usize,
                                 end in select(vec!["\n", "\r\n", " ", "\t", "\n  ", "&#13;\n", "<!-- -->"])) {
        let base64 = base64_simd::STANDARD.encode_to_string(&bytes);
        let lines: String = base64.as_bytes().chunks(width).flat_map(|line| [std::str::from_utf8(line).unwrap(), end]).collect();
        let document = answer(&format!("<value><base64>\n{lines}</base64></value>"));
        prop_assert_eq!(content_of(ChunkedReader::new(&document, step)), Ok(bytes));
    }

    #[test]
    fn any_digits_are_decoded_or_refused_as_they_would_be_whole(digits in "([A-Za-z0-9+/]{4}[ \n]?){0,30}[A-Za-z0-9+/= \r\n\t_-]{0,8}", step in 1..8_usize) {
        let stripped: String = digits.chars().filter(|digit| !" \r\n\t".contains(*digit)).collect();
        let whole = base64_simd::STANDARD.decode_to_vec(&stripped).ok();
        let document = answer(&format!("<value><base64>{digits}</base64></value>"));
        let streamed = content_of(ChunkedReader::new(&document, step)).ok();
        prop_assert_eq!(streamed, whole);
    }

    #[test]
    fn references_are_resolved_or_refused(before in "[a-z]{0,3}", reference in prop_oneof![
        "(amp|lt|gt|quot|apos|nbsp|AMP|a|)".boxed(),
        "#[0-9]{0,8}".boxed(),
        "#x[0-9a-fA-F]{0,7}".boxed(),
        "#[xX+-]?[0-9a-g ]{0,40}".boxed(),
    ], step in 1..8_usize) {
        let number = |digits: &str, radix| {
            let code = u32::from_str_radix(digits, radix).ok().filter(|code| *code != 0 && !digits.starts_with('+'));
            code.and_then(char::from_u32)
        };
        let character = match &*reference {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other if other.len() > 32 => None,
            other => match (other.strip_prefix("#x"), other.strip_prefix('#')) {
                (Some(digits), _) => number(digits, 16),
                (None, Some(digits)) => number(digits, 10),
                (None, None) => None,
            },
        };
        let document = answer(&format!("<value><string>{before}&{reference};z</string></value>"));
        let read = content_of(ChunkedReader::new(&document, step)).ok();
        let expected = character.map(|character| format!("{before}{character}z").into_bytes());
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn calls_are_read_as_they_were_written(method in "[ -~é]{1,20}", strings in vec(vec(any::<u8>(), 0..50), 0..5), int in any::<i32>()) {
        let mut params: Vec<_> = strings.iter().cloned().map(Value::String).collect();
        params.extend([Value::Int(int), Value::Other]);
        params.push(Value::Array(params.clone()));
        let method = method.trim().to_owned();
        prop_assert_eq!(read_call(&write_call(&method, &params)).unwrap(), Call { method, params });
    }

    #[test]
    fn lists_are_read_as_they_were_written(strings in vec(vec(any::<u8>(), 0..50), 0..20), depth in 1..4_usize, step in 1..8_usize) {
        let document = write_strings(depth, &strings);
        prop_assert_eq!(strings_of(ChunkedReader::new(&document, step), depth), Ok(strings));
    }
}

//! Writing calls and small answers, in the layout of the original.
//!
//! Strings go out as the bytes they are, with only `&`, `<`, `>` and CR escaped, so a caller that wants to be
//! understood by XML parsers sees that they are legal text.

use memchr::{memchr, memchr3};

use super::{Fault, Value};

const DECLARATION: &[u8] = b"<?xml version='1.0'?>\n";

/// What stands before the value of a response.
pub(super) const RESPONSE_START: &str = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n";

/// What stands after the value of a response.
pub(super) const RESPONSE_END: &str = "</param>\n</params>\n</methodResponse>\n";

const ARRAY_START: &[u8] = b"<value><array><data>\n";
const ARRAY_END: &[u8] = b"</data></array></value>\n";

/// A call's document.
pub(crate) fn write_call(method: &str, params: &[Value]) -> Vec<u8> {
    let mut out = DECLARATION.to_vec();
    out.extend_from_slice(b"<methodCall>\n<methodName>");
    escape(method.as_bytes(), &mut out);
    out.extend_from_slice(b"</methodName>\n<params>\n");
    for param in params {
        out.extend_from_slice(b"<param>\n");
        write_value(param, &mut out);
        out.extend_from_slice(b"</param>\n");
    }
    out.extend_from_slice(b"</params>\n</methodCall>\n");
    out
}

/// A response's document.
pub(crate) fn write_response(value: &Value) -> Vec<u8> {
    let mut out = RESPONSE_START.as_bytes().to_vec();
    write_value(value, &mut out);
    out.extend_from_slice(RESPONSE_END.as_bytes());
    out
}

/// The document of a response that is an array of strings, `depth` arrays deep (1: a peer list, 2: a listing).
pub(crate) fn write_strings<S: AsRef<[u8]>>(depth: usize, strings: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut out = RESPONSE_START.as_bytes().to_vec();
    for _ in 0..depth {
        out.extend_from_slice(ARRAY_START);
    }
    for string in strings {
        write_string(string.as_ref(), &mut out);
    }
    for _ in 0..depth {
        out.extend_from_slice(ARRAY_END);
    }
    out.extend_from_slice(RESPONSE_END.as_bytes());
    out
}

/// A fault's document. Characters of its text that XML forbids are replaced by U+FFFD.
pub(crate) fn write_fault(fault: &Fault) -> Vec<u8> {
    let legal = |character| if is_legal(character) { character } else { char::REPLACEMENT_CHARACTER };
    let text: String = fault.text.chars().map(legal).collect();
    let members = vec![
        ("faultCode".to_owned(), Value::Int(fault.code)),
        ("faultString".to_owned(), Value::String(text.into_bytes())),
    ];
    let mut out = DECLARATION.to_vec();
    out.extend_from_slice(b"<methodResponse>\n<fault>\n");
    write_value(&Value::Struct(members), &mut out);
    out.extend_from_slice(b"</fault>\n</methodResponse>\n");
    out
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(int) => out.extend_from_slice(format!("<value><int>{int}</int></value>\n").as_bytes()),
        Value::Boolean(boolean) => {
            let digit = u8::from(*boolean);
            out.extend_from_slice(format!("<value><boolean>{digit}</boolean></value>\n").as_bytes());
        }
        Value::String(string) => write_string(string, out),
        Value::Base64(bytes) => {
            out.extend_from_slice(b"<value><base64>");
            base64_simd::STANDARD.encode_append(bytes, out);
            out.extend_from_slice(b"</base64></value>\n");
        }
        Value::Array(values) => {
            out.extend_from_slice(ARRAY_START);
            for value in values {
                write_value(value, out);
            }
            out.extend_from_slice(ARRAY_END);
        }
        Value::Struct(members) => {
            out.extend_from_slice(b"<value><struct>\n");
            for (name, value) in members {
                out.extend_from_slice(b"<member>\n<name>");
                escape(name.as_bytes(), out);
                out.extend_from_slice(b"</name>\n");
                write_value(value, out);
                out.extend_from_slice(b"</member>\n");
            }
            out.extend_from_slice(b"</struct></value>\n");
        }
        Value::Other(_) => out.extend_from_slice(b"<value><nil/></value>\n"),
    }
}

fn write_string(string: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<value><string>");
    escape(string, out);
    out.extend_from_slice(b"</string></value>\n");
}

/// Appends text with what markup could be taken for, and CR, which parsers would turn into LF, as references.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(end) = memchr(b'\r', rest) {
        escape_markup(&rest[..end], out);
        out.extend_from_slice(b"&#13;");
        rest = &rest[end + 1..];
    }
    escape_markup(rest, out);
}

fn escape_markup(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(end) = memchr3(b'&', b'<', b'>', text) {
        out.extend_from_slice(&text[..end]);
        out.extend_from_slice(match text[end] {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            _ => b"&gt;",
        });
        text = &text[end + 1..];
    }
    out.extend_from_slice(text);
}

/// Whether XML 1.0 allows a character.
fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

//! Writes calls and small responses, in the layout of the original.
//!
//! Strings go out as the bytes they are, with only `&`, `<`, `>` and CR escaped, so a caller that wants to be
//! understood by XML parsers sees that they are legal text.

use memchr::{memchr, memchr3, memmem};

use super::{Fault, Value};

/// What stands before the value of a response.
pub(super) const RESPONSE_START: &[u8] = b"<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n";

/// What stands after the value of a response.
pub(super) const RESPONSE_END: &[u8] = b"</param>\n</params>\n</methodResponse>\n";

const ARRAY_START: &[u8] = b"<value><array><data>\n";
const ARRAY_END: &[u8] = b"</data></array></value>\n";

/// Writes a call.
pub(crate) fn write_call(method: &str, params: &[Value]) -> Vec<u8> {
    let mut out = b"<?xml version='1.0'?>\n<methodCall>\n<methodName>".to_vec();
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

/// Writes a response that is an array of strings, `depth` arrays deep (1: a peer list, 2: a listing).
pub(crate) fn write_strings<S: AsRef<[u8]>>(depth: usize, strings: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut out = RESPONSE_START.to_vec();
    out.extend(ARRAY_START.repeat(depth));
    for string in strings {
        write_string(string.as_ref(), &mut out);
    }
    out.extend(ARRAY_END.repeat(depth));
    out.extend_from_slice(RESPONSE_END);
    out
}

/// Writes a response that is the boolean `false`.
pub(crate) fn write_false() -> Vec<u8> {
    [RESPONSE_START, b"<value><boolean>0</boolean></value>\n", RESPONSE_END].concat()
}

/// Writes a fault. Characters of its text that XML forbids are replaced by U+FFFD.
pub(crate) fn write_fault(fault: &Fault) -> Vec<u8> {
    let is_illegal = |character: char| !is_legal(character.encode_utf8(&mut [0; 4]).as_bytes());
    let text = fault.text.replace(is_illegal, "\u{fffd}");
    let mut out = b"<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n".to_vec();
    for (name, value) in [("faultCode", Value::Int(fault.code)), ("faultString", Value::from(&*text))] {
        out.extend_from_slice(format!("<member>\n<name>{name}</name>\n").as_bytes());
        write_value(&value, &mut out);
        out.extend_from_slice(b"</member>\n");
    }
    out.extend_from_slice(b"</struct></value>\n</fault>\n</methodResponse>\n");
    out
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(int) => out.extend_from_slice(format!("<value><int>{int}</int></value>\n").as_bytes()),
        Value::String(string) => write_string(string, out),
        Value::Array(values) => {
            out.extend_from_slice(ARRAY_START);
            for value in values {
                write_value(value, out);
            }
            out.extend_from_slice(ARRAY_END);
        }
        Value::Other => out.extend_from_slice(b"<value><nil/></value>\n"),
    }
}

fn write_string(string: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"<value><string>");
    escape(string, out);
    out.extend_from_slice(b"</string></value>\n");
}

/// Appends text with what markup could be taken for, and CR, which parsers would turn into LF, as references.
pub(super) fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(end) = memchr(b'\r', text) {
        escape_markup(&text[..end], out);
        out.extend_from_slice(b"&#13;");
        text = &text[end + 1..];
    }
    escape_markup(text, out);
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

/// Whether bytes are UTF-8 and hold only characters that XML 1.0 allows: no control characters of ASCII but tab and line
/// ends, neither U+FFFE nor U+FFFF.
pub(super) fn is_legal(text: &[u8]) -> bool {
    let is_control = |byte: u8| matches!(byte, 0..=0x08 | 0x0b | 0x0c | 0x0e..=0x1f);
    // Collecting bits instead of stopping at the first lets the loop be vectorised.
    let has_control = text.iter().fold(0, |found, byte| found | u8::from(is_control(*byte))) != 0;
    !has_control
        && str::from_utf8(text).is_ok()
        && memmem::find_iter(text, b"\xef\xbf").all(|start| text[start + 2] < 0xbe)
}

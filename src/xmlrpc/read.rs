//! The grammar: calls, and the two shapes of responses.
//!
//! Calls become values, for their bodies are small. Responses are never held whole: strings are handed over one by one,
//! content goes straight to its sink.

use std::io::{BufRead, BufWriter, Write};

use super::{CHUNK_BYTES, Call, Error, Fault, Value, base64::Decoder, malformed, reader::XmlReader, tag::unexpected};

/// The most bytes of one string of a response, of a fault's text or of a number that are kept. No name and no URL
/// that can be used is as long, and what is longer costs that string alone. Hundreds of responses are read at once.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The most bytes of the response to a fetch that are not content: markup, comments, a fault. CDATA counts too.
const MAX_FRAME_BYTES: u64 = 16 * 1024 * 1024;

/// The most values of a call, those within arrays counted, too. As many URLs as a call of 1 MiB has room for are
/// fewer, while empty values without this limit would take eight times the memory of the call.
const MAX_CALL_VALUES: usize = 32 * 1024;

/// Content in chunks smaller than this is gathered before it is written.
const SINK_BUFFER_BYTES: usize = CHUNK_BYTES / 4;

/// Reads a call whose body the caller has bounded; more than 32,768 values are malformed.
pub(crate) fn read_call(body: &[u8]) -> Result<Call, Error> {
    let mut reader = XmlReader::new(body, body.len() as u64)?;
    reader.expect_root("methodCall", "call")?;
    reader.expect_start("methodName")?;
    let method = String::from_utf8_lossy(text(&mut reader, usize::MAX)?.trim_ascii()).into_owned();
    let mut params = Vec::new();
    let mut room = MAX_CALL_VALUES;
    if reader.start_or_end("params")? {
        while reader.start_or_end("param")? {
            reader.expect_start("value")?;
            params.push(read_param(&mut reader, &mut room)?);
            reader.expect_end()?;
        }
    }
    reader.finish()?;
    Ok(Call { method, params })
}

/// Reads a response that is an array of strings, `depth` arrays deep (1: a peer list, 2: a listing), and hands over the
/// bytes of each string, of whatever encoding; of one longer than 4 KiB only the beginning. An error from `each` ends
/// the reading. At most `max_bytes` of the document are read.
pub(crate) fn read_strings<E: From<Error>>(
    input: impl BufRead,
    depth: usize,
    max_bytes: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = XmlReader::new(input, max_bytes)?;
    let mut tag = start_response(&mut reader)?;
    for level in 1..=depth {
        if level > 1 {
            reader.expect_start("value")?;
            tag = reader.start_type()?;
        }
        if tag != "array" {
            return Err(unexpected(tag, "<array>").into());
        }
        reader.expect_start("data")?;
    }
    while reader.start_or_end("value")? {
        match read_value(&mut reader, MAX_KEPT_BYTES)? {
            Value::String(bytes) => each(&bytes)?,
            _ => return Err(malformed("a list of something other than strings").into()),
        }
    }
    reader.finish()?;
    Ok(())
}

/// Reads the response to a fetch (a string, a value without type or base64) into `sink`, in constant memory; returns the
/// number of bytes. After an error the sink has received the beginning of the content, or all of it.
pub(crate) fn read_content(input: impl BufRead, sink: &mut dyn Write) -> Result<u64, Error> {
    let mut reader = XmlReader::new(input, MAX_FRAME_BYTES)?;
    let mut sink = BufWriter::with_capacity(SINK_BUFFER_BYTES, sink);
    let mut written = 0;
    let mut write = |bytes: &[u8]| {
        written += bytes.len() as u64;
        sink.write_all(bytes).map_err(Error::Sink)
    };
    match start_response(&mut reader)? {
        "string" => reader.read_text(false, &mut write)?,
        "base64" => {
            let mut decoder = Decoder::default();
            reader.read_text(false, &mut |bytes| decoder.feed(bytes, &mut write))?;
            decoder.finish(&mut write)?;
        }
        other => return Err(unexpected(other, "<string> or <base64>")),
    }
    sink.flush().map_err(Error::Sink)?;
    reader.finish()?;
    Ok(written)
}

/// Starts a response up to the type of its value, which is returned. A fault and the boolean `false` are read to their
/// end and are errors.
fn start_response<R: BufRead>(reader: &mut XmlReader<R>) -> Result<&'static str, Error> {
    reader.expect_root("methodResponse", "response")?;
    match reader.next_tag()? {
        Some("params") => {}
        Some("fault") => {
            let fault = read_fault(reader)?;
            reader.finish()?;
            return Err(Error::Fault(fault));
        }
        other => return Err(unexpected(other.unwrap_or("/methodResponse"), "<params> or <fault>")),
    }
    reader.expect_start("param")?;
    reader.expect_start("value")?;
    let tag = reader.start_type()?;
    if tag == "boolean" && text(reader, MAX_KEPT_BYTES)?.trim_ascii() == b"0" {
        reader.finish()?;
        return Err(Error::False);
    }
    Ok(tag)
}

/// Reads a fault's value up to the end of its struct. Members come in any order; those unknown are skipped.
fn read_fault<R: BufRead>(reader: &mut XmlReader<R>) -> Result<Fault, Error> {
    reader.expect_start("value")?;
    match reader.start_type()? {
        "struct" => {}
        other => return Err(unexpected(other, "<struct>")),
    }
    let mut code = None;
    let mut message = None;
    while reader.start_or_end("member")? {
        reader.expect_start("name")?;
        let name = text(reader, MAX_KEPT_BYTES)?;
        reader.expect_start("value")?;
        match (name.trim_ascii(), read_value(reader, MAX_KEPT_BYTES)?) {
            (b"faultCode", Value::Int(int)) => code = Some(int),
            (b"faultString", Value::String(bytes)) => message = Some(String::from_utf8_lossy(&bytes).into_owned()),
            _ => {}
        }
        reader.expect_end()?;
    }
    match (code, message) {
        (Some(code), Some(text)) => Ok(Fault { code, text }),
        _ => Err(malformed("a fault without faultCode or faultString")),
    }
}

/// Reads the rest of a parameter's `<value>`. Every value takes one off the `room` that is left.
fn read_param<R: BufRead>(reader: &mut XmlReader<R>, room: &mut usize) -> Result<Value, Error> {
    let mut count = || {
        *room = room.checked_sub(1).ok_or_else(|| malformed(format!("more than {MAX_CALL_VALUES} values")))?;
        Ok(())
    };
    count()?;
    let tag = reader.start_type()?;
    if tag != "array" {
        return read_typed(reader, tag, usize::MAX);
    }
    reader.expect_start("data")?;
    let mut values = Vec::new();
    while reader.start_or_end("value")? {
        count()?;
        values.push(read_value(reader, usize::MAX)?);
    }
    reader.expect_end()?;
    reader.expect_end()?;
    Ok(Value::Array(values))
}

/// Reads the rest of a `<value>` that is no array that anybody asks for; of its text the first `max_bytes` are kept.
fn read_value<R: BufRead>(reader: &mut XmlReader<R>, max_bytes: usize) -> Result<Value, Error> {
    let tag = reader.start_type()?;
    read_typed(reader, tag, max_bytes)
}

/// Reads the rest of a `<value>` whose type has started.
fn read_typed<R: BufRead>(reader: &mut XmlReader<R>, tag: &str, max_bytes: usize) -> Result<Value, Error> {
    let value = match tag {
        "int" | "i4" => {
            let text = String::from_utf8(text(reader, max_bytes)?).unwrap_or_default();
            let int = text.trim().parse().map_err(|_| malformed("an <int> that is no 32-bit integer"))?;
            Value::Int(int)
        }
        "string" => Value::String(text(reader, max_bytes)?),
        "array" | "base64" | "boolean" | "dateTime.iso8601" | "double" | "ex:i8" | "ex:nil" | "i8" | "nil"
        | "struct" => {
            reader.skip()?;
            Value::Other
        }
        other => return Err(unexpected(other, "a type")),
    };
    reader.expect_end()?;
    Ok(value)
}

/// Reads the text of the innermost element and ends it; returns the first `max_bytes`.
fn text<R: BufRead>(reader: &mut XmlReader<R>, max_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    reader.read_text(true, &mut |bytes| {
        let room = max_bytes - text.len();
        text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    })?;
    Ok(text)
}

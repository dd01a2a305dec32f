//! The grammar: calls, and the three shapes of answers.
//!
//! Calls become values, for their bodies are small. Answers are never held whole: strings are given out one by one,
//! content goes straight to its sink.

use std::io::{BufRead, Write};

use super::{
    Call, ContentError, Fault, PIECE_BYTES, ParseError, Reply, Value,
    base64::Decoder,
    document::{Document, is_space},
    element::Element,
    malformed,
    text::{enter_type, read_text},
};

/// The most bytes of one string of an answer, of a fault's text or of a number that are kept. No name and no URL
/// that can be used is as long, and what is longer costs that string alone. Hundreds of answers are read at once.
const MAX_KEPT_BYTES: usize = 4 * 1024;

/// The most bytes of the answer to a fetch that are not content: markup, comments, a fault. CDATA counts too.
const MAX_FRAME_BYTES: u64 = 16 * 1024 * 1024;

/// The most values of a call, those within others counted, too. As many URLs as a call of 1 MiB has room for are
/// fewer, while empty values without this limit would take eight times the memory of the call.
const MAX_CALL_VALUES: usize = 32 * 1024;

/// Reads a call whose body the caller has bounded; more than 32,768 values are malformed.
pub(crate) fn read_call(body: &[u8]) -> Result<Call, ParseError> {
    let mut document = Document::new(body, body.len() as u64);
    let mut room = MAX_CALL_VALUES;
    document.enter_root(Element::MethodCall)?;
    document.enter(Element::MethodName)?;
    let method = String::from_utf8(trim(&text(&mut document, usize::MAX)?).to_vec());
    let method = method.map_err(|_| malformed("a method's name that is not UTF-8"))?;
    let mut params = Vec::new();
    match document.child()? {
        None => {}
        Some(Element::Params) => {
            while document.enter_another(Element::Param)? {
                document.enter(Element::Value)?;
                params.push(read_value(&mut document, &mut room)?);
                document.leave()?;
            }
            document.leave()?;
        }
        Some(other) => return Err(other.instead_of("<params>")),
    }
    document.finish()?;
    Ok(Call { method, params })
}

/// Reads an answer that is an array of strings, `depth` arrays deep (1: a peer list, 2: a listing), and gives `each`
/// string's bytes, of whatever encoding; of one longer than 4 KiB only the beginning. An error from `each` ends the
/// reading. At most `max_bytes` of the document are read.
pub(crate) fn read_strings<R: BufRead>(
    input: R,
    depth: usize,
    max_bytes: u64,
    each: &mut dyn FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<Reply<()>, ParseError> {
    without_sink(read_reply(Document::new(input, max_bytes), |document| {
        match enter_type(document, &mut |_| Ok(()))? {
            Some(Element::Array) => read_array_of_strings(document, depth, each)?,
            Some(Element::Boolean) => return Ok(Reply::Boolean(read_boolean(document)?)),
            found => return Err(found.unwrap_or(Element::String).instead_of("<array>").into()),
        }
        Ok(Reply::Value(()))
    }))
}

/// Reads the answer to a fetch (a string, a value without type or base64) into `sink`, in constant memory; gives the
/// number of bytes. On an error the sink has got the beginning of the content, or all of it.
pub(crate) fn read_content<R: BufRead>(input: R, sink: &mut dyn Write) -> Result<Reply<u64>, ContentError> {
    let mut output = Output { sink, gathered: Vec::new(), written: 0 };
    read_reply(Document::new(input, MAX_FRAME_BYTES), |document| {
        document.set_runs_free(true);
        let found = enter_type(document, &mut |bytes| output.write(bytes))?;
        match found {
            None => {}
            Some(Element::String) => read_text(document, &mut |bytes| output.write(bytes))?,
            Some(Element::Base64) => {
                let mut decoder = Decoder::default();
                read_text(document, &mut |bytes| decoder.feed(bytes, &mut |bytes| output.write(bytes)))?;
                decoder.finish(&mut |bytes| output.write(bytes))?;
            }
            Some(Element::Boolean) => {
                document.set_runs_free(false);
                return Ok(Reply::Boolean(read_boolean(document)?));
            }
            Some(other) => return Err(other.instead_of("<string> or <base64>").into()),
        }
        document.set_runs_free(false);
        output.finish()?;
        // Where there was no type, the value has been left with its text.
        if found.is_some() {
            document.leave()?;
        }
        Ok(Reply::Value(output.written))
    })
}

/// Reads a response; `answer` is called within its one value, and leaves it.
fn read_reply<R: BufRead, T>(
    mut document: Document<R>,
    answer: impl FnOnce(&mut Document<R>) -> Result<Reply<T>, ContentError>,
) -> Result<Reply<T>, ContentError> {
    document.enter_root(Element::MethodResponse)?;
    let reply = match document.child()? {
        Some(Element::Params) => {
            document.enter(Element::Param)?;
            document.enter(Element::Value)?;
            let reply = answer(&mut document)?;
            document.leave()?;
            reply
        }
        Some(Element::Fault) => {
            document.enter(Element::Value)?;
            Reply::Fault(read_fault(&mut document)?)
        }
        Some(other) => return Err(other.instead_of("<params> or <fault>").into()),
        None => return Err(malformed("a response without an answer").into()),
    };
    document.leave()?;
    document.leave()?;
    document.finish()?;
    Ok(reply)
}

/// Reads the rest of an array of strings, and leaves it and its value. Arrays around it hold it alone.
fn read_array_of_strings<R: BufRead>(
    document: &mut Document<R>,
    depth: usize,
    each: &mut dyn FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    document.enter(Element::Data)?;
    if depth > 1 {
        document.enter(Element::Value)?;
        enter_value_of(document, Element::Array)?;
        read_array_of_strings(document, depth - 1, each)?;
        document.leave()?;
    } else {
        while document.enter_another(Element::Value)? {
            each(&read_scalar(document, Element::String)?)?;
        }
    }
    document.leave()?;
    document.leave()
}

/// Reads the rest of a fault's value and leaves it. Members come in any order; those unknown are skipped.
fn read_fault<R: BufRead>(document: &mut Document<R>) -> Result<Fault, ParseError> {
    enter_value_of(document, Element::Struct)?;
    let (mut code, mut message) = (None, None);
    while document.enter_another(Element::Member)? {
        document.enter(Element::Name)?;
        let name = text(document, MAX_KEPT_BYTES)?;
        document.enter(Element::Value)?;
        match trim(&name) {
            b"faultCode" => code = Some(parse_int(&read_scalar(document, Element::Int)?)?),
            b"faultString" => message = Some(read_scalar(document, Element::String)?),
            _ => document.skip()?,
        }
        document.leave()?;
    }
    document.leave()?;
    let (Some(code), Some(message)) = (code, message) else {
        return Err(malformed("a fault without faultCode or faultString"));
    };
    Ok(Fault { code, text: String::from_utf8_lossy(&message).into_owned() })
}

/// Reads the rest of a value and leaves it. Goes no deeper than the document lets elements nest, and takes every value
/// off the `room` that is left.
fn read_value<R: BufRead>(document: &mut Document<R>, room: &mut usize) -> Result<Value, ParseError> {
    *room = room.checked_sub(1).ok_or_else(|| malformed(format!("more than {MAX_CALL_VALUES} values")))?;
    let mut untyped = Vec::new();
    let Some(element) = without_sink(enter_type(document, &mut keep_in(&mut untyped, usize::MAX)))? else {
        return Ok(Value::String(untyped));
    };
    let value = match element {
        Element::Int => Value::Int(parse_int(&text(document, usize::MAX)?)?),
        Element::Boolean => Value::Boolean(parse_boolean(&text(document, usize::MAX)?)?),
        Element::String => Value::String(text(document, usize::MAX)?),
        Element::Base64 => {
            let (mut bytes, mut decoder) = (Vec::new(), Decoder::default());
            let base64 = text(document, usize::MAX)?;
            without_sink(decoder.feed(&base64, &mut keep_in(&mut bytes, usize::MAX)))?;
            without_sink(decoder.finish(&mut keep_in(&mut bytes, usize::MAX)))?;
            Value::Base64(bytes)
        }
        Element::Array => {
            let mut values = Vec::new();
            document.enter(Element::Data)?;
            while document.enter_another(Element::Value)? {
                values.push(read_value(document, room)?);
            }
            document.leave()?;
            Value::Array(values)
        }
        Element::Struct => {
            let mut members = Vec::new();
            while document.enter_another(Element::Member)? {
                document.enter(Element::Name)?;
                let name = String::from_utf8_lossy(&text(document, usize::MAX)?).into_owned();
                document.enter(Element::Value)?;
                members.push((name, read_value(document, room)?));
                document.leave()?;
            }
            Value::Struct(members)
        }
        Element::Other(tag) => {
            text(document, usize::MAX)?;
            Value::Other(tag)
        }
        other => return Err(other.instead_of("a type")),
    };
    document.leave()?;
    Ok(value)
}

/// Enters the element of the one type that the value around may have.
fn enter_value_of<R: BufRead>(document: &mut Document<R>, expected: Element) -> Result<(), ParseError> {
    match without_sink(enter_type(document, &mut |_| Ok(())))?.unwrap_or(Element::String) {
        found if found == expected => Ok(()),
        found => Err(found.instead_of(&format!("<{}>", expected.tag()))),
    }
}

/// Reads the rest of a value of the one type, which is text, and leaves it; gives its first 4 KiB.
fn read_scalar<R: BufRead>(document: &mut Document<R>, expected: Element) -> Result<Vec<u8>, ParseError> {
    let mut untyped = Vec::new();
    let found = without_sink(enter_type(document, &mut keep_in(&mut untyped, MAX_KEPT_BYTES)))?;
    if found.unwrap_or(Element::String) != expected {
        return Err(found.unwrap_or(Element::String).instead_of(&format!("<{}>", expected.tag())));
    }
    if found.is_none() {
        return Ok(untyped);
    }
    let typed = text(document, MAX_KEPT_BYTES)?;
    document.leave()?;
    Ok(typed)
}

/// Reads the rest of a boolean and leaves its value.
fn read_boolean<R: BufRead>(document: &mut Document<R>) -> Result<bool, ParseError> {
    let boolean = parse_boolean(&text(document, MAX_KEPT_BYTES)?)?;
    document.leave()?;
    Ok(boolean)
}

/// The beginning of the text of the element around, which is left.
fn text<R: BufRead>(document: &mut Document<R>, limit: usize) -> Result<Vec<u8>, ParseError> {
    let mut text = Vec::new();
    without_sink(read_text(document, &mut keep_in(&mut text, limit)))?;
    Ok(text)
}

/// Where text goes to be kept, up to a limit in bytes.
fn keep_in(kept: &mut Vec<u8>, limit: usize) -> impl FnMut(&[u8]) -> Result<(), ContentError> {
    move |bytes| {
        kept.extend_from_slice(&bytes[..bytes.len().min(limit - kept.len())]);
        Ok(())
    }
}

/// The result of reading that went nowhere but into memory.
fn without_sink<T>(result: Result<T, ContentError>) -> Result<T, ParseError> {
    result.map_err(|error| match error {
        ContentError::Parse(error) => error,
        ContentError::Sink(error) => ParseError::Io(error),
    })
}

fn parse_int(text: &[u8]) -> Result<i32, ParseError> {
    let text = std::str::from_utf8(trim(text)).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("an <int> that is no 32-bit integer"))
}

fn parse_boolean(text: &[u8]) -> Result<bool, ParseError> {
    match trim(text) {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(malformed("a <boolean> that is neither 0 nor 1")),
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_space(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(*byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// A sink that is written to in large pieces, however small the pieces are that come.
struct Output<'a> {
    sink: &'a mut dyn Write,
    gathered: Vec<u8>,
    written: u64,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.written += bytes.len() as u64;
        if self.gathered.len() + bytes.len() > PIECE_BYTES {
            self.finish()?;
        }
        // What is nearly a piece already is not worth copying.
        if bytes.len() >= PIECE_BYTES / 4 && self.gathered.is_empty() {
            return self.sink.write_all(bytes).map_err(ContentError::Sink);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), ContentError> {
        self.sink.write_all(&self.gathered).map_err(ContentError::Sink)?;
        self.gathered.clear();
        Ok(())
    }
}

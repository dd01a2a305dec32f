//! The grammar: calls, and the three shapes of answers.
//!
//! Calls become values, for their bodies are small. Answers are never held whole: strings are given out one by one,
//! content goes straight to its sink.

use std::io::{BufRead, Write};

use super::{
    Call, ContentError, Fault, PIECE_BYTES, ParseError, Reply, Value,
    base64::Decoder,
    document::{Document, Element, is_space},
    malformed,
    text::{Out, enter_type, read_text},
};

/// The most bytes of one string of an answer, of a fault's text or of a number that are kept. No name and no URL
/// that can be used is as long, and what is longer costs that string alone.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// The most bytes of the answer to a fetch that are not content: markup, comments, a fault. CDATA counts too.
const MAX_FRAME_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a call whose body the caller has bounded.
pub(crate) fn read_call(body: &[u8]) -> Result<Call, ParseError> {
    let mut document = Document::new(body, body.len() as u64);
    document.enter_root(Element::MethodCall)?;
    document.enter(Element::MethodName)?;
    let method = String::from_utf8(trim(&whole_text(&mut document)?).to_vec());
    let method = method.map_err(|_| malformed("a method's name that is not UTF-8"))?;
    let mut params = Vec::new();
    match document.child()? {
        None => {}
        Some(Element::Params) => {
            while let Some(element) = document.child()? {
                expect(element, Element::Param)?;
                document.enter(Element::Value)?;
                params.push(read_value(&mut document)?);
                document.leave()?;
            }
            document.leave()?;
        }
        Some(other) => return Err(unexpected(other, "<params>")),
    }
    document.finish()?;
    Ok(Call { method, params })
}

/// Reads an answer that is an array of strings, `depth` arrays deep (1: a peer list, 2: a listing), and gives `each`
/// string's bytes, of whatever encoding; of one longer than 64 KiB only the beginning. An error from `each` ends the
/// reading. At most `max_bytes` of the document are read.
pub(crate) fn read_strings<R: BufRead>(
    input: R,
    depth: usize,
    max_bytes: u64,
    each: &mut dyn FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<Reply<()>, ParseError> {
    let reply = read_reply(Document::new(input, max_bytes), |document| {
        match enter_type(document, &mut |_| Ok(()))? {
            Some(Element::Array) => read_array_of_strings(document, depth, each)?,
            Some(Element::Boolean) => return Ok(Reply::Boolean(read_boolean(document)?)),
            found => return Err(unexpected(found.unwrap_or(Element::String), "<array>").into()),
        }
        Ok(Reply::Value(()))
    });
    reply.map_err(|error| match error {
        ContentError::Parse(error) => error,
        ContentError::Sink(error) => ParseError::Io(error),
    })
}

/// Reads the answer to a fetch (a string, a value without type or base64) into `sink`, in constant memory; gives the
/// number of bytes. On an error the sink has got the beginning of the content, or all of it.
pub(crate) fn read_content<R: BufRead>(input: R, sink: &mut dyn Write) -> Result<Reply<u64>, ContentError> {
    let mut output = Output { sink, gathered: Vec::new(), written: 0 };
    read_reply(Document::new(input, MAX_FRAME_BYTES), |document| {
        document.set_runs_free(true);
        match enter_type(document, &mut |bytes| output.write(bytes))? {
            // Text without a type: it has been read, and its value with it.
            None => {
                document.set_runs_free(false);
                output.finish()?;
                return Ok(Reply::Value(output.written));
            }
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
            Some(other) => return Err(unexpected(other, "<string> or <base64>").into()),
        }
        document.set_runs_free(false);
        output.finish()?;
        document.leave()?;
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
        Some(other) => return Err(unexpected(other, "<params> or <fault>").into()),
        None => return Err(malformed("a response without an answer").into()),
    };
    document.leave()?;
    document.leave()?;
    document.finish()?;
    Ok(reply)
}

/// Reads the rest of an array of strings, and leaves it and its value.
fn read_array_of_strings<R: BufRead>(
    document: &mut Document<R>,
    depth: usize,
    each: &mut dyn FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    for _ in 1..depth {
        document.enter(Element::Data)?;
        document.enter(Element::Value)?;
        match type_within(document)? {
            Some(Element::Array) => {}
            found => return Err(unexpected(found.unwrap_or(Element::String), "<array>")),
        }
    }
    document.enter(Element::Data)?;
    let mut string = Vec::new();
    while let Some(element) = document.child()? {
        expect(element, Element::Value)?;
        string.clear();
        match read_scalar(document, &mut string)? {
            Element::String => each(&string)?,
            other => return Err(unexpected(other, "<string>")),
        }
    }
    for _ in 1..depth {
        // The array, its value and the data around it.
        document.leave()?;
        document.leave()?;
        document.leave()?;
    }
    document.leave()?;
    document.leave()
}

/// Reads the rest of a fault's value and leaves it. Members come in any order; those unknown are skipped.
fn read_fault<R: BufRead>(document: &mut Document<R>) -> Result<Fault, ParseError> {
    match type_within(document)? {
        Some(Element::Struct) => {}
        found => return Err(unexpected(found.unwrap_or(Element::String), "<struct>")),
    }
    let (mut code, mut text) = (None, None);
    while let Some(element) = document.child()? {
        expect(element, Element::Member)?;
        document.enter(Element::Name)?;
        let name = kept_text(document)?;
        document.enter(Element::Value)?;
        let mut value = Vec::new();
        match trim(&name) {
            b"faultCode" => match read_scalar(document, &mut value)? {
                Element::Int => code = Some(parse_int(&value)?),
                other => return Err(unexpected(other, "<int>")),
            },
            b"faultString" => match read_scalar(document, &mut value)? {
                Element::String => text = Some(String::from_utf8_lossy(&value).into_owned()),
                other => return Err(unexpected(other, "<string>")),
            },
            _ => document.skip()?,
        }
        document.leave()?;
    }
    document.leave()?;
    match (code, text) {
        (Some(code), Some(text)) => Ok(Fault { code, text }),
        _ => Err(malformed("a fault without faultCode or faultString")),
    }
}

/// Reads the rest of a value and leaves it. Goes no deeper than the document lets elements nest.
fn read_value<R: BufRead>(document: &mut Document<R>) -> Result<Value, ParseError> {
    let mut untyped = Vec::new();
    let Some(element) = without_sink(enter_type(document, &mut |bytes| keep(&mut untyped, bytes, usize::MAX)))? else {
        return Ok(Value::String(untyped));
    };
    let value = match element {
        Element::Int => Value::Int(parse_int(&whole_text(document)?)?),
        Element::Boolean => Value::Boolean(parse_boolean(&whole_text(document)?)?),
        Element::String => Value::String(whole_text(document)?),
        Element::Base64 => {
            let (mut bytes, mut decoder) = (Vec::new(), Decoder::default());
            let out: Out<'_> = &mut |piece| keep(&mut bytes, piece, usize::MAX);
            without_sink(read_text(document, &mut |base64| decoder.feed(base64, out)))?;
            without_sink(decoder.finish(out))?;
            Value::Base64(bytes)
        }
        Element::Array => {
            let mut values = Vec::new();
            document.enter(Element::Data)?;
            while let Some(element) = document.child()? {
                expect(element, Element::Value)?;
                values.push(read_value(document)?);
            }
            document.leave()?;
            Value::Array(values)
        }
        Element::Struct => {
            let mut members = Vec::new();
            while let Some(element) = document.child()? {
                expect(element, Element::Member)?;
                document.enter(Element::Name)?;
                let name = String::from_utf8_lossy(&whole_text(document)?).into_owned();
                document.enter(Element::Value)?;
                members.push((name, read_value(document)?));
                document.leave()?;
            }
            Value::Struct(members)
        }
        Element::Other(tag) => {
            whole_text(document)?;
            Value::Other(tag)
        }
        other => return Err(unexpected(other, "a type")),
    };
    document.leave()?;
    Ok(value)
}

/// Reads the rest of a value that holds text, leaves it and gives its type; keeps the first 64 KiB.
fn read_scalar<R: BufRead>(document: &mut Document<R>, kept: &mut Vec<u8>) -> Result<Element, ParseError> {
    let out: Out<'_> = &mut |bytes| keep(kept, bytes, MAX_KEPT_BYTES);
    let Some(element) = without_sink(enter_type(document, out))? else {
        return Ok(Element::String);
    };
    if let Element::String | Element::Int | Element::Boolean = element {
        without_sink(read_text(document, out))?;
        document.leave()?;
    }
    Ok(element)
}

/// Reads the rest of a boolean and leaves its value.
fn read_boolean<R: BufRead>(document: &mut Document<R>) -> Result<bool, ParseError> {
    let boolean = parse_boolean(&kept_text(document)?)?;
    document.leave()?;
    Ok(boolean)
}

/// Enters a type's element in a value that is of no use if it is text.
fn type_within<R: BufRead>(document: &mut Document<R>) -> Result<Option<Element>, ParseError> {
    without_sink(enter_type(document, &mut |_| Ok(())))
}

/// The text of the element around, of a document that is small.
fn whole_text<R: BufRead>(document: &mut Document<R>) -> Result<Vec<u8>, ParseError> {
    let mut text = Vec::new();
    without_sink(read_text(document, &mut |bytes| keep(&mut text, bytes, usize::MAX)))?;
    Ok(text)
}

/// The first 64 KiB of the text of the element around.
fn kept_text<R: BufRead>(document: &mut Document<R>) -> Result<Vec<u8>, ParseError> {
    let mut text = Vec::new();
    without_sink(read_text(document, &mut |bytes| keep(&mut text, bytes, MAX_KEPT_BYTES)))?;
    Ok(text)
}

#[expect(clippy::unnecessary_wraps, reason = "it is where text goes, and that can fail")]
fn keep(kept: &mut Vec<u8>, bytes: &[u8], limit: usize) -> Result<(), ContentError> {
    kept.extend_from_slice(&bytes[..bytes.len().min(limit - kept.len())]);
    Ok(())
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

fn expect(found: Element, expected: Element) -> Result<(), ParseError> {
    if found == expected { Ok(()) } else { Err(unexpected(found, &format!("<{}>", expected.tag()))) }
}

fn unexpected(found: Element, expected: &str) -> ParseError {
    malformed(format!("<{}> where {expected} should be", found.tag()))
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

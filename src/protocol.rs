//! The one call of the protocol, `f(proof, op, arg)`: typed calls and replies, to and from XML-RPC.
//!
//! A new op is a variant of [`Op`], an arm of [`write_call`], one of `parse` above the arm that takes every other number
//! for a fetch (where newer peers send an array, the original sends a string), a reply's writer and reader, an arm of the server's handler, and a method of `PeerClient`. The order of
//! checks is the original's: the number of parameters, then the proof, then the types.

use std::io::{BufRead, Write};

use crate::{
    file_name::{FileName, MAX_NAME_BYTES},
    peer::{MAX_PEERS, PeerUrl},
    xmlrpc::{self, Error, Fault, Value},
};

/// The media type of a file's own bytes, which our servers send to callers that accept it.
pub(crate) const RAW_MEDIA_TYPE: &str = "application/octet-stream";

/// The most bytes of a reply to op 0: ten times what [`MAX_PEERS`] of the longest URLs take.
const MAX_PEERS_BYTES: u64 = 16 << 20;

/// The most bytes of a reply to op 1.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The most names that are taken from one listing.
const MAX_LISTING_NAMES: usize = 1_000_000;

/// The most bytes of an index: those of a listing, and for each name its size, its age and two spaces.
const MAX_INDEX_BYTES: u64 = MAX_LISTING_BYTES + 32 * MAX_LISTING_NAMES as u64;

/// The most names in one call for a pack.
pub(crate) const MAX_PACK_NAMES: usize = 1024;

/// The longest part in bytes of which a digest may be asked.
pub(crate) const MAX_DIGEST_BYTES: u64 = 64 << 20;

/// The most bytes of a reply to op 3.
const MAX_DIGEST_REPLY_BYTES: u64 = 4 << 10;

/// The code of nearly every fault, as in the original.
const FAULT_CODE: i32 = 1;

/// The code of the fault for a call of a form that we do not know, which tells callers to ask in another way.
const UNKNOWN_FORM_CODE: i32 = 2;

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Op 0: add these peers to your list, then tell me the whole list. What was no string is left out when a call is read.
    ExchangePeers(Vec<String>),
    /// Op 1: list the names in which this regular expression is found.
    List(String),
    /// Op 1 with an array of one regular expression: list the files in whose names it is found, with sizes and ages.
    Index(String),
    /// Op 2, and as in the original every other number: send the content of this file. With an array of a name, an offset
    /// and a length: send this part of it.
    Fetch(Vec<u8>, Option<Part>),
    /// Op 3 with the same array: send a digest of this part, of at most [`MAX_DIGEST_BYTES`], and what the file is now.
    Digest(Vec<u8>, Part),
    /// Op 4 with an array of at most [`MAX_PACK_NAMES`] names: send the content of these files in one answer.
    Pack(Vec<Vec<u8>>),
}

/// A file in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry<N> {
    /// Its size in bytes.
    pub(crate) size: u64,
    /// The seconds since its content was last changed.
    pub(crate) age: u64,
    pub(crate) name: N,
}

/// A part of a file: this many bytes from an offset on, or fewer where the file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The reply to op 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// The SHA-256 of the part, in lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// Which state of which file this is; see [`version`](crate::digest::version).
    pub(crate) version: String,
    /// The size of the whole file in bytes.
    pub(crate) size: u64,
    /// The seconds since its content was last changed.
    pub(crate) age: u64,
}

/// Why a call is not carried out.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The proof is wrong; the reply is `false`.
    Proof,
    /// The call has a form that newer peers may know; the text is for the caller.
    UnknownForm(String),
    /// Anything else; the text is for the caller.
    Fault(String),
}

/// Writes a call.
pub(crate) fn write_call(proof: &str, op: &Op) -> Vec<u8> {
    let (op, arg) = match op {
        Op::ExchangePeers(urls) => (0, Value::Array(urls.iter().map(|url| Value::from(&**url)).collect())),
        Op::List(pattern) => (1, Value::from(&**pattern)),
        Op::Index(pattern) => (1, Value::Array(vec![Value::from(&**pattern)])),
        Op::Fetch(name, None) => (2, Value::String(name.clone())),
        Op::Fetch(name, Some(part)) => (2, part_value(name, *part)),
        Op::Digest(name, part) => (3, part_value(name, *part)),
        Op::Pack(names) => (4, Value::Array(names.iter().cloned().map(Value::String).collect())),
    };
    xmlrpc::write_call("f", &[Value::from(proof), Value::Int(op), arg])
}

fn part_value(name: &[u8], Part { offset, length }: Part) -> Value {
    let numbers = [offset, length].map(|number| Value::from(&*number.to_string()));
    Value::Array([vec![Value::String(name.to_vec())], numbers.to_vec()].concat())
}

/// Reads a call. `verify` says whether the proof is right.
pub(crate) fn read_call(body: &[u8], verify: impl FnOnce(&str) -> bool) -> Result<Op, Rejection> {
    let call = xmlrpc::read_call(body).map_err(|error| Rejection::Fault(error.to_string()))?;
    if call.method != "f" {
        return Err(fault("unknown method: the only one is f(proof, op, arg)"));
    }
    let [proof, op, arg] = <[Value; 3]>::try_from(call.params)
        .map_err(|params| Rejection::Fault(format!("f takes 3 parameters, not {}", params.len())))?;
    if !text(proof).is_some_and(|proof| verify(&proof)) {
        return Err(Rejection::Proof);
    }
    match op {
        Value::Int(op) => parse(op, arg),
        _ => Err(fault("the second parameter, op, is an int: 0 merges peers, 1 lists files, 2 fetches one")),
    }
}

fn parse(op: i32, arg: Value) -> Result<Op, Rejection> {
    match (op, arg) {
        (0, Value::Array(urls)) => Ok(Op::ExchangePeers(urls.into_iter().filter_map(text).collect())),
        (0, _) => Err(fault("op 0 takes an array of URLs")),
        (1, Value::String(pattern)) => parse_pattern(pattern).map(Op::List),
        (1, Value::Array(patterns)) => match <[Value; 1]>::try_from(patterns) {
            Ok([Value::String(pattern)]) => parse_pattern(pattern).map(Op::Index),
            _ => Err(Rejection::UnknownForm("op 1 takes an array of one string, a regular expression".to_owned())),
        },
        (1, _) => Err(fault("op 1 takes a string, a regular expression")),
        (2, Value::Array(part)) => parse_part(part).map(|(name, part)| Op::Fetch(name, Some(part))),
        (3, Value::Array(part)) => match parse_part(part)? {
            (_, part) if part.length > MAX_DIGEST_BYTES => {
                Err(Rejection::Fault(format!("op 3 takes parts of at most {MAX_DIGEST_BYTES} bytes")))
            }
            (name, part) => Ok(Op::Digest(name, part)),
        },
        (4, Value::Array(names)) if names.len() > MAX_PACK_NAMES => {
            Err(Rejection::Fault(format!("op 4 takes at most {MAX_PACK_NAMES} names")))
        }
        (4, Value::Array(names)) => names.into_iter().map(parse_name).collect::<Result<_, _>>().map(Op::Pack),
        (_, Value::String(name)) => Ok(Op::Fetch(name, None)),
        (_, Value::Array(_)) => Err(Rejection::UnknownForm("this op takes no array".to_owned())),
        (_, _) => Err(fault("op 2 takes a string, a file name")),
    }
}

fn parse_pattern(pattern: Vec<u8>) -> Result<String, Rejection> {
    String::from_utf8(pattern).map_err(|_| fault("the pattern is not UTF-8"))
}

fn parse_name(name: Value) -> Result<Vec<u8>, Rejection> {
    match name {
        Value::String(name) => Ok(name),
        _ => Err(fault("op 4 takes an array of strings, file names")),
    }
}

fn parse_part(values: Vec<Value>) -> Result<(Vec<u8>, Part), Rejection> {
    let values = <[Value; 3]>::try_from(values).ok();
    let part = values.and_then(|[name, offset, length]| match (name, parse_number(offset), parse_number(length)) {
        (Value::String(name), Some(offset), Some(length)) => Some((name, Part { offset, length })),
        _ => None,
    });
    part.ok_or_else(|| Rejection::UnknownForm("a part is an array of three strings: name, offset, length".to_owned()))
}

fn parse_number(value: Value) -> Option<u64> {
    text(value).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn fault(text: &str) -> Rejection {
    Rejection::Fault(text.to_owned())
}

/// Writes the reply to a wrong proof.
pub(crate) fn write_refusal() -> Vec<u8> {
    xmlrpc::write_false()
}

/// Writes the reply when something went wrong after the proof.
pub(crate) fn write_fault(text: &str) -> Vec<u8> {
    xmlrpc::write_fault(&Fault { code: FAULT_CODE, text: text.to_owned() })
}

/// Writes the reply to a call of a form that we do not know.
pub(crate) fn write_unknown_form(text: &str) -> Vec<u8> {
    xmlrpc::write_fault(&Fault { code: UNKNOWN_FORM_CODE, text: text.to_owned() })
}

/// Writes the reply to op 0.
pub(crate) fn write_peers<'a>(peers: impl IntoIterator<Item = &'a PeerUrl>) -> Vec<u8> {
    xmlrpc::write_strings(1, peers.into_iter().map(PeerUrl::as_str))
}

/// Writes the reply to op 1: an array that holds the array of names.
pub(crate) fn write_listing<'a>(names: impl IntoIterator<Item = &'a FileName>) -> Vec<u8> {
    xmlrpc::write_strings(2, names.into_iter().map(FileName::as_str))
}

/// Writes the reply to op 1 with an array: an array that holds the array of entries, `SIZE AGE NAME` each.
pub(crate) fn write_index<'a>(entries: impl IntoIterator<Item = &'a IndexEntry<FileName>>) -> Vec<u8> {
    let line = |entry: &IndexEntry<FileName>| format!("{} {} {}", entry.size, entry.age, entry.name.as_str());
    xmlrpc::write_strings(2, entries.into_iter().map(line))
}

/// Writes the reply to op 3.
pub(crate) fn write_digest(digest: &Digest) -> Vec<u8> {
    let Digest { sha256, version, size, age } = digest;
    xmlrpc::write_strings(1, [&**sha256, version, &size.to_string(), &age.to_string()])
}

/// Reads the reply to op 0: its first [`MAX_PEERS`] texts, whether they are URLs or not.
pub(crate) fn read_peers(reply: impl BufRead) -> Result<Vec<String>, Error> {
    let mut peers = Vec::new();
    xmlrpc::read_strings(reply, 1, MAX_PEERS_BYTES, |bytes| {
        if peers.len() < MAX_PEERS
            && let Ok(text) = str::from_utf8(bytes)
        {
            peers.push(text.to_owned());
        }
        Ok::<(), Error>(())
    })?;
    Ok(peers)
}

/// Reads the reply to op 1 and hands each name over as the bytes that came; one over the longest is cut to one byte
/// more than a name may have. An error from `each` ends the reading. More than a million names, or 64 MiB, are too much.
pub(crate) fn read_listing<E: From<Error>>(
    reply: impl BufRead,
    each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut count = 0;
    xmlrpc::read_strings(reply, 2, MAX_LISTING_BYTES, |bytes| {
        count += 1;
        if count > MAX_LISTING_NAMES {
            return Err(Error::TooLarge(format!("{MAX_LISTING_NAMES} names; narrow the pattern")).into());
        }
        each(&bytes[..bytes.len().min(MAX_NAME_BYTES + 1)])
    })
}

/// Reads the reply to op 1 with an array and hands each entry over, with its name as in [`read_listing`]; how many. A reply
/// with an entry of another form is malformed. Peers that know no index answer with such, too, or with none.
pub(crate) fn read_index<E: From<Error>>(
    reply: impl BufRead,
    mut each: impl FnMut(IndexEntry<&[u8]>) -> Result<(), E>,
) -> Result<usize, E> {
    let mut count = 0;
    xmlrpc::read_strings(reply, 2, MAX_INDEX_BYTES, |bytes| {
        count += 1;
        if count > MAX_LISTING_NAMES {
            return Err(Error::TooLarge(format!("{MAX_LISTING_NAMES} names; narrow the pattern")).into());
        }
        each(parse_entry(bytes).ok_or_else(no_index)?)
    })?;
    Ok(count)
}

fn no_index() -> Error {
    Error::Malformed("not an index".to_owned())
}

fn parse_entry(bytes: &[u8]) -> Option<IndexEntry<&[u8]>> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let digits = parts.next().filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        str::from_utf8(digits).ok()?.parse().ok()
    };
    let (size, age) = (number()?, number()?);
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some(IndexEntry { size, age, name: &name[..name.len().min(MAX_NAME_BYTES + 1)] })
}

/// Reads the reply to op 3; one of another form is malformed.
pub(crate) fn read_digest(reply: impl BufRead) -> Result<Digest, Error> {
    let mut strings = Vec::new();
    xmlrpc::read_strings(reply, 1, MAX_DIGEST_REPLY_BYTES, |bytes| {
        strings.push(String::from_utf8_lossy(bytes).into_owned());
        Ok::<(), Error>(())
    })?;
    let digest = <[String; 4]>::try_from(strings).ok().and_then(|[sha256, version, size, age]| {
        let sha256 = sha256.to_ascii_lowercase();
        Some(Digest { sha256, version, size: size.parse().ok()?, age: age.parse().ok()? })
    });
    let is_hexadecimal = |digest: &Digest| digest.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digest = digest.filter(|digest| digest.sha256.len() == 64 && is_hexadecimal(digest));
    digest.ok_or_else(|| Error::Malformed("not a digest".to_owned()))
}

/// Reads the reply to op 2 into `sink`; returns the number of bytes of the file.
pub(crate) fn read_content(reply: impl BufRead, sink: &mut dyn Write) -> Result<u64, Error> {
    xmlrpc::read_content(reply, sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(names: &[&str]) -> Value {
        Value::Array(names.iter().map(|name| Value::from(*name)).collect())
    }

    fn parse_arg(op: i32, arg: Value) -> Result<Op, i32> {
        let call = xmlrpc::write_call("f", &[Value::from("proof"), Value::Int(op), arg]);
        read_call(&call, |proof| proof == "proof").map_err(|rejection| match rejection {
            Rejection::Proof => 0,
            Rejection::Fault(_) => FAULT_CODE,
            Rejection::UnknownForm(_) => UNKNOWN_FORM_CODE,
        })
    }

    fn read(strings: &[&str]) -> Result<Vec<(u64, u64, String)>, Error> {
        let mut entries = Vec::new();
        read_index(&*xmlrpc::write_strings(2, strings), |entry| {
            entries.push((entry.size, entry.age, String::from_utf8_lossy(entry.name).into_owned()));
            Ok::<_, Error>(())
        })?;
        Ok(entries)
    }

    #[test]
    fn calls_of_newer_forms_come_back() {
        let part = Part { offset: u64::MAX, length: MAX_DIGEST_BYTES };
        for op in [
            Op::Index("a b".to_owned()),
            Op::Pack(vec![]),
            Op::Pack(vec![b"\xe9 ".to_vec(), b"b".to_vec()]),
            Op::Fetch(b"a b".to_vec(), None),
            Op::Fetch(b"a b".to_vec(), Some(part)),
            Op::Digest(b"\xe9".to_vec(), part),
        ] {
            assert_eq!(read_call(&write_call("proof", &op), |proof| proof == "proof").unwrap(), op);
        }
    }

    #[test]
    fn an_array_of_another_form_has_a_fault_code_of_its_own() {
        for (op, arg) in [
            (1, array(&[])),
            (1, array(&["a", "b"])),
            (1, Value::Array(vec![Value::Int(1)])),
            (2, array(&["a"])),
            (2, array(&["a", "0", "1", "2"])),
            (2, array(&["a", "-1", "1"])),
            (2, array(&["a", "", "1"])),
            (2, array(&["a", "+1", "1"])),
            (2, array(&["a", "0", "18446744073709551616"])),
            (2, Value::Array(vec![Value::from("a"), Value::Int(0), Value::Int(1)])),
            (3, array(&["a", "0"])),
            (5, array(&[])),
        ] {
            assert_eq!(parse_arg(op, arg.clone()), Err(UNKNOWN_FORM_CODE), "{op} {arg:?}");
        }
        assert_eq!(parse_arg(3, array(&["a", "0", "67108865"])), Err(FAULT_CODE));
        for arg in [array(&vec!["a"; MAX_PACK_NAMES + 1]), Value::Array(vec![Value::Int(1)])] {
            assert_eq!(parse_arg(4, arg), Err(FAULT_CODE));
        }
        assert_eq!(parse_arg(4, Value::from("name")), Ok(Op::Fetch(b"name".to_vec(), None)), "as in the original");
    }

    #[test]
    fn a_digest_comes_back_and_nothing_else_is_one() {
        let digest = Digest { sha256: "0a".repeat(32), version: "x y".to_owned(), size: u64::MAX, age: 0 };
        assert_eq!(read_digest(&*write_digest(&digest)).unwrap(), digest);
        let sha256 = &*"0A".repeat(32);
        assert!(read_digest(&*xmlrpc::write_strings(1, [sha256, "v", "1", "2"])).is_ok());
        for strings in [
            &[][..],
            &[sha256, "v", "1"],
            &[sha256, "v", "1", "2", "3"],
            &[sha256, "v", "x", "2"],
            &["0a", "v", "1", "2"],
            &[&*"0g".repeat(32), "v", "1", "2"],
        ] {
            let read = read_digest(&*xmlrpc::write_strings(1, strings));
            assert!(matches!(read, Err(Error::Malformed(_))), "{strings:?}: {read:?}");
        }
    }

    #[test]
    fn an_index_comes_back() {
        let name = |bytes: &str| FileName::from_bytes(bytes.as_bytes()).unwrap();
        let entries = [(0, 0, "a"), (u64::MAX, 5, " b  c "), (7, u64::MAX, "1 2 3")]
            .map(|(size, age, bytes)| IndexEntry { size, age, name: name(bytes) });
        let mut read = Vec::new();
        read_index(&*write_index(&entries), |entry| {
            read.push(IndexEntry { name: FileName::from_bytes(entry.name).unwrap(), size: entry.size, age: entry.age });
            Ok::<_, Error>(())
        })
        .unwrap();
        assert_eq!(read, entries);
    }

    #[test]
    fn a_name_in_an_index_is_cut_to_one_byte_more_than_the_longest() {
        for (length, arrives) in [(255, 255), (256, 256), (257, 256), (100_000, 256)] {
            let entries = read(&[&format!("1 2 {}", "n".repeat(length))]).unwrap();
            assert_eq!(entries, [(1, 2, "n".repeat(arrives))], "{length} bytes");
        }
    }

    #[test]
    fn every_entry_of_an_index_needs_its_form() {
        assert_eq!(read(&["1 2 x"]).unwrap(), [(1, 2, "x".to_owned())]);
        assert_eq!(read(&[]).unwrap(), []);
        for strings in [
            &["x"][..],
            &["1 2 x", "y"],
            &["1 2 "],
            &["1 2"],
            &["1  2 x"],
            &[" 1 2 x"],
            &["+1 2 x"],
            &["-1 2 x"],
            &["0x1 2 x"],
            &["18446744073709551616 2 x"],
        ] {
            assert!(matches!(read(strings), Err(Error::Malformed(_))), "{strings:?}");
        }
    }
}

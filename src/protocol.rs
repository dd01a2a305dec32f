//! The one call of the protocol, `f(proof, op, arg)`: typed calls and replies, to and from XML-RPC.
//!
//! A new op is a variant of [`Op`], an arm of [`write_call`], one of `parse` above the arm that takes every other number
//! for a fetch, a reply's writer and reader, an arm of the server's handler, and a method of `PeerClient`. The order of
//! checks is the original's: the number of parameters, then the proof, then the types.

use std::io::{BufRead, Write};

use crate::{
    file_name::{FileName, MAX_NAME_BYTES},
    peer::{MAX_PEERS, PeerUrl},
    xmlrpc::{self, Error, Fault, Value},
};

/// The most bytes of a reply to op 0: ten times what [`MAX_PEERS`] of the longest URLs take.
const MAX_PEERS_BYTES: u64 = 16 << 20;

/// The most bytes of a reply to op 1.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The most names that are taken from one listing.
const MAX_LISTING_NAMES: usize = 1_000_000;

/// The code of every fault, as in the original.
const FAULT_CODE: i32 = 1;

/// What a caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Op 0: add these peers to your list, then tell me the whole list. What was no string is left out when a call is read.
    ExchangePeers(Vec<String>),
    /// Op 1: list the names in which this regular expression is found.
    List(String),
    /// Op 2, and as in the original every other number: send the content of this file.
    Fetch(Vec<u8>),
}

/// Why a call is not carried out.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The proof is wrong; the reply is `false`.
    Proof,
    /// Anything else; the text is for the caller.
    Fault(String),
}

/// Writes a call.
pub(crate) fn write_call(proof: &str, op: &Op) -> Vec<u8> {
    let (op, arg) = match op {
        Op::ExchangePeers(urls) => (0, Value::Array(urls.iter().map(|url| Value::from(&**url)).collect())),
        Op::List(pattern) => (1, Value::from(&**pattern)),
        Op::Fetch(name) => (2, Value::String(name.clone())),
    };
    xmlrpc::write_call("f", &[Value::from(proof), Value::Int(op), arg])
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
        (1, Value::String(pattern)) => {
            String::from_utf8(pattern).map(Op::List).map_err(|_| fault("the pattern is not UTF-8"))
        }
        (1, _) => Err(fault("op 1 takes a string, a regular expression")),
        (_, Value::String(name)) => Ok(Op::Fetch(name)),
        (_, _) => Err(fault("op 2 takes a string, a file name")),
    }
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

/// Writes the reply to op 0.
pub(crate) fn write_peers<'a>(peers: impl IntoIterator<Item = &'a PeerUrl>) -> Vec<u8> {
    xmlrpc::write_strings(1, peers.into_iter().map(PeerUrl::as_str))
}

/// Writes the reply to op 1: an array that holds the array of names.
pub(crate) fn write_listing<'a>(names: impl IntoIterator<Item = &'a FileName>) -> Vec<u8> {
    xmlrpc::write_strings(2, names.into_iter().map(FileName::as_str))
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

/// Reads the reply to op 2 into `sink`; returns the number of bytes of the file.
pub(crate) fn read_content(reply: impl BufRead, sink: &mut dyn Write) -> Result<u64, Error> {
    xmlrpc::read_content(reply, sink)
}

//! The one call of the protocol, `f(proof, op, arg)`: typed calls and replies, to and from XML-RPC values.
//!
//! The order of checks is the original's: the number of parameters, then the proof, then the types.

use std::io::{BufRead, Write};

use crate::{
    error::CallError,
    file_name::{FileName, MAX_NAME_BYTES},
    peer::{MAX_PEERS, PeerUrl},
    xmlrpc::{self, Call, ContentError, Fault, ParseError, Reply, Value},
};

/// The most bytes of an answer to op 0: ten times what [`MAX_PEERS`] of the longest URLs take.
const MAX_PEERS_BYTES: u64 = 16 << 20;

/// The most bytes of an answer to op 1.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// The most names that are taken from one listing.
const MAX_LISTING_NAMES: usize = 1_000_000;

/// The code of every fault, as in the original.
const FAULT_CODE: i32 = 1;

/// What a caller wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Op 0: these peers are there; which do you know? What is no text is gone already.
    Merge(Vec<String>),
    /// Op 1: the names in which this regular expression is found.
    List(String),
    /// Op 2, and as in the original every other number: the content of this file.
    Fetch(Vec<u8>),
}

/// Why a call is not carried out.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The proof is wrong; the answer is `false`.
    Proof,
    /// Anything else; the text is for the caller.
    Fault(String),
}

/// Reads a call. `accepts` judges the proof.
pub(crate) fn read_call(body: &[u8], accepts: impl FnOnce(&str) -> bool) -> Result<Op, Rejection> {
    let fault = |text: &str| Rejection::Fault(text.to_owned());
    let Call { method, params } = xmlrpc::read_call(body).map_err(|error| Rejection::Fault(error.to_string()))?;
    if method != "f" {
        return Err(fault("unknown method: the only one is f(proof, op, arg)"));
    }
    let [proof, op, arg] = <[Value; 3]>::try_from(params)
        .map_err(|params| Rejection::Fault(format!("f takes 3 parameters, not {}", params.len())))?;
    match proof {
        Value::String(proof) if str::from_utf8(&proof).is_ok_and(accepts) => {}
        _ => return Err(Rejection::Proof),
    }
    let Value::Int(op) = op else {
        return Err(fault("the second parameter, op, is an int: 0 merges peers, 1 lists files, 2 fetches one"));
    };
    match (op, arg) {
        (0, Value::Array(urls)) => Ok(Op::Merge(urls.into_iter().filter_map(text).collect())),
        (0, _) => Err(fault("op 0 takes an array of URLs")),
        (1, Value::String(pattern)) => {
            String::from_utf8(pattern).map(Op::List).map_err(|_| fault("the pattern is not UTF-8"))
        }
        (1, _) => Err(fault("op 1 takes a string, a regular expression")),
        (_, Value::String(name)) => Ok(Op::Fetch(name)),
        _ => Err(fault("op 2 takes a string, a file name")),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// The answer to a wrong proof.
pub(crate) fn write_refusal() -> Vec<u8> {
    xmlrpc::write_response(&Value::Boolean(false))
}

/// The answer when something went wrong after the proof.
pub(crate) fn write_fault(text: &str) -> Vec<u8> {
    xmlrpc::write_fault(&Fault { code: FAULT_CODE, text: text.to_owned() })
}

/// The answer to op 0.
pub(crate) fn write_peers<'a>(peers: impl IntoIterator<Item = &'a PeerUrl>) -> Vec<u8> {
    xmlrpc::write_strings(1, peers.into_iter().map(PeerUrl::as_str))
}

/// The answer to op 1: an array that holds the array of names.
pub(crate) fn write_listing<'a>(names: impl IntoIterator<Item = &'a FileName>) -> Vec<u8> {
    xmlrpc::write_strings(2, names.into_iter().map(FileName::as_str))
}

/// Asks for op 0.
pub(crate) fn write_merge<'a>(proof: &str, peers: impl IntoIterator<Item = &'a PeerUrl>) -> Vec<u8> {
    write_op(proof, 0, urls(peers))
}

/// Asks for op 1.
pub(crate) fn write_list(proof: &str, pattern: &str) -> Vec<u8> {
    write_op(proof, 1, Value::String(pattern.into()))
}

/// Asks for op 2.
pub(crate) fn write_fetch(proof: &str, name: &FileName) -> Vec<u8> {
    write_op(proof, 2, Value::String(name.as_str().into()))
}

fn write_op(proof: &str, op: i32, arg: Value) -> Vec<u8> {
    xmlrpc::write_call("f", &[Value::String(proof.into()), Value::Int(op), arg])
}

fn urls<'a>(peers: impl IntoIterator<Item = &'a PeerUrl>) -> Value {
    Value::Array(peers.into_iter().map(|peer| Value::String(peer.as_str().into())).collect())
}

/// Reads the answer to op 0: the first [`MAX_PEERS`] texts of it, whether they are URLs or not.
pub(crate) fn read_peers(answer: impl BufRead) -> Result<Vec<String>, CallError> {
    let mut peers = Vec::new();
    let reply = xmlrpc::read_strings(answer, 1, MAX_PEERS_BYTES, &mut |bytes| {
        if peers.len() < MAX_PEERS
            && let Ok(text) = str::from_utf8(bytes)
        {
            peers.push(text.to_owned());
        }
        Ok(())
    });
    settle(reply)?;
    Ok(peers)
}

/// Reads the answer to op 1, handing each name over as the bytes that came; one over the longest is cut to one byte
/// more than a name may have; its failure ends the reading. More than a million names, or 64 MiB, are too much.
pub(crate) fn read_listing(
    answer: impl BufRead,
    each: &mut dyn FnMut(&[u8]) -> Result<(), CallError>,
) -> Result<(), CallError> {
    let mut count = 0;
    let mut ended = None;
    let reply = xmlrpc::read_strings(answer, 2, MAX_LISTING_BYTES, &mut |bytes| {
        count += 1;
        let result = if count > MAX_LISTING_NAMES {
            Err(CallError::TooLarge(format!("more than {MAX_LISTING_NAMES} names; narrow the pattern")))
        } else {
            each(&bytes[..bytes.len().min(MAX_NAME_BYTES + 1)])
        };
        result.map_err(|failure| {
            ended = Some(failure);
            ParseError::Malformed("enough was read".to_owned())
        })
    });
    ended.map_or_else(|| settle(reply), Err)
}

/// Reads the answer to op 2 into `sink`: the number of bytes of the file.
pub(crate) fn read_content(answer: impl BufRead, sink: &mut dyn Write) -> Result<u64, CallError> {
    match xmlrpc::read_content(answer, sink) {
        Ok(reply) => settle(Ok(reply)),
        Err(ContentError::Parse(error)) => settle(Err(error)),
        Err(ContentError::Sink(error)) => Err(CallError::Local(error)),
    }
}

fn settle<T>(reply: Result<Reply<T>, ParseError>) -> Result<T, CallError> {
    match reply {
        Ok(Reply::Value(value)) => Ok(value),
        Ok(Reply::Boolean(false)) => Err(CallError::Refused),
        Ok(Reply::Boolean(true)) => Err(CallError::Malformed("a boolean, true".to_owned())),
        Ok(Reply::Fault(fault)) => Err(CallError::Fault(fault.text)),
        Err(ParseError::Io(error)) => Err(CallError::from(error)),
        Err(error @ ParseError::TooLarge(_)) => Err(CallError::TooLarge(error.to_string())),
        Err(error @ ParseError::Malformed(_)) => Err(CallError::Malformed(error.to_string())),
    }
}

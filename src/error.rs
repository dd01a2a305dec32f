//! What can go wrong, said for people: lower case, no full stop, and what to do where there is something to do.
//!
//! A [`CallError`] is why a call to one peer came to nothing; the caller names the peer. An [`enum@Error`] ends the program.
//! Foreign text inside is escaped when it is shown.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::{escape::Escaped, peer::PeerUrl};

/// Why a call to a peer came to nothing. Each text completes "PEER: ".
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("could not connect: {0}")]
    Unreachable(String),
    #[error("{0}")]
    TimedOut(String),
    #[error("the connection broke off: {}", Escaped(.0))]
    ConnectionLost(String),
    #[error("{}", said_by_status(*.0))]
    Status(u16),
    /// What answers is something else altogether.
    #[error("not a TinyP2P server: {0}")]
    NotTinyP2p(&'static str),
    #[error("the answer makes no sense: {}", Escaped(.0))]
    Malformed(String),
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    #[error("its listing is the largest of more than fit into memory; narrow the pattern")]
    OverBudget,
    #[error("refused: the password is wrong, or the server calls itself by another URL (take the one that it prints)")]
    Refused,
    #[error("fault: {}", Escaped(.0))]
    Fault(String),
    /// This side is at fault, not the peer.
    #[error("{}", reason(.0))]
    Local(io::Error),
}

impl CallError {
    /// Whether the name is a directory over there: the original lists directories and faults when one is fetched.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Fault(text) if text.to_lowercase().contains("is a directory"))
    }

    /// Whether the peer may be gone: not an answer that one dislikes, but none.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_))
    }
}

impl From<io::Error> for CallError {
    /// What befell a connection. Being out of descriptors is this side's fault.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut(error.to_string()),
            _ if error.raw_os_error().is_some_and(|code| TOO_MANY_OPEN_FILES.contains(&code)) => Self::Local(error),
            _ => Self::ConnectionLost(reason(&error)),
        }
    }
}

/// ENFILE and EMFILE, the same on Linux and macOS; `io::ErrorKind` has no name for them.
const TOO_MANY_OPEN_FILES: [i32; 2] = [23, 24];

/// What ends the program with status 1.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("could not use directory '{}': {}", Escaped(&.path.to_string_lossy()), reason(.cause))]
    Directory { path: PathBuf, cause: io::Error },
    #[error("could not use the temporary directory '{}': {} (TMPDIR names another)",
        Escaped(&.path.to_string_lossy()), reason(.cause))]
    TemporaryDirectory { path: PathBuf, cause: io::Error },
    #[error("could not find an address for '{}': {} (--bind ADDR:PORT listens without one)",
        Escaped(.host), reason(.cause))]
    Resolve { host: String, cause: io::Error },
    #[error("could not listen on {address}: {}", listen_reason(.cause))]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("could not start: {}", reason(.0))]
    Start(io::Error),
    #[error("could not print to standard output: {}", reason(.0))]
    Output(io::Error),
    #[error("could not get the password: {}", reason(.0))]
    Password(io::Error),
    #[error("could not get the peer list of {peer}: {failure}{}", hint(.peer, .failure))]
    PeerList { peer: PeerUrl, failure: CallError },
}

/// The text of a system error without its number, and without what the library puts before the resolver's.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("failed to lookup address information: ");
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// What a peer means by an HTTP status other than 200. Ours refuse with 408 to 431 what is no call, and with 500 and 503
/// what they cannot answer; what says anything else is no peer.
fn said_by_status(status: u16) -> String {
    match status {
        503 => "too busy (HTTP status 503)".to_owned(),
        408 | 411 | 413 | 417 | 431 | 500 => format!("the answer is HTTP status {status}"),
        _ => format!("not a TinyP2P server: the answer is HTTP status {status}"),
    }
}

/// What to try when the server that the user named gives no peer list.
fn hint(peer: &PeerUrl, failure: &CallError) -> String {
    match failure {
        CallError::Refused if peer.as_str().starts_with("http://localhost:") => {
            format!("; is it {}?", peer.as_str().replacen("localhost", "127.0.0.1", 1))
        }
        CallError::Unreachable(reason) if reason.ends_with("refused") => " (is a server running there?)".to_owned(),
        _ => String::new(),
    }
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use (is a server running there? port 0 takes a free one)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "not an address of this machine (--bind ADDR:PORT listens elsewhere)".to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission denied (ports below 1024 need privileges)".to_owned(),
        _ => reason(error),
    }
}

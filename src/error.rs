//! What can go wrong, said for people: lower case, no full stop, and what to do where there is something to do.
//!
//! A [`Failure`] is why a call to one peer came to nothing; the caller names the peer. An [`enum@Error`] ends the program.
//! Foreign text inside is escaped when it is shown.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::{names::Shown, peers::PeerUrl};

/// Why a call to a peer came to nothing. Each text completes "PEER: ".
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("could not connect: {0}")]
    Unreachable(String),
    #[error("{0}")]
    Silent(String),
    #[error("the connection broke off: {}", Shown(.0))]
    Broken(String),
    #[error("the answer is HTTP status {0}; is this a TinyP2P server?")]
    Status(u16),
    #[error("the answer makes no sense: {}", Shown(.0))]
    Malformed(String),
    #[error("the answer is too large: {0}")]
    Excessive(String),
    #[error("its listing is the largest of more than fit into memory; narrow the pattern")]
    Dropped,
    #[error("refused: the password is wrong, or the server calls itself by another URL (take the one that it prints)")]
    Refused,
    #[error("fault: {}", Shown(.0))]
    Fault(String),
    /// This side is at fault, not the peer.
    #[error("{}", reason(.0))]
    Local(io::Error),
}

impl Failure {
    /// Whether the name is a directory over there: the original lists directories and faults when one is fetched.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Fault(text) if text.to_lowercase().contains("is a directory"))
    }

    /// Whether the peer may be gone: not an answer that one dislikes, but none.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent(_))
    }
}

impl From<io::Error> for Failure {
    /// What befell a connection. Being out of descriptors is this side's fault.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Silent(error.to_string()),
            _ if error.raw_os_error().is_some_and(|code| TOO_MANY_OPEN_FILES.contains(&code)) => Self::Local(error),
            _ => Self::Broken(reason(&error)),
        }
    }
}

/// ENFILE and EMFILE, the same on Linux and macOS; `io::ErrorKind` has no name for them.
const TOO_MANY_OPEN_FILES: [i32; 2] = [23, 24];

/// What ends the program with status 1.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("could not use directory '{}': {}", Shown(&.path.to_string_lossy()), reason(.cause))]
    Directory { path: PathBuf, cause: io::Error },
    #[error("could not use the temporary directory '{}': {} (TMPDIR names another)",
        Shown(&.path.to_string_lossy()), reason(.cause))]
    TemporaryDirectory { path: PathBuf, cause: io::Error },
    #[error("could not find the address of '{}': {}", Shown(.host), reason(.cause))]
    Resolve { host: String, cause: io::Error },
    #[error("could not listen on {address}: {}{}", reason(.cause), listen_hint(.cause))]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("could not start: {}", reason(.0))]
    Start(io::Error),
    #[error("could not print to standard output: {}", reason(.0))]
    Output(io::Error),
    #[error("could not get the password: {}", reason(.0))]
    Password(io::Error),
    #[error("could not get the peer list of {peer}: {failure}{}", refusal_hint(.peer, .failure))]
    PeerList { peer: PeerUrl, failure: Failure },
}

/// The text of a system error without its number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Which other URL a server that refuses may well go by.
fn refusal_hint(peer: &PeerUrl, failure: &Failure) -> String {
    let other = match failure {
        Failure::Refused => peer.as_str().replacen("//localhost:", "//127.0.0.1:", 1),
        _ => return String::new(),
    };
    if other == peer.as_str() { String::new() } else { format!("; is it {other}?") }
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (is a server running there already? port 0 takes a free one)",
        io::ErrorKind::AddrNotAvailable => " (not an address of this machine; --bind ADDR:PORT listens elsewhere)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        _ => "",
    }
}

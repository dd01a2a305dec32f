//! Errors as people read them: lower case, no full stop, and what to do where there is something to do.
//!
//! A [`CallError`] is why a call to one peer failed; whoever prints it names the peer. An [`enum@Error`] ends the program.
//! Text from outside is escaped when an error is printed.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::{address, escape::Escaped, peer::PeerUrl};

/// Why a call to a peer failed. Each text completes "PEER: ".
#[derive(Debug, Error)]
pub(crate) enum CallError {
    #[error("could not connect: {0}")]
    Unreachable(String),
    #[error("{0}")]
    TimedOut(String),
    #[error("the connection broke off: {}", Escaped(.0))]
    ConnectionLost(String),
    /// It broke off before a byte of the answer came.
    #[error("the connection broke off: {}", Escaped(.0))]
    NoAnswer(String),
    #[error("{}", explain_status(*.0))]
    Status(u16),
    #[error(transparent)]
    Private(PrivateError),
    /// The server there is of another kind.
    #[error("not a TinyP2P server: {0}")]
    NotTinyP2p(&'static str),
    #[error("the answer makes no sense: {}", Escaped(.0))]
    Malformed(String),
    #[error("the answer is too large: {0}")]
    TooLarge(String),
    #[error("its listing is the largest of more than fit into memory; narrow the pattern")]
    OverBudget,
    #[error("it is being changed there")]
    Changed,
    #[error("refused: the password is wrong, or the server calls itself by another URL (take the one that it prints)")]
    Refused,
    #[error("fault: {}", Escaped(.0))]
    Fault(String),
    /// The failure is this side's, not the peer's.
    #[error("{}", reason(.0))]
    Local(io::Error),
}

/// Why a connection did not become private.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum PrivateError {
    /// What is there speaks no TLS of ours.
    #[error("it answers, but not privately: it is open, or somebody is in between")]
    NotPrivate,
    /// The server did not show that it knows the password in this channel.
    #[error("it has another password, or somebody is in between")]
    NotConfirmed,
    /// The server ended it before it showed that: too many callers did not show that they know the password, or are
    /// about to.
    #[error("it hung up: too many callers or wrong passwords from this address; try again in some seconds")]
    HungUp,
}

impl CallError {
    /// Whether the peer said that the name is a directory: the original lists directories, and faults when one is fetched.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Self::Fault(text) if text.to_lowercase().contains("is a directory"))
    }

    /// Whether the peer said nothing, so that it may be gone.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_) | Self::Private(PrivateError::HungUp))
    }

    /// Whether the connection broke off, so that the peer may be asked again.
    pub(crate) fn is_break(&self) -> bool {
        matches!(self, Self::ConnectionLost(_) | Self::NoAnswer(_))
    }
}

impl From<io::Error> for CallError {
    /// Converts the error of a connection. Having too few file descriptors is this side's failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut(error.to_string()),
            // ENFILE and EMFILE, the same on Linux and macOS; `io::ErrorKind` has no name for them.
            _ if matches!(error.raw_os_error(), Some(23 | 24)) => Self::Local(error),
            _ => Self::ConnectionLost(reason(&error)),
        }
    }
}

/// Why the program ends with status 1.
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
    #[error("at most {limit} files may be open at once, and a server needs {needed} (ulimit -n raises that)")]
    TooFewDescriptors { limit: usize, needed: usize },
    #[error("could not start: {}", reason(.0))]
    Start(io::Error),
    #[error("could not print to standard output: {}", reason(.0))]
    Output(io::Error),
    #[error("could not get the password: {}", reason(.0))]
    Password(io::Error),
    #[error("could not get the peer list of {peer}: {failure}{}", hint(.peer, .failure))]
    PeerList { peer: PeerUrl, failure: CallError },
}

/// Returns the text of a system error without its number, and without what the library puts before the resolver's.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.trim_start_matches("failed to lookup address information: ");
    let text = text.split(" (os error").next().unwrap_or_default();
    match text.split_at_checked(1) {
        // An abbreviation keeps its capitals.
        Some((first, rest)) if rest.starts_with(char::is_lowercase) => first.to_lowercase() + rest,
        _ => text.to_owned(),
    }
}

/// Explains an HTTP status other than 200. The statuses named here are those with which our servers refuse what our client
/// may send; any other status comes from something else.
fn explain_status(status: u16) -> String {
    match status {
        426 => "it is private and was called in clear; take a new password, and call it by its https:// URL".to_owned(),
        503 => "too busy (HTTP status 503)".to_owned(),
        408 | 411 | 413 | 417 | 431 | 500 => format!("the answer is HTTP status {status}"),
        _ => format!("not a TinyP2P server: the answer is HTTP status {status}"),
    }
}

/// Suggests what to try when the server that the user named gives no peer list.
fn hint(peer: &PeerUrl, failure: &CallError) -> String {
    match failure {
        CallError::Refused => format!("; is it {}?", other_spelling(peer)),
        CallError::Status(426) => format!(", {}", peer.in_other_kind()),
        CallError::Unreachable(reason) if reason.ends_with("refused") => " (is a server running there?)".to_owned(),
        _ => String::new(),
    }
}

/// Returns what a server may call itself that answers under this URL, whose proof it refused.
fn other_spelling(peer: &PeerUrl) -> String {
    let (host, port) = (peer.host(), peer.port());
    let is_here = address::is_loopback(host) || address::is_unspecified(host);
    let scheme = if peer.is_private() { "https" } else { "http" };
    match (is_here, address::is_address(host)) {
        (true, true) => format!("{scheme}://localhost:{port}, or with another address of this machine"),
        (true, false) => format!("{scheme}://127.0.0.1:{port}"),
        (false, true) => format!("{scheme}://NAME:{port}, with a name in place of the address"),
        (false, false) => format!("{scheme}://ADDRESS:{port}, with the address that the name stands for"),
    }
}

fn listen_reason(error: &io::Error) -> String {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match error.kind() {
        AddrInUse => "the port is in use (is a server running there? port 0 takes a free one)".to_owned(),
        AddrNotAvailable => "not an address of this machine (--bind ADDR:PORT listens elsewhere)".to_owned(),
        PermissionDenied => "permission denied (ports below 1024 need privileges)".to_owned(),
        _ => reason(error),
    }
}

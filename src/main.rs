//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
//!
//! Parses the command line, runs a server or a client, prints a fatal error and returns the exit status: 0, 1 after an
//! error, 2 for a command line that cannot be used.

mod address;
mod auth;
mod cli;
mod client;
mod digest;
mod download_dir;
mod error;
mod escape;
mod fd_limit;
mod file_name;
mod format;
mod lock;
mod logger;
mod membership;
mod pack;
mod password;
mod pattern;
mod peer;
mod peer_client;
mod progress;
mod protocol;
mod rate_limit;
mod secure;
mod server;
mod shared_dir;
mod signals;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod xmlrpc;

use std::{
    env,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use crate::{
    cli::{Cli, EarlyExit, Mode},
    error::Error,
    logger::Style,
};

/// The exit status of a command line that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match cli::parse(env::args_os()) {
        Ok(cli) => run(cli).unwrap_or_else(|error| fail(&error.to_string(), 1)),
        Err(EarlyExit::Output(text)) => print(&text),
        Err(EarlyExit::UsageError(text)) => fail(&text, USAGE),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Error> {
    let password = cli.password.map_or_else(password::read_password, Ok)?;
    let (style, common) = match &cli.mode {
        Mode::Server(options) => (Style::Log, &options.common),
        Mode::Client(options) => (Style::Tool, &options.common),
    };
    logger::start(style, common.verbosity());
    if password.is_empty() {
        log::warn!("the password is empty, so everybody can guess it");
    }
    if password.has_outer_white_space() {
        log::warn!("the password begins or ends with white space, which is taken as part of it");
    }
    match cli.mode {
        Mode::Server(options) => server::run(password, options),
        Mode::Client(options) => client::run(password, &options),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that has closed the pipe has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(&Error::Output(error).to_string(), 1),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(text: &str, status: u8) -> ExitCode {
    // Nobody reads a closed standard error; the status tells.
    let _ = writeln!(io::stderr(), "tinyp2p: {text}");
    status.into()
}

//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
//!
//! Parses the command line, runs the mode, prints a fatal error and gives the exit status: 0, 1 for what went wrong
//! on the way, 2 for a command line that cannot be used.

mod auth;
mod cli;
mod client;
mod door;
mod download_dir;
mod endpoint;
mod error;
mod escape;
mod fd_limit;
mod file_name;
mod format;
mod handover;
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
mod server;
mod shared_dir;
mod signals;
mod xmlrpc;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    cli::{Command, Instead, Mode},
    error::Error,
    logger::Style,
};

/// The exit status of a command line that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os()) {
        Ok(command) => command,
        Err(Instead::Text(text)) => {
            // A closed pipe means that it was enough.
            let _ = write!(io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(Instead::Complaint(text)) => return fail(&text, USAGE),
    };
    run(command).unwrap_or_else(|error| fail(&error.to_string(), 1))
}

fn run(command: Command) -> Result<ExitCode, Error> {
    let (password, mode) = match command {
        Command::Generate(kind) => return Ok(cli::generate::print(kind)),
        Command::Run { password, mode } => (password.map_or_else(password::read_password, Ok)?, mode),
    };
    match mode {
        Mode::Server(options) => {
            logger::start(Style::Log, options.common.verbosity());
            server::run(password, options)
        }
        Mode::Client(options) => {
            logger::start(Style::Tool, options.common.verbosity());
            client::run(password, &options)
        }
    }
}

fn fail(text: &str, status: u8) -> ExitCode {
    // Nobody reads a closed standard error; the status tells.
    let _ = writeln!(io::stderr(), "tinyp2p: {text}");
    status.into()
}

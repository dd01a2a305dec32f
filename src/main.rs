//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
//!
//! Parses the command line, runs the mode, prints a fatal error and gives the exit status: 0, 1 for what went wrong
//! on the way, 2 for a command line that cannot be used.

mod arrivals;
mod cli;
mod client;
mod descriptors;
mod door;
mod endpoint;
mod error;
mod gossip;
mod handover;
mod membership;
mod names;
mod node;
mod pattern;
mod peers;
mod progress;
mod proof;
mod protocol;
mod remote;
mod secret;
mod server;
mod share;
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
    progress::Style,
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
        Command::Run { password, mode } => (password.map_or_else(secret::find, Ok)?, mode),
    };
    match mode {
        Mode::Server(options) => {
            progress::start(Style::Log, options.common.verbosity());
            server::run(password, options)
        }
        Mode::Client(options) => {
            progress::start(Style::Tool, options.common.verbosity());
            client::run(password, &options)
        }
    }
}

fn fail(text: &str, status: u8) -> ExitCode {
    // Nobody reads a closed standard error; the status tells.
    let _ = writeln!(io::stderr(), "tinyp2p: {text}");
    status.into()
}

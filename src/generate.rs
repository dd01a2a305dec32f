//! Files for packagers, made from the definition of the command line: shell completions and a manual page.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap_complete::{Shell, generate};
use clap_mangen::Man;

use crate::cli::{self, Kind};

/// Prints one such file on standard output.
pub(crate) fn print(kind: Kind) -> ExitCode {
    let mut definition = cli::definition();
    let mut text = Vec::new();
    let shell = match kind {
        Kind::Bash => Some(Shell::Bash),
        Kind::Fish => Some(Shell::Fish),
        Kind::Zsh => Some(Shell::Zsh),
        Kind::Man => None,
    };
    match shell {
        Some(shell) => generate(shell, &mut definition, "tinyp2p", &mut text),
        None => Man::new(definition).render(&mut text).expect("writing to memory does not fail"),
    }
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

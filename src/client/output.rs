//! The results of a run on standard output: names, as they are in a pipe, for programs, and escaped on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::{file_name::FileName, progress};

/// Standard output, as long as somebody reads it.
pub(super) struct Output {
    is_terminal: bool,
    is_gone: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), is_gone: false }
    }

    /// A name as it is to be printed.
    pub(super) fn name(&self, name: &FileName) -> String {
        if self.is_terminal { name.to_string() } else { name.as_str().to_owned() }
    }

    /// Prints whole lines. A reader that has gone away wants no more, which is no fault.
    pub(super) fn print(&mut self, lines: &str) -> io::Result<()> {
        if self.is_gone || lines.is_empty() {
            return Ok(());
        }
        let print = || {
            let mut out = io::stdout().lock();
            out.write_all(lines.as_bytes()).and_then(|()| out.flush())
        };
        match if self.is_terminal { progress::suspend(print) } else { print() } {
            Err(error) => {
                self.is_gone = true;
                if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
            }
            Ok(()) => Ok(()),
        }
    }
}

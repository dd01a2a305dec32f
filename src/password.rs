//! Reads the password from the environment, else from the first line of standard input; a terminal does not show it.
//!
//! The command line is no place for it: every user of the machine can read that in the list of processes.

use std::{
    env,
    fs::OpenOptions,
    io::{self, BufRead, ErrorKind, IsTerminal, Read, Write},
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::{auth::Password, error::Error, signals};

/// The variable that holds the password.
const VARIABLE: &str = "TINYP2P_PASSWORD";

/// The longest line that is read, in bytes: a longer one is not a password but the wrong file.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Stands for a control character that is disabled.
const DISABLED: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

/// Reads the password. An empty one is an error: somebody forgot to fill the variable or the file.
pub(crate) fn read_password() -> Result<Password, Error> {
    let (text, if_empty) = match env::var(VARIABLE) {
        Ok(text) => (text, "TINYP2P_PASSWORD is empty"),
        Err(env::VarError::NotUnicode(_)) => return Err(invalid("TINYP2P_PASSWORD is not UTF-8")),
        Err(env::VarError::NotPresent) if io::stdin().is_terminal() => {
            (prompt().map_err(Error::Password)?, "nothing was typed")
        }
        Err(env::VarError::NotPresent) => (
            read_line().map_err(Error::Password)?,
            "the first line of standard input is empty, and TINYP2P_PASSWORD is not set",
        ),
    };
    let text = without_line_end(&text);
    if text.is_empty() { Err(invalid(if_empty)) } else { Ok(Password::new(text)) }
}

/// The text without what editors and programs put around it: a byte order mark before it, one line end after it.
fn without_line_end(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn invalid(text: &str) -> Error {
    Error::Password(io::Error::new(ErrorKind::InvalidData, text))
}

fn read_line() -> io::Result<String> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.len() as u64 == MAX_LINE_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "the first line of standard input is too long"));
    }
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "the first line of standard input is not UTF-8");
    String::from_utf8(line).map_err(not_text)
}

/// Asks on the terminal, which does not show what is typed; also a signal leaves the terminal as it was.
fn prompt() -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // After ctrl-z the shell would switch the echo on again.
    silent.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
    let on_signal = before.clone();
    signals::guard(
        move || restore(&on_signal),
        || {
            print("password: ");
            tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
            let line = read_line();
            restore(&before);
            line
        },
    )
}

fn restore(terminal: &Termios) {
    // A terminal that is gone needs no restoring.
    let _ = tcsetattr(io::stdin(), OptionalActions::Flush, terminal);
    // The line end that was typed did not show either.
    print("\n");
}

/// Prints to the terminal, also where standard error is redirected.
fn print(text: &str) {
    let _ = match OpenOptions::new().write(true).open("/dev/tty") {
        Ok(mut terminal) => terminal.write_all(text.as_bytes()),
        Err(_) => io::stderr().write_all(text.as_bytes()),
    };
}

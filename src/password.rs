//! The password from elsewhere than the command line, where every user of the machine could read it in the list of
//! processes: the environment, else the first line of standard input, asked for without echo on a terminal.

use std::{
    env,
    fs::OpenOptions,
    io::{self, BufRead, ErrorKind, IsTerminal, Read, Write},
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::{auth::Password, error::Error, signals};

/// The variable that holds the password.
const VARIABLE: &str = "TINYP2P_PASSWORD";

/// The longest line that is read, in bytes: whatever is longer is no password but the wrong file.
const MAX_LINE: u64 = 64 << 10;

/// The code of a control character that is switched off.
const SWITCHED_OFF: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

/// Finds the password. An empty one from there is an error: it is a variable or a file that somebody forgot to fill.
pub(crate) fn read_password() -> Result<Password, Error> {
    let (text, what_if_empty) = match env::var(VARIABLE) {
        Ok(text) => (text, "TINYP2P_PASSWORD is empty"),
        Err(env::VarError::NotUnicode(_)) => return Err(bad("TINYP2P_PASSWORD is not UTF-8")),
        Err(env::VarError::NotPresent) if io::stdin().is_terminal() => {
            (ask().map_err(Error::Password)?, "nothing was typed")
        }
        Err(env::VarError::NotPresent) => (
            read_line().map_err(Error::Password)?,
            "the first line of standard input is empty, and TINYP2P_PASSWORD is not set",
        ),
    };
    if text.is_empty() { Err(bad(what_if_empty)) } else { Ok(Password::new(text)) }
}

fn bad(text: &str) -> Error {
    Error::Password(io::Error::new(ErrorKind::InvalidData, text))
}

fn read_line() -> io::Result<String> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.len() as u64 == MAX_LINE {
        return Err(io::Error::new(ErrorKind::InvalidData, "the first line of standard input is too long"));
    }
    let text = line.strip_suffix(b"\n").unwrap_or(&line);
    let text = text.strip_suffix(b"\r").unwrap_or(text).to_vec();
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "the first line of standard input is not UTF-8");
    String::from_utf8(text).map_err(not_text)
}

/// Asks on the terminal, which does not show what is typed; a signal meanwhile leaves it as it was.
fn ask() -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // A shell that goes on in between would switch the echo on again.
    silent.special_codes[SpecialCodeIndex::VSUSP] = SWITCHED_OFF;
    let on_signal = before.clone();
    signals::guard(
        move || restore(&on_signal),
        || {
            say("password: ");
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
    // What was typed did not end its line on the screen.
    say("\n");
}

/// Says something to who sits at the terminal, wherever the messages go.
fn say(text: &str) {
    let _ = match OpenOptions::new().write(true).open("/dev/tty") {
        Ok(mut terminal) => terminal.write_all(text.as_bytes()),
        Err(_) => io::stderr().write_all(text.as_bytes()),
    };
}

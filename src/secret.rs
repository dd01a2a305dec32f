//! The password from elsewhere than the command line, where every user of the machine could read it in the list of
//! processes: the environment, else the first line of standard input, asked for without echo on a terminal.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{error::Error, proof::Password, signals};

/// The variable that holds the password.
const VARIABLE: &str = "TINYP2P_PASSWORD";

/// Finds the password. An empty one from there is an error: it is a variable or a file that somebody forgot to fill.
pub(crate) fn find() -> Result<Password, Error> {
    let text = match env::var(VARIABLE) {
        Ok(text) => text,
        Err(env::VarError::NotPresent) => {
            let line = if io::stdin().is_terminal() { ask() } else { read_line() };
            line.map_err(Error::Password)?
        }
        Err(env::VarError::NotUnicode(_)) => {
            return Err(Error::Password(io::Error::new(ErrorKind::InvalidData, format!("{VARIABLE} is not UTF-8"))));
        }
    };
    if text.is_empty() {
        return Err(Error::Password(io::Error::new(
            ErrorKind::InvalidInput,
            format!("it is empty; give it in {VARIABLE} or as the first line of standard input"),
        )));
    }
    Ok(Password::new(text))
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let text = line.strip_suffix('\n').unwrap_or(&line);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Asks on the terminal, which does not show what is typed; a signal meanwhile leaves it as it was.
fn ask() -> io::Result<String> {
    let before = tcgetattr(io::stdin())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    let on_signal = before.clone();
    let line = signals::guard(
        move || restore(&on_signal),
        || {
            write!(io::stderr(), "password: ")?;
            tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
            let line = read_line();
            restore(&before);
            line
        },
    )?;
    Ok(line)
}

fn restore(terminal: &Termios) {
    // A terminal that is gone needs no restoring; what was typed did not end its line.
    let _ = tcsetattr(io::stdin(), OptionalActions::Flush, terminal);
    let _ = writeln!(io::stderr());
}

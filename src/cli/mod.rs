//! The command line, types only: whatever comes out of here needs no further check.
//!
//! The original takes any word as the password, and so does ours, as it does for the pattern: see [`words`].

mod complaint;
pub(crate) mod generate;
mod words;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    auth::Password,
    escape::Escaped,
    pattern::Pattern,
    peer::{InvalidPeerUrl, PeerUrl},
};

use words::Words;

/// The longest silence limit in seconds, a day: beyond that a limit means nothing to anyone.
const MAX_SILENCE: u64 = 86_400;

/// The most files in flight at once: more threads gain nothing, and each holds a connection.
const MAX_JOBS: u8 = 64;

/// The most columns of a help text: what every terminal has.
const MAX_WIDTH: usize = 80;

/// What PASSWORD is when it is to be taken from somewhere safer than the command line.
const ELSEWHERE: &str = "-";

const HELP: &str = "\
Examples:
  tinyp2p secret server 192.0.2.7 4000                        start a network
  tinyp2p secret server 192.0.2.8 4000 http://192.0.2.7:4000  join it
  tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'        fetch from all

PASSWORD - takes the password from TINYP2P_PASSWORD, else from standard input.
Options stand before PASSWORD or behind the mode; a word behind -- is none.
More: tinyp2p server --help, tinyp2p client --help";

const SERVER_HELP: &str = "\
Example: tinyp2p secret server 192.0.2.8 4000 http://192.0.2.7:4000
Prints its own URL once it can be called, and serves until it gets a signal.
Exit status: 0 after a signal, 1 when it cannot start, 2 for a bad command line";

const CLIENT_HELP: &str = "\
Example: tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'
Prints the names that it saved, one a line; never replaces a file.
Exit status: 0 when all that matched is here, 1 when something is missing,
2 for a bad command line, 130 after ctrl-c, 143 after SIGTERM";

const USAGE: &str = "tinyp2p PASSWORD server [OPTIONS] HOST PORT [URL]...
       tinyp2p PASSWORD client [OPTIONS] URL PATTERN";

/// A whole command line, parsed.
#[derive(Debug)]
pub(crate) enum Command {
    Run {
        /// None when it is to be taken from the environment or standard input.
        password: Option<Password>,
        mode: Mode,
    },
    /// For packagers: print a file that is made from the definition of this command line.
    Generate(Kind),
}

/// A file that is made from the definition of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Bash,
    Fish,
    Zsh,
    Man,
}

/// What to be.
#[derive(Debug)]
pub(crate) enum Mode {
    Server(Server),
    Client(Client),
}

/// What both modes are told.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Directory to share, or to download to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// How long a peer may be silent
    #[arg(long = "timeout", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Say errors only
    #[arg(short, long, action = ArgAction::SetTrue, conflicts_with = "verbose")]
    quiet: bool,

    /// Say more
    #[arg(short, long, action = ArgAction::SetTrue)]
    verbose: bool,
}

impl Common {
    /// The least important level that is still said.
    pub(crate) fn verbosity(&self) -> log::LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => log::LevelFilter::Error,
            (_, true) => log::LevelFilter::Debug,
            _ => log::LevelFilter::Info,
        }
    }
}

/// What a server is told.
#[derive(Args, Debug)]
pub(crate) struct Server {
    /// Name or address under which the others reach this server
    pub(crate) host: String,

    /// Port under which they reach it; 0 takes a free one
    #[arg(value_parser = port)]
    pub(crate) port: u16,

    /// Peers that are already in the network
    #[arg(value_name = "URL", value_parser = peer_url)]
    pub(crate) peers: Vec<PeerUrl>,

    /// Listen there, although the others use HOST and PORT
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) bind: Option<SocketAddr>,

    /// How often to exchange peers; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds_or_never)]
    pub(crate) announce: Duration,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What a client is told.
#[derive(Args, Debug)]
pub(crate) struct Client {
    /// Any server of the network
    #[arg(value_parser = peer_url)]
    pub(crate) url: PeerUrl,

    /// Regular expression as in Python, found in the name; '' for all
    #[arg(value_parser = pattern)]
    pub(crate) pattern: Pattern,

    /// Files in flight at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = jobs)]
    pub(crate) jobs: u8,

    /// Print what would be fetched, or with -v who has what
    #[arg(long)]
    pub(crate) list: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Share the files of a directory with everyone who knows the password
#[derive(Parser)]
#[command(
    name = "tinyp2p",
    version,
    override_usage = USAGE,
    after_help = HELP,
    disable_help_subcommand = true,
    args_override_self = true,
    max_term_width = MAX_WIDTH
)]
struct Line {
    /// The word that all peers share, or - to take it from elsewhere
    password: String,

    #[command(subcommand)]
    mode: ModeLine,
}

#[derive(Subcommand)]
enum ModeLine {
    /// Share the files of a directory and join the network of the given peers
    #[command(override_usage = "tinyp2p PASSWORD server [OPTIONS] HOST PORT [URL]...", after_help = SERVER_HELP)]
    Server(Server),

    /// Fetch from the whole network what matches and is not here yet
    #[command(override_usage = "tinyp2p PASSWORD client [OPTIONS] URL PATTERN", after_help = CLIENT_HELP)]
    Client(Client),
}

/// The definition of the command line, from which completions and the manual are made.
fn definition() -> clap::Command {
    let mut definition = Line::command();
    definition.build();
    definition
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum Instead {
    /// A help or version text that was asked for.
    Text(String),
    /// What is wrong with the command line, in one line.
    Complaint(String),
}

/// Parses the words of a command line, the program's name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, Instead> {
    let words: Vec<OsString> = words.into_iter().collect();
    if let [_, option, kinds @ ..] = &words[..]
        && option == "--generate"
        && kinds.len() <= 1
    {
        let kind = kinds.first().map(|kind| kind.to_string_lossy());
        let kind = kind.and_then(|kind| <Kind as clap::ValueEnum>::from_str(&kind, false).ok());
        return kind.map(Command::Generate).ok_or_else(|| complaint(None, "--generate makes bash, fish, zsh or man"));
    }
    let definition = definition();
    let words = Words::set_aside(&definition, words);
    let matches = definition.try_get_matches_from(&words.line);
    if let Err(text) = &matches
        && !text.use_stderr()
    {
        return Err(Instead::Text(text.to_string()));
    }
    let mode = words.mode.as_ref().and_then(|mode| mode.to_str()).filter(|mode| matches!(*mode, "server" | "client"));
    let wrong = |text: &str| complaint(mode, text);
    if let Some(text) = complaint::describe(&words, matches.as_ref().err()) {
        return Err(wrong(&text));
    }
    let line =
        matches.and_then(|matches| Line::from_arg_matches(&matches)).map_err(|error| wrong(&error.to_string()))?;
    let text = |word: &Option<OsString>, what: &str| match word.as_ref().map(|word| word.to_str()) {
        Some(Some(text)) => Ok(text.to_owned()),
        _ => Err(wrong(&format!("{what} is not UTF-8"))),
    };
    let password = text(&words.password, "PASSWORD")?;
    let password = (password != ELSEWHERE).then(|| Password::new(password));
    let mode = match line.mode {
        ModeLine::Server(server) => {
            // Port 0 becomes another one later; whatever it is, the URL will be as good as this.
            PeerUrl::new(&server.host, server.port.max(1)).map_err(|_| {
                wrong(&format!("unusable HOST '{}': a name or an address is wanted", Escaped(&server.host)))
            })?;
            Mode::Server(server)
        }
        ModeLine::Client(mut client) => {
            client.pattern = pattern(&text(&words.pattern, "PATTERN")?).map_err(|text| wrong(&text))?;
            Mode::Client(client)
        }
    };
    Ok(Command::Run { password, mode })
}

/// What is said of a bad command line: with it goes where to read more.
fn complaint(mode: Option<&str>, text: &str) -> Instead {
    let mode = mode.map(|mode| format!(" {mode}")).unwrap_or_default();
    Instead::Complaint(format!("{text}; see tinyp2p{mode} --help"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a number from 0 to 65535 is wanted".to_owned())
}

fn jobs(text: &str) -> Result<u8, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=MAX_JOBS).contains(jobs));
    jobs.ok_or_else(|| format!("a number from 1 to {MAX_JOBS} is wanted"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are wanted, such as 0.0.0.0:4000 or [::]:4000".to_owned())
}

fn seconds_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=MAX_SILENCE) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("a number of seconds from 1 to {MAX_SILENCE} is wanted")),
    }
}

fn peer_url(text: &str) -> Result<PeerUrl, String> {
    text.parse().map_err(|bad: InvalidPeerUrl| format!("write {}", bad.suggestion()))
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|bad| format!("could not use the pattern '{}': {bad}", Escaped(text)))
}

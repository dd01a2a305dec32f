//! The command line as types: whatever comes out of here needs no further check.
//!
//! clap parses all of it but one thing: the original takes any word as the password, and so does ours, also one that
//! clap would take for a mode or an option.

mod generate;
mod usage_error;

use std::{ffi::OsString, mem, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    address,
    auth::Password,
    escape::Escaped,
    pattern::Pattern,
    peer::{InvalidPeerUrl, PeerUrl},
    rate_limit::MIN_RATE,
};

/// The longest timeout in seconds, a day: a longer one means nothing to anyone.
const MAX_TIMEOUT: u64 = 86_400;

/// The most files that are downloaded at once: more threads gain nothing, and each holds a connection.
const MAX_JOBS: u8 = 64;

/// The most columns of a help text: what every terminal has.
const MAX_COLUMNS: usize = 80;

/// The PASSWORD of those who give it in the environment or on standard input.
const NOT_HERE: &str = "-";

const USAGE: &str = "tinyp2p PASSWORD server [OPTIONS] HOST PORT [URL]...
       tinyp2p PASSWORD client [OPTIONS] URL PATTERN";

const HELP: &str = "\
Examples:
  tinyp2p secret server 192.0.2.7 4000                        start a network
  tinyp2p secret server 192.0.2.8 4000 http://192.0.2.7:4000  join it
  tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'        download from all

A PASSWORD that looks like an option goes after --, a PATTERN likewise.
Options: tinyp2p server --help, tinyp2p client --help";

const PASSWORD_HELP: &str = "The shared word; - takes TINYP2P_PASSWORD or standard input";

const SERVER_HELP: &str = "\
Exit status: 0 after a signal, 1 if it cannot start, 2 for a wrong command line";

const CLIENT_HELP: &str = "\
Example: tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'
PATTERN for everything but .iso files: '^(?!.*\\.iso$)'
Prints the name of each file that it saved; replaces none without --update.
Exit status: 0 if all matching files are here, 1 if one is missing,
2 for a wrong command line, 130 after ctrl-c, 143 after SIGTERM";

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Cli {
    /// None if it is to be taken from the environment or standard input.
    pub(crate) password: Option<Password>,
    pub(crate) mode: Mode,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) enum EarlyExit {
    /// A text for standard output that was asked for: help, the version, a generated file.
    Output(String),
    /// What is wrong with the command line, in one line.
    UsageError(String),
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
    max_term_width = MAX_COLUMNS,
    mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg })
)]
struct Arguments {
    #[arg(allow_hyphen_values = true, required = true, help = PASSWORD_HELP)]
    password: Option<String>,

    /// Print completions (bash, fish, zsh) or a manual (man)
    #[arg(long, value_name = "KIND", exclusive = true, hide_possible_values = true)]
    generate: Option<GeneratedFile>,

    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    mode: Option<Mode>,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// Share the files of a directory and join the network of the given peers
    #[command(override_usage = "tinyp2p PASSWORD server [OPTIONS] HOST PORT [URL]...", after_help = SERVER_HELP)]
    #[command(mut_arg("dir", |dir| dir.help("Directory to share")))]
    Server(Server),

    /// Download the matching files of the whole network that are not here yet
    #[command(override_usage = "tinyp2p PASSWORD client [OPTIONS] URL PATTERN", after_help = CLIENT_HELP)]
    #[command(mut_arg("dir", |dir| dir.help("Directory to download to")))]
    Client(Client),
}

/// A file for packagers that is made from this definition of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GeneratedFile {
    Bash,
    Fish,
    Zsh,
    Man,
}

/// The options of both modes.
#[derive(Args, Debug)]
pub(crate) struct Common {
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// How long a peer may be silent
    #[arg(long, global = true, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Most bytes a second each way, as in 500K or 2M
    #[arg(long, global = true, value_name = "RATE", value_parser = rate)]
    pub(crate) limit_rate: Option<u64>,

    /// Print errors and warnings only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Print more
    #[arg(short, long, global = true)]
    verbose: bool,
}

impl Common {
    /// The least important level that is still printed.
    pub(crate) fn verbosity(&self) -> log::LevelFilter {
        match (self.quiet, self.verbose) {
            (true, _) => log::LevelFilter::Warn,
            (_, true) => log::LevelFilter::Debug,
            _ => log::LevelFilter::Info,
        }
    }
}

/// The command line of a server.
#[derive(Args, Debug)]
pub(crate) struct Server {
    /// Name or address at which the others reach this server
    #[arg(value_parser = host)]
    pub(crate) host: String,

    /// Port at which they reach it; 0 takes a free one
    #[arg(value_parser = port)]
    pub(crate) port: u16,

    /// Peers that are in the network already
    #[arg(value_name = "URL", value_parser = peer_url)]
    pub(crate) peers: Vec<PeerUrl>,

    /// Make the network private: encrypted by the password
    #[arg(long)]
    pub(crate) private: bool,

    /// Listen here instead of at HOST and PORT
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) bind: Option<SocketAddr>,

    /// How often to call peers; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds_or_never)]
    pub(crate) announce: Duration,

    /// Also fetch what matches and is not here
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true, value_parser = pattern)]
    pub(crate) mirror: Option<Pattern>,

    /// How often to mirror
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds, requires = "mirror")]
    pub(crate) mirror_every: Duration,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// The command line of a client.
#[derive(Args, Debug)]
pub(crate) struct Client {
    /// Any server of the network
    #[arg(value_parser = peer_url)]
    pub(crate) url: PeerUrl,

    /// Regular expression as in Python, found in the name; '' for all
    #[arg(allow_hyphen_values = true, value_parser = pattern)]
    pub(crate) pattern: Pattern,

    /// Files to download at once
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = jobs)]
    pub(crate) jobs: u8,

    /// Print what is missing; with -v all, and who has it
    #[arg(long)]
    pub(crate) list: bool,

    /// Fetch again what a peer has newer and different
    #[arg(long, conflicts_with = "list")]
    pub(crate) update: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Parses the words of a command line, the program's name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, EarlyExit> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let set_aside = set_password_aside(&mut words);
    let mode = words.iter().find(|word| is_mode(word)).and_then(|mode| mode.to_str());
    let usage_error = |text: &str| EarlyExit::UsageError(usage_error::with_hint(text, mode));
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Err(usage_error(&usage_error::describe(error, &words))),
        Err(asked) => return Err(EarlyExit::Output(asked.to_string())),
    };
    if let Some(kind) = arguments.generate {
        return Err(EarlyExit::Output(generate::file(kind)));
    }
    let password = match set_aside {
        Some(word) => Some(word.into_string().map_err(|_| usage_error("PASSWORD is not UTF-8"))?),
        None => arguments.password,
    };
    let password = password.filter(|word| word != NOT_HERE).map(Password::new);
    let mode = arguments.mode.ok_or_else(|| usage_error(usage_error::NO_MODE))?;
    if let Mode::Server(Server { private, peers, .. }) = &mode
        && let Some(peer) = peers.iter().find(|peer| peer.is_private() != *private)
    {
        return Err(usage_error(&other_kind(peer)));
    }
    Ok(Cli { password, mode })
}

/// Says that a peer is not of the kind of network that the server is to join.
fn other_kind(peer: &PeerUrl) -> String {
    if peer.is_private() {
        format!("{peer} is in a private network; join it with --private")
    } else {
        format!("{peer} is in an open network; with --private write {}", peer.in_other_kind())
    }
}

/// Takes a PASSWORD that clap would misread out of the words, leaving [`NOT_HERE`] in its place: the word after `--`,
/// and a first word that equals a mode, if the mode itself follows.
fn set_password_aside(words: &mut Vec<OsString>) -> Option<OsString> {
    let position = words.iter().position(|word| word == "--" || is_mode(word))?;
    if words[position] == "--" {
        words.remove(position);
    } else if position != 1 || !words.get(2).is_some_and(is_mode) {
        return None;
    }
    Some(mem::replace(words.get_mut(position)?, NOT_HERE.into()))
}

/// Whether a word is the name of a mode.
fn is_mode(word: &OsString) -> bool {
    word == "server" || word == "client"
}

fn host(text: &str) -> Result<String, String> {
    if address::is_unspecified(text) {
        let advice = address::advice();
        return Err(format!("others cannot call it; {advice} (--bind 0.0.0.0:PORT still listens at all of them)"));
    }
    if let Some(objection) = address::objection(text) {
        return Err(objection);
    }
    // Whether HOST can be used does not depend on the port.
    PeerUrl::new(text, 1, false).map(|_| text.to_owned()).map_err(|_| "expected a name or an address".to_owned())
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().map_err(|_| "expected a number from 0 to 65535")
}

fn jobs(text: &str) -> Result<u8, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=MAX_JOBS).contains(jobs));
    jobs.ok_or_else(|| format!("expected a number from 1 to {MAX_JOBS}"))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an address and a port, such as 0.0.0.0:4000 or [::]:4000")
}

fn rate(text: &str) -> Result<u64, &'static str> {
    let units = [(['K', 'k'], 10), (['M', 'm'], 20), (['G', 'g'], 30)];
    let with_unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (digits, shift) = with_unit.unwrap_or((text, 0));
    let rate = digits.parse().ok().and_then(|count: u64| count.checked_mul(1 << shift));
    let rate = rate.filter(|rate| *rate >= MIN_RATE);
    rate.ok_or("expected bytes a second such as 500K, 2M or 1G, at least 16K")
}

fn seconds_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=MAX_TIMEOUT) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("expected a number of seconds from 1 to {MAX_TIMEOUT}")),
    }
}

fn peer_url(text: &str) -> Result<PeerUrl, String> {
    let parsed = text.parse::<PeerUrl>();
    let host = parsed.as_ref().map_or_else(InvalidPeerUrl::host, PeerUrl::host);
    match address::objection(host) {
        Some(objection) => Err(objection),
        None => parsed.map_err(|invalid| format!("write {}", Escaped(&invalid.suggestion()))),
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| Escaped(&error.to_string()).to_string())
}

//! The command line, types only: whatever comes out of here needs no further check.
//!
//! The original takes any word as the password, and so does ours, as it does for the pattern. Before clap sees the
//! line, these two words are held aside and stand-ins put in their places, and options before PASSWORD are moved
//! behind the mode, so that each option belongs to the mode that knows it.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind, value_parser};

use crate::{
    names::Shown,
    pattern::Pattern,
    peers::{BadUrl, PeerUrl},
    proof::Password,
};

/// The longest silence limit in seconds, a day: beyond that a limit means nothing to anyone.
const MAX_SILENCE: u64 = 86_400;

/// What stands for PASSWORD and PATTERN while clap parses; no mode and no option.
const STAND_IN: &str = "word";

/// What PASSWORD is when it is to be taken from somewhere safer than the command line.
const ELSEWHERE: &str = "-";

const HELP: &str = "\
Examples:
  tinyp2p secret server 192.0.2.7 4000                          start a network
  tinyp2p secret server 192.0.2.8 4000 http://192.0.2.7:4000    join it
  tinyp2p secret client http://192.0.2.7:4000 '\\.pdf$'         fetch from all of it

PASSWORD - takes the password from TINYP2P_PASSWORD, else from standard input.
Options may stand before PASSWORD or behind the mode; a word behind -- is none.
More: tinyp2p - server --help, tinyp2p - client --help";

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
    /// The directory to share or to download to, instead of the current one
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub(crate) dir: PathBuf,

    /// How long a peer may be silent (fewer than 1,024 bytes) before it is given up
    #[arg(long = "timeout", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) silence: Duration,

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
    /// The name or address under which the others reach this server
    pub(crate) host: String,

    /// The port under which they reach it; 0 takes a free one
    pub(crate) port: u16,

    /// Peers that are already in the network
    #[arg(value_name = "URL", value_parser = peer_url)]
    pub(crate) peers: Vec<PeerUrl>,

    /// Listen there, although HOST and PORT say otherwise (containers, NAT, proxies)
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) bind: Option<SocketAddr>,

    /// How often three peers are called to exchange news; 0 for never
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

    /// A regular expression as in Python, found anywhere in the name; '' matches all
    #[arg(value_parser = pattern)]
    pub(crate) pattern: Pattern,

    /// Files in flight at once, over all peers
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,

    /// Print the matching names that are not here yet, with -v all and who has them; fetch nothing
    #[arg(long)]
    pub(crate) list: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Parser)]
#[command(name = "tinyp2p", version, about, override_usage = USAGE, after_help = HELP, disable_help_subcommand = true)]
struct Line {
    /// The word that all peers of the network share; - takes it from elsewhere
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
pub(crate) fn definition() -> clap::Command {
    Line::command()
}

/// Parses the words of a command line, the program's name first. The error is clap's own: a help or version text that
/// was asked for, or what is wrong.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let definition = definition();
    let usage = |text: String| definition.clone().error(ErrorKind::ValueValidation, text);
    let words: Vec<OsString> = words.into_iter().collect();
    if let [_, option, kind] = &words[..]
        && option == "--generate"
    {
        let kind = kind.to_string_lossy();
        let kind = <Kind as clap::ValueEnum>::from_str(&kind, false);
        return kind.map(Command::Generate).map_err(|_| usage("--generate makes bash, fish, zsh or man".to_owned()));
    }
    let words = Words::set_aside(&definition, words);
    let matches = match definition.clone().try_get_matches_from(words.line) {
        Err(error) if !is_about_what_is_missing(&error) => return Err(error),
        matches => matches,
    };
    // What clap would say of these two speaks of arguments and subcommands.
    match (&words.password, &words.mode) {
        (None, _) => return Err(usage("PASSWORD is missing, and behind it server or client".to_owned())),
        (_, None) => return Err(usage("the mode is missing: server or client is wanted behind PASSWORD".to_owned())),
        (_, Some(mode)) if mode != "server" && mode != "client" => {
            let mode = mode.to_string_lossy();
            return Err(usage(format!("'{}' is no mode: server or client is wanted behind PASSWORD", Shown(&mode))));
        }
        _ => {}
    }
    let line = Line::from_arg_matches(&matches?)?;
    if let Some(extra) = words.extra {
        let extra = extra.to_string_lossy();
        return Err(usage(format!(
            "one word too many: '{}' (quote PATTERN, or the shell expands it to the names that are here)",
            Shown(&extra)
        )));
    }
    let text = |word: Option<OsString>, what| {
        word.unwrap_or_default().into_string().map_err(|_| usage(format!("{what} is not UTF-8")))
    };
    let password = text(words.password, "PASSWORD")?;
    let password = (password != ELSEWHERE).then(|| Password::new(password));
    let mode = match line.mode {
        ModeLine::Server(server) => {
            // Port 0 becomes another one later; whatever it is, the URL will be as good as this.
            PeerUrl::new(&server.host, server.port.max(1)).map_err(|_| {
                usage(format!("unusable HOST '{}': a name or an address is wanted", Shown(&server.host)))
            })?;
            Mode::Server(server)
        }
        ModeLine::Client(mut client) => {
            client.pattern = pattern(&text(words.pattern, "PATTERN")?).map_err(usage)?;
            Mode::Client(client)
        }
    };
    Ok(Command::Run { password, mode })
}

/// Whether PASSWORD or the mode may be what clap stumbled over.
fn is_about_what_is_missing(error: &clap::Error) -> bool {
    use ErrorKind::{
        DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand, MissingRequiredArgument, MissingSubcommand,
    };
    let kind = error.kind();
    matches!(
        kind,
        DisplayHelpOnMissingArgumentOrSubcommand | InvalidSubcommand | MissingRequiredArgument | MissingSubcommand
    )
}

/// What is wrong with a command line, in one line.
pub(crate) fn explain(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or_default();
    let text = text.split("\n\nFor more information").next().unwrap_or_default();
    let line = text.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}; see tinyp2p --help", Shown(&line))
}

/// The words of a line, with those that may look like anything held aside.
#[derive(Default)]
struct Words {
    /// What clap parses.
    line: Vec<OsString>,
    password: Option<OsString>,
    mode: Option<OsString>,
    pattern: Option<OsString>,
    /// The first word behind PATTERN.
    extra: Option<OsString>,
}

impl Words {
    fn set_aside(definition: &clap::Command, words: impl IntoIterator<Item = OsString>) -> Self {
        let mut words = words.into_iter();
        let mut aside = Self { line: words.next().into_iter().collect(), ..Self::default() };
        let mut options = Vec::new();
        while let Some(word) = words.next() {
            match Word::of(definition, &word) {
                Word::Option { takes_next } => {
                    options.push(word);
                    options.extend(takes_next.then(|| words.next()).flatten());
                }
                Word::Separator if aside.password.is_none() => aside.password = words.next(),
                _ if aside.password.is_none() => aside.password = Some(word),
                _ => {
                    aside.line.push(STAND_IN.into());
                    let is_client = word == "client";
                    aside.mode = Some(word.clone());
                    aside.line.push(word);
                    aside.line.append(&mut options);
                    aside.take_arguments(definition, is_client, &mut words);
                    return aside;
                }
            }
        }
        aside.line.append(&mut options);
        aside.line.extend(aside.password.is_some().then(|| STAND_IN.into()));
        aside
    }

    /// Takes what follows the mode.
    fn take_arguments(
        &mut self,
        definition: &clap::Command,
        is_client: bool,
        words: &mut dyn Iterator<Item = OsString>,
    ) {
        let mut positionals = 0;
        let mut options_may_follow = true;
        while let Some(word) = words.next() {
            match Word::of(definition, &word) {
                Word::Option { takes_next } if options_may_follow => {
                    self.line.push(word);
                    self.line.extend(takes_next.then(|| words.next()).flatten());
                    continue;
                }
                Word::Separator if options_may_follow => {
                    options_may_follow = false;
                    self.line.push(word);
                    continue;
                }
                _ => positionals += 1,
            }
            match positionals {
                2 if is_client => {
                    self.line.push(STAND_IN.into());
                    self.pattern = Some(word);
                }
                3.. if is_client => self.extra = self.extra.take().or(Some(word)),
                _ => self.line.push(word),
            }
        }
    }
}

/// What a word of the line is, as far as its looks tell.
enum Word {
    /// One of our options; its value may be the next word.
    Option { takes_next: bool },
    /// `--`
    Separator,
    /// Anything else.
    Plain,
}

impl Word {
    fn of(definition: &clap::Command, word: &OsString) -> Self {
        let Some(text) = word.to_str() else { return Self::Plain };
        if text == "--" {
            return Self::Separator;
        }
        let options = || {
            let modes = definition.get_subcommands().flat_map(clap::Command::get_arguments);
            modes.chain(definition.get_arguments()).filter(|option| !option.is_positional())
        };
        let takes_value = |option: &clap::Arg| option.get_action().takes_values();
        if let Some(long) = text.strip_prefix("--") {
            let (name, has_value) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            if matches!(name, "help" | "version") && !has_value {
                return Self::Option { takes_next: false };
            }
            return match options().find(|option| option.get_long() == Some(name)) {
                Some(option) => Self::Option { takes_next: takes_value(option) && !has_value },
                None => Self::Plain,
            };
        }
        let Some(shorts) = text.strip_prefix('-').filter(|shorts| !shorts.is_empty()) else { return Self::Plain };
        for (at, short) in shorts.char_indices() {
            match options().find(|option| option.get_short() == Some(short)) {
                Some(option) if takes_value(option) => {
                    return Self::Option { takes_next: at + short.len_utf8() == shorts.len() };
                }
                Some(_) => {}
                None if matches!(short, 'h' | 'V') => {}
                None => return Self::Plain,
            }
        }
        Self::Option { takes_next: false }
    }
}

fn seconds_or_never(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=MAX_SILENCE) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("a whole number of seconds from 1 to {MAX_SILENCE} is wanted")),
    }
}

fn peer_url(text: &str) -> Result<PeerUrl, String> {
    text.parse().map_err(|bad: BadUrl| format!("write {}", bad.correction()))
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|bad| format!("could not use the pattern '{}': {bad}", Shown(text)))
}

//! Generates files for packagers from the definition of the command line: shell completions and a manual page.

use std::io::{self, Write};

use clap::{Command, CommandFactory, builder::StyledStr};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{Arguments, GeneratedFile};

/// Generates one such file.
pub(super) fn file(kind: GeneratedFile) -> String {
    let mut definition = Arguments::command();
    definition.build();
    match kind {
        GeneratedFile::Bash => completions(Shell::Bash, &mut definition),
        GeneratedFile::Fish => fish(&completions(Shell::Fish, &mut definition)),
        GeneratedFile::Zsh => completions(Shell::Zsh, &mut definition),
        GeneratedFile::Man => manual(&definition).expect("writing to memory does not fail"),
    }
}

fn completions(shell: Shell, definition: &mut Command) -> String {
    let mut text = Vec::new();
    generate(shell, definition, "tinyp2p", &mut text);
    utf8(text)
}

fn utf8(text: Vec<u8>) -> String {
    String::from_utf8(text).expect("the definition is UTF-8")
}

/// Completions that look for the mode anywhere: the generated ones expect it as the first word, where PASSWORD stands.
fn fish(generated: &str) -> String {
    let (_, rules) = generated.split_once("\ncomplete ").expect("each option has a rule");
    let rules = rules.replace("__fish_tinyp2p_needs_command", "not __fish_seen_subcommand_from server client");
    let rules = rules.replace("__fish_tinyp2p_using_subcommand", "__fish_seen_subcommand_from");
    format!("complete -c tinyp2p -f\ncomplete {rules}")
}

/// One page for both modes: the library would make three, each of which names the others.
fn manual(definition: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    let man = Man::new(definition.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for mode in definition.get_subcommands() {
        let about = mode.get_about().map(StyledStr::to_string).unwrap_or_default();
        writeln!(page, ".SH {}\n{}", mode.get_name().to_uppercase(), escaped(&about))?;
        let mut options = Vec::new();
        Man::new(mode.clone()).render_options_section(&mut options)?;
        let options = utf8(options);
        let (_, options) = options.split_once(".SH OPTIONS\n").expect("each mode has options");
        page.extend_from_slice(options.as_bytes());
        write!(page, "{}", verbatim(mode.get_after_help()))?;
    }
    write!(page, ".SH NOTES\n{}", verbatim(definition.get_after_help()))?;
    Ok(utf8(page))
}

/// Returns text whose lines stay as they are.
fn verbatim(text: Option<&StyledStr>) -> String {
    let text = text.map(StyledStr::to_string).unwrap_or_default();
    format!(".PP\n.nf\n{}\n.fi\n", escaped(&text))
}

/// Returns text without the characters that mean something to roff.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace("\n.", "\n\\&.").replace("\n'", "\n\\&'");
    text.replace('\'', "\\(aq")
}

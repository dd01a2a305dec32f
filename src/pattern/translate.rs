//! Python's regular expressions, rewritten token by token in the syntax of the regex crate.
//!
//! Only whether there is a match counts, never where, so no group captures. Look-around becomes a regular expression of
//! its own, which is possible where all of them begin at the start of the name or end at its end. What the regex crate
//! does not know is an error with its place; what it parses, such as counts and ranges, is left for it to check.

use std::{collections::HashSet, mem};

use super::{PatternError, class::translate_class, size::has_fixed_width, token::Tokens};

/// How many characters of classes may be looked up for their other cases, which takes 10 ms a million.
const MAX_FOLDED: usize = 2_500_000;

const LOOK_AHEAD: &str = "look-ahead other than directly after a leading ^ is not supported";
const LOOK_BEHIND: &str = "look-behind other than directly before the last $ is not supported";

/// One regular expression of those that make a pattern together.
pub(super) struct Part {
    /// In the syntax of the regex crate.
    pub(super) regex: String,
    /// Whether it must be found in a name, or must not.
    pub(super) is_wanted: bool,
}

/// Translates a pattern.
pub(super) fn translate(python: &str) -> Result<Vec<Part>, PatternError> {
    let mut translator = Translator { tokens: Tokens::new(python), ..Translator::default() };
    while let Some(token) = translator.tokens.take(translator.has('x')) {
        translator.take(token)?;
    }
    translator.finish()
}

/// A group that is open.
struct Group<'a> {
    /// Where it begins.
    at: usize,
    /// The flags outside of it.
    flags: String,
    /// For look-around how it begins, and what was written before it.
    look: Option<(&'a str, String)>,
}

/// A translation under way.
#[derive(Default)]
struct Translator<'a> {
    tokens: Tokens<'a>,
    /// The letters of the flags that hold here.
    flags: String,
    /// What is written of the current part.
    out: String,
    /// The parts that are complete.
    looks: Vec<Part>,
    groups: Vec<Group<'a>>,
    names: HashSet<&'a str>,
    /// Whether a repeat may follow.
    is_repeatable: bool,
    /// How many characters of classes are looked up for their other cases.
    folded: usize,
    /// Where a `|` is that is in no group.
    outer_choice: Option<usize>,
}

impl<'a> Translator<'a> {
    fn take(&mut self, token: &'a str) -> Result<(), PatternError> {
        let was_repeatable = mem::take(&mut self.is_repeatable);
        match token.as_bytes() {
            [b'('] | [b'(', b'?', ..] => self.open(token)?,
            b")" => self.close()?,
            b"[" => return Err(self.tokens.error("the bracket is not closed")),
            b"|" => {
                self.out.push('|');
                self.outer_choice = self.outer_choice.or(self.groups.is_empty().then_some(self.tokens.last));
            }
            br"\Z" => self.out.push_str(r"\z"),
            br"\b" | br"\B" if self.has('a') => self.out.extend(["(?-u:", token, ")"]),
            b"^" | b"$" | br"\A" | br"\b" | br"\B" => self.out.push_str(token),
            [b'\\', b'1'..=b'9'] => return Err(self.tokens.error("a back-reference is not supported")),
            [b'*' | b'+' | b'?', ..] | [b'{', _, ..] if !was_repeatable => {
                return Err(self.tokens.error("nothing to repeat"));
            }
            [b'*' | b'+' | b'?' | b'{', .., b'+'] => {
                return Err(self.tokens.error("a possessive repeat is not supported"));
            }
            [b'*' | b'+' | b'?', ..] | [b'{', _, ..] => {
                let repeat = token.replace("{,", "{0,");
                regex_syntax::parse(&format!(".{repeat}")).map_err(|_| self.tokens.error("bad repeat count"))?;
                self.out.push_str(&repeat);
            }
            _ => {
                let class = translate_class(token, self.has('a')).map_err(|what| self.tokens.error(what))?;
                self.out.push_str(&class.regex);
                self.folded += if self.has('i') { class.listed } else { 0 };
                if self.folded > MAX_FOLDED {
                    return Err(self.tokens.error("the classes are too large to ignore case"));
                }
                self.is_repeatable = true;
            }
        }
        Ok(())
    }

    fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    fn open(&mut self, token: &'a str) -> Result<(), PatternError> {
        let mut group = Group { at: self.tokens.last, flags: self.flags.clone(), look: None };
        let is_outside = self.groups.is_empty();
        let is_at_start = matches!(self.out.as_str(), "" | "^" | r"\A");
        match token {
            "(" => {}
            "(?=" | "(?!" if !is_outside || !is_at_start => return Err(self.tokens.error(LOOK_AHEAD)),
            "(?<=" | "(?<!" if !is_outside => return Err(self.tokens.error(LOOK_BEHIND)),
            "(?=" | "(?!" | "(?<=" | "(?<!" => group.look = Some((token, mem::take(&mut self.out))),
            "(?P=" => return Err(self.tokens.error("a back-reference is not supported")),
            "(?(" => return Err(self.tokens.error("a conditional is not supported")),
            "(?>" => return Err(self.tokens.error("an atomic group is not supported")),
            _ if token.starts_with("(?P<") && !self.names.insert(token) => {
                return Err(self.tokens.error("two groups have the same name"));
            }
            _ if token.starts_with("(?P<") => {}
            _ if token.ends_with(':') => self.set_flags(&token[2..token.len() - 1])?,
            _ if token.ends_with(')') && is_outside && self.out.is_empty() && self.looks.is_empty() => {
                return self.set_flags(&format!("{}{}", self.flags, &token[2..token.len() - 1]));
            }
            _ if token.ends_with(')') => return Err(self.tokens.error("global flags stand at the start or nowhere")),
            _ => return Err(self.tokens.error("unknown or unfinished group")),
        }
        self.groups.push(group);
        self.out.push_str(&self.group_start());
        Ok(())
    }

    /// Turns flags on and off, which are given as in Python: `im-s`.
    fn set_flags(&mut self, letters: &str) -> Result<(), PatternError> {
        let (on, off) = letters.split_once('-').unwrap_or((letters, ""));
        if on.contains('a') && on.contains('u') || off.contains(|flag| on.contains(flag)) {
            return Err(self.tokens.error("flags that exclude each other"));
        }
        self.flags.retain(|flag| !off.contains(flag) && (flag != 'a' || !on.contains('u')));
        self.flags.push_str(on);
        Ok(())
    }

    /// How a group begins in which these flags hold; `x` and `a` are in what is written for each token.
    fn group_start(&self) -> String {
        let (on, off): (String, String) = "ims".chars().partition(|&flag| self.has(flag));
        format!("(?{on}-{off}x:")
    }

    fn close(&mut self) -> Result<(), PatternError> {
        let Some(group) = self.groups.pop() else { return Err(self.tokens.error("unbalanced parenthesis")) };
        self.out.push(')');
        self.flags = group.flags;
        let Some((token, before)) = group.look else {
            self.is_repeatable = true;
            return Ok(());
        };
        let looked_for = mem::replace(&mut self.out, before);
        let inside = &self.tokens.python[group.at + token.len()..self.tokens.last];
        let is_wanted = token.ends_with('=');
        self.tokens.skip_ignored(self.has('x'));
        let regex = match token {
            "(?=" | "(?!" => self.look_ahead(looked_for, is_wanted, inside),
            _ => self.look_behind(&looked_for),
        };
        let regex = regex.map_err(|what| self.tokens.error_at(group.at, what))?;
        self.looks.push(Part { regex, is_wanted });
        Ok(())
    }

    /// Completes a look-ahead, if it and all that follows may look from the start of the name.
    fn look_ahead(&self, looked_for: String, is_wanted: bool, inside: &str) -> Result<String, &'static str> {
        let rest = self.tokens.rest();
        let is_anchored = self.out == r"\A" || self.out == "^" && !self.has('m');
        // What begins with `.*` and is found from any place is found from the start as well.
        let finds_from_start = |text: &str| text.is_empty() || text.starts_with(".*") || text.starts_with("(?=");
        let may_be_anchored = finds_from_start(inside) && !inside.contains('|') && finds_from_start(rest);
        let is_free = is_wanted && self.out.is_empty();
        if !rest.starts_with(['*', '+', '?', '{']) && (is_anchored || is_free && may_be_anchored) {
            return Ok(format!(r"\A{looked_for}"));
        }
        if is_free && rest.is_empty() && self.looks.is_empty() { Ok(looked_for) } else { Err(LOOK_AHEAD) }
    }

    /// Completes a look-behind, if only the end of the name and of the pattern follows.
    fn look_behind(&self, looked_for: &str) -> Result<String, &'static str> {
        let rest = self.tokens.rest();
        let end = rest.strip_prefix(r"\Z").or(rest.strip_prefix('$').filter(|_| !self.has('m')));
        let follows = |end| Tokens::new(end).take(self.has('x')).is_some();
        if !rest.starts_with("(?<") && end.is_none_or(follows) {
            return Err(LOOK_BEHIND);
        }
        if !has_fixed_width(looked_for) {
            return Err("look-behind without a fixed width");
        }
        Ok(format!(r"{looked_for}\z"))
    }

    /// Completes the translation at the end of the pattern.
    fn finish(mut self) -> Result<Vec<Part>, PatternError> {
        if let Some(group) = self.groups.last() {
            return Err(self.tokens.error_at(group.at, "the parenthesis is not closed"));
        }
        if let Some(at) = self.outer_choice.filter(|_| !self.looks.is_empty()) {
            return Err(self.tokens.error_at(at, "a | outside of groups is not supported beside look-around"));
        }
        let regex = format!("{}{})", self.group_start(), self.out);
        self.looks.push(Part { regex, is_wanted: true });
        Ok(self.looks)
    }
}

//! Globs, which many write where a regular expression is expected.

use super::translate::translate;

/// Returns the regular expression that finds what a glob would: `\.txt$` for `*.txt`, and the empty one for `*`.
pub(super) fn to_regex(glob: &str) -> Option<String> {
    let is_ordinary = |c: char| c.is_alphanumeric() || " -_.,~@%&=:;#!*?[]{}".contains(c);
    if !glob.contains(['*', '?']) || !glob.chars().all(is_ordinary) {
        return None;
    }
    let middle = glob.trim_matches('*');
    if middle.is_empty() {
        return Some(String::new());
    }
    let mut regex = middle.replace('.', r"\.").replace('?', ".").replace('*', ".*").replace("[!", "[^");
    if glob.contains('{') {
        regex = regex.replace('{', "(").replace('}', ")").replace(',', "|");
    }
    let start = if glob.starts_with('*') { "" } else { "^" };
    let end = if glob.ends_with('*') { "" } else { "$" };
    Some(format!("{start}{regex}{end}")).filter(|regex| translate(regex).is_ok())
}

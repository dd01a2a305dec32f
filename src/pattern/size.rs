//! How large a regular expression is, as the regex crate understands it once it has simplified it.

use regex_syntax::hir::{Class, Hir, HirKind};

/// How many ranges of a class cost as much as a byte of text; `\w` has 770.
const RANGES: usize = 48;

/// A width beyond that of any name.
const WIDEST: usize = 1 << 20;

/// Returns what a search costs: a byte of text costs 1, a class, an anchor or a repeat 2, and all repeats are multiplied
/// out. What the regex crate refuses, because it nests too deep, costs more than any limit.
pub(super) fn cost(regex: &str) -> usize {
    regex_syntax::parse(regex).map_or(usize::MAX, |hir| cost_of(&hir))
}

/// Whether what is matched always has the same number of characters.
pub(super) fn has_fixed_width(regex: &str) -> bool {
    regex_syntax::parse(regex).is_ok_and(|hir| width(&hir).is_some())
}

fn cost_of(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => 2 + class.ranges().len() / RANGES,
        HirKind::Repetition(repeat) => {
            let copies = repeat.max.unwrap_or(repeat.min).max(1);
            cost_of(&repeat.sub).saturating_add(2).saturating_mul(copies as usize)
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(cost_of).fold(parts.len(), usize::saturating_add)
        }
        _ => 2,
    }
}

/// Returns how many characters are matched, unless that varies.
fn width(hir: &Hir) -> Option<usize> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(String::from_utf8_lossy(&literal.0).chars().count()),
        HirKind::Class(_) => Some(1),
        HirKind::Capture(group) => width(&group.sub),
        HirKind::Repetition(repeat) => {
            let width = width(&repeat.sub)?;
            let is_fixed = width == 0 || repeat.max == Some(repeat.min);
            is_fixed.then(|| width.saturating_mul(repeat.min as usize).min(WIDEST))
        }
        HirKind::Concat(parts) => parts.iter().map(width).sum(),
        HirKind::Alternation(parts) => {
            let mut widths = parts.iter().map(width);
            let first = widths.next()??;
            widths.all(|width| width == Some(first)).then_some(first)
        }
    }
}

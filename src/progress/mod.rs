//! What a person sees on a terminal meanwhile: bars on standard error, below the messages.
//!
//! Whatever is printed while bars are shown goes through [`suspend`], so that neither garbles the other.

mod bars;
mod screen;

pub(crate) use bars::{FileProgress, Progress, Waiting, clear, suspend};

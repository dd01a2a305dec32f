//! Strangers at a server: whatever they do without the password, and friends do to excess, an honest call is answered
//! meanwhile, memory stays small, nothing panics, and nothing of it is left when they have gone.
//!
//! - `siege`: a server under attack, the honest caller beside it, and what the server may hold
//! - `floods`: many connections that say nothing, too little, too much, or never listen
//!
//! Each server's silence limit is one second. What a test measured is printed; `--nocapture` shows it.

mod floods;
mod siege;

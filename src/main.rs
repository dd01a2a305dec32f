//! `tinyp2p`: the 2004 `TinyP2P` network as one binary.
mod names;
mod pattern;
mod peers;
mod proof;
fn main() {}

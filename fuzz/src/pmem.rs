//! x
/// x
pub fn target(_: &[u8]) {}

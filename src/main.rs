//! The `meanwhile` program.

fn main() {}

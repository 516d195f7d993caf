//! The glm command.
fn main() {}

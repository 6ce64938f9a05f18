//! What the user's shell says to tests, and a run that judges does not hear: a variable that was left in a shell would
//! make a run look at less, or take what it finds for right, and nothing in its output would tell.

use crate::command::Cmd;

/// How names of variables begin that choose what tests look at, or make them accept what they find.
const CHOOSE: [&str; 4] = ["MUSTER_", "PROPTEST_", "INSTA_", "CLIPPY_"];

/// Flags for the compiler, of which some silence its warnings, whatever is denied.
const FLAGS: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// The names of variables that are set and that no judging run hears, in their order.
pub fn ignored() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| CHOOSE.iter().any(|begins| name.starts_with(begins))).collect();
    names.sort_unstable();
    names
}

/// A program that does not hear them.
pub fn deaf(command: Cmd) -> Cmd {
    ignored().iter().fold(command, |command, name| command.without_env(name))
}

/// A compiler that warns as the workspace says.
pub fn unsilenced(command: Cmd) -> Cmd {
    FLAGS.into_iter().fold(command, Cmd::without_env)
}

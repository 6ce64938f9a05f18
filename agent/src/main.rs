//! The agent's binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_agent::cli::main()
}

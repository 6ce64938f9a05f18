//! The command `muster`; all of it is in the library, so that tests can reach it.

fn main() -> std::process::ExitCode {
    muster_coordinator::cli::main()
}

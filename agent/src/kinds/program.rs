//! Small system programs that kinds call, with an error that names program, status and last words.

use crate::{
    Context, StepError,
    ports::{CommandError, Invocation, Output},
};

/// Runs to success.
pub async fn must(ctx: &Context, argv: Vec<String>) -> Result<Output, StepError> {
    let output = ctx.commands.run(Invocation::new(argv.clone())).await?;
    if output.success() { Ok(output) } else { Err(failed(&argv, &output)) }
}

/// The error of a program that ended badly.
pub fn failed(argv: &[String], output: &Output) -> StepError {
    let program = argv.first().map_or("", String::as_str);
    let tail = output.tail(5).replace('\n', " | ");
    let said = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    StepError::failed(format!("`{program}` ended with status {}{said}", output.status)).retry()
}

impl From<CommandError> for StepError {
    fn from(error: CommandError) -> Self {
        let step = StepError::failed(error.to_string());
        match error {
            CommandError::NotFound { .. } => step.help("which package brings it? name it in `after`"),
            CommandError::Start { source, .. } => match start_help(&source) {
                Some(help) => step.because(source).help(help),
                None => step.because(source),
            },
            CommandError::TimedOut { .. } => {
                step.help("give it a longer `timeout`, or find out what it waits for").retry()
            }
            CommandError::NoSandbox { .. } => step.help("guards need a kernel with Landlock (5.13 or newer)"),
        }
    }
}

fn start_help(source: &std::io::Error) -> Option<&'static str> {
    /// ENOEXEC, for which the standard library has no name.
    const NO_PROGRAM: i32 = 8;
    if source.kind() == std::io::ErrorKind::PermissionDenied {
        return Some("it is there and not executable: give it mode = \"0755\", or name its interpreter first");
    }
    (source.raw_os_error() == Some(NO_PROGRAM))
        .then_some("a script needs an interpreter in its first line, as in `#!/bin/sh`; a program one for this machine")
}

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
            CommandError::Start { source, .. } => step.because(source),
            CommandError::TimedOut { .. } => {
                step.help("give it a longer `timeout`, or find out what it waits for").retry()
            }
            CommandError::NoSandbox { .. } => step.help("guards need a kernel with Landlock (5.13 or newer)"),
        }
    }
}

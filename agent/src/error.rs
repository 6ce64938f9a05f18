//! Why a step did not end well: an error that says what to do and whether trying again helps, or an honest wait.
//!
//! Ports have errors of their own; each becomes a [`StepError`] where a kind knows what it means for the user.

use std::error::Error;

use muster_plan::{Outcome, Skip};

/// A step that did not end with everything as written.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Not an error: it waits, or is not this node's to do.
    #[error("skipped")]
    Skip(Skip),
    #[error("{}", .0.message)]
    Failed(#[source] Failure),
}

/// What went wrong, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One line, without the source's text.
    pub message: String,
    /// What a person can do, where the agent knows.
    pub help: Option<String>,
    /// Whether the agent tries again by itself: true for what passes (a lock, a network), false for what only an edit mends.
    pub retry: bool,
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// A failure that only a change of the site or of the node mends.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(Failure { message: message.into(), help: None, retry: false, source: None })
    }

    /// Waits for something outside: "the API server to answer".
    pub fn waits(what: impl Into<String>) -> Self {
        Self::Skip(Skip::Waits { what: what.into() })
    }

    /// Says what a person can do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.help = Some(help.into());
        }
        self
    }

    /// The agent tries again by itself.
    pub fn retry(mut self) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.retry = true;
        }
        self
    }

    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        if let Self::Failed(failure) = &mut self {
            failure.source = Some(source.into());
        }
        self
    }

    /// The outcome that is reported: the whole chain of causes in one line.
    pub fn into_outcome(self) -> Outcome {
        match self {
            Self::Skip(why) => Outcome::Skipped { why },
            Self::Failed(failure) => {
                let mut error = failure.message.clone();
                let mut cause = failure.source();
                while let Some(next) = cause {
                    error.push_str(": ");
                    error.push_str(&next.to_string());
                    cause = next.source();
                }
                Outcome::Failed { error, help: failure.help, retry: failure.retry }
            }
        }
    }
}

/// A step that was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// What came out beyond what the change said: lines for people, never a secret.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_tells_the_whole_chain_once() {
        let cause = std::io::Error::other("disk full");
        let outcome =
            StepError::failed("cannot write /etc/x").because(cause).help("free some space").retry().into_outcome();
        assert_eq!(
            outcome,
            Outcome::Failed {
                error: "cannot write /etc/x: disk full".into(),
                help: Some("free some space".into()),
                retry: true
            }
        );
    }
}

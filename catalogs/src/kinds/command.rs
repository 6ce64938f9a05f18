//! `[[command]]`: a program to run until its guard says that it need not. The last resort among the kinds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Presence, SecretName};

use super::service::Disrupts;

/// A program, given as an argument vector (never a shell line). It is right when a guard says so; what it did is never undone. At least one guard or `on_notify` is required,
/// or it would run at every converge. Guards run without write access; one that cannot be run is an error and no "no". A command
/// has ended when its program itself ended, whatever that leaves running; what is to run on is better a service. It never runs
/// twice at once: one that outlived its agent is waited for, and the guards say whether it is still due. It gets no rights by a
/// set-uid program: to be another user write `runuser`, not `sudo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a command")]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    #[schemars(extend("format" = "word"))]
    pub name: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Skipped when this succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Vec<String>>,
    /// Skipped when this fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<Vec<String>>,
    /// Skipped when this path exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub creates: Option<String>,
    /// Runs only when notified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_notify: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Seconds until it is ended and counted as failed.
    #[serde(default = "timeout")]
    pub timeout: u32,
    #[serde(default)]
    pub disrupts: Disrupts,
}

fn timeout() -> u32 {
    300
}

impl Kind for CommandSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("command", &self.name)]
    }

    fn needs(&self) -> Vec<Need> {
        let programs = [Some(&self.run), self.unless.as_ref(), self.only_if.as_ref()];
        programs
            .into_iter()
            .flatten()
            .flatten()
            .filter(|a| a.starts_with('/'))
            .map(|a| Need::Within(a.clone()))
            .collect()
    }

    fn owns(&self) -> Vec<Owned> {
        self.creates.iter().map(Owned::tree).collect()
    }

    fn presence(&self) -> Presence {
        Presence::Present
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.unless.is_none() && self.only_if.is_none() && self.creates.is_none() && !self.on_notify {
            faults.push(
                Fault::new(
                    "run",
                    "a command without a guard would run at every converge",
                    "says when it need not run: nothing",
                )
                .help("add `unless`, `only_if`, `creates` or `on_notify = true`"),
            );
        }
        for (key, vector) in
            [("run", Some(&self.run)), ("unless", self.unless.as_ref()), ("only_if", self.only_if.as_ref())]
        {
            let Some(vector) = vector else { continue };
            match vector.first() {
                None => faults.push(Fault::new(
                    key,
                    format!("`{key}` of a command is empty"),
                    "expected a program and its arguments",
                )),
                Some(program) if vector.len() == 1 && program.contains(' ') => faults.push(
                    Fault::new(
                        key,
                        format!("`{key}` of a command is one text with blanks"),
                        "expected a program and its arguments, each a text of its own",
                    )
                    .help(format!("write {:?}", apart(program))),
                ),
                Some(_) => {}
            }
        }
        faults
    }
}

/// A shell line as a program and its arguments; as the shell's own argument where it has words of the shell's.
fn apart(line: &str) -> Vec<&str> {
    let shell = line.contains(['|', '&', ';', '<', '>', '$', '*', '`', '"', '\'', '\n']);
    if shell { vec!["sh", "-c", line] } else { line.split_whitespace().collect() }
}

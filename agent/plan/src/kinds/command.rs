//! `[[command]]`: whether its guards ask for a run.

use muster_catalog::kinds::{command::CommandSpec, service::Disrupts};

use super::Describe;
use crate::row::Action;

/// What the guards said; none where there is no such guard, and where it was not asked because the program runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// `unless` succeeded.
    pub unless: Option<bool>,
    /// `only_if` succeeded.
    pub only_if: Option<bool>,
    /// The path of `creates` is there.
    pub creates: Option<bool>,
    /// The process that runs it, started by an agent that is gone or by another one.
    pub under_way: Option<u32>,
}

impl Observed {
    fn wants_a_run(&self) -> bool {
        self.unless != Some(true) && self.only_if != Some(false) && self.creates != Some(true)
    }
}

/// It would be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// A process that runs it already: it is waited for, and what it did is asked of the guards.
    pub waits_for: Option<u32>,
    /// It was notified: due although its guards alone never ask for it.
    pub told: bool,
    pub disrupts: Disrupts,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        Action::Run
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    fn disrupts(&self) -> Disrupts {
        self.disrupts
    }
}

pub fn diff(spec: &CommandSpec, observed: &Observed) -> Option<Change> {
    let guarded = spec.unless.is_some() || spec.only_if.is_some() || spec.creates.is_some();
    let runs = observed.under_way.is_some();
    (runs || (!spec.on_notify && guarded && observed.wants_a_run())).then(|| change(spec, observed, false))
}

/// A run of a command that waits to be told, where no guard says otherwise.
pub fn on_notify(spec: &CommandSpec, observed: &Observed) -> Option<Change> {
    (spec.on_notify && observed.wants_a_run()).then(|| change(spec, observed, true))
}

fn change(spec: &CommandSpec, observed: &Observed, told: bool) -> Change {
    let run = spec.run.join(" ");
    let detail = match observed.under_way {
        Some(pid) => {
            vec![format!("wait for process {pid}, which runs it already"), format!("where it is still due: {run}")]
        }
        None => vec![run],
    };
    Change { waits_for: observed.under_way, told, disrupts: spec.disrupts, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> CommandSpec {
        CommandSpec {
            name: "x".into(),
            run: vec!["true".into()],
            unless: None,
            only_if: None,
            creates: Some("/x".into()),
            on_notify: false,
            environment: Default::default(),
            timeout: 1,
            disrupts: Disrupts::Nothing,
        }
    }

    #[test]
    fn guards_decide() {
        let seen = |creates| Observed { creates: Some(creates), ..Observed::default() };
        assert!(diff(&spec(), &seen(false)).is_some());
        assert_eq!(diff(&spec(), &seen(true)), None);
        let told = CommandSpec { on_notify: true, ..spec() };
        assert_eq!(diff(&told, &seen(false)), None);
        assert!(on_notify(&told, &seen(false)).is_some());
        assert_eq!(on_notify(&told, &seen(true)), None);
        assert_eq!(on_notify(&spec(), &seen(false)), None);
    }

    #[test]
    fn what_runs_already_is_waited_for_whatever_the_guards_say() {
        let runs = Observed { under_way: Some(7), ..Observed::default() };
        for spec in [spec(), CommandSpec { on_notify: true, creates: None, ..spec() }] {
            let change = diff(&spec, &runs).unwrap();
            assert_eq!((change.waits_for, change.told), (Some(7), false));
            assert_eq!(change.detail, ["wait for process 7, which runs it already", "where it is still due: true"]);
        }
    }
}

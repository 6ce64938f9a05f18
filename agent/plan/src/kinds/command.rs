//! `[[command]]`: whether its guards ask for a run.

use muster_catalog::kinds::{command::CommandSpec, service::Disrupts};

use super::Describe;
use crate::row::Action;

/// What the guards said; none where there is no such guard.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// `unless` succeeded.
    pub unless: Option<bool>,
    /// `only_if` succeeded.
    pub only_if: Option<bool>,
    /// The path of `creates` is there.
    pub creates: Option<bool>,
}

impl Observed {
    fn wants_a_run(&self) -> bool {
        self.unless != Some(true) && self.only_if != Some(false) && self.creates != Some(true)
    }
}

/// It would be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
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
    (!spec.on_notify && guarded && observed.wants_a_run()).then(|| change(spec))
}

/// A run of a command that waits to be told, where no guard says otherwise.
pub fn on_notify(spec: &CommandSpec, observed: &Observed) -> Option<Change> {
    (spec.on_notify && observed.wants_a_run()).then(|| change(spec))
}

fn change(spec: &CommandSpec) -> Change {
    Change { disrupts: spec.disrupts, detail: vec![spec.run.join(" ")] }
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
}

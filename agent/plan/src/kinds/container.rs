//! `[[container]]`: the difference. The container carries the digest of the specification that it was made from.

use muster_catalog::kinds::{container::ContainerSpec, service::Disrupts};
use muster_ids::Digest;

use super::Describe;
use crate::row::Action;

/// The label with the specification's digest.
pub const LABEL: &str = "muster.spec";

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
}

/// The container of that name.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    pub running: bool,
    /// The digest that it carries; none where muster did not make it.
    pub digest: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Create,
    Replace { running: bool, ours: bool },
    Start,
    Restart,
    Remove { running: bool },
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Replace { .. } | Self::Start => Action::Change,
            Self::Restart => Action::Run,
            Self::Remove { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        vec![
            match self {
                Self::Create => "create and start",
                Self::Replace { ours: true, .. } => "replace: its specification changed",
                Self::Replace { ours: false, .. } => "replace: it was not made by muster",
                Self::Start => "start",
                Self::Restart => "restart",
                Self::Remove { .. } => "stop and remove",
            }
            .to_owned(),
        ]
    }

    fn disrupts(&self) -> Disrupts {
        match self {
            Self::Create | Self::Start | Self::Replace { running: false, .. } | Self::Remove { running: false } => {
                Disrupts::Nothing
            }
            Self::Replace { running: true, .. } | Self::Restart | Self::Remove { running: true } => Disrupts::Service,
        }
    }
}

/// The address of exactly this specification.
pub fn digest(spec: &ContainerSpec) -> String {
    Digest::of(serde_json::to_vec(spec).unwrap_or_default()).to_string()
}

pub fn diff(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    match (&observed.current, spec.absent) {
        (None, true) => None,
        (None, false) => Some(Change::Create),
        (Some(current), true) => Some(Change::Remove { running: current.running }),
        (Some(current), false) if current.digest.as_ref() != Some(&digest(spec)) => {
            Some(Change::Replace { running: current.running, ours: current.digest.is_some() })
        }
        (Some(current), false) => (!current.running).then_some(Change::Start),
    }
}

/// A restart of what runs.
pub fn on_notify(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    let running = observed.current.as_ref().is_some_and(|current| current.running);
    (running && !spec.absent).then_some(Change::Restart)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_specification_replaces() {
        let spec = ContainerSpec {
            name: "web".into(),
            image: "web:1".into(),
            command: vec![],
            environment: Default::default(),
            ports: vec![],
            volumes: vec![],
            network: None,
            absent: false,
        };
        let current = Current { running: true, digest: Some(digest(&spec)) };
        let seen = Observed { current: Some(current) };
        assert_eq!(diff(&spec, &seen), None);
        let newer = ContainerSpec { image: "web:2".into(), ..spec };
        assert_eq!(diff(&newer, &seen), Some(Change::Replace { running: true, ours: true }));
        assert_eq!(Change::Replace { running: true, ours: true }.disrupts(), Disrupts::Service);
    }
}

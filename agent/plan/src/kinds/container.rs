//! `[[container]]`: the difference. The container carries the digest of the specification that it was made from.

use muster_catalog::kinds::{container::ContainerSpec, service::Disrupts};
use muster_ids::Digest;

use super::Describe;
use crate::row::Action;

#[cfg(test)]
mod tests;

/// The label with the specification's digest.
pub const LABEL: &str = "muster.spec";

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
    /// One that a replacement set aside and did not come to remove.
    pub aside: Option<Current>,
    /// Who else counts on the current one: a tool that manages it, containers that live in its network. Looked for only where
    /// muster did not make it.
    pub users: Vec<String>,
}

/// A container as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Current {
    /// It runs, and not only between two starts.
    pub running: bool,
    /// The digest that it carries; none where muster did not make it.
    pub digest: Option<String>,
    /// The image that it was made from, as it was asked for.
    pub image: String,
    pub volumes: Vec<Volume>,
}

/// A volume in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    /// Docker made the name up.
    pub anonymous: bool,
    /// The path in the container.
    pub at: String,
    pub read_only: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Create,
    Replace(Replace),
    Start,
    /// What a replacement set aside goes.
    Clear,
    Restart,
    Remove {
        running: bool,
        detail: Vec<String>,
    },
    /// It cannot be done, and why; and the way out.
    Refuse {
        why: String,
        help: String,
    },
}

/// A new container in the place of an old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replace {
    /// The old one is that which was set aside already; what bears the name never came to run.
    pub aside: bool,
    /// Something runs that is stopped for it.
    pub running: bool,
    /// The old one's volumes without a name of people's, for the new one.
    pub volumes: Vec<Volume>,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self {
            Self::Create => Action::Create,
            Self::Replace(_) | Self::Start | Self::Clear | Self::Refuse { .. } => Action::Change,
            Self::Restart => Action::Run,
            Self::Remove { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Self::Create => one("create and start"),
            Self::Replace(replace) => replace.detail.clone(),
            Self::Start => one("start"),
            Self::Clear => one("remove the container that was replaced"),
            Self::Restart => one("restart"),
            Self::Remove { detail, .. } => detail.clone(),
            Self::Refuse { why, .. } => one(why),
        }
    }

    fn disrupts(&self) -> Disrupts {
        match self {
            Self::Create | Self::Start | Self::Clear | Self::Refuse { .. } | Self::Remove { running: false, .. } => {
                Disrupts::Nothing
            }
            Self::Replace(replace) if !replace.running => Disrupts::Nothing,
            Self::Replace(_) | Self::Restart | Self::Remove { running: true, .. } => Disrupts::Service,
        }
    }

    fn begins_a_run(&self) -> bool {
        match self {
            Self::Create | Self::Replace(_) | Self::Start | Self::Restart => true,
            Self::Clear | Self::Remove { .. } | Self::Refuse { .. } => false,
        }
    }
}

/// The address of exactly this specification, but for what it says of others' containers.
pub fn digest(spec: &ContainerSpec) -> String {
    let spec = ContainerSpec { adopt: false, ..spec.clone() };
    Digest::of(serde_json::to_vec(&spec).unwrap_or_default()).to_string()
}

pub fn diff(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    if let Some(refusal) = refusal(spec, observed) {
        return Some(refusal);
    }
    let old = observed.aside.as_ref();
    match (&observed.current, old, spec.absent) {
        (None, None, true) => None,
        (None, None, false) => Some(Change::Create),
        (Some(one), _, true) | (None, Some(one), true) => Some(remove(one)),
        // A replacement was cut off: what was set aside is what is known to run.
        (None, Some(old), false) => Some(replace(spec, old, true)),
        (Some(current), Some(old), false) if !current.running => Some(replace(spec, old, true)),
        (Some(current), _, false) if current.digest.as_ref() != Some(&digest(spec)) => {
            Some(replace(spec, current, false))
        }
        (Some(_), Some(_), false) => Some(Change::Clear),
        (Some(current), None, false) => (!current.running).then_some(Change::Start),
    }
}

fn refusal(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    observed.current.as_ref().filter(|current| current.digest.is_none())?;
    let name = &spec.name;
    if !spec.adopt {
        return Some(Change::Refuse {
            why: format!("there is a container {name} that muster did not make"),
            help: "adopt = true replaces it and hands on its volumes that have no name; or remove it, or choose another name"
                .to_owned(),
        });
    }
    (!observed.users.is_empty()).then(|| Change::Refuse {
        why: format!("the container {name} is in use by {}", observed.users.join(", ")),
        help: "take it out of their hands first, or choose another name".to_owned(),
    })
}

fn remove(one: &Current) -> Change {
    let mut detail = vec!["stop and remove".to_owned()];
    detail.extend(one.volumes.iter().map(|volume| format!("the volume {} of {} stays", volume.name, volume.at)));
    Change::Remove { running: one.running, detail }
}

fn replace(spec: &ContainerSpec, old: &Current, aside: bool) -> Change {
    let mut detail = vec![
        match (aside, old.digest.is_some()) {
            (true, _) => "replace: a replacement was cut off",
            (false, true) => "replace: its specification changed",
            (false, false) => "replace: it was not made by muster",
        }
        .to_owned(),
    ];
    if old.image != spec.image {
        detail.push(format!("image {} → {}", old.image, spec.image));
    }
    let mut volumes = Vec::new();
    let written = |at: &str| spec.volumes.iter().any(|volume| volume.split(':').nth(1) == Some(at));
    let named = |name: &str| spec.volumes.iter().any(|volume| volume.split(':').next() == Some(name));
    for volume in &old.volumes {
        let Volume { name, anonymous, at, .. } = volume;
        match (anonymous, written(at)) {
            (true, false) => {
                detail.push(format!("the volume at {at} goes along"));
                volumes.push(volume.clone());
            }
            (_, _) if named(name) => {}
            (_, _) => detail.push(format!("the volume {name} of {at} stays, and is not mounted any more")),
        }
    }
    Change::Replace(Replace { aside, running: old.running, volumes, detail })
}

/// A restart of what runs.
pub fn on_notify(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    let ours = |current: &Current| current.running && current.digest.is_some();
    let running = observed.current.as_ref().is_some_and(ours);
    (running && !spec.absent).then_some(Change::Restart)
}

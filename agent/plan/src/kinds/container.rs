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
    /// One that was to be the new one and did not stay up.
    pub failed: Option<Current>,
    /// What became of the container whose network it shares.
    pub host: Host,
    /// Who else counts on the current one: a tool that manages it, containers that live in its network. Looked for only where
    /// muster did not make it.
    pub users: Vec<String>,
}

/// The container whose network another one shares: Docker leaves that one without any where the first is replaced or starts
/// anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Host {
    #[default]
    Same,
    /// It began anew after the one in its network did.
    StartedLater,
    /// It is another container now.
    Another,
}

/// A container as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Current {
    /// It runs, and not only between two starts.
    pub running: bool,
    /// Docker starts it again when it ends, and after a boot.
    pub kept_up: bool,
    /// Where it does not run: seconds since it ended.
    pub down: u64,
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
    /// Somebody told Docker not to start it again.
    KeepUp,
    /// What a replacement set aside goes, and what failed in one.
    Clear,
    Restart,
    /// Into the network of a container that began anew.
    Rejoin,
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
            Self::Replace(_) | Self::Start | Self::KeepUp | Self::Clear | Self::Refuse { .. } => Action::Change,
            Self::Restart | Self::Rejoin => Action::Run,
            Self::Remove { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match self {
            Self::Create => one("create and start"),
            Self::Replace(replace) => replace.detail.clone(),
            Self::Start => one("start"),
            Self::KeepUp => one("started again after its end and after a boot"),
            Self::Clear => one("remove what is left of a replacement"),
            Self::Restart => one("restart"),
            Self::Rejoin => one("restart (the container whose network it shares began anew)"),
            Self::Remove { detail, .. } => detail.clone(),
            Self::Refuse { why, .. } => one(why),
        }
    }

    fn of_our_doing(&self) -> bool {
        matches!(self, Self::Clear)
    }

    fn disrupts(&self) -> Disrupts {
        match self {
            Self::Create
            | Self::Start
            | Self::KeepUp
            | Self::Clear
            | Self::Refuse { .. }
            | Self::Remove { running: false, .. } => Disrupts::Nothing,
            Self::Replace(replace) if !replace.running => Disrupts::Nothing,
            Self::Replace(_) | Self::Restart | Self::Rejoin | Self::Remove { running: true, .. } => Disrupts::Service,
        }
    }

    fn begins_a_run(&self) -> bool {
        match self {
            Self::Create | Self::Replace(_) | Self::Start | Self::Restart | Self::Rejoin => true,
            Self::KeepUp | Self::Clear | Self::Remove { .. } | Self::Refuse { .. } => false,
        }
    }
}

/// Seconds after which one that did not stay up is tried again: each try stops what runs in its place.
const TRIED_AGAIN: u64 = 3600;

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
    if let Some(failure) = failure(spec, observed) {
        return Some(failure);
    }
    match (&observed.current, old, spec.absent) {
        (None, None, true) if observed.failed.is_some() => Some(Change::Clear),
        (None, None, true) => None,
        (None, None, false) => Some(Change::Create),
        (Some(one), _, true) | (None, Some(one), true) => Some(remove(one)),
        // A replacement was cut off: what was set aside is what is known to run.
        (None, Some(old), false) => Some(replace(spec, old, true)),
        (Some(current), Some(old), false) if !current.running => Some(replace(spec, old, true)),
        (Some(current), _, false)
            if observed.host == Host::Another || current.digest.as_ref() != Some(&digest(spec)) =>
        {
            Some(replace(spec, current, false))
        }
        (Some(_), Some(_), false) => Some(Change::Clear),
        (Some(current), None, false) if !current.running => Some(Change::Start),
        (Some(_), None, false) if observed.host == Host::StartedLater => Some(Change::Rejoin),
        (Some(current), None, false) if !current.kept_up => Some(Change::KeepUp),
        (Some(_), None, false) => observed.failed.is_some().then_some(Change::Clear),
    }
}

/// Something else runs well in its place, and this very one has just failed to.
fn failure(spec: &ContainerSpec, observed: &Observed) -> Option<Change> {
    let (current, failed) = (observed.current.as_ref()?, observed.failed.as_ref()?);
    let wanted = Some(digest(spec));
    let waits = current.running && current.digest != wanted && failed.digest == wanted && failed.down < TRIED_AGAIN;
    let (name, kept, minutes) = (&spec.name, spec.failed(), failed.down / 60);
    (waits && !spec.absent && observed.aside.is_none()).then(|| Change::Refuse {
        why: format!(
            "the container {name} did not stay up as it is written now, {minutes} minutes ago: the old one runs"
        ),
        help: format!(
            "it is kept: `docker logs {kept}` says more; it is tried again an hour after it failed, at once when its \
             specification changes, or after `docker rm {kept}`"
        ),
    })
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
            (false, true) if old.digest == Some(digest(spec)) => {
                "replace: the container whose network it shares is another one"
            }
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

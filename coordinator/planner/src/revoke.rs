//! Whether a node can be revoked: the cluster goes on without it, or nothing is done.

use std::collections::BTreeSet;

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;

use crate::blueprint::{Blueprint, NodeState};

/// Why a node cannot be revoked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRevocable {
    #[error("there is no node {0}")]
    Unknown(NodeName),
    #[error("the cluster is not born yet: nobody could refuse {0}")]
    Unborn(NodeName),
    #[error("{0} is the last control plane: the cluster would end with it")]
    LastControlPlane(NodeName),
    #[error("without {node} {ready} control planes would be ready, and etcd needs {needed} for its quorum")]
    Quorum { node: NodeName, ready: u32, needed: u32 },
}

impl NotRevocable {
    /// What to do instead.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown(_) => "`muster nodes` shows those that there are".to_owned(),
            Self::Unborn(_) => "take it all down and begin anew: muster down, then muster up".to_owned(),
            Self::LastControlPlane(node) => format!(
                "ask for three control planes in muster.toml and `muster apply`; when they are ready, {node} can be revoked"
            ),
            Self::Quorum { .. } => {
                "bring the others back first: `muster status` says what is wrong with them".to_owned()
            }
        }
    }
}

/// Whether it can be, while only `ready` nodes serve. One that is out of service already can: nothing is left to lose.
///
/// A control plane's vote is taken out of etcd while it may do its worst, so the others have to be a majority of the members
/// that there are before, and with that also of those after.
pub fn may_revoke(node: &NodeName, blueprint: &Blueprint, ready: &BTreeSet<NodeName>) -> Result<(), NotRevocable> {
    let Some(plan) = blueprint.nodes.get(node) else { return Err(NotRevocable::Unknown(node.clone())) };
    if plan.state >= NodeState::Revoked {
        return Ok(());
    }
    if !blueprint.born {
        return Err(NotRevocable::Unborn(node.clone()));
    }
    if plan.member == MemberRole::Worker {
        return Ok(());
    }
    let others: Vec<&NodeName> =
        blueprint.control_planes().map(|(name, _)| name).filter(|other| *other != node).collect();
    if others.is_empty() {
        return Err(NotRevocable::LastControlPlane(node.clone()));
    }
    let needed = u32::try_from(others.len().div_ceil(2) + 1).unwrap_or(u32::MAX);
    let ready = u32::try_from(others.iter().filter(|other| ready.contains(**other)).count()).unwrap_or(u32::MAX);
    if ready < needed {
        return Err(NotRevocable::Quorum { node: node.clone(), ready, needed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::fixture::{blueprint, names, node};

    #[test]
    fn a_control_plane_goes_where_the_others_are_a_majority_without_it() {
        let control = |state| {
            let mut plan = node("control", state);
            plan.member = MemberRole::ControlPlane;
            plan
        };
        let of = |count: usize| {
            let all = ["control-1", "control-2", "control-3", "control-4", "control-5"];
            let nodes: Vec<_> = all[..count].iter().map(|name| (*name, control(NodeState::InService))).collect();
            blueprint(&nodes)
        };
        let asks = |count: usize, ready: &[&str]| may_revoke(&"control-1".parse().unwrap(), &of(count), &names(ready));
        assert!(matches!(asks(1, &["control-1"]), Err(NotRevocable::LastControlPlane(_))));
        // Of two the one that is revoked would have to agree.
        assert!(matches!(asks(2, &["control-1", "control-2"]), Err(NotRevocable::Quorum { ready: 1, needed: 2, .. })));
        assert!(matches!(asks(3, &["control-1", "control-2"]), Err(NotRevocable::Quorum { ready: 1, needed: 2, .. })));
        assert_eq!(asks(3, &["control-2", "control-3"]), Ok(()));
        assert!(asks(5, &["control-2", "control-3"]).is_err());
        assert_eq!(asks(5, &["control-2", "control-3", "control-5"]), Ok(()));
        assert!(matches!(
            may_revoke(&"control-9".parse().unwrap(), &of(3), &names(&[])),
            Err(NotRevocable::Unknown(_))
        ));
    }

    #[test]
    fn a_worker_goes_at_any_time_after_the_birth_and_twice_is_as_once() {
        let of = |state, born| Blueprint { born, ..blueprint(&[("workers-1", node("workers", state))]) };
        let asks = |state, born| may_revoke(&"workers-1".parse().unwrap(), &of(state, born), &names(&[]));
        assert_eq!(asks(NodeState::InService, true), Ok(()));
        assert!(matches!(asks(NodeState::InService, false), Err(NotRevocable::Unborn(_))));
        assert_eq!(asks(NodeState::Draining, true), Ok(()));
        assert_eq!(asks(NodeState::Revoked, true), Ok(()));
    }
}

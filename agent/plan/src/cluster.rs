//! The cluster as the control plane that leads sees it: what its watches say now, apart from any converge.
//!
//! A node's own report tells how its last converge ended, which may be minutes ago, and a node that is cut off tells
//! nothing. What Kubernetes, etcd and cluster DNS are just now is one value, sent when it changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the leader sees. Absent parts could not be seen: unknown is never good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Every Node object by its name.
    pub nodes: BTreeMap<String, NodeCondition>,
    /// etcd's members; none while no member of a quorum answers.
    pub members: Option<Vec<Member>>,
    pub dns: Option<Dns>,
}

/// A Node object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCondition {
    /// The condition Ready is True.
    pub ready: bool,
    /// Kubernetes' words where it is not: "KubeletNotReady: container runtime network not ready".
    pub why: Option<String>,
    /// It takes no new pods.
    pub cordoned: bool,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name; of one that never started its address.
    pub node: String,
    pub state: MemberState,
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It answers and votes.
    Voter,
    /// It does not vote yet, and may not have come so far as to answer.
    Learner,
    /// It was announced and never started.
    Unstarted,
    /// It does not answer.
    Silent,
}

impl MemberState {
    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Voter => "votes",
            Self::Learner => "is a learner: it does not vote yet",
            Self::Unstarted => "was announced to etcd and has never started",
            Self::Silent => "does not answer as a member of etcd",
        }
    }
}

/// The servers of cluster DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Nodes that should have one.
    pub wanted: u32,
    pub ready: u32,
}

impl ClusterReport {
    /// Votes that count: of members that answer.
    pub fn votes(&self) -> usize {
        let members = self.members.as_deref().unwrap_or_default();
        members.iter().filter(|member| member.state == MemberState::Voter).count()
    }

    /// Whether etcd would be without a quorum for want of this node's vote; none where that is not known, or where it is the
    /// only member.
    pub fn holds_the_quorum(&self, node: &str) -> Option<bool> {
        let members = self.members.as_ref().filter(|members| members.len() > 1)?;
        let votes = members.iter().any(|member| member.node == node && member.state == MemberState::Voter);
        Some(votes && !self.spare_vote())
    }

    /// Whether one member more may fail.
    pub fn spare_vote(&self) -> bool {
        let members = self.members.as_deref().unwrap_or_default();
        let voters = members.iter().filter(|member| member.state != MemberState::Learner).count();
        self.votes() > voters / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(states: &[MemberState]) -> ClusterReport {
        let member = |(n, state): (usize, &MemberState)| Member { node: format!("n-{n}"), state: *state };
        ClusterReport { members: Some(states.iter().enumerate().map(member).collect()), ..ClusterReport::default() }
    }

    #[test]
    fn a_vote_is_to_spare_only_while_a_majority_stays_without_it() {
        use MemberState::{Learner, Silent, Unstarted, Voter};
        for (states, spare) in [
            (&[Voter][..], false),
            (&[Voter, Voter], false),
            (&[Voter, Voter, Voter], true),
            (&[Voter, Voter, Silent], false),
            (&[Voter, Voter, Unstarted], false),
            (&[Voter, Voter, Voter, Learner], true),
            (&[Voter, Voter, Voter, Voter, Silent], true),
        ] {
            assert_eq!(members(states).spare_vote(), spare, "{states:?}");
        }
        assert!(!ClusterReport::default().spare_vote(), "nobody knows");
        // One of three is silent: it may be disturbed itself, and the other two may not.
        let one_silent = members(&[Voter, Silent, Voter]);
        let holds: Vec<_> = ["n-0", "n-1", "n-2", "w-1"].map(|node| one_silent.holds_the_quorum(node)).into();
        assert_eq!(holds, [Some(true), Some(false), Some(true), Some(false)]);
        assert_eq!(members(&[Voter]).holds_the_quorum("n-0"), None, "it is all there is");
        assert_eq!(ClusterReport::default().holds_the_quorum("n-0"), None);
    }
}

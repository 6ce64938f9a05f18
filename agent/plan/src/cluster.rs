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
    /// Whether etcd would be without a quorum for want of this node's vote. The only member is nobody's to spare.
    pub fn holds_the_quorum(&self, node: &str) -> bool {
        let members = self.members.as_deref().unwrap_or_default();
        let votes = |member: &&Member| member.state == MemberState::Voter;
        let answering = members.iter().filter(votes).count();
        let voters = members.iter().filter(|member| member.state != MemberState::Learner).count();
        let spare = answering > voters / 2 + 1;
        members.len() > 1 && !spare && members.iter().filter(votes).any(|member| member.node == node)
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
        for (states, holds) in [
            (&[Voter, Voter][..], true),
            (&[Voter, Voter, Voter], false),
            (&[Voter, Voter, Silent], true),
            (&[Voter, Voter, Unstarted], true),
            (&[Voter, Voter, Voter, Learner], false),
            (&[Voter, Voter, Voter, Voter, Silent], false),
            // It is all there is.
            (&[Voter], false),
        ] {
            assert_eq!(members(states).holds_the_quorum("n-0"), holds, "{states:?}");
        }
        // Who has no vote that counts may be disturbed.
        let one_silent = members(&[Voter, Silent, Voter]);
        assert!(!one_silent.holds_the_quorum("n-1") && !one_silent.holds_the_quorum("w-1"));
        assert!(!ClusterReport::default().holds_the_quorum("n-0"), "nobody knows");
    }
}

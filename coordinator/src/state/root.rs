//! The root record of an environment: every decision that must survive the coordinator, as versioned JSON.
//!
//! Readings (inventory, reports, metrics) are not decisions and stay out. Catalogs stay out as well: they follow from
//! site, blueprint and facts. Secrets stand here sealed only.

use std::collections::{BTreeMap, BTreeSet};

use muster_ids::{Digest, DiskName, Generation, NodeName, OperatorName};
use muster_planner::inventory::{Instance, Made};
use serde::{Deserialize, Serialize};

use crate::{enrol::Identities, secrets::Sealed};

/// The version that this program writes.
const VERSION: u32 = 1;

/// The epoch of a record that was never restored.
const FIRST_EPOCH: u32 = 1;

/// As many issue numbers of users each epoch has to itself. An epoch that counts minutes makes them 14 digits long, and a
/// user's name 62 at the most; a certificate's common name has room for 64.
const USERS_OF_EPOCH: u64 = 1_000_000;

/// A user's certificate is good for a day from its signature, which follows the number within minutes. Seconds.
const USER_KEPT: i64 = 25 * 3600;

/// Agents that run are heard of within this time after a recovery: they try again every five minutes at least. Seconds.
const HEARD_AGAIN: i64 = 900;

/// All decisions of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub version: u32,
    /// The highest generation ever given. Never falls, a rollback included.
    pub highest: Generation,
    /// What nodes should follow; absent before the first apply.
    pub current: Option<Publication>,
    /// A publication that one node tries first.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// True once a control plane reported a living cluster.
    pub born: bool,
    /// The planner's seed: this environment's own, made once.
    pub seed: u64,
    /// Enrolment tokens, certificates, revocations.
    #[serde(default)]
    pub identities: Identities,
    /// Pauses of nodes, which end by themselves.
    #[serde(default)]
    pub pauses: BTreeMap<NodeName, Pause>,
    /// Instances that are about to be created, by node, with the instance token: written before the provider is asked.
    #[serde(default)]
    pub begun: BTreeMap<NodeName, String>,
    /// Instances whose creation the provider confirmed.
    #[serde(default)]
    pub made: BTreeMap<NodeName, Made>,
    /// Disks that were made: a lost one is never replaced by an empty one.
    #[serde(default)]
    pub disks: BTreeSet<DiskName>,
    /// Seconds since the epoch, when the last step that changes anything at the provider ended.
    #[serde(default)]
    pub last_step: i64,
    /// Kubernetes users by issue number, which is never reused; those whose certificates may still be good.
    #[serde(default)]
    pub users: BTreeMap<u64, UserRecord>,
    /// Secrets that were generated, sealed with the master key.
    #[serde(default)]
    pub secrets: BTreeMap<String, Sealed>,
}

/// One state of affairs that nodes are told to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    pub generation: Generation,
    /// The digest of the site's files.
    pub site: Digest,
    /// The store's object that holds those files (`SiteFiles` as JSON).
    pub site_object: Digest,
    /// The store's object that holds the blueprint, as JSON.
    pub blueprint: Digest,
    /// Who applied the site, where that is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// `apply --only NODE`: the others wait until this node has converged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    pub only: NodeName,
    pub next: Publication,
    /// Seconds since the epoch.
    pub since: i64,
    pub state: RolloutState,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum RolloutState {
    Trying,
    /// It went wrong on the first node: nobody else gets it, and the next apply replaces it.
    Stopped {
        why: String,
    },
}

/// A pause that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub until: i64,
    pub reason: String,
    pub by: String,
}

/// A certificate for the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRecord {
    pub operator: OperatorName,
    pub issued: i64,
}

/// A root record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("the root record has version {0}; this program reads versions up to {VERSION}")]
    Newer(u32),
    #[error("the root record is damaged")]
    Damaged(#[source] serde_json::Error),
}

impl Default for Root {
    fn default() -> Self {
        Self {
            version: VERSION,
            highest: Generation { epoch: FIRST_EPOCH, counter: 0 },
            current: None,
            rollout: None,
            born: false,
            seed: 0,
            identities: Identities::default(),
            pauses: BTreeMap::new(),
            begun: BTreeMap::new(),
            made: BTreeMap::new(),
            disks: BTreeSet::new(),
            last_step: 0,
            users: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }
}

impl Root {
    /// Reads any version up to this program's.
    pub fn from_json(text: &str) -> Result<Self, RootError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text).map_err(RootError::Damaged)?;
        if version > VERSION {
            return Err(RootError::Newer(version));
        }
        let mut root: Self = serde_json::from_str(text).map_err(RootError::Damaged)?;
        root.identities.adopt_operators();
        Ok(root)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a root record has string keys only")
    }

    /// Takes the next generation.
    pub fn next_generation(&mut self) -> Generation {
        self.highest = self.highest.next();
        self.highest
    }

    /// After a recovery: what is published from now on is newer than all that agents saw since the backup. What was
    /// being tried is over, and readings begin anew.
    /// The epoch counts minutes: one backup that is restored twice begins two epochs.
    pub fn begin_epoch(&mut self, now: i64) {
        self.highest = self.highest.next_epoch();
        self.highest.epoch = self.highest.epoch.max(u32::try_from(now / 60).unwrap_or(0));
        self.rollout = None;
        if let Some(current) = &mut self.current {
            current.generation = self.highest;
        }
    }

    /// When this record was restored from a backup, or a little later, in seconds since 1970; none for one that never was.
    pub fn restored(&self) -> Option<i64> {
        let epoch = self.highest.epoch;
        (epoch > FIRST_EPOCH).then(|| (i64::from(epoch) + 1) * 60)
    }

    /// What this node should follow now.
    pub fn publication_for(&self, node: &NodeName) -> Option<&Publication> {
        match &self.rollout {
            Some(rollout) if rollout.only == *node => Some(&rollout.next),
            Some(_) | None => self.current.as_ref(),
        }
    }

    /// The generation that this node should follow now; the default one before the first apply.
    pub fn generation_for(&self, node: &NodeName) -> Generation {
        self.publication_for(node).map(|publication| publication.generation).unwrap_or_default()
    }

    /// The same content under a new generation, for all nodes: facts or secrets changed a catalog.
    pub fn republish(&mut self) {
        if self.current.is_some() {
            let generation = self.next_generation();
            if let Some(current) = &mut self.current {
                current.generation = generation;
            }
        }
        if self.rollout.is_some() {
            // The tried node stays ahead of the others.
            let generation = self.next_generation();
            if let Some(rollout) = &mut self.rollout {
                rollout.next.generation = generation;
            }
        }
    }

    /// The pause that holds at `now`.
    pub fn pause_of(&self, node: &NodeName, now: i64) -> Option<&Pause> {
        self.pauses.get(node).filter(|pause| pause.until > now)
    }

    /// Refuses the node's name and all its certificates from now on, and forgets what is of no use any more.
    pub fn revoke_node(&mut self, node: &NodeName) {
        self.identities.revoke_node(node);
        self.pauses.remove(node);
    }

    /// Before an instance is made: notes the intent and makes `enrolment` the token that it enrols with. The same again
    /// only lets one that nobody used wait from now on. Another instance under the same name, which is answered by true:
    /// what the one before holds is worth nothing from now on.
    pub fn begin_instance(&mut self, node: &NodeName, instance_token: &str, enrolment: Digest, now: i64) -> bool {
        let before = self.begun.insert(node.clone(), instance_token.to_owned());
        let another = before.is_some_and(|before| before != instance_token);
        if another {
            let member = self.identities.members.remove(&format!("agent/{node}"));
            let serials = member.into_iter().flat_map(|member| member.made).map(|made| made.serial);
            self.identities.revocations.serials.extend(serials);
        }
        self.identities.grant(enrolment, node.clone(), now);
        another
    }

    /// Whether an instance, as a reading shows it, runs with a token that ended before it enrolled: it was off for long.
    /// It is the very one that was made for that token, and this record knows of no agent of its name; a record from a
    /// backup may not know, so agents have time to be heard first.
    pub fn waits_in_vain(&self, node: &NodeName, instance: &Instance, now: i64) -> bool {
        let ours = self.begun.get(node) == Some(&instance.token)
            && self.made.get(node).is_some_and(|made| made.token == instance.token && made.id == instance.id);
        let sure = self.restored().is_none_or(|restored| now > restored + HEARD_AGAIN);
        instance.running && ours && sure && self.identities.ended_unused(node, now)
    }

    /// A Kubernetes user name for this operator with an issue number that was never used: not by a later record either,
    /// which a restore has lost.
    pub fn issue_user(&mut self, operator: &OperatorName, now: i64) -> String {
        let last = self.users.last_key_value().map_or(0, |(number, _)| *number);
        let before_epoch = u64::from(self.highest.epoch.saturating_sub(FIRST_EPOCH)) * USERS_OF_EPOCH;
        let number = last.max(before_epoch) + 1;
        self.users.insert(number, UserRecord { operator: operator.clone(), issued: now });
        // The highest was issued now, and stays.
        self.users.retain(|_, user| now - user.issued <= USER_KEPT);
        format!("muster:{operator}:{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn publication(counter: u64) -> Publication {
        let digest = Digest::of("x");
        Publication {
            generation: Generation { epoch: 1, counter },
            site: digest,
            site_object: digest,
            blueprint: digest,
            by: None,
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let newer = Root::default().to_json().replacen("\"version\":1", "\"version\":9", 1);
        assert!(matches!(Root::from_json(&newer), Err(RootError::Newer(9))));
        assert_eq!(Root::from_json(&Root::default().to_json()).unwrap(), Root::default());
    }

    #[test]
    fn version_one_still_loads() {
        let golden = include_str!("root.v1.json");
        let root = Root::from_json(golden).unwrap();
        assert_eq!(root.highest, Generation { epoch: 2, counter: 41 });
        assert!(root.identities.revocations.nodes.contains(&node("workers-1")));
    }

    #[test]
    fn another_instance_of_a_name_ends_what_the_first_one_holds() {
        let (mut root, workers) = (Root::default(), node("workers-1"));
        let serial = muster_proto::Serial::from_random([5; 16]);
        root.begin_instance(&workers, "t-1", Digest::of("one"), 10);
        root.identities.issued(muster_proto::Role::Agent, "workers-1", serial, 1000, 10);
        root.begin_instance(&workers, "t-1", Digest::of("one"), 11);
        assert!(root.identities.revocations.serials.is_empty(), "the same instance asked for again");
        root.begin_instance(&workers, "t-2", Digest::of("two"), 12);
        assert!(root.identities.revocations.serials.contains(&serial));
        assert!(!root.identities.tokens.contains_key(&Digest::of("one")));
        assert!(root.identities.look(&Digest::of("two"), &Digest::of("key"), "i-2", 13).is_ok());
    }

    #[test]
    fn the_tried_node_stays_ahead() {
        let mut root = Root { current: Some(publication(5)), ..Root::default() };
        root.highest = Generation { epoch: 1, counter: 6 };
        root.rollout =
            Some(Rollout { only: node("workers-1"), next: publication(6), since: 0, state: RolloutState::Trying });
        assert_eq!(root.generation_for(&node("workers-1")).counter, 6);
        assert_eq!(root.generation_for(&node("workers-2")).counter, 5);
        root.republish();
        assert!(root.generation_for(&node("workers-2")).counter > 6);
        assert!(root.generation_for(&node("workers-1")) > root.generation_for(&node("workers-2")));
    }

    /// The one that was made with the token `t-1`.
    fn instance() -> Instance {
        Instance {
            id: "i-1".to_owned(),
            token: "t-1".to_owned(),
            incarnation: 1,
            running: true,
            started: true,
            address: None,
            pods: None,
            image: "muster-node:1".to_owned(),
            disks: vec![],
        }
    }

    #[test]
    fn after_a_restore_agents_have_a_quarter_of_an_hour_to_be_heard() {
        let (mut root, workers) = (Root::default(), node("workers-1"));
        root.begin_instance(&workers, "t-1", Digest::of("token"), 0);
        root.made.insert(workers.clone(), Made { token: "t-1".to_owned(), id: "i-1".to_owned() });
        let instance = instance();
        let now = 1_800_000_000;
        assert!(root.waits_in_vain(&workers, &instance, now), "its token is long over");
        root.begin_epoch(now);
        // From the end of the minute that the epoch names.
        let heard = now + 60 + 15 * 60;
        assert!(!root.waits_in_vain(&workers, &instance, heard), "it may have enrolled after the backup");
        assert!(root.waits_in_vain(&workers, &instance, heard + 1));
    }

    #[test]
    fn issue_numbers_are_never_reused() {
        let mut root = Root::default();
        let dana: OperatorName = "dana".parse().unwrap();
        assert_eq!(root.issue_user(&dana, 1), "muster:dana:1");
        assert_eq!(root.issue_user(&dana, 2), "muster:dana:2");
    }

    #[test]
    fn issue_numbers_are_not_reused_after_a_restore() {
        let longest: OperatorName = "d".repeat(40).parse().unwrap();
        let mut root = Root::default();
        root.issue_user(&longest, 1);
        let backup = root.clone();
        let mut given = BTreeSet::from([root.issue_user(&longest, 2)]);
        // The same backup, twice.
        for now in [1_800_000_000, 1_800_000_060] {
            let mut restored = backup.clone();
            restored.begin_epoch(now);
            for _ in 0..2 {
                let user = restored.issue_user(&longest, now);
                assert!(user.len() <= 64, "a certificate's name: {user}");
                assert!(given.insert(user), "{given:?}");
            }
        }
    }

    #[test]
    fn users_whose_certificates_ended_are_forgotten_and_their_numbers_are_not() {
        let mut root = Root::default();
        let dana: OperatorName = "dana".parse().unwrap();
        root.issue_user(&dana, 0);
        root.issue_user(&dana, 24 * 3600);
        assert_eq!(root.users.len(), 2);
        assert_eq!(root.issue_user(&dana, 30 * 24 * 3600), "muster:dana:3");
        assert_eq!(root.users.len(), 1);
    }

    #[test]
    fn only_the_instance_that_was_made_and_never_enrolled_waits_in_vain() {
        const DAY: i64 = 24 * 3600;
        let (mut root, workers) = (Root::default(), node("workers-1"));
        let token = Digest::of("token");
        root.begin_instance(&workers, "t-1", token, 10);
        root.made.insert(workers.clone(), Made { token: "t-1".to_owned(), id: "i-1".to_owned() });
        let instance = instance();
        let late = 10 + DAY + 1;
        assert!(!root.waits_in_vain(&workers, &instance, late - 1), "its token is good");
        assert!(root.waits_in_vain(&workers, &instance, late));
        assert!(!root.waits_in_vain(&workers, &Instance { running: false, ..instance.clone() }, late));
        assert!(!root.waits_in_vain(&workers, &Instance { id: "i-2".to_owned(), ..instance.clone() }, late));
        assert!(!root.waits_in_vain(&workers, &Instance { token: "t-2".to_owned(), ..instance.clone() }, late));
        assert!(!root.waits_in_vain(&node("workers-2"), &instance, late));

        let mut restored = root.clone();
        restored.begin_epoch(2 * DAY);
        assert!(!restored.waits_in_vain(&workers, &instance, 2 * DAY), "it may have enrolled after the backup");
        assert!(restored.waits_in_vain(&workers, &instance, 2 * DAY + 3600));

        let mut again = root.clone();
        again.begin_instance(&workers, "t-1", token, late);
        assert!(!again.waits_in_vain(&workers, &instance, late));
        again.identities.take(&token, Digest::of("key"), "i-1", late).unwrap();
        assert!(!again.waits_in_vain(&workers, &instance, late + 9 * DAY), "it enrolled");
    }
}

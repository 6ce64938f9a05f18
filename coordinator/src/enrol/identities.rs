//! What is known of tokens and certificates, as one value and pure functions over it. It is part of the environment's
//! root record, so every change of it is a compare-and-set.
//!
//! Two answers can get lost on the way, and neither may strand a node:
//! - the answer to an enrolment: the same token, with the same key, gets a certificate again for ten minutes;
//! - the answer to a renewal: until the new certificate was shown once, the one before counts as the newest.

use std::collections::BTreeMap;

use muster_ids::{Digest, NodeName};
use muster_proto::{Peer, Revocations, Role, Serial, tls::EXPIRED_FOR};
use serde::{Deserialize, Serialize};

use super::OperatorCertificate;

/// How long the answer to an enrolment can be asked for again.
const ASK_AGAIN: i64 = 600;
/// How long a token waits for its machine.
const TOKEN_LIFE: i64 = 24 * 3600;
/// How long a node that was readmitted may take.
const READMITTED: i64 = 24 * 3600;
pub(super) const GRACE: i64 = EXPIRED_FOR.as_secs().cast_signed();

/// Tokens, the newest certificates, and revocations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identities {
    /// By the SHA-256 of the token; the token itself is with the machine alone.
    pub tokens: BTreeMap<Digest, Token>,
    /// By role and name, `agent/workers-3`. Operators are in `operators`.
    pub members: BTreeMap<String, Member>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub operators: BTreeMap<Serial, OperatorCertificate>,
    pub revocations: Revocations,
}

/// A token that was given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub node: NodeName,
    /// Seconds since the epoch.
    pub made: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Use>,
}

/// How it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Seconds since the epoch.
    pub at: i64,
    /// The digest of the public key that got the certificate.
    pub key: Digest,
    /// The provider's id of the instance.
    pub instance: String,
}

/// The certificates of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Member {
    /// When the newest certificate that its holder showed to us ends, in seconds since the epoch. Older ones are not
    /// renewed once they expired. Certificates are told apart by their end, not by their serial, because a coordinator that
    /// was restored from a backup knows none of the serials made since, and must believe the newest all the same.
    pub shown_until: i64,
    /// Made, and perhaps still good for a renewal.
    pub made: Vec<Made>,
}

/// A certificate that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub serial: Serial,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// Why someone gets no certificate: clear text for the one who asks, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the enrolment token is unknown here")]
    UnknownToken,
    #[error("the enrolment token was used already")]
    UsedToken,
    #[error("the enrolment token is older than a day; it is good again once the coordinator sees its instance run")]
    OldToken,
    #[error("{0} was revoked")]
    Revoked(String),
    #[error("the certificate of {0} is not renewed; a new one has to be issued")]
    NotRenewed(String),
    #[error("a newer certificate of {0} is in use; an expired one can only be renewed if it is the newest")]
    NotNewest(String),
    #[error("the certificate of {0} expired more than 30 days ago; the node has to be enrolled anew")]
    TooLate(String),
}

pub(super) fn key(role: Role, name: &str) -> String {
    format!("{role}/{name}")
}

impl Identities {
    /// A token for a new machine, before the machine is made. Made again, the node's earlier tokens are gone. Granted
    /// again, one that nobody used waits from now on; a used one stays used.
    pub fn grant(&mut self, token: Digest, node: NodeName, now: i64) {
        self.tokens.retain(|digest, old| old.node != node || *digest == token);
        let granted = self.tokens.entry(token).or_insert(Token { node, made: now, used: None });
        if granted.used.is_none() {
            granted.made = now;
        }
    }

    /// For a day a node may renew its newest certificate however long ago that ended. Whether it is the same machine is the
    /// caller's to ask of the provider.
    pub fn readmit(&mut self, node: NodeName, now: i64) {
        self.revocations.readmitted.retain(|_, until| now <= *until);
        self.revocations.readmitted.insert(node, now + READMITTED);
    }

    /// Since when a node that is not heard can no longer renew its certificate by itself; none for one that can, or that has
    /// none that is known. Seconds since the epoch.
    pub fn too_late_since(&self, node: &NodeName, now: i64) -> Option<i64> {
        let member = self.members.get(&key(Role::Agent, node.as_str()))?;
        let ends = member.made.iter().map(|made| made.not_after).chain([member.shown_until]).max()?;
        (ends > 0 && now - ends > GRACE).then_some(ends + GRACE)
    }

    /// Whether this node's token ended before anyone enrolled with it.
    pub fn ended_unused(&self, node: &NodeName, now: i64) -> bool {
        let ended = |token: &Token| token.node == *node && token.used.is_none() && now - token.made > TOKEN_LIFE;
        !self.members.contains_key(&key(Role::Agent, node.as_str())) && self.tokens.values().any(ended)
    }

    /// The node that a token is for, if it could be used now with this key. Changes nothing: the provider is asked between
    /// this and [`Identities::take`].
    pub fn look(&self, token: &Digest, key: &Digest, instance: &str, now: i64) -> Result<&NodeName, Refusal> {
        let Some(Token { node, made, used }) = self.tokens.get(token) else { return Err(Refusal::UnknownToken) };
        if self.revocations.nodes.contains(node) {
            return Err(Refusal::Revoked(node.to_string()));
        }
        match used {
            None if now - made > TOKEN_LIFE => Err(Refusal::OldToken),
            None => Ok(node),
            Some(used) if used.key == *key && used.instance == instance && now - used.at <= ASK_AGAIN => Ok(node),
            Some(_) => Err(Refusal::UsedToken),
        }
    }

    /// Uses the token, for this key and instance.
    pub fn take(&mut self, token: &Digest, key: Digest, instance: &str, now: i64) -> Result<NodeName, Refusal> {
        let node = self.look(token, &key, instance, now)?.clone();
        if let Some(found) = self.tokens.get_mut(token) {
            found.used.get_or_insert(Use { at: now, key, instance: instance.to_owned() });
        }
        Ok(node)
    }

    /// Whether the holder of this certificate gets a new one. No operator does: a stolen key ends with its certificate.
    pub fn may_renew(&self, peer: &Peer, now: i64) -> Result<(), Refusal> {
        let who = || format!("{} {}", peer.role, peer.name);
        match peer.role {
            Role::Agent => {}
            Role::Operator | Role::Coordinator => return Err(Refusal::NotRenewed(who())),
        }
        if self.revocations.covers_peer(peer) {
            return Err(Refusal::Revoked(who()));
        }
        if now <= peer.not_after {
            return Ok(());
        }
        if now - peer.not_after > GRACE && !self.revocations.readmits(peer.role, &peer.name, now) {
            return Err(Refusal::TooLate(who()));
        }
        let older = |member: &Member| peer.not_after < member.shown_until;
        if self.members.get(&key(peer.role, &peer.name)).is_some_and(older) {
            return Err(Refusal::NotNewest(who()));
        }
        Ok(())
    }

    /// Records an agent's certificate that is about to be handed out.
    pub fn issued(&mut self, role: Role, name: &str, serial: Serial, not_after: i64, now: i64) {
        let member = self.members.entry(key(role, name)).or_default();
        member.made.retain(|made| now - made.not_after <= GRACE);
        member.made.push(Made { serial, not_after });
        if role == Role::Agent {
            self.revocations.readmitted.retain(|node, until| node.as_str() != name && now <= *until);
        }
    }

    /// A certificate was shown: from now on older ones are not the newest. False if that was known.
    pub fn shown(&mut self, peer: &Peer) -> bool {
        let member = self.members.entry(key(peer.role, &peer.name)).or_default();
        let newer = peer.not_after > member.shown_until;
        member.shown_until = member.shown_until.max(peer.not_after);
        newer
    }

    /// For good: its name is never used again.
    pub fn revoke_node(&mut self, node: &NodeName) {
        self.tokens.retain(|_, token| token.node != *node);
        self.members.remove(&key(Role::Agent, node.as_str()));
        self.revocations.readmitted.remove(node);
        self.revocations.nodes.insert(node.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;

    fn serial(n: u8) -> Serial {
        Serial::from_random([n; 16])
    }

    fn peer(n: u8, not_after: i64) -> Peer {
        Peer {
            role: Role::Agent,
            operator: None,
            name: "workers-1".to_owned(),
            serial: serial(n),
            not_before: not_after - DAY,
            not_after,
            expired: false,
            address: ([10, 89, 1, 4], 1).into(),
        }
    }

    #[test]
    fn a_token_works_once_and_a_lost_answer_can_be_asked_for_again() {
        let (token, mine, other) = (Digest::of("token"), Digest::of("my key"), Digest::of("another key"));
        let mut identities = Identities::default();
        assert_eq!(identities.take(&token, mine, "i-1", NOW), Err(Refusal::UnknownToken));
        identities.grant(token, "workers-1".parse().unwrap(), NOW);
        assert_eq!(identities.take(&token, mine, "i-1", NOW).unwrap().as_str(), "workers-1");
        assert!(identities.take(&token, mine, "i-1", NOW + 60).is_ok());
        assert_eq!(identities.take(&token, other, "i-1", NOW + 60), Err(Refusal::UsedToken));
        assert_eq!(identities.take(&token, mine, "i-2", NOW + 60), Err(Refusal::UsedToken));
        assert_eq!(identities.take(&token, mine, "i-1", NOW + 601), Err(Refusal::UsedToken));
        // Granting it again does not make it new.
        identities.grant(token, "workers-1".parse().unwrap(), NOW);
        assert_eq!(identities.take(&token, other, "i-1", NOW + 60), Err(Refusal::UsedToken));
    }

    #[test]
    fn a_token_that_nobody_used_waits_anew_from_its_last_grant() {
        let (token, key) = (Digest::of("token"), Digest::of("key"));
        let node: NodeName = "workers-1".parse().unwrap();
        let mut identities = Identities::default();
        identities.grant(token, node.clone(), NOW);
        let later = NOW + 3 * DAY;
        assert!(!identities.ended_unused(&node, NOW + DAY) && identities.ended_unused(&node, later));
        assert!(!identities.ended_unused(&"workers-2".parse().unwrap(), later));
        // Its instance could only be made today.
        identities.grant(token, node.clone(), later);
        assert!(!identities.ended_unused(&node, later));
        assert_eq!(identities.take(&token, key, "i-1", later + DAY).as_ref(), Ok(&node));
        assert!(!identities.ended_unused(&node, later + 9 * DAY), "it is used");
        identities.grant(token, node.clone(), later + 9 * DAY);
        assert_eq!(identities.tokens[&token].made, later, "a used one stays as it is");
        assert_eq!(identities.take(&token, key, "i-1", later + 9 * DAY), Err(Refusal::UsedToken));
    }

    #[test]
    fn old_tokens_and_those_of_revoked_nodes_are_refused() {
        let (token, key) = (Digest::of("token"), Digest::of("key"));
        let node: NodeName = "workers-1".parse().unwrap();
        let mut identities = Identities::default();
        identities.grant(token, node.clone(), NOW);
        assert_eq!(identities.take(&token, key, "i-1", NOW + DAY + 1), Err(Refusal::OldToken));
        identities.revoke_node(&node);
        assert_eq!(identities.take(&token, key, "i-1", NOW), Err(Refusal::UnknownToken));
        identities.grant(token, node, NOW);
        assert!(matches!(identities.take(&token, key, "i-1", NOW), Err(Refusal::Revoked(_))));
    }

    #[test]
    fn only_the_newest_expired_certificate_is_renewed_and_for_thirty_days() {
        let mut identities = Identities::default();
        identities.issued(Role::Agent, "workers-1", serial(1), NOW + DAY, NOW);
        let first = peer(1, NOW + DAY);
        assert!(identities.may_renew(&first, NOW).is_ok());
        let after = NOW + DAY + 1;
        assert!(identities.may_renew(&first, after).is_ok());
        assert!(identities.may_renew(&first, NOW + 31 * DAY).is_ok());
        assert!(matches!(identities.may_renew(&first, NOW + 31 * DAY + 1), Err(Refusal::TooLate(_))));

        // The answer with the second got lost: the first is still good, until the second is seen.
        identities.shown(&first);
        identities.issued(Role::Agent, "workers-1", serial(2), NOW + 2 * DAY, after);
        assert!(identities.may_renew(&first, after).is_ok());
        let second = peer(2, NOW + 2 * DAY);
        assert!(identities.shown(&second));
        assert!(!identities.shown(&second));
        assert!(matches!(identities.may_renew(&first, after), Err(Refusal::NotNewest(_))));
        assert!(identities.may_renew(&second, NOW + 3 * DAY).is_ok());
    }

    #[test]
    fn a_coordinator_restored_from_a_backup_believes_the_newest() {
        let mut backup = Identities::default();
        backup.shown(&peer(1, NOW + DAY));
        assert!(backup.may_renew(&peer(9, NOW + 2 * DAY), NOW + 3 * DAY).is_ok());
        assert!(Identities::default().may_renew(&peer(9, NOW + DAY), NOW + 3 * DAY).is_ok());
    }

    #[test]
    fn a_revoked_node_renews_nothing() {
        let mut identities = Identities::default();
        identities.issued(Role::Agent, "workers-1", serial(1), NOW + DAY, NOW);
        identities.revoke_node(&"workers-1".parse().unwrap());
        assert!(matches!(identities.may_renew(&peer(1, NOW + DAY), NOW), Err(Refusal::Revoked(_))));
    }

    #[test]
    fn after_a_month_off_a_node_renews_its_newest_certificate_once_when_it_is_readmitted() {
        let mut identities = Identities::default();
        let node: NodeName = "workers-1".parse().unwrap();
        identities.issued(Role::Agent, "workers-1", serial(1), NOW + DAY, NOW);
        assert_eq!(identities.too_late_since(&node, NOW + 31 * DAY), None);
        let late = NOW + 32 * DAY;
        assert_eq!(identities.too_late_since(&node, late), Some(NOW + 31 * DAY));
        let shown = peer(1, NOW + DAY);
        assert!(matches!(identities.may_renew(&shown, late), Err(Refusal::TooLate(_))));
        identities.readmit(node.clone(), late);
        assert!(matches!(identities.may_renew(&shown, late + DAY + 1), Err(Refusal::TooLate(_))), "for a day");
        assert!(identities.may_renew(&shown, late + 60).is_ok());
        let other = Peer { name: "workers-2".to_owned(), ..shown.clone() };
        assert!(matches!(identities.may_renew(&other, late + 60), Err(Refusal::TooLate(_))));

        identities.issued(Role::Agent, "workers-1", serial(2), late + DAY, late);
        assert_eq!(identities.too_late_since(&node, late + 60), None);
        assert!(matches!(identities.may_renew(&shown, late + 90), Err(Refusal::TooLate(_))), "once");
        let mut revoked = identities.clone();
        revoked.readmit(node.clone(), late);
        revoked.revoke_node(&node);
        assert_eq!(revoked.revocations.readmitted, [].into());
    }

    #[test]
    fn an_operator_renews_nothing() {
        let operator = Peer { role: Role::Operator, name: "dana".to_owned(), ..peer(1, NOW + DAY) };
        for now in [NOW, NOW + DAY + 1] {
            assert!(matches!(Identities::default().may_renew(&operator, now), Err(Refusal::NotRenewed(_))));
        }
    }
}

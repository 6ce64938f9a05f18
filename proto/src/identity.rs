//! Who is on the other side, said by the certificate alone.
//!
//! A certificate carries one URI, `spiffe://muster/CLUSTER/ENVIRONMENT/ROLE/NAME/SERIAL`, whose last part repeats the
//! certificate's serial number. Everything else that a peer says about itself is ignored. Clients (agents, operators)
//! and servers (the coordinator) have disjoint extended key usages, so that neither passes for the other.
//!
//! An operator's URI says its role between the two: `…/operator/apply/dana/SERIAL`. It stands in the URI and in no
//! extension of its own, because a program that does not know roles refuses such a URI and would overlook an extension. One
//! without is from before there were roles, and counts as `admin`: it was given with all rights, nobody makes another, and
//! the last of them ended a day after the coordinator learned of roles. As `read` it would lock out, in the midst of an
//! update, those who make it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
};

use muster_ids::{ClusterName, EnvName, NodeName, OperatorName};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::OperatorRole;

/// The cluster and environment that a CA serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Realm {
    pub cluster: ClusterName,
    pub environment: EnvName,
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.environment)
    }
}

/// What a certificate's holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Agent,
    Operator,
    Coordinator,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Operator => "operator",
            Role::Coordinator => "coordinator",
        }
    }

    /// Coordinators serve; agents and operators call.
    pub const fn serves(self) -> bool {
        match self {
            Role::Coordinator => true,
            Role::Agent | Role::Operator => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A certificate's serial number: 16 bytes, the first of them 1 to 127, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

impl Serial {
    /// From random bytes; the first is made positive and not zero, so that DER keeps all sixteen.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[0] = (bytes[0] & 0x7f).max(1);
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = InvalidCertificate;
    fn from_str(text: &str) -> Result<Self, InvalidCertificate> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidCertificate::Serial)?;
        if bytes[0] == 0 || bytes[0] > 0x7f { Err(InvalidCertificate::Serial) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Serial {
    type Error = InvalidCertificate;
    fn try_from(text: String) -> Result<Self, InvalidCertificate> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> String {
        serial.to_string()
    }
}

/// What a certificate's URI says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub realm: Realm,
    pub role: Role,
    /// An operator's; none in a certificate from before there were roles.
    pub operator: Option<OperatorRole>,
    /// A node's or an operator's name; of the coordinator, `coordinator`.
    pub name: String,
    pub serial: Serial,
}

impl Identity {
    pub fn uri(&self) -> String {
        let Realm { cluster, environment } = &self.realm;
        let operator = self.operator.map_or(String::new(), |role| format!("{role}/"));
        format!("spiffe://muster/{cluster}/{environment}/{}/{operator}{}/{}", self.role, self.name, self.serial)
    }

    pub fn from_uri(uri: &str) -> Result<Self, InvalidCertificate> {
        let bad = || InvalidCertificate::Uri(uri.to_owned());
        let parts: Vec<&str> = uri.strip_prefix("spiffe://muster/").ok_or_else(bad)?.split('/').collect();
        let (cluster, environment, role, operator, name, serial) = match parts[..] {
            [cluster, environment, role, name, serial] => (cluster, environment, role, None, name, serial),
            [cluster, environment, "operator", operator, name, serial] => {
                let operator: OperatorRole = operator.parse().map_err(|_| bad())?;
                (cluster, environment, "operator", Some(operator), name, serial)
            }
            _ => return Err(bad()),
        };
        let role = match role {
            "agent" => Role::Agent,
            "operator" => Role::Operator,
            "coordinator" => Role::Coordinator,
            _ => return Err(bad()),
        };
        let named = match role {
            Role::Agent => name.parse::<NodeName>().is_ok(),
            Role::Operator => name.parse::<OperatorName>().is_ok(),
            Role::Coordinator => name == COORDINATOR,
        };
        if !named {
            return Err(bad());
        }
        let realm = Realm {
            cluster: cluster.parse().map_err(|_| bad())?,
            environment: environment.parse().map_err(|_| bad())?,
        };
        Ok(Self { realm, role, operator, name: name.to_owned(), serial: serial.parse()? })
    }
}

/// The coordinator's name in its certificate.
pub const COORDINATOR: &str = "coordinator";

/// A certificate that is none of muster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    #[error("the certificate cannot be read")]
    Der,
    #[error("the certificate has not exactly one URI")]
    Uris,
    #[error("`{0}` is no identity of muster")]
    Uri(String),
    #[error("the serial number is not one of muster's, or not the one in the URI")]
    Serial,
    #[error("the certificate's key usages are not those of its role, {0}")]
    Usage(Role),
    #[error("the certificate is of {found}, and this is {expected}")]
    Realm { found: Realm, expected: Realm },
}

/// A certificate as read, of which nothing but its form is proven yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub identity: Identity,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
}

impl Leaf {
    /// Reads a certificate's identity; its key usages must be exactly its role's.
    pub fn read(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidCertificate::Der)?;
        let names = certificate.subject_alternative_name().map_err(|_| InvalidCertificate::Der)?;
        let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(InvalidCertificate::Uris) };
        let identity = Identity::from_uri(uri)?;
        // As numbers: DER may carry leading zeros.
        let raw = certificate.raw_serial();
        let number = &raw[raw.iter().take_while(|byte| **byte == 0).count()..];
        if number != identity.serial.as_bytes() {
            return Err(InvalidCertificate::Serial);
        }
        let usage = certificate.extended_key_usage().map_err(|_| InvalidCertificate::Der)?;
        let usage = usage.ok_or(InvalidCertificate::Usage(identity.role))?.value;
        let serves = identity.role.serves();
        if usage.any || usage.server_auth != serves || usage.client_auth == serves || certificate.is_ca() {
            return Err(InvalidCertificate::Usage(identity.role));
        }
        let validity = certificate.validity();
        Ok(Self { identity, not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
    }

    /// Refuses one of another cluster or environment.
    pub fn of(self, realm: &Realm) -> Result<Self, InvalidCertificate> {
        if &self.identity.realm == realm {
            Ok(self)
        } else {
            Err(InvalidCertificate::Realm { found: self.identity.realm, expected: realm.clone() })
        }
    }
}

/// An authenticated caller, as handlers see it in a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub role: Role,
    /// An operator's, as its certificate says: [`Peer::operator_role`] is what counts.
    pub operator: Option<OperatorRole>,
    pub name: String,
    pub serial: Serial,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// Past `not_after` when the connection was made: good for a renewal and nothing else.
    pub expired: bool,
    pub address: SocketAddr,
}

impl Peer {
    pub fn new(leaf: Leaf, address: SocketAddr, now: i64) -> Self {
        let Identity { role, operator, name, serial, realm: _ } = leaf.identity;
        let (not_before, not_after) = (leaf.not_before, leaf.not_after);
        Self { role, operator, name, serial, not_before, not_after, expired: now > not_after, address }
    }

    /// The agent's node; nothing for other roles.
    pub fn node(&self) -> Option<NodeName> {
        match self.role {
            Role::Agent => self.name.parse().ok(),
            Role::Operator | Role::Coordinator => None,
        }
    }

    /// The operator's name; nothing for other roles.
    pub fn operator(&self) -> Option<OperatorName> {
        match self.role {
            Role::Operator => self.name.parse().ok(),
            Role::Agent | Role::Coordinator => None,
        }
    }

    /// The operator's role, `admin` for a certificate from before there were roles; nothing for others.
    pub fn operator_role(&self) -> Option<OperatorRole> {
        match self.role {
            Role::Operator => Some(self.operator.unwrap_or(OperatorRole::Admin)),
            Role::Agent | Role::Coordinator => None,
        }
    }
}

/// What is no longer believed, and what is believed once more. A retired node's name is never used again, so naming it revokes every certificate that it
/// ever got, one whose delivery was lost included. An operator's name stays usable: revoked by name is what began before a
/// moment, so that certificates which a restored record does not know are covered, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocations {
    pub serials: BTreeSet<Serial>,
    pub nodes: BTreeSet<NodeName>,
    /// Operators' certificates that began before this, in seconds since the epoch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub operators: BTreeMap<OperatorName, i64>,
    /// Nodes whose newest certificate may be renewed however long ago it ended, until when, in seconds since the epoch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub readmitted: BTreeMap<NodeName, i64>,
}

impl Revocations {
    /// Whether an operator let this node renew a certificate that ended too long ago.
    pub fn readmits(&self, role: Role, name: &str, now: i64) -> bool {
        role == Role::Agent && self.readmitted.iter().any(|(node, until)| node.as_str() == name && now <= *until)
    }

    pub fn covers(&self, leaf: &Leaf) -> bool {
        let Identity { role, name, serial, .. } = &leaf.identity;
        self.cover(*role, name, serial, leaf.not_before)
    }

    pub fn covers_peer(&self, peer: &Peer) -> bool {
        self.cover(peer.role, &peer.name, &peer.serial, peer.not_before)
    }

    fn cover(&self, role: Role, name: &str, serial: &Serial, not_before: i64) -> bool {
        let named = match role {
            Role::Agent => self.nodes.iter().any(|node| node.as_str() == name),
            Role::Operator => {
                self.operators.iter().any(|(operator, until)| operator.as_str() == name && not_before < *until)
            }
            Role::Coordinator => false,
        };
        named || self.serials.contains(serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role, name: &str) -> Identity {
        Identity {
            realm: Realm { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() },
            role,
            operator: None,
            name: name.to_owned(),
            serial: Serial::from_random([0xff; 16]),
        }
    }

    fn leaf(role: Role, name: &str, not_before: i64) -> Leaf {
        Leaf { identity: identity(role, name), not_before, not_after: not_before + 24 * 3600 }
    }

    #[test]
    fn an_identity_survives_its_uri() {
        for (role, name) in [(Role::Agent, "workers-3"), (Role::Operator, "dana"), (Role::Coordinator, COORDINATOR)] {
            let identity = identity(role, name);
            assert_eq!(Identity::from_uri(&identity.uri()), Ok(identity));
        }
        for operator in OperatorRole::ALL {
            let identity = Identity { operator: Some(operator), ..identity(Role::Operator, "dana") };
            assert!(identity.uri().contains(&format!("/operator/{operator}/dana/")), "{}", identity.uri());
            assert_eq!(Identity::from_uri(&identity.uri()), Ok(identity));
        }
    }

    #[test]
    fn an_operator_without_a_role_is_an_admin_and_nobody_else_has_one() {
        let peer = |role, operator, name| {
            let identity = Identity { operator, ..identity(role, name) };
            Peer::new(Leaf { identity, not_before: 0, not_after: 1 }, ([127, 0, 0, 1], 1).into(), 0)
        };
        assert_eq!(peer(Role::Operator, None, "dana").operator_role(), Some(OperatorRole::Admin));
        for role in OperatorRole::ALL {
            assert_eq!(peer(Role::Operator, Some(role), "dana").operator_role(), Some(role));
            assert_eq!(peer(Role::Agent, Some(role), "workers-3").operator_role(), None);
        }
    }

    #[test]
    fn other_uris_are_none() {
        let good = identity(Role::Agent, "workers-3").uri();
        for bad in [
            good.replace("spiffe://muster", "spiffe://other"),
            good.replace("/agent/", "/root/"),
            good.replace("workers-3", "../x"),
            good.replace("workers-3", "Workers"),
            format!("{good}/more"),
            good.replace("/local", ""),
            identity(Role::Coordinator, "mallory").uri(),
            // No role of operators, and one for an agent.
            good.replace("/agent/", "/operator/root/"),
            good.replace("/agent/", "/operator//"),
            good.replace("/agent/", "/agent/admin/"),
        ] {
            assert!(Identity::from_uri(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn naming_a_node_revokes_all_its_certificates() {
        let revocations = Revocations { nodes: ["workers-3".parse().unwrap()].into(), ..Default::default() };
        assert!(revocations.covers(&leaf(Role::Agent, "workers-3", 0)));
        assert!(!revocations.covers(&leaf(Role::Operator, "workers-3", 0)));
        assert!(!revocations.covers(&leaf(Role::Agent, "workers-30", 0)));
    }

    #[test]
    fn naming_an_operator_revokes_what_began_before_and_leaves_the_name_usable() {
        let revocations = Revocations { operators: [("dana".parse().unwrap(), 100)].into(), ..Default::default() };
        assert!(revocations.covers(&leaf(Role::Operator, "dana", 99)));
        assert!(!revocations.covers(&leaf(Role::Operator, "dana", 100)));
        assert!(!revocations.covers(&leaf(Role::Operator, "erin", 99)));
        assert!(!revocations.covers(&leaf(Role::Agent, "dana", 99)));
        let serial = identity(Role::Operator, "dana").serial;
        assert!(Revocations { serials: [serial].into(), ..Default::default() }.covers(&leaf(
            Role::Operator,
            "dana",
            100
        )));
    }
}

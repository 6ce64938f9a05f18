//! The certificates of operators, as the record keeps them: whose, with which role, and whether they are still believed.
//!
//! Each is recorded before it is handed out, and forgotten 30 days after its end: until then it says who could do what.

use muster_ids::OperatorName;
use muster_proto::{OperatorRole, Role, Serial};
use serde::{Deserialize, Serialize};

use super::identities::{GRACE, Identities, key};
use crate::ca::{LIFE, SKEW};

/// A certificate of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorCertificate {
    pub name: OperatorName,
    pub role: OperatorRole,
    /// Seconds since the epoch.
    pub issued: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// When a certificate was revoked, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Seconds since the epoch.
    pub at: i64,
    pub by: OperatorName,
}

/// What is revoked: all that an operator holds now, or one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Name(OperatorName),
    Serial(Serial),
}

/// Why nothing was revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRevoked {
    #[error("there is no certificate of {0} that could be used\n  help: see who holds one: muster operator list")]
    Unknown(String),
    #[error(
        "no admin would be left\n  help: give somebody else a certificate of the role admin first, or add --force: another is \
         issued in the coordinator's container"
    )]
    LastAdmin,
}

impl OperatorCertificate {
    /// Whether it opens anything at `now`.
    pub fn counts(&self, now: i64) -> bool {
        self.revoked.is_none() && now <= self.not_after
    }
}

impl Identities {
    /// Records an operator's certificate that is about to be handed out.
    pub fn issued_operator(&mut self, serial: Serial, certificate: OperatorCertificate) {
        let now = certificate.issued;
        self.operators.insert(serial, certificate);
        let over: Vec<Serial> =
            self.operators.iter().filter(|(_, old)| now - old.not_after > GRACE).map(|o| *o.0).collect();
        for serial in over {
            // Nobody is let in with one that is over for so long, revoked or not.
            self.operators.remove(&serial);
            self.revocations.serials.remove(&serial);
        }
        self.revocations.operators.retain(|_, before| now - *before <= LIFE_SECONDS + GRACE);
    }

    /// Revokes, and returns what of it was good until now. Refused where that leaves no admin and for one that is not known,
    /// unless by `force`: a record from a backup does not know whom it names.
    pub fn revoke_operator(
        &mut self,
        whose: &Whose,
        by: &OperatorName,
        force: bool,
        now: i64,
    ) -> Result<Vec<(Serial, OperatorCertificate)>, NotRevoked> {
        let meant = |serial: &Serial, certificate: &OperatorCertificate| match whose {
            Whose::Name(name) => certificate.name == *name,
            Whose::Serial(one) => serial == one,
        };
        let good = self.operators.iter().filter(|(_, certificate)| certificate.counts(now));
        let (gone, left): (Vec<_>, Vec<_>) = good.partition(|(serial, certificate)| meant(serial, certificate));
        let admins =
            |some: &[(&Serial, &OperatorCertificate)]| some.iter().any(|one| one.1.role == OperatorRole::Admin);
        if !force {
            if gone.is_empty() {
                return Err(NotRevoked::Unknown(match whose {
                    Whose::Name(name) => name.to_string(),
                    Whose::Serial(serial) => serial.to_string(),
                }));
            }
            if admins(&gone) && !admins(&left) {
                return Err(NotRevoked::LastAdmin);
            }
        }
        let gone: Vec<_> = gone.into_iter().map(|(serial, one)| (*serial, one.clone())).collect();
        for (serial, _) in &gone {
            self.revocations.serials.insert(*serial);
            if let Some(certificate) = self.operators.get_mut(serial) {
                certificate.revoked = Some(Revoked { at: now, by: by.clone() });
            }
        }
        match whose {
            // Those of this second are known by their serials, and one that is issued after this is good.
            Whose::Name(name) => drop(self.revocations.operators.insert(name.clone(), now - SKEW_SECONDS)),
            Whose::Serial(serial) => drop(self.revocations.serials.insert(*serial)),
        }
        Ok(gone)
    }

    /// Takes over what a record from before there were roles has of operators. Their certificates had all rights.
    pub(crate) fn adopt_operators(&mut self) {
        let prefix = key(Role::Operator, "");
        let theirs = |name: &String| name.starts_with(&prefix);
        let names: Vec<String> = self.members.keys().filter(|name| theirs(name)).cloned().collect();
        for member in names {
            let name = member[prefix.len()..].parse::<OperatorName>();
            let (Some(member), Ok(name)) = (self.members.remove(&member), name) else { continue };
            for made in member.made {
                let (role, not_after) = (OperatorRole::Admin, made.not_after);
                let issued = not_after - LIFE_SECONDS;
                let certificate = OperatorCertificate { name: name.clone(), role, issued, not_after, revoked: None };
                self.operators.entry(made.serial).or_insert(certificate);
            }
        }
    }
}

const LIFE_SECONDS: i64 = LIFE.as_secs().cast_signed();
const SKEW_SECONDS: i64 = SKEW.as_secs().cast_signed();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::{Made, Member};

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3600;

    fn serial(n: u8) -> Serial {
        Serial::from_random([n; 16])
    }

    fn name(name: &str) -> OperatorName {
        name.parse().unwrap()
    }

    fn certificate(of: &str, role: OperatorRole) -> OperatorCertificate {
        OperatorCertificate { name: name(of), role, issued: NOW, not_after: NOW + DAY, revoked: None }
    }

    /// Dana has two certificates of the role admin, erin one of the role read.
    fn three() -> Identities {
        let mut identities = Identities::default();
        identities.issued_operator(serial(1), certificate("dana", OperatorRole::Admin));
        identities.issued_operator(serial(2), certificate("dana", OperatorRole::Admin));
        identities.issued_operator(serial(3), certificate("erin", OperatorRole::Read));
        identities
    }

    #[test]
    fn by_name_all_are_revoked_and_by_serial_one() {
        let mut identities = three();
        let gone = identities.revoke_operator(&Whose::Name(name("erin")), &name("dana"), false, NOW + 9).unwrap();
        assert_eq!(gone, [(serial(3), certificate("erin", OperatorRole::Read))]);
        assert_eq!(identities.operators[&serial(3)].revoked, Some(Revoked { at: NOW + 9, by: name("dana") }));
        let gone = identities.revoke_operator(&Whose::Serial(serial(1)), &name("dana"), false, NOW + 9).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(identities.revocations.serials, [serial(1), serial(3)].into());
        assert_eq!(identities.operators[&serial(2)].revoked, None);
        let again = identities.revoke_operator(&Whose::Name(name("erin")), &name("dana"), false, NOW + 9);
        assert_eq!(again, Err(NotRevoked::Unknown("erin".to_owned())));
    }

    #[test]
    fn the_last_admin_is_revoked_by_force_alone() {
        let mut identities = three();
        let dana = Whose::Name(name("dana"));
        let before = identities.clone();
        assert_eq!(identities.revoke_operator(&dana, &name("dana"), false, NOW), Err(NotRevoked::LastAdmin));
        assert_eq!(identities, before, "a refusal changes nothing");
        // One of two is not the last; and an admin whose certificate is over is none.
        identities.revoke_operator(&Whose::Serial(serial(1)), &name("dana"), false, NOW).unwrap();
        let last = Whose::Serial(serial(2));
        assert_eq!(identities.revoke_operator(&last, &name("dana"), false, NOW), Err(NotRevoked::LastAdmin));
        let ended = OperatorCertificate { not_after: NOW - 1, ..certificate("frank", OperatorRole::Admin) };
        identities.issued_operator(serial(4), ended);
        assert_eq!(identities.revoke_operator(&last, &name("dana"), false, NOW), Err(NotRevoked::LastAdmin));
        identities.issued_operator(serial(5), certificate("frank", OperatorRole::Admin));
        assert!(identities.revoke_operator(&last, &name("dana"), false, NOW).is_ok());
        assert_eq!(
            identities.revoke_operator(&Whose::Name(name("frank")), &name("frank"), true, NOW).unwrap().len(),
            1
        );
    }

    #[test]
    fn one_that_the_record_does_not_know_is_revoked_by_force() {
        let mut identities = three();
        let (grace, lost) = (Whose::Name(name("grace")), Whose::Serial(serial(9)));
        for whose in [&grace, &lost] {
            assert!(matches!(
                identities.revoke_operator(whose, &name("dana"), false, NOW),
                Err(NotRevoked::Unknown(_))
            ));
            assert_eq!(identities.revoke_operator(whose, &name("dana"), true, NOW).unwrap(), []);
        }
        assert_eq!(identities.revocations.operators[&name("grace")], NOW - SKEW_SECONDS);
        assert!(identities.revocations.serials.contains(&serial(9)));
    }

    #[test]
    fn a_certificate_is_forgotten_thirty_days_after_its_end_with_its_revocation() {
        let mut identities = three();
        identities.revoke_operator(&Whose::Name(name("erin")), &name("dana"), false, NOW).unwrap();
        let at = |issued: i64| OperatorCertificate {
            issued,
            not_after: issued + DAY,
            ..certificate("dana", OperatorRole::Read)
        };
        identities.issued_operator(serial(6), at(NOW + DAY + GRACE));
        assert_eq!(identities.operators.len(), 4);
        assert!(identities.revocations.serials.contains(&serial(3)));
        identities.issued_operator(serial(7), at(NOW + DAY + GRACE + 1));
        assert_eq!(identities.operators.keys().copied().collect::<Vec<_>>(), [serial(6), serial(7)]);
        assert!(identities.revocations.serials.is_empty());
    }

    #[test]
    fn operators_of_an_older_record_are_admins() {
        let mut old = Identities::default();
        let made = vec![Made { serial: serial(1), not_after: NOW + DAY }];
        old.members.insert("operator/dana".to_owned(), Member { shown_until: 0, made });
        old.members.insert("agent/workers-1".to_owned(), Member::default());
        old.adopt_operators();
        assert_eq!(old.operators[&serial(1)], certificate("dana", OperatorRole::Admin));
        assert_eq!(old.members.keys().collect::<Vec<_>>(), ["agent/workers-1"]);
    }
}

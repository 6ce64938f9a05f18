//! What an operator may do, as the certificate says: three roles, each of which may do what the one before may.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An operator's role. The order is that of their rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// Looks: status, events, plans.
    Read,
    /// Changes what a site can change.
    Apply,
    /// Whatever reaches keys, identities and data.
    Admin,
}

impl OperatorRole {
    pub const ALL: [Self; 3] = [Self::Read, Self::Apply, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Apply => "apply",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role of operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role of operators: read, apply or admin")]
pub struct UnknownRole(String);

impl FromStr for OperatorRole {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_survives_its_text_and_another_text_names_the_three() {
        for role in OperatorRole::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for bad in ["", "Admin", "root", "read "] {
            let error = bad.parse::<OperatorRole>().unwrap_err().to_string();
            assert_eq!(error, format!("`{bad}` is no role of operators: read, apply or admin"));
        }
    }

    #[test]
    fn each_role_may_what_the_one_before_may() {
        assert!(OperatorRole::Read < OperatorRole::Apply && OperatorRole::Apply < OperatorRole::Admin);
    }
}

//! Names that people choose or that are made from them: DNS labels (RFC 1123), so that each can be a host name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is no DNS label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is no {what}: lower-case letters, digits and `-` only, beginning with a letter, at most {most} characters"
)]
pub struct InvalidName {
    pub what: &'static str,
    pub value: String,
    pub most: usize,
}

fn check(what: &'static str, value: &str, most: usize) -> Result<(), InvalidName> {
    let good = !value.is_empty()
        && value.len() <= most
        && value.as_bytes()[0].is_ascii_lowercase()
        && !value.ends_with('-')
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(InvalidName { what, value: value.to_owned(), most }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $most:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                check($what, value, $most)?;
                Ok(Self(value.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                value.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength": $most
                })
            }
        }
    };
}

name!(/// The cluster's name, as in `[cluster] name`.
    ClusterName, "cluster name", 40);
name!(/// An environment's name, the stem of a file in `environments/`.
    EnvName, "environment name", 20);
name!(/// A pool's name, as in `[pool.NAME]`.
    PoolName, "pool name", 40);
name!(/// A role's name, the stem of a file in `roles/`.
    RoleName, "role name", 40);
name!(/// A node's name: its pool's and a number that only counts upwards, `workers-3`. Never used again once retired.
    NodeName, "node name", 63);
name!(/// An endpoint's name, as in `[endpoint.NAME]`.
    EndpointName, "endpoint name", 40);
name!(/// A disk's name, as in `[disk.NAME]`.
    DiskName, "disk name", 40);
name!(/// An application's name, as in `[app.NAME]`.
    AppName, "application name", 40);
name!(/// An operator's name, as in the certificate of the command line.
    OperatorName, "operator name", 40);

impl NodeName {
    /// The node of `pool` with `ordinal`, counted from 1.
    pub fn of(pool: &PoolName, ordinal: u32) -> Self {
        Self(format!("{pool}-{ordinal}"))
    }

    /// The number behind the pool's name, where there is one.
    pub fn ordinal(&self) -> Option<u32> {
        self.0.rsplit_once('-')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!("workers".parse::<PoolName>().is_ok());
        for bad in ["", "1st", "Workers", "a_b", "a-", "a/b", "../x", &"a".repeat(41)] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_knows_its_ordinal() {
        let node = NodeName::of(&"control-plane".parse().unwrap(), 12);
        assert_eq!((node.as_str(), node.ordinal()), ("control-plane-12", Some(12)));
    }
}

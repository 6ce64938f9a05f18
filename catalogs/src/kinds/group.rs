//! `[[group]]`: a group of the operating system.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A group of the node. Equal are its name and, where it is written, its number. Its members are a matter of users and left alone. The
/// primary group of a user is not removed, and files of a removed group keep its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a group")]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    #[schemars(extend("format" = "account"))]
    pub name: String,
    /// Where it changes, files keep the old number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4_294_967_294_u32))]
    pub gid: Option<u32>,
    /// With a number of the system's when it is made; one that is there is left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// True removes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl Kind for GroupSpec {
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::new("group", &self.name)];
        claims.extend(self.gid.filter(|_| !self.absent).map(|gid| Claim::new("group id", gid.to_string())));
        claims
    }

    fn needs(&self) -> Vec<Need> {
        // Whose primary group it was has another by then.
        if self.absent { vec![Need::Those("user", Presence::Present)] } else { Vec::new() }
    }

    fn owns(&self) -> Vec<Owned> {
        Vec::new()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.name == "root" && self.absent {
            faults.push(Fault::new("absent", "the group root cannot be removed", "the node needs it"));
        }
        faults.extend(self.gid.and_then(|gid| super::user::number_fault("gid", gid)));
        faults
    }

    fn signals(&self) -> Vec<Signal> {
        super::user::ACCOUNTS.map(|path| Signal::Path(path.to_owned())).into()
    }
}

//! `[[user]]`: a user of the operating system.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A user of the node. Equal is what is written, as the system's database has it; what is not written is left alone, the password and
/// its age always. A home is made when the user is, and never moved or removed: data
/// outlives accounts. When the user is removed its own group goes with it, unless a resource keeps it or others are in it.
/// Where processes still run as the user, it is not removed and gets no other number. A user of a directory service (LDAP,
/// sssd) can be named and is right where it is as written, but only there it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a user")]
#[serde(deny_unknown_fields)]
pub struct UserSpec {
    #[schemars(extend("format" = "account"))]
    pub name: String,
    /// Where it changes, the files in the user's home follow; others keep the old number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 4_294_967_294_u32))]
    pub uid: Option<u32>,
    /// The primary group; absent: one of the user's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "account"))]
    pub group: Option<String>,
    /// Further groups: exactly these, and none where the list is empty. Absent: memberships are left alone. The primary group
    /// may be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("items" = { "type": "string", "format": "account" }))]
    pub groups: Option<Vec<String>>,
    /// Absent: as it is, and `/home/NAME` for one that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub home: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub shell: Option<String>,
    /// A system account, when it is made; one that is there is left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system: bool,
    /// True removes the user, and not what is in its home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// The highest number means "as it is" to the kernel.
pub(super) fn number_fault(key: &'static str, number: u32) -> Option<Fault> {
    (number == u32::MAX).then(|| {
        Fault::new(key, format!("there can be no account with the number {number}"), "expected another number")
    })
}

/// Where the system keeps its users and groups.
pub(crate) const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];

impl Kind for UserSpec {
    fn claims(&self) -> Vec<Claim> {
        let mut claims = vec![Claim::new("user", &self.name)];
        // Another may have the number of one that goes.
        claims.extend(self.uid.filter(|_| !self.absent).map(|uid| Claim::new("user id", uid.to_string())));
        claims
    }

    fn needs(&self) -> Vec<Need> {
        // Without `group` the primary one has the user's name.
        let primary = self.group.as_ref().unwrap_or(&self.name);
        let mut needs: Vec<Need> =
            self.groups.iter().flatten().chain([primary]).map(|g| Need::Named("group", g.clone())).collect();
        needs.extend(self.home.iter().map(|home| Need::AboveHome(home.clone())));
        if self.absent {
            // Any of them may be its primary group, which goes after it.
            needs.push(Need::Those("group", Presence::Absent));
        }
        needs
    }

    fn owns(&self) -> Vec<Owned> {
        self.home.iter().map(Owned::tree).collect()
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        ACCOUNTS.map(|path| Signal::Path(path.to_owned())).into()
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.name == "root" && self.absent {
            faults.push(Fault::new("absent", "root cannot be removed", "the node needs it"));
        }
        for (key, path) in [("home", &self.home), ("shell", &self.shell)] {
            if path.as_ref().is_some_and(|path| path.contains(':')) {
                let message = format!("the {key} of {} has a colon", self.name);
                faults.push(Fault::new(key, message, "colons part the fields of /etc/passwd"));
            }
        }
        faults.extend(self.uid.and_then(|uid| number_fault("uid", uid)));
        faults
    }
}

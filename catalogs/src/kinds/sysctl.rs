//! `[[sysctl]]`: a kernel setting, now and after a reboot.

use serde::{Deserialize, Serialize};

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A kernel setting, kept in `/etc/sysctl.d/zz-muster-KEY.conf`, which a boot reads after the files of others. Equal is what the
/// kernel calls equal: blanks and tabs, numbers in hexadecimal, lists of numbers and ranges. A value that the kernel makes
/// another one of is an error that says which, and so is a file that a boot reads later with another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "a sysctl")]
#[serde(deny_unknown_fields)]
pub struct SysctlSpec {
    #[schemars(extend("format" = "sysctl"))]
    pub key: String,
    pub value: String,
    /// True removes the file that keeps it. The kernel keeps the value until the next boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl SysctlSpec {
    /// The file that keeps it over a reboot. A slash, which stands for a dot in an interface's name, is written as a comma.
    pub fn file(&self) -> String {
        format!("/etc/sysctl.d/zz-muster-{}.conf", self.key.replace('/', ","))
    }

    /// The live value's file below `/proc/sys`.
    pub fn live_file(&self) -> String {
        format!("/proc/sys/{}", Self::path(&self.key))
    }

    /// The path of a key below `/proc/sys`, as sysctl.d(5) has it: the first separator decides. After a dot, dots separate and
    /// slashes stand for dots; after a slash all is as it stands.
    pub fn path(key: &str) -> String {
        if key.find(['.', '/']).is_some_and(|first| key[first..].starts_with('/')) {
            return key.to_owned();
        }
        let turned = |character| match character {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        key.chars().map(turned).collect()
    }

    /// Keys that set this one, too, where they are written: `all` those of each interface, forwarding what goes with it.
    fn set_before(&self) -> Vec<String> {
        let path = Self::path(&self.key);
        let parts: Vec<&str> = path.split('/').collect();
        let ["net", family @ ("ipv4" | "ipv6"), "conf", interface, setting] = parts.as_slice() else {
            return Vec::new();
        };
        let mut before = vec![format!("net.{family}.conf.all.{setting}"), format!("net.{family}.conf.all.forwarding")];
        before.dedup();
        if *interface == "all" {
            before.retain(|_| *setting != "forwarding");
            before.retain(|key| *key != self.key);
        }
        if *family == "ipv4" {
            before.push("net.ipv4.ip_forward".to_owned());
        }
        before
    }
}

impl Kind for SysctlSpec {
    const ENDS_WITH_BOOT: bool = true;
    const UNDONE_BY_OTHERS: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::new("sysctl", &self.key), Claim::path(self.file())]
    }

    fn needs(&self) -> Vec<Need> {
        let before = self.set_before().into_iter().map(|key| Need::Named("sysctl", key));
        std::iter::once(Need::Kind("kernel_module")).chain(before).collect()
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.file())]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.file()), Signal::Path(self.live_file())]
    }
    fn faults(&self) -> Vec<Fault> {
        if self.value.contains(['\n', '\0']) {
            let label = "expected one line: more would set other keys";
            return vec![Fault::new("value", format!("the value of {} has several lines", self.key), label)];
        }
        Vec::new()
    }
}

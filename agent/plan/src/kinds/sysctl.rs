//! `[[sysctl]]`: the difference of the live value and of the file that keeps it.

use muster_catalog::kinds::sysctl::SysctlSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The live value; none where the kernel has no such setting (yet).
    pub live: Option<String>,
    /// The text of the file in `/etc/sysctl.d`.
    pub kept: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub live: bool,
    /// The file's new text.
    pub kept: Option<String>,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        Action::Change
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &SysctlSpec, observed: &Observed) -> Option<Change> {
    let mut detail = Vec::new();
    let live = observed.live.as_deref().is_none_or(|value| words(value) != words(&spec.value));
    if live {
        match &observed.live {
            Some(value) => detail.push(format!("{} → {}", words(value), words(&spec.value))),
            None => detail.push(format!("is not there → {}", words(&spec.value))),
        }
    }
    let text = format!("# Written by muster.\n{} = {}\n", spec.key, spec.value);
    let kept = (observed.kept.as_deref() != Some(&text)).then_some(text);
    if kept.is_some() {
        detail.push("kept over a reboot".to_owned());
    }
    if detail.is_empty() { None } else { Some(Change { live, kept, detail }) }
}

/// Values of several numbers are separated by tabs when read and by blanks when written.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_tabs_are_one() {
        let spec = SysctlSpec { key: "net.ipv4.ip_local_port_range".into(), value: "32768 60999".into() };
        let kept = Some("# Written by muster.\nnet.ipv4.ip_local_port_range = 32768 60999\n".to_owned());
        assert_eq!(diff(&spec, &Observed { live: Some("32768\t60999\n".into()), kept }), None);
        assert_eq!(spec.live_file(), "/proc/sys/net/ipv4/ip_local_port_range");
        let vlan = SysctlSpec { key: "net.ipv4.conf.eth0/1.forwarding".into(), value: "1".into() };
        assert_eq!(vlan.live_file(), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }
}

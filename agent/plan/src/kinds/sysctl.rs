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
    /// The last file that a boot reads after ours and that sets the key, and its value.
    pub later: Option<(String, String)>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub live: bool,
    /// The file's new text.
    pub kept: Option<String>,
    /// The file goes.
    pub removed: bool,
    /// A file of somebody else that a boot would follow.
    pub overruled: Option<String>,
    pub detail: Vec<String>,
}

impl Describe for Change {
    fn action(&self) -> Action {
        if self.removed { Action::Remove } else { Action::Change }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &SysctlSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        let detail = vec!["not kept over a reboot any more; the value stays until then".to_owned()];
        let change = Change { live: false, kept: None, removed: true, overruled: None, detail };
        return observed.kept.is_some().then_some(change);
    }
    let mut detail = Vec::new();
    let live = observed.live.as_deref().is_none_or(|value| !equal(value, &spec.value));
    if live {
        match &observed.live {
            Some(value) => detail.push(format!("{} → {}", shown(value), shown(&spec.value))),
            None => detail.push(format!("is not there → {}", shown(&spec.value))),
        }
    }
    let text = format!("# Written by muster.\n{} = {}\n", spec.key, spec.value);
    let kept = (observed.kept.as_deref() != Some(&text)).then_some(text);
    if kept.is_some() {
        detail.push("kept over a reboot".to_owned());
    }
    let later = observed.later.as_ref().filter(|(_, value)| !equal(value, &spec.value));
    let overruled =
        later.map(|(file, value)| format!("{file} sets it to {}, and a boot reads that later", shown(value)));
    detail.extend(overruled.clone());
    (!detail.is_empty()).then_some(Change { live, kept, removed: false, overruled, detail })
}

/// Whether the kernel makes the same of two values.
pub fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (words(one), words(other));
    if one == other {
        return true;
    }
    let numbers = |text: &str| text.split(' ').map(number).collect::<Option<Vec<_>>>();
    if let (Some(one), Some(other)) = (numbers(&one), numbers(&other)) {
        return one == other;
    }
    matches!((ranges(&one), ranges(&other)), (Some(one), Some(other)) if one == other)
}

/// Values of several numbers are separated by tabs when read and by blanks when written.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shown(value: &str) -> String {
    let words = words(value);
    if words.is_empty() { "nothing".to_owned() } else { words }
}

/// As strtol(3) reads it: hexadecimal after `0x`, octal after `0`.
fn number(word: &str) -> Option<i128> {
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    let plain = digits.starts_with(|character: char| character.is_ascii_hexdigit());
    if plain { i128::from_str_radix(digits, radix).ok().map(|number| sign * number) } else { None }
}

/// A list of numbers and ranges, as of ports or processors: sorted, and what touches joined.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last {
            return None;
        }
        all.push((first, last));
    }
    all.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in all {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            Some(_) | None => joined.push((first, last)),
        }
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(key: &str, value: &str) -> SysctlSpec {
        SysctlSpec { key: key.into(), value: value.into(), absent: false }
    }

    #[test]
    fn equal_is_what_the_kernel_calls_equal() {
        for (one, other) in [
            ("250\t32000\t100\t128\n", "250 32000  100 128"),
            ("16", "0x10"),
            ("8", "010"),
            ("-1", " -1 "),
            ("30000-30011,32000\n", "32000,30000-30010,30011"),
            ("1,2,3", "1-3"),
            ("\n", ""),
            ("|/lib/x %P %u\n", "|/lib/x %P %u"),
        ] {
            assert!(equal(one, other), "{one:?} {other:?}");
        }
        for (one, other) in
            [("1", "2"), ("1 2", "1"), ("1-3", "1-4"), ("3-1", "1-3"), ("", "1"), ("0x", "0"), ("a", "b")]
        {
            assert!(!equal(one, other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_value_is_live_and_kept() {
        let spec = spec("net.ipv4.ip_local_port_range", "32768 60999");
        let kept = Some("# Written by muster.\nnet.ipv4.ip_local_port_range = 32768 60999\n".to_owned());
        let seen = Observed { live: Some("32768\t60999\n".into()), kept, later: None };
        assert_eq!(diff(&spec, &seen), None);
        assert_eq!(spec.live_file(), "/proc/sys/net/ipv4/ip_local_port_range");
        let vlan = SysctlSpec { key: "net.ipv4.conf.eth0/1.forwarding".into(), ..spec.clone() };
        assert_eq!(vlan.live_file(), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");

        let absent = SysctlSpec { absent: true, ..spec };
        assert!(diff(&absent, &seen).is_some_and(|change| change.removed && !change.live));
        assert_eq!(diff(&absent, &Observed { kept: None, ..seen }), None);
    }

    #[test]
    fn what_a_boot_would_make_of_it_is_a_difference() {
        let spec = spec("vm.swappiness", "10");
        let kept = Some("# Written by muster.\nvm.swappiness = 10\n".to_owned());
        let later = |value: &str| Some(("/etc/sysctl.d/zzz.conf".to_owned(), value.to_owned()));
        let seen = Observed { live: Some("10".into()), kept, later: later("0xa") };
        assert_eq!(diff(&spec, &seen), None);
        let change = diff(&spec, &Observed { later: later("60"), ..seen }).unwrap();
        assert!(!change.live && change.kept.is_none());
        assert_eq!(change.detail, ["/etc/sysctl.d/zzz.conf sets it to 60, and a boot reads that later"]);
    }
}

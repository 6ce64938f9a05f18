//! `[[mount]]`: the difference of what is mounted and of its line in `/etc/fstab`.
//!
//! Known imprecision: of a live mount only source and type are compared, because the kernel shows options in words of its
//! own; a change of options alone rewrites the line and remounts.

use muster_catalog::kinds::mount::MountSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub mounted: Option<Mounted>,
    /// The whole text of `/etc/fstab`.
    pub fstab: String,
    /// What `UUID=…` or a link stands for on this node, where the source is one.
    pub device: Option<String>,
}

/// The topmost mount at the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Mounted {
    pub source: String,
    pub fstype: String,
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The new text of `/etc/fstab`.
    pub fstab: Option<String>,
    pub does: Does,
    pub detail: Vec<String>,
    pub fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    Nothing,
    Mount,
    Remount,
    /// Unmounts what is there first.
    Replace,
    Unmount,
}

impl Describe for Change {
    fn action(&self) -> Action {
        match (self.does, self.fresh) {
            (Does::Unmount, _) => Action::Remove,
            (Does::Mount, true) => Action::Create,
            (Does::Nothing | Does::Mount | Does::Remount | Does::Replace, _) => Action::Change,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

/// The options as written to fstab.
pub fn options(spec: &MountSpec) -> String {
    if spec.options.is_empty() { "defaults".to_owned() } else { spec.options.join(",") }
}

fn escape(field: &str) -> String {
    field.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011")
}

fn line(spec: &MountSpec) -> String {
    format!("{} {} {} {} 0 0", escape(&spec.source), escape(&spec.path), spec.fstype, options(spec))
}

fn mount_point(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with('#') { None } else { line.split_whitespace().nth(1) }
}

pub fn diff(spec: &MountSpec, observed: &Observed) -> Option<Change> {
    let path = escape(&spec.path);
    let (ours, others): (Vec<&str>, Vec<&str>) =
        observed.fstab.lines().partition(|line| mount_point(line) == Some(path.as_str()));
    let mut detail = Vec::new();
    let wanted = (!spec.absent).then(|| line(spec));
    let kept = match &wanted {
        Some(wanted) => ours == [wanted.as_str()],
        None => ours.is_empty(),
    };
    let fstab = (!kept).then(|| {
        let mut text: String = others.iter().map(|line| format!("{line}\n")).collect();
        for line in &ours {
            detail.push(format!("- {line}"));
        }
        if let Some(wanted) = &wanted {
            detail.push(format!("+ {wanted}"));
            text.push_str(wanted);
            text.push('\n');
        }
        text
    });
    let does = match (&observed.mounted, spec.absent) {
        (None, true) => Does::Nothing,
        (Some(_), true) => Does::Unmount,
        (None, false) => Does::Mount,
        (Some(mounted), false) if !same(spec, observed, mounted) => {
            detail.push(format!("mounted is {} ({})", mounted.source, mounted.fstype));
            Does::Replace
        }
        (Some(_), false) if fstab.is_some() && !ours.is_empty() => Does::Remount,
        (Some(_), false) => Does::Nothing,
    };
    (fstab.is_some() || does != Does::Nothing).then_some(Change { fstab, does, detail, fresh: ours.is_empty() })
}

fn same(spec: &MountSpec, observed: &Observed, mounted: &Mounted) -> bool {
    let bind = spec.options.iter().any(|option| option == "bind" || option == "rbind");
    // A bind mount shows the file system that the folder is on.
    bind || ((spec.fstype == "auto" || spec.fstype == mounted.fstype)
        && (mounted.source == spec.source || observed.device.as_deref() == Some(mounted.source.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MountSpec {
        MountSpec {
            path: "/srv/a b".into(),
            source: "tmpfs".into(),
            fstype: "tmpfs".into(),
            options: vec!["size=1m".into()],
            absent: false,
        }
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let fstab = "# by hand\nUUID=1 / ext4 defaults 0 1\n";
        let change = diff(&spec(), &Observed { fstab: fstab.into(), ..Observed::default() }).unwrap();
        let text = change.fstab.unwrap();
        assert_eq!(text, format!("{fstab}tmpfs /srv/a\\040b tmpfs size=1m 0 0\n"));
        assert_eq!(change.does, Does::Mount);
        let mounted = Some(Mounted { source: "tmpfs".into(), fstype: "tmpfs".into() });
        let seen = Observed { mounted: mounted.clone(), fstab: text.clone(), device: None };
        assert_eq!(diff(&spec(), &seen), None);
        let gone = MountSpec { absent: true, ..spec() };
        let change = diff(&gone, &seen).unwrap();
        assert_eq!((change.fstab.as_deref(), change.does), (Some(fstab), Does::Unmount));
        let wider = MountSpec { options: vec!["size=2m".into()], ..spec() };
        assert_eq!(diff(&wider, &seen).unwrap().does, Does::Remount);
    }
}

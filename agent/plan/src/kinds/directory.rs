//! `[[directory]]`: the difference, and what a purge takes away.

use muster_catalog::kinds::directory::DirectorySpec;

use super::Describe;
use crate::row::Action;

/// What was seen, and what names in the specification mean on this node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub current: Option<Current>,
    pub mode: u32,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Paths in the folder that no resource owns and that hold nothing owned; looked for only where `purge` is set.
    pub strangers: Vec<String>,
}

/// What is at the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// A folder and no link to one.
    pub directory: bool,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub does: Does,
    pub detail: Vec<String>,
}

/// The act.
#[derive(Debug, Clone, PartialEq)]
pub enum Does {
    Make {
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// Mode and owner where `attributes`, then the paths are removed.
    Mend {
        attributes: bool,
        mode: u32,
        uid: Option<u32>,
        gid: Option<u32>,
        purge: Vec<String>,
    },
    /// With all in it where `tree`.
    Remove {
        tree: bool,
    },
}

impl Describe for Change {
    fn action(&self) -> Action {
        match self.does {
            Does::Make { .. } => Action::Create,
            Does::Mend { .. } => Action::Change,
            Does::Remove { .. } => Action::Remove,
        }
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }
}

pub fn diff(spec: &DirectorySpec, observed: &Observed) -> Option<Change> {
    let Observed { mode, uid, gid, .. } = *observed;
    let Some(current) = &observed.current else {
        let made = Change { does: Does::Make { mode, uid, gid }, detail: vec![format!("mode {mode:04o}")] };
        return (!spec.absent).then_some(made);
    };
    if spec.absent {
        return Some(Change { does: Does::Remove { tree: spec.purge }, detail: Vec::new() });
    }
    if !current.directory {
        let detail = vec!["something else is there: it has to be moved away by hand".to_owned()];
        return Some(Change { does: Does::Make { mode, uid, gid }, detail });
    }
    let mut detail = Vec::new();
    if current.mode != mode {
        detail.push(format!("mode {:04o} → {mode:04o}", current.mode));
    }
    if uid != Some(current.uid) {
        detail.push(format!("owner {} → {}", current.uid, spec.owner));
    }
    if gid != Some(current.gid) {
        detail.push(format!("group {} → {}", current.gid, spec.group));
    }
    let attributes = !detail.is_empty();
    detail.extend(observed.strangers.iter().map(|path| format!("- {path}")));
    if detail.is_empty() {
        return None;
    }
    Some(Change { does: Does::Mend { attributes, mode, uid, gid, purge: observed.strangers.clone() }, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_takes_strangers_only() {
        let spec = DirectorySpec {
            path: "/etc/x.d".into(),
            mode: "0755".into(),
            owner: "root".into(),
            group: "root".into(),
            purge: true,
            absent: false,
        };
        let current = Current { directory: true, mode: 0o755, uid: 0, gid: 0 };
        let right = Observed { current: Some(current), mode: 0o755, uid: Some(0), gid: Some(0), strangers: Vec::new() };
        assert_eq!(diff(&spec, &right), None);
        let strange = Observed { strangers: vec!["/etc/x.d/old".into()], ..right };
        let change = diff(&spec, &strange).unwrap();
        assert_eq!(change.detail, ["- /etc/x.d/old"]);
        let Does::Mend { attributes, .. } = change.does else { panic!("{change:?}") };
        assert!(!attributes);
    }
}

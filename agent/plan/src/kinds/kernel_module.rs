//! `[[kernel_module]]`: the difference.

use muster_catalog::kinds::kernel_module::KernelModuleSpec;

use super::Describe;
use crate::row::Action;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Loaded, or built into the kernel.
    pub loaded: bool,
    /// The text of the file in `/etc/modules-load.d`.
    pub kept: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub load: bool,
    /// The file's new text.
    pub kept: Option<String>,
    /// The file goes.
    pub removed: bool,
}

impl Describe for Change {
    fn action(&self) -> Action {
        if self.removed { Action::Remove } else { Action::Change }
    }

    fn detail(&self) -> Vec<String> {
        if self.removed {
            return vec!["not loaded at boot any more; what is loaded stays until then".to_owned()];
        }
        let load = self.load.then(|| "load".to_owned());
        let keep = self.kept.is_some().then(|| "load at boot".to_owned());
        load.into_iter().chain(keep).collect()
    }
}

pub fn diff(spec: &KernelModuleSpec, observed: &Observed) -> Option<Change> {
    if spec.absent {
        return observed.kept.is_some().then_some(Change { load: false, kept: None, removed: true });
    }
    let text = format!("# Written by muster.\n{}\n", spec.name);
    let kept = (observed.kept.as_deref() != Some(&text)).then_some(text);
    let load = !observed.loaded;
    (load || kept.is_some()).then_some(Change { load, kept, removed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_in_module_needs_its_file_only() {
        let spec = KernelModuleSpec { name: "overlay".into(), absent: false };
        let change = diff(&spec, &Observed { loaded: true, kept: None }).unwrap();
        assert!(!change.load);
        let kept = Observed { loaded: true, kept: change.kept };
        assert_eq!(diff(&spec, &kept), None);
        let absent = KernelModuleSpec { absent: true, ..spec };
        assert_eq!(diff(&absent, &kept).unwrap().action(), Action::Remove);
        assert_eq!(diff(&absent, &Observed { loaded: true, kept: None }), None, "nothing is unloaded");
    }
}

//! `[[swap]]`: the difference of a swap file or device, of what the kernel uses, and of its line in `/etc/fstab`.

use muster_catalog::kinds::{service::Disrupts, swap::SwapSpec};

use super::Describe;
use crate::{
    fstab::{self, Line},
    mounts::{clean, unescape},
    row::Action,
};

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The path with its links followed, as the kernel shows it.
    pub path: String,
    pub there: There,
    /// What the kernel says of it, where it is in use.
    pub active: Option<Active>,
    /// The whole of `/etc/fstab`.
    pub fstab: Vec<u8>,
    /// Sources in it that stand for the same.
    pub spellings: Vec<String>,
}

/// What is at the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum There {
    #[default]
    Nothing,
    /// A swap file.
    File {
        bytes: u64,
        private: bool,
    },
    Device {
        content: Content,
    },
    /// A file that is no swap, a folder and so on.
    Other,
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Nothing,
    Swap,
    /// As blkid calls it: "ext4".
    Other(String),
}

/// A line of `/proc/swaps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    pub path: String,
    pub priority: i32,
}

/// What would be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The path with its links followed.
    pub path: String,
    pub off: bool,
    /// The file goes, or makes place for a new one.
    pub remove: bool,
    /// A new file of so many bytes.
    pub make: Option<u64>,
    /// Only root may read what was in memory.
    pub close: bool,
    /// Something else is there: an error, and nothing is done.
    pub occupied: Option<String>,
    /// The device gets a swap's signature.
    pub sign: bool,
    pub on: bool,
    pub fstab: Option<Fstab>,
    pub detail: Vec<String>,
    action: Action,
}

/// What becomes of its line. The file is read again when it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fstab {
    wanted: Option<Line>,
    spellings: Vec<String>,
}

impl Fstab {
    /// The file with the line as wanted; none where it is so.
    pub fn edit(&self, text: &[u8]) -> Option<fstab::Edited> {
        let ours = |line: &Line| line.fstype == "swap" && self.spellings.contains(&clean(&line.source));
        fstab::edit(text, ours, self.wanted.as_ref())
    }
}

impl Describe for Change {
    fn action(&self) -> Action {
        self.action
    }

    fn detail(&self) -> Vec<String> {
        self.detail.clone()
    }

    /// What was swapped out has to go back to the memory, where there may be no room.
    fn disrupts(&self) -> Disrupts {
        if self.off { Disrupts::Service } else { Disrupts::Nothing }
    }
}

/// What the kernel uses, of the text of `/proc/swaps`.
pub fn active(text: &str) -> Vec<Active> {
    let lines = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter_map(|fields| {
            let priority = fields.last()?.parse().ok()?;
            // What was removed while in use still has its name here.
            Some(Active { path: unescape(fields.first()?), priority })
        })
        .collect()
}

/// Whether these first bytes of a file are those of swap space, with pages of any size.
pub fn is_swap(begins: &[u8]) -> bool {
    [4096, 8192, 16384, 65536].iter().any(|page: &usize| begins.get(page - 10..*page) == Some(b"SWAPSPACE2"))
}

pub fn diff(spec: &SwapSpec, observed: &Observed) -> Option<Change> {
    let mut change = Change {
        path: observed.path.clone(),
        off: false,
        remove: false,
        make: None,
        close: false,
        occupied: None,
        sign: false,
        on: false,
        fstab: None,
        detail: Vec::new(),
        action: Action::Change,
    };
    let active = observed.active.as_ref();
    if spec.absent {
        change.action = Action::Remove;
        change.off = active.is_some();
        // What is no swap is not ours to remove.
        change.remove = matches!(observed.there, There::File { .. }) && !spec.is_device();
    } else {
        content(spec, observed, &mut change);
        if let (Some(active), Some(wanted)) = (active, spec.priority)
            && active.priority != i32::from(wanted)
            && !change.off
        {
            change.detail.push(format!("priority {} → {wanted}", active.priority));
            change.off = true;
        }
        change.on = change.occupied.is_none() && (active.is_none() || change.off);
    }
    if change.off {
        change.detail.push("switch it off".to_owned());
    }
    if change.remove {
        change.detail.push(format!("remove {}", observed.path));
    }
    if change.on {
        change.detail.push("switch it on".to_owned());
    }
    let priority = spec.priority.map(|priority| format!(",pri={priority}")).unwrap_or_default();
    let wanted = (!spec.absent).then(|| Line {
        source: spec.path.clone(),
        target: "none".to_owned(),
        fstype: "swap".to_owned(),
        options: format!("sw{priority}"),
    });
    let mut spellings = vec![clean(&spec.path)];
    spellings.extend(observed.spellings.iter().cloned());
    let fstab = Fstab { wanted, spellings };
    if let Some(edited) = fstab.edit(&observed.fstab) {
        change.detail.extend(edited.detail());
        change.fstab = Some(fstab);
    }
    (!change.detail.is_empty()).then_some(change)
}

/// What has to become of the file or device itself.
fn content(spec: &SwapSpec, observed: &Observed, change: &mut Change) {
    match (&observed.there, spec.bytes()) {
        (There::Nothing, Some(bytes)) => {
            change.action = Action::Create;
            change.make = Some(bytes);
            change.detail.push(format!("make it, {bytes} bytes"));
            // Removed while in use: the kernel goes on with what has no name any more.
            change.off = observed.active.is_some();
        }
        (There::File { bytes: now, private }, Some(bytes)) => {
            if *now != bytes {
                change.detail.push(format!("make it anew: {now} → {bytes} bytes"));
                (change.make, change.remove) = (Some(bytes), true);
                change.off = observed.active.is_some();
            } else if !private {
                change.close = true;
                change.detail.push("only for root to read".to_owned());
            }
        }
        (There::Device { content: Content::Nothing }, None) => {
            change.sign = observed.active.is_none();
            change.action = Action::Create;
            if change.sign {
                change.detail.push("make it swap: nothing is on it".to_owned());
            }
        }
        (There::Device { content: Content::Swap }, None) => {}
        (There::Device { content: Content::Other(what) }, None) if observed.active.is_none() => {
            change.occupied = Some(format!("{} holds {what}", observed.path));
            change.detail.push(format!("it holds {what}"));
        }
        (There::Device { .. }, None) => {}
        (There::Nothing, None) => {
            change.occupied = Some(format!("there is no {} on this node", spec.path));
            change.detail.push("it is not there".to_owned());
        }
        (There::File { .. } | There::Other, None) | (There::Other | There::Device { .. }, Some(_)) => {
            change.occupied = Some(format!("{} is there and is no swap", observed.path));
            change.detail.push("something else is there".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &str, size: Option<&str>) -> SwapSpec {
        SwapSpec { path: path.into(), size: size.map(Into::into), priority: None, absent: false }
    }

    fn seen(there: There, priority: Option<i32>, fstab: &str) -> Observed {
        let path = "/swapfile".to_owned();
        let active = priority.map(|priority| Active { path: path.clone(), priority });
        Observed { path, there, active, fstab: fstab.as_bytes().to_vec(), spellings: vec!["/swapfile".into()] }
    }

    const LINE: &str = "/swapfile none swap sw 0 0\n";
    const RIGHT: There = There::File { bytes: 1 << 20, private: true };

    #[test]
    fn a_file_is_made_closed_switched_on_and_kept() {
        let spec = spec("/swapfile", Some("1Mi"));
        assert_eq!(diff(&spec, &seen(RIGHT, Some(-2), LINE)), None);
        // Other names and words for it in fstab.
        assert_eq!(
            diff(&spec, &seen(RIGHT, Some(-2), "/swapfile/ swap swap sw # x\n/swapfile none ext4 x\n")).map(|c| c.on),
            Some(false)
        );
        let change = diff(&spec, &seen(There::Nothing, None, "")).unwrap();
        assert_eq!((change.make, change.on, change.off, change.action()), (Some(1 << 20), true, false, Action::Create));
        assert_eq!(change.detail, ["make it, 1048576 bytes", "switch it on", "+ /swapfile none swap sw 0 0"]);
        let change = diff(&spec, &seen(There::File { bytes: 1 << 20, private: false }, Some(-2), LINE)).unwrap();
        assert!(change.close && !change.off && !change.on);
        let change = diff(&spec, &seen(RIGHT, None, LINE)).unwrap();
        assert!(change.on && !change.off && change.disrupts() == Disrupts::Nothing);
        let change = diff(&spec, &seen(There::File { bytes: 1 << 21, private: true }, Some(-2), LINE)).unwrap();
        assert!(change.off && change.remove && change.on && change.disrupts() == Disrupts::Service);
    }

    #[test]
    fn a_priority_that_is_not_written_is_left_alone() {
        let some = SwapSpec { priority: Some(5), ..spec("/swapfile", Some("1Mi")) };
        let line = "/swapfile none swap sw,pri=5 0 0\n";
        assert_eq!(diff(&some, &seen(RIGHT, Some(5), line)), None);
        let change = diff(&some, &seen(RIGHT, Some(-2), LINE)).unwrap();
        assert!(change.off && change.on && change.make.is_none() && !change.remove);
        assert_eq!(change.fstab.unwrap().edit(LINE.as_bytes()).unwrap().text, line.as_bytes());
    }

    #[test]
    fn what_holds_something_else_is_left() {
        let file = spec("/swapfile", Some("1Mi"));
        let change = diff(&file, &seen(There::Other, None, LINE)).unwrap();
        assert_eq!(change.occupied.as_deref(), Some("/swapfile is there and is no swap"));
        assert!(!change.on && !change.remove && change.make.is_none());
        let gone = SwapSpec { absent: true, ..file };
        assert_eq!(diff(&gone, &seen(There::Other, None, "")), None, "not ours to remove");
        let change = diff(&gone, &seen(RIGHT, Some(-2), LINE)).unwrap();
        assert!(change.off && change.remove && !change.on);
        assert_eq!(diff(&gone, &seen(There::Nothing, None, "# x\n")), None);
        let device = spec("/dev/vdb", None);
        let on = |content| seen(There::Device { content }, None, "/dev/vdb none swap sw 0 0");
        assert!(diff(&device, &on(Content::Other("ext4".into()))).unwrap().occupied.unwrap().ends_with("holds ext4"));
        let change = diff(&device, &on(Content::Nothing)).unwrap();
        assert!(change.sign && change.on);
        let change = diff(&device, &on(Content::Swap)).unwrap();
        assert!(!change.sign && change.on);
    }

    #[test]
    fn the_kernels_list_is_read() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/swap\\040file                           file\t\t1020\t\t0\t\t-2\n/dev/dm-1 partition 8 0 5\n";
        let all = active(text);
        assert_eq!(all[0], Active { path: "/swap file".into(), priority: -2 });
        assert_eq!((all[1].path.as_str(), all[1].priority), ("/dev/dm-1", 5));
        let mut page = vec![0; 4096];
        assert!(!is_swap(&page));
        page[4086..].copy_from_slice(b"SWAPSPACE2");
        assert!(is_swap(&page) && !is_swap(&page[..4000]));
    }
}

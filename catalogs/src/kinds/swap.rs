//! `[[swap]]`: a swap file or device, in use now and after a reboot.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Place, Presence, SecretName, Signal};

/// Swap space, with a line in `/etc/fstab` for the next boot.
///
/// With `size` it is a file: written whole, because a file with holes is refused by the kernel, on ext4, xfs, btrfs or f2fs; another
/// size makes it anew. Without, it is a device, which is made swap where nothing is on it. A file or device that holds something else is
/// left alone and is an error. kubelet does not start where swap is on, unless its settings have `failSwapOn: false`.
///
/// Proven on a machine in memory and against the programs up to `mkswap`, and not with swap switched on: the nodes of tests share the swap of their host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "swap space")]
#[serde(deny_unknown_fields)]
pub struct SwapSpec {
    /// The file, or the device as in `/dev/vdb` or `/dev/disk/by-uuid/…`.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// Of the file. A device has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "size"))]
    pub size: Option<String>,
    /// The higher one is filled first, 0 to 32767. Not written, the kernel chooses, and what is there is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 32767))]
    pub priority: Option<u16>,
    /// True switches it off, takes its line out of fstab, and removes the file. What is on a device stays.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl SwapSpec {
    pub fn is_device(&self) -> bool {
        self.path.starts_with("/dev/")
    }

    /// Of the file, in bytes.
    pub fn bytes(&self) -> Option<u64> {
        crate::formats::size(self.size.as_deref()?)
    }
}

impl Kind for SwapSpec {
    const ENDS_WITH_BOOT: bool = true;

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Above(self.path.clone())]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Call
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path("/etc/fstab".to_owned()), Signal::Path(self.path.clone()), Signal::Swaps]
    }

    fn place(&self) -> Option<Place<'_>> {
        (!self.is_device()).then_some(Place { path: &self.path, holds: false })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(super::directory::no_file_at(&self.path));
        match (&self.size, self.is_device()) {
            (None, false) if !self.absent => faults.push(
                Fault::new(
                    "path",
                    format!("{} is no device, and has no `size`", self.path),
                    "expected the file's size",
                )
                .help("write `size = \"2Gi\"` to make a swap file, or name a device below /dev"),
            ),
            (Some(_), true) => {
                faults.push(Fault::new("size", "a device has a size of its own", "leave it out, or name a file"))
            }
            (_, _) => {}
        }
        if let Some(bytes) = self.bytes()
            && bytes % 4096 != 0
        {
            faults.push(Fault::new("size", "swap is made of pages of 4 KiB", "expected a multiple of \"4Ki\""));
        }
        faults
    }
}

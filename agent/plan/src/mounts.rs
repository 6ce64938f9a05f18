//! The kernel's table of mounts, and what of it can be seen at a path. Pure: the text of `/proc/self/mountinfo` in.
//!
//! The table also lists what lies hidden below other mounts, so a path is walked from the root along parents, as the kernel does
//! (proc_pid_mountinfo(5), mount_namespaces(7)). Nothing is asked of a mounted file system: one whose server is gone would not answer.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf};

use procfs_core::process::{MountInfo, MountOptFields};

/// Options by name, as the kernel shows them.
pub type Shown = BTreeMap<String, Option<String>>;

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    pub id: i32,
    pub parent: i32,
    /// Major and minor number of the file system: "8:1".
    pub device: String,
    /// The folder of the file system that is seen at the mount point; `/` for all of it.
    pub root: String,
    pub point: String,
    pub fstype: String,
    pub source: String,
    /// Of this mount alone.
    pub options: Shown,
    /// Of the file system, wherever it is mounted.
    pub superblock: Shown,
    pub shared: bool,
    pub slave: bool,
    pub unbindable: bool,
}

/// A line of the table that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{line}` is no line of mountinfo")]
pub struct BadLine {
    line: String,
    #[source]
    source: procfs_core::ProcError,
}

/// All mounts of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub Vec<Mount>);

impl Table {
    /// Of the text of `mountinfo`. What is not UTF-8 in it, a stranger's path for example, stops nothing.
    pub fn parse(text: &[u8]) -> Result<Self, BadLine> {
        let text = String::from_utf8_lossy(text);
        let parsed = text.lines().map(|line| {
            let info = MountInfo::from_line(line).map_err(|source| BadLine { line: line.to_owned(), source })?;
            Ok(mount(info))
        });
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    /// What is mounted at exactly this path, the lowest first. The path has no links in it.
    pub fn at(&self, path: &str) -> Vec<&Mount> {
        self.walk(path).1
    }

    /// The mount that a file or folder at this path lies in. The path has no links in it.
    pub fn holding(&self, path: &str) -> Option<&Mount> {
        self.walk(path).0
    }

    /// What is mounted somewhere below the path, in the order in which it was mounted.
    pub fn below(&self, path: &str) -> Vec<&Mount> {
        let Some(top) = self.holding(path) else { return Vec::new() };
        let inside = format!("{}/", path.trim_end_matches('/'));
        let (mut above, mut found) = (vec![top.id], Vec::new());
        for mount in &self.0 {
            if above.contains(&mount.parent) && mount.point.starts_with(&inside) {
                above.push(mount.id);
                found.push(mount);
            }
        }
        found
    }

    fn walk(&self, path: &str) -> (Option<&Mount>, Vec<&Mount>) {
        let root = |mount: &&Mount| {
            mount.point == "/" && !self.0.iter().any(|other| other.id == mount.parent && other.id != mount.id)
        };
        let Some(mut here) = self.0.iter().find(root) else { return (None, Vec::new()) };
        let mut stack = vec![here];
        let path = path.trim_end_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for prefix in std::iter::once("/").chain(ends.filter(|&end| end > 0).map(|end| &path[..end])) {
            if prefix != "/" {
                stack.clear();
            }
            let on_top = |here: &Mount| {
                self.0.iter().find(|next| next.parent == here.id && next.id != here.id && next.point == prefix)
            };
            while let Some(next) = on_top(here) {
                here = next;
                stack.push(next);
            }
        }
        (Some(here), stack)
    }
}

fn mount(info: MountInfo) -> Mount {
    let has = |wanted: fn(&MountOptFields) -> bool| info.opt_fields.iter().any(wanted);
    Mount {
        shared: has(|field| matches!(field, MountOptFields::Shared(_))),
        slave: has(|field| matches!(field, MountOptFields::Master(_))),
        unbindable: has(|field| matches!(field, MountOptFields::Unbindable)),
        id: info.mnt_id,
        parent: info.pid,
        device: info.majmin,
        root: unescape(&info.root),
        point: unescape(&info.mount_point.to_string_lossy()),
        fstype: info.fs_type,
        source: unescape(info.mount_source.as_deref().unwrap_or("none")),
        options: info.mount_options.into_iter().collect(),
        superblock: info
            .super_options
            .into_iter()
            .map(|(name, value)| (name, value.as_deref().map(unescape)))
            .collect(),
    }
}

/// Where something is mounted, hidden or not, by paths of any bytes.
pub fn points(table: &[u8]) -> Vec<PathBuf> {
    let points = table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(|point| PathBuf::from(OsString::from_vec(plain(point)))).collect()
}

/// Undoes the octal escapes of mountinfo and fstab: `\040` is a blank.
pub fn unescape(field: &str) -> String {
    String::from_utf8_lossy(&plain(field.as_bytes())).into_owned()
}

fn plain(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(value) if first == b'\\' => {
                bytes.push(value);
                rest = &after[3..];
            }
            Some(_) | None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// A path without doubled slashes and without one at its end.
pub fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if path.starts_with('/') { format!("/{}", parts.join("/")) } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:5 / /run rw,nosuid - tmpfs tmpfs rw,mode=755
24 23 0:30 / /run/a\\040b\\134c rw,noatime shared:2 master:1 - tmpfs x\\043y rw,size=1024k
25 22 8:1 /srv/a /srv/m rw - ext4 /dev/sda1 rw
26 25 0:31 / /srv/m rw unbindable - tmpfs none rw
27 26 0:32 / /srv/m/in rw - tmpfs tmpfs rw
28 22 0:33 / /data/old rw - tmpfs tmpfs rw
29 22 0:34 / /data rw - tmpfs tmpfs rw
";

    #[test]
    fn paths_are_walked_as_the_kernel_walks_them() {
        let table = Table::parse(TABLE.as_bytes()).unwrap();
        let ids = |found: Vec<&Mount>| found.iter().map(|mount| mount.id).collect::<Vec<_>>();
        assert_eq!(ids(table.at("/srv/m")), [25, 26], "stacked");
        assert_eq!(ids(table.at("/srv")), [] as [i32; 0]);
        assert_eq!(ids(table.at("/")), [22]);
        assert_eq!(ids(table.at("/data/old")), [] as [i32; 0], "hidden below what was mounted later");
        assert_eq!(ids(table.below("/srv/m")), [27]);
        assert_eq!(ids(table.below("/srv")), [25, 26, 27]);
        let holds = |path: &str| table.holding(path).unwrap().id;
        assert_eq!((holds("/srv/mx"), holds("/srv/m/x/y"), holds("/srv/m/in/x"), holds("/run/x")), (22, 26, 27, 23));
    }

    #[test]
    fn lines_are_read_with_their_escapes() {
        let table = Table::parse(TABLE.as_bytes()).unwrap();
        let mount = table.at("/run/a b\\c").pop().unwrap();
        assert_eq!((mount.source.as_str(), mount.fstype.as_str(), mount.device.as_str()), ("x#y", "tmpfs", "0:30"));
        assert_eq!((mount.shared, mount.slave, mount.unbindable), (true, true, false));
        assert!(mount.options.contains_key("noatime"));
        assert_eq!(mount.superblock["size"].as_deref(), Some("1024k"));
        assert!(Table::parse(b"22 1 8:1 / /\xff\xfe rw - ext4 /dev/sda1 rw\n").is_ok(), "somebody's odd path");
        assert!(Table::parse(b"nonsense\n").is_err());
        let odd = points(b"22 1 8:1 / /\xff\\040x rw - ext4 /dev/sda1 rw\n");
        assert_eq!(odd, [PathBuf::from(OsString::from_vec(b"/\xff x".to_vec()))]);
        assert_eq!(points(TABLE.as_bytes()).len(), 8);
        assert_eq!(unescape("a\\0b\\04\\777\\"), "a\\0b\\04\\777\\", "no escapes");
        assert_eq!((clean("/srv//x/"), clean("/"), clean("none")), ("/srv/x".into(), "/".into(), "none".into()));
    }
}

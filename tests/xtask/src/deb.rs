//! Debian packages: making our own, and recompressing Debian's.
//!
//! Several nodes on one small machine unpack the same packages at once, and xz made that the longest step of a node's birth:
//! docker.io alone took 1.9 s of processor time, with zstd 0.1 s. A recompressed package holds the same two
//! archives byte for byte, so it installs the same files; its own checksum differs from Debian's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::Cmd;

/// A package of ours.
#[derive(Debug)]
pub struct Package<'a> {
    pub name: &'a str,
    /// Upstream's form: `1.34.4-1.1`.
    pub version: &'a str,
    pub architecture: &'a str,
    pub depends: &'a str,
    pub description: &'a str,
    pub files: Vec<PackageFile<'a>>,
}

/// One file of a package.
#[derive(Debug)]
pub struct PackageFile<'a> {
    /// Absolute, without the leading slash.
    pub path: &'a str,
    pub content: Content<'a>,
}

#[derive(Debug)]
pub enum Content<'a> {
    /// A program, mode 0755.
    Program(PathBuf),
    /// A text file, mode 0644.
    Text(&'a str),
}

impl Package<'_> {
    /// Builds it into the folder `pool`, using `scratch` for its tree.
    pub fn build(&self, scratch: &Path, pool: &Path) -> Result<()> {
        let tree = tempfile::tempdir_in(scratch)?;
        // The temporary folder is 0700 and would become the package's root.
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o755))?;
        for file in &self.files {
            let path = tree.path().join(file.path);
            fs::create_dir_all(path.parent().context("a file without a folder")?)?;
            let mode = match &file.content {
                Content::Program(from) => {
                    fs::hard_link(from, &path)
                        .or_else(|_| fs::copy(from, &path).map(drop))
                        .with_context(|| format!("cannot take {}", from.display()))?;
                    0o755
                }
                Content::Text(text) => {
                    fs::write(&path, text)?;
                    0o644
                }
            };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        let debian = tree.path().join("DEBIAN");
        fs::create_dir(&debian)?;
        fs::write(debian.join("control"), self.control())?;
        let deb = pool.join(format!("{}_{}_{}.deb", self.name, self.version, self.architecture));
        Cmd::new("dpkg-deb")
            .args(["-Zzstd", "-z1", "--root-owner-group", "--build"])
            .arg(tree.path())
            .arg(deb)
            .env("SOURCE_DATE_EPOCH", "0")
            .output()?;
        Ok(())
    }

    fn control(&self) -> String {
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: muster <packages@muster.invalid>\nSection: admin\nPriority: optional\n",
            self.name, self.version, self.architecture
        );
        if !self.depends.is_empty() {
            text.push_str(&format!("Depends: {}\n", self.depends));
        }
        text.push_str(&format!("Description: {}\n", self.description));
        text
    }
}

/// Writes the package `from` again as `to`, with zstd in place of what compressed its two archives.
pub fn recompress(from: &Path, to: &Path, scratch: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(scratch)?;
    let mut members = Vec::new();
    for (option, name) in [("--ctrl-tarfile", "control.tar"), ("--fsys-tarfile", "data.tar")] {
        let tar = dir.path().join(name);
        Cmd::new("dpkg-deb").arg(option).arg(from).into_file(&tar)?;
        members.push(compress(&tar)?);
    }
    let mut archive = io::BufWriter::new(File::create(to).with_context(|| format!("cannot write {}", to.display()))?);
    archive.write_all(b"!<arch>\n")?;
    write_member(&mut archive, "debian-binary", 4, &mut &b"2.0\n"[..])?;
    for (member, name) in members.iter().zip(["control.tar.zst", "data.tar.zst"]) {
        let mut file = File::open(member)?;
        let size = file.metadata()?.len();
        write_member(&mut archive, name, size, &mut file)?;
    }
    archive.flush()?;
    Ok(())
}

/// Compresses a file beside itself; returns the new path. The old one is gone.
pub fn compress(path: &Path) -> Result<PathBuf> {
    Cmd::new("zstd").args(["--quiet", "--rm", "-1"]).arg(path).output()?;
    let mut name = path.as_os_str().to_owned();
    name.push(".zst");
    Ok(PathBuf::from(name))
}

/// A member of an `ar` archive: a 60-byte header, the content, and one byte of padding if its size is odd.
fn write_member(archive: &mut impl Write, name: &str, size: u64, content: &mut impl io::Read) -> io::Result<()> {
    writeln!(archive, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644")?;
    io::copy(content, archive)?;
    if size % 2 == 1 {
        archive.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package<'a>(depends: &'a str, version: &'a str) -> Package<'a> {
        let files = vec![PackageFile { path: "usr/share/odd/file", content: Content::Text("odd") }];
        Package { name: "odd", version, architecture: "all", depends, description: "a package", files }
    }

    #[test]
    fn control_has_depends_only_if_there_are_some() {
        assert!(!package("", "1").control().contains("Depends"));
        assert!(package("mount", "1").control().contains("\nDepends: mount\n"));
    }

    /// Needs dpkg-deb and zstd, which `cargo xtask test` has installed.
    #[test]
    fn a_recompressed_package_holds_the_same() {
        let dir = tempfile::tempdir().unwrap();
        package("mount", "1.34.4-1.1").build(dir.path(), dir.path()).unwrap();
        let from = dir.path().join("odd_1.34.4-1.1_all.deb");
        let to = dir.path().join("again.deb");
        recompress(&from, &to, dir.path()).unwrap();
        for option in ["--info", "--contents"] {
            let of = |deb: &Path| Cmd::new("dpkg-deb").arg(option).arg(deb).output().unwrap();
            let (a, b) = (of(&from), of(&to));
            // The first lines of --info tell the size of the file itself.
            let skip = usize::from(option == "--info") * 2;
            assert_eq!(a.lines().skip(skip).collect::<Vec<_>>(), b.lines().skip(skip).collect::<Vec<_>>());
        }
        assert!(Cmd::new("dpkg-deb").arg("--contents").arg(&to).output().unwrap().contains("usr/share/odd/file"));
    }
}

//! Reads a site's folder: plain files that are in it, and nothing that hangs or leads out of it.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::bail;
use muster_catalog::SiteFiles;

/// What of a folder is site; all else (a README, code, `.git`) is left alone.
const PARTS: [&str; 4] = ["environments", "roles", "apps", "secrets"];
/// More than this in one file is a mistake: each node's catalog has it whole.
const MOST_BYTES: u64 = 1 << 20;
/// All files together: a site goes to the coordinator in one message.
const MOST_BYTES_IN_ALL: usize = 32 << 20;

/// Reads a site's folder. What cannot be a part of a site is said all at once.
pub fn read(dir: &Path) -> anyhow::Result<SiteFiles> {
    let named = dir.join("muster.toml");
    if fs::symlink_metadata(&named).is_err() {
        bail!(
            "{} is no site: it has no muster.toml\n  help: name a site with --site DIR, or make one: muster init DIR",
            dir.display()
        );
    }
    let root = match fs::canonicalize(dir) {
        Ok(root) => root,
        Err(error) => bail!("cannot read {}: {error}", dir.display()),
    };
    let mut reader = Reader { root, files: SiteFiles::default(), bytes: 0, wrong: Vec::new() };
    reader.entry(&named, "muster.toml", &mut Vec::new());
    for part in PARTS {
        let folder = dir.join(part);
        if fs::symlink_metadata(&folder).is_ok() {
            reader.entry(&folder, part, &mut Vec::new());
        }
    }
    let Reader { files, wrong, bytes, .. } = reader;
    if bytes > MOST_BYTES_IN_ALL {
        bail!(
            "the files of the site have more than {MOST_BYTES_IN_ALL} bytes in all\n  help: put the large ones into packages or an [[archive]]"
        );
    }
    match wrong.split_first() {
        None => Ok(files),
        Some((one, [])) => bail!("{one}"),
        Some(_) => {
            // Each way out stands beside what it is for.
            let lines: Vec<String> = wrong.iter().map(|wrong| wrong.replace("\n  help: ", ": ")).collect();
            bail!("the site cannot be read: {} of its files are no part of one\n{}", lines.len(), lines.join("\n"))
        }
    }
}

struct Reader {
    /// The site's folder, without links.
    root: PathBuf,
    files: SiteFiles,
    /// Of all of them.
    bytes: usize,
    wrong: Vec<String>,
}

impl Reader {
    /// Reads what is at a path, called `name` in the site. `above` are the folders that lead here, without links.
    fn entry(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) {
        if let Err(wrong) = self.try_entry(path, name, above) {
            self.wrong.push(format!("{}: {wrong}", path.display()));
        }
    }

    fn try_entry(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot be read: {error}");
        if self.bytes > MOST_BYTES_IN_ALL {
            return Ok(());
        }
        // A link out of the site would send a file that nobody reviewed.
        let real = fs::canonicalize(path).map_err(|error| match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_symlink() => "a link that leads nowhere".to_owned(),
            _ => failed(error),
        })?;
        if !real.starts_with(&self.root) {
            return Err("a link that leads out of the site\n  help: copy what it leads to into the site".to_owned());
        }
        let kind = fs::symlink_metadata(&real).map_err(failed)?.file_type();
        if kind.is_dir() {
            if above.contains(&real) {
                return Err("a link to a folder that it lies in".to_owned());
            }
            above.push(real);
            self.folder(path, name, above);
            above.pop();
            return Ok(());
        }
        if let Some(noun) = special(kind) {
            return Err(format!("{noun}; a site holds plain files and folders"));
        }
        // What it is may have changed since: a pipe with nobody at its other end would be waited for.
        let mut options = File::options();
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = options.read(true).custom_flags(nonblocking).open(&real).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if let Some(noun) = special(meta.file_type()) {
            return Err(format!("{noun}; a site holds plain files and folders"));
        }
        let mut content = Vec::new();
        if meta.len() <= MOST_BYTES {
            file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
        }
        let size = meta.len().max(content.len() as u64);
        if size > MOST_BYTES {
            return Err(format!(
                "{size} bytes; a file of a site has at most {MOST_BYTES}\n  help: put it into a package, or have the node fetch it"
            ));
        }
        self.bytes += content.len();
        self.files.insert(name.to_owned(), content);
        Ok(())
    }

    fn folder(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.wrong.push(format!("{}: cannot be read: {error}", path.display()));
                return;
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                self.wrong.push(format!("{}: a name that is not UTF-8", entry.path().display()));
                continue;
            };
            // An editor's, or the system's.
            if file_name.starts_with('.') || file_name.ends_with('~') {
                continue;
            }
            self.entry(&entry.path(), &format!("{name}/{file_name}"), above);
        }
    }
}

/// What is neither file nor folder, in words.
fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("a named pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_block_device() || kind.is_char_device() {
        Some("a device")
    } else if kind.is_symlink() {
        Some("a link")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn site() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("site");
        super::super::init(&target).unwrap();
        (dir, target)
    }

    fn refused(site: &Path) -> String {
        format!("{:#}", read(site).unwrap_err())
    }

    #[test]
    fn no_link_leads_out_of_the_site() {
        for (from, to) in [
            ("roles/files/passwd", "/etc/passwd"),
            ("roles/files/up", "../../.."),
            ("roles/files/two", "one"),
            ("roles/more.toml", "../../elsewhere/base.toml"),
            ("roles", "../elsewhere"),
            ("muster.toml", "../elsewhere/base.toml"),
        ] {
            let (dir, site) = site();
            fs::create_dir(dir.path().join("elsewhere")).unwrap();
            fs::write(dir.path().join("elsewhere/base.toml"), "").unwrap();
            symlink("/etc", site.join("roles/files/.one")).unwrap();
            let link = site.join(from);
            if link.is_dir() {
                fs::remove_dir_all(&link).unwrap();
            }
            let _ = fs::remove_file(&link);
            let to = if to == "one" { ".one/passwd" } else { to };
            symlink(to, &link).unwrap();
            assert!(refused(&site).contains("a link that leads out of the site"), "{from}: {}", refused(&site));
        }
    }

    #[test]
    fn links_that_stay_in_the_site_are_followed() {
        let (_dir, site) = site();
        let plain = read(&site).unwrap();
        fs::create_dir(site.join("shared")).unwrap();
        fs::write(site.join("shared/motd"), "hello\n").unwrap();
        symlink("../../shared/motd", site.join("roles/files/motd")).unwrap();
        symlink("../../shared", site.join("roles/files/shared")).unwrap();
        // The site itself may be named by a link.
        symlink(&site, site.parent().unwrap().join("named")).unwrap();
        let mut expected = plain;
        for path in ["roles/files/motd", "roles/files/shared/motd"] {
            expected.insert(path.to_owned(), b"hello\n".to_vec());
        }
        assert_eq!(read(&site.parent().unwrap().join("named")).unwrap(), expected);
    }

    #[test]
    fn what_hangs_or_leads_nowhere_is_said_all_at_once() {
        let (_dir, site) = site();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            site.join("roles/files/pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(site.join("roles/files/socket")).unwrap();
        symlink("nothing", site.join("roles/files/dangling")).unwrap();
        symlink("..", site.join("roles/files/around")).unwrap();
        symlink("itself", site.join("roles/files/itself")).unwrap();
        let big = File::create(site.join("roles/files/big")).unwrap();
        big.set_len(3 << 30).unwrap();
        let said = refused(&site);
        for expected in [
            "pipe: a named pipe; a site holds",
            "socket: a socket; a site holds",
            "dangling: a link that leads nowhere",
            "itself: a link that leads nowhere",
            "around: a link to a folder that it lies in",
            "big: 3221225472 bytes; a file of a site has at most 1048576",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }

    #[test]
    fn what_editors_leave_is_no_part_of_a_site() {
        let (_dir, site) = site();
        let plain = read(&site).unwrap();
        symlink("dana@host.1234", site.join("roles/.#base.toml")).unwrap();
        fs::write(site.join("roles/base.toml~"), "old").unwrap();
        fs::write(site.join("roles/files/.motd.swp"), [0xff]).unwrap();
        assert_eq!(read(&site).unwrap(), plain);
    }

    #[test]
    fn a_file_that_is_no_text_is_read_as_it_is() {
        let (_dir, site) = site();
        let all: Vec<u8> = (0..=255).collect();
        fs::write(site.join("roles/files/all"), &all).unwrap();
        assert_eq!(read(&site).unwrap().binary["roles/files/all"].0, all);
    }
}

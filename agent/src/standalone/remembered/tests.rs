//! A file is read anew whenever anything that it says may be another, and only then.

use std::{
    fs::FileTimes,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    adapters::{fake::FakeFiles, files::RealFiles},
    standalone::{Loaded, load},
};

struct Folder(tempfile::TempDir);

impl Folder {
    /// A file with a text and a source, long enough to be remembered.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("in.toml", &folder.text("first"));
        folder.write("named", "named first\n");
        folder
    }

    fn text(&self, content: &str) -> String {
        let files: String = (0..1500)
            .map(|number| format!("[[file]]\npath = \"/srv/{number}\"\ncontent = \"{content} {number}\"\n"))
            .collect();
        format!("{files}[[file]]\npath = \"/srv/named\"\nsource = \"named\"\n")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn load(&self) -> Loaded {
        self.load_as(&facts())
    }

    fn load_as(&self, facts: &Facts) -> Loaded {
        load(&self.at("in.toml"), facts, &self.at("memory")).unwrap()
    }

    /// As after an `apply` of a file that nobody has changed for a while.
    fn remembered(&self) -> Loaded {
        let mut loaded = self.load();
        let inputs = loaded.read.as_mut().expect("it was read");
        inputs.settled = true;
        self.remember(inputs, &loaded.catalog);
        loaded
    }

    fn remember(&self, inputs: &Inputs, catalog: &Catalog) {
        // Tests' folders are below one in which everybody may put names; these files say that none is.
        remember(&FakeFiles::default(), &self.at("memory"), inputs, catalog);
    }

    fn says(&self, loaded: &Loaded, name: &str) -> String {
        let found = loaded.catalog.resource.iter().find(|resource| resource.spec.name() == name).unwrap();
        let muster_catalog::Spec::File(spec) = &found.spec else { panic!("a file") };
        spec.content.clone().unwrap()
    }
}

fn facts() -> Facts {
    Facts { hostname: "node".to_owned(), ..Facts::default() }
}

#[test]
fn what_has_not_changed_is_not_read_again_and_says_the_same() {
    let folder = Folder::new();
    let first = folder.remembered();
    assert_eq!(fs::metadata(folder.at("memory")).unwrap().permissions().mode() & 0o7777, 0o600);
    let second = folder.load();
    assert!(second.read.is_none(), "it was read again");
    assert_eq!(second.catalog, first.catalog);
    let left: Vec<_> = fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_change_of_the_text_is_seen_whatever_else_stays() {
    let folder = Folder::new();
    let first = folder.remembered();
    let modified = fs::metadata(folder.at("in.toml")).unwrap().modified().unwrap();
    folder.write("in.toml", &folder.text("other"));
    let file = File::options().write(true).open(folder.at("in.toml")).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    let second = folder.load();
    assert!(second.read.is_some());
    assert_eq!((folder.says(&first, "/srv/7"), folder.says(&second, "/srv/7")), ("first 7".into(), "other 7".into()));
}

#[test]
fn a_change_of_a_file_that_it_names_is_seen() {
    for replace in [false, true] {
        let folder = Folder::new();
        folder.remembered();
        match replace {
            false => folder.write("named", "named other\n"),
            true => {
                folder.write("new", "named other\n");
                fs::rename(folder.at("new"), folder.at("named")).unwrap();
            }
        }
        assert_eq!(folder.says(&folder.load(), "/srv/named"), "named other\n");
    }
    let folder = Folder::new();
    folder.remembered();
    fs::remove_file(folder.at("named")).unwrap();
    assert!(load(&folder.at("in.toml"), &facts(), &folder.at("memory")).is_err());
}

#[test]
fn a_link_that_leads_elsewhere_is_seen() {
    let folder = Folder::new();
    folder.write("other.toml", &folder.text("other"));
    fs::rename(folder.at("in.toml"), folder.at("first.toml")).unwrap();
    symlink("first.toml", folder.at("in.toml")).unwrap();
    folder.remembered();
    assert!(folder.load().read.is_none());
    fs::remove_file(folder.at("in.toml")).unwrap();
    symlink("other.toml", folder.at("in.toml")).unwrap();
    assert_eq!(folder.says(&folder.load(), "/srv/7"), "other 7");
}

#[test]
fn another_node_another_program_and_another_file_read_for_themselves() {
    let folder = Folder::new();
    let mut first = folder.remembered();
    let other = Facts { cpus: 7, ..facts() };
    assert!(folder.load_as(&other).read.is_some());
    fs::copy(folder.at("in.toml"), folder.at("copy.toml")).unwrap();
    assert!(load(&folder.at("copy.toml"), &facts(), &folder.at("memory")).unwrap().read.is_some());
    let inputs = first.read.as_mut().unwrap();
    assert_eq!(inputs.files[1].0, Path::new(PROGRAM));
    inputs.files[1].1.changed.1 += 1;
    folder.remember(inputs, &first.catalog);
    assert!(folder.load().read.is_some());
    inputs.files[1].1.changed.1 -= 1;
    folder.remember(inputs, &first.catalog);
    assert!(folder.load().read.is_none());
    inputs.boot.push('x');
    folder.remember(inputs, &first.catalog);
    assert!(folder.load().read.is_some());
}

#[test]
fn what_was_changed_a_moment_ago_and_what_is_short_is_not_remembered_and_what_was_goes() {
    let folder = Folder::new();
    let loaded = folder.remembered();
    let mut inputs = loaded.read.unwrap();
    inputs.settled = false;
    folder.remember(&inputs, &loaded.catalog);
    assert!(!folder.at("memory").exists());
    folder.write("in.toml", "[[file]]\npath = \"/srv/a\"\ncontent = \"x\"\n");
    let short = folder.load();
    assert!(short.read.is_none() && !short.remembered);
}

#[test]
fn a_time_of_change_counts_when_nothing_can_have_it_too() {
    let folder = Folder::new();
    let now = SystemTime::now();
    let mut identity = Identity::at(&folder.at("named")).unwrap();
    let hour = Duration::from_secs(3600);
    for (mount, before, settled) in [
        (7, 0, false),
        (7, -60, false),
        (7, 9, false),
        (7, 20, true),
        (7, 7200, true),
        (0, 20, true),
        // Of an image, or of before the boot: nothing tells them apart.
        (0, 7200, false),
    ] {
        identity.mount = mount;
        identity.changed.0 = now.duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - before;
        assert_eq!(identity.settled(now, hour), settled, "mount {mount}, changed {before} s ago");
    }
    for (seconds, settled) in [(i64::MAX, false), (i64::MIN, false), (-1, false), (0, true)] {
        identity.changed.0 = seconds;
        identity.mount = 7;
        assert_eq!(identity.settled(now, hour), settled, "changed at {seconds}");
    }
}

#[test]
fn what_others_may_write_or_what_lies_in_memory_alone_is_not_remembered() {
    let folder = Folder::new();
    let path = folder.at("named");
    for (mode, own) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(is_own(&File::open(&path).unwrap()).unwrap(), own, "mode {mode:o}");
    }
    for memory in ["/proc/self/mountinfo", "/sys/kernel/uevent_seqnum"] {
        assert!(!keeps_time(&File::open(memory).unwrap()).unwrap(), "{memory}");
    }
}

#[test]
fn what_stands_in_its_place_and_is_none_stays() {
    let folder = Folder::new();
    folder.write("memory", "the site's own file\n");
    folder.remembered();
    assert_eq!(fs::read_to_string(folder.at("memory")).unwrap(), "the site's own file\n");
    forget(&folder.at("memory"));
    assert!(folder.at("memory").exists());
    fs::remove_file(folder.at("memory")).unwrap();
    // Of a killed one.
    folder.write(".memory.muster-99999999-1", "half");
    folder.remembered();
    assert!(folder.load().remembered && !folder.at(".memory.muster-99999999-1").exists());
    forget(&folder.at("memory"));
    assert!(!folder.at("memory").exists());
    assert_ne!(beside(Path::new("/x/web.read")), Path::new("/x/web.read"));
}

#[test]
fn where_another_user_may_put_names_nothing_is_remembered() {
    let folder = Folder::new();
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let loaded = folder.remembered();
    assert!(folder.at("memory").exists());
    let mut inputs = folder.load_as(&Facts::default()).read.unwrap();
    inputs.settled = true;
    remember(&RealFiles::new(), &folder.at("memory"), &inputs, &loaded.catalog);
    assert!(!folder.at("memory").exists());
}

#[test]
fn what_is_torn_or_somebody_elses_is_read_anew() {
    let folder = Folder::new();
    let first = folder.remembered();
    let whole = fs::read(folder.at("memory")).unwrap();
    let read_again = |what: &str| {
        let loaded = folder.load();
        assert!(loaded.read.is_some(), "{what}");
        assert_eq!(loaded.catalog, first.catalog, "{what}");
    };
    for step in 0..16 {
        let cut = whole.len() * step / 16;
        fs::write(folder.at("memory"), &whole[..cut]).unwrap();
        read_again(&format!("cut at {cut}"));
        let mut wrong = whole.clone();
        wrong[cut] ^= 1;
        fs::write(folder.at("memory"), &wrong).unwrap();
        read_again(&format!("a bit at {cut}"));
    }
    fs::write(folder.at("memory"), &whole).unwrap();
    assert!(folder.load().read.is_none());
    fs::set_permissions(folder.at("memory"), fs::Permissions::from_mode(0o644)).unwrap();
    read_again("others may read it");
    fs::set_permissions(folder.at("memory"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(folder.at("memory"), folder.at("there")).unwrap();
    symlink("there", folder.at("memory")).unwrap();
    read_again("a link");
    fs::remove_file(folder.at("memory")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, folder.at("memory"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    read_again("a pipe");
}

//! One file of resources, without a site and without a coordinator: what `muster-agent apply FILE` reads.

pub mod remembered;

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use muster_catalog::{Catalog, Diagnostics, Facts, catalog::InvalidCatalog};

use self::remembered::Inputs;

/// More than this in one file is a mistake: it is kept in memory whole.
const MOST_BYTES: u64 = 64 << 20;
/// Of the file itself, whose contents may be those of ten thousand files.
const MOST_TEXT: u64 = 256 << 20;
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StandaloneError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// All errors of it at once, each with its place.
    #[error("{0}")]
    Wrong(Diagnostics),
    #[error("{} is no catalog", .path.display())]
    Catalog {
        path: PathBuf,
        #[source]
        source: InvalidCatalog,
    },
}

/// What a file says.
#[derive(Debug)]
pub struct Loaded {
    pub catalog: Catalog,
    /// What it was read from; none where it was remembered, or need not be.
    pub read: Option<Inputs>,
    pub remembered: bool,
}

/// Reads a file of `[[file]]`, `[[package]]` and so on as in a role, or a whole compiled catalog. Where `memory` has it as it stands now,
/// its text is not read.
pub fn load(path: &Path, facts: &Facts, memory: &Path) -> Result<Loaded, StandaloneError> {
    if let Some(catalog) = remembered::recall(memory, path, facts) {
        return Ok(Loaded { catalog, read: None, remembered: true });
    }
    let failed = |source| StandaloneError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut inputs = Inputs::begin(path, facts, &file);
    let text = text(file).map_err(failed)?;
    if is_compiled(&text) {
        let catalog = Catalog::from_toml(&text);
        let catalog = catalog.map_err(|source| StandaloneError::Catalog { path: path.to_owned(), source })?;
        return Ok(Loaded { catalog, read: inputs, remembered: false });
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut read = |relative: &str| named(&folder.join(relative), &mut inputs);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let catalog = muster_catalog::local(&name, text, &mut read, facts).map_err(StandaloneError::Wrong)?;
    Ok(Loaded { catalog, read: inputs, remembered: false })
}

/// A compiled catalog says whose it is before its first table, which a role never does. What stands in texts further down says nothing.
fn is_compiled(text: &str) -> bool {
    let head = text.lines().map(str::trim_start).take_while(|line| !line.starts_with('['));
    head.filter_map(|line| line.split_once('=')).any(|(key, _)| key.trim_end() == "cluster")
}

/// The file itself. It may be a pipe, as a shell's `<(…)` is, but not one without an end.
fn text(file: std::fs::File) -> std::io::Result<String> {
    let mut file = file.take(MOST_TEXT + 1);
    // Copied into a longer place again and again, a long one takes twice the time.
    let size = file.get_ref().metadata()?.len().min(MOST_TEXT);
    let mut text = String::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    file.read_to_string(&mut text)?;
    match text.len() as u64 > MOST_TEXT {
        true => Err(std::io::Error::other(format!("more than {MOST_TEXT} bytes"))),
        false => Ok(text),
    }
}

/// A file that the first one names. Neither a pipe with nobody at its other end nor a device without an end is waited for.
fn named(path: &Path, inputs: &mut Option<Inputs>) -> muster_catalog::Read {
    let open = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err(if meta.is_dir() { "it is a folder" } else { "it is no plain file" }.to_owned());
    }
    if let Some(inputs) = inputs {
        inputs.add(path, &file);
    }
    let mut content = Vec::with_capacity(usize::try_from(meta.len().min(MOST_BYTES)).unwrap_or_default());
    if meta.len() <= MOST_BYTES {
        file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    }
    let size = meta.len().max(content.len() as u64);
    if size > MOST_BYTES { Err(format!("{size} bytes are too many: at most {MOST_BYTES}")) } else { Ok(Some(content)) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use muster_catalog::Spec;

    use super::*;

    fn facts() -> Facts {
        Facts { hostname: "node".to_owned(), ..Facts::default() }
    }

    /// With its causes, where it fails.
    fn load_file(path: &Path) -> Result<Catalog, String> {
        let loaded = load(path, &facts(), Path::new("/nonexistent")).map(|loaded| loaded.catalog);
        loaded.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
    }

    #[test]
    fn a_catalog_is_known_by_its_head() {
        for text in ["# c\ncluster = \"c\"\n", "draft = true\r\ncluster=\"c\"\r\n[[resource]]\r\n"] {
            assert!(is_compiled(text), "{text:?}");
        }
        for text in [
            "",
            "[[file]]\ncluster = 1\n",
            "[[file]]\ncontent = '''\ncluster = 1\n[[resource]]\n'''\n",
            "include = []\n",
        ] {
            assert!(!is_compiled(text), "{text:?}");
        }
    }

    #[test]
    fn what_a_source_names_is_taken_as_it_is_or_refused_for_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let latin1 = b"Stra\xdfe\n".to_vec();
        std::fs::write(at("latin1.txt"), &latin1).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        File::create(at("big")).unwrap().set_len(3 << 30).unwrap();
        let file = at("in.toml");
        let load = |key: &str, name: &str| {
            std::fs::write(&file, format!("[[file]]\npath = \"/srv/a\"\n{key} = \"{name}\"\n")).unwrap();
            load(&file, &facts(), &at("memory")).map(|loaded| loaded.catalog)
        };
        let endless = load_file(&at("device")).unwrap_err();
        assert!(endless.contains("more than 268435456 bytes"), "{endless}");
        let catalog = load("source", "latin1.txt").unwrap();
        let Spec::File(spec) = &catalog.resource[0].spec else { panic!("a file") };
        assert_eq!(spec.bytes(), latin1);
        assert_eq!(Catalog::from_toml(&catalog.to_toml()).unwrap(), catalog);
        for (key, name, said) in [
            ("source", "folder", "folder cannot be read: it is a folder"),
            ("source", "pipe", "pipe cannot be read: it is no plain file"),
            ("source", "device", "device cannot be read: it is no plain file"),
            ("source", "big", "big cannot be read: 3221225472 bytes are too many"),
            ("source", "nothing", "there is no file nothing"),
            ("template", "latin1.txt", "latin1.txt is not UTF-8 text"),
        ] {
            let error = load(key, name).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error}");
        }
    }
}

//! tar, as much of it as Docker's archive calls need: plain files and folders of root, names up to 100 bytes.

/// A file or folder to put into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Absolute.
    pub path: String,
    pub mode: u32,
    /// Absent: a folder.
    pub content: Option<Vec<u8>>,
}

impl Upload {
    pub fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode, content: Some(content.into()) }
    }

    pub fn folder(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, content: None }
    }
}

const BLOCK: usize = 512;

/// The archive to extract at `/`. Paths longer than 99 bytes do not fit and are a fault of the caller.
pub(super) fn pack(uploads: &[Upload]) -> Vec<u8> {
    let mut archive = Vec::new();
    for upload in uploads {
        let content = upload.content.as_deref().unwrap_or_default();
        archive.extend_from_slice(&header(upload, content.len()));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.resize(archive.len() + 2 * BLOCK, 0);
    archive
}

fn header(upload: &Upload, size: usize) -> [u8; BLOCK] {
    let name = upload.path.trim_start_matches('/');
    assert!(name.len() < 100, "{name} is too long for an archive");
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{:07o}", upload.mode));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, if upload.content.is_some() { "0" } else { "5" });
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The content of the first plain file of an archive.
pub(super) fn first_file(archive: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + BLOCK)?;
        let size = std::str::from_utf8(&header[124..136]).ok()?;
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).ok()?;
        let content = archive.get(at + BLOCK..at + BLOCK + size)?;
        match header[156] {
            b'0' | 0 => return Some(content.to_vec()),
            _ => at += BLOCK + size.next_multiple_of(BLOCK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_found() {
        let archive = pack(&[Upload::folder("/a", 0o700), Upload::file("/a/b", 0o600, "content")]);
        assert_eq!(archive.len() % BLOCK, 0);
        assert_eq!(first_file(&archive).unwrap(), b"content");
        assert_eq!(first_file(&[]), None);
        assert_eq!(first_file(&archive[..600]), None);
    }

    /// The real tar reads it.
    #[test]
    fn tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        std::fs::write(&path, pack(&[Upload::folder("/a", 0o700), Upload::file("/a/b", 0o640, "content")])).unwrap();
        let output = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(text.contains("drwx------ 0/0") && text.contains("-rw-r----- 0/0"), "{text}");
    }
}

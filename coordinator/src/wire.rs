//! A site's files on their way from the command line to the coordinator.

use muster_catalog::{Binary, SiteFiles};
use muster_proto::v1;

/// As they are sent. Without binary files it is what former versions sent.
pub fn files(files: &SiteFiles) -> v1::SiteFiles {
    let texts = files.texts.iter().map(|(path, text)| (path.clone(), text.clone()));
    let binary = files.binary.iter().map(|(path, Binary(content))| (path.clone(), content.clone()));
    v1::SiteFiles { files: texts.collect(), binary: binary.collect() }
}

/// As they came.
pub fn site_files(sent: v1::SiteFiles) -> SiteFiles {
    let mut files = SiteFiles::default();
    let texts = sent.files.into_iter().map(|(path, text)| (path, text.into_bytes()));
    for (path, content) in texts.chain(sent.binary) {
        files.insert(path, content);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives() {
        let mut sent = SiteFiles::default();
        sent.insert("muster.toml".to_owned(), b"a = 1\n".to_vec());
        sent.insert("roles/files/all".to_owned(), (0..=255).collect());
        assert_eq!(site_files(files(&sent)), sent);
        // A former client knows no binary files.
        let former = v1::SiteFiles { files: files(&sent).files, ..v1::SiteFiles::default() };
        assert_eq!(site_files(former).texts, sent.texts);
    }
}

//! `[[archive]]`: a tar archive, unpacked into a folder of its own.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Fault, Kind, Need, Owned, Place, Presence, SecretName, Signal, Texts, owned};
use crate::Binary;

/// What a tar archive holds, plain or with gzip, in a folder that belongs to it: one of `url` and `source`.
///
/// It is unpacked once per digest: beside the folder, and then put in its place as a whole. Another digest, `strip`, owner or group
/// unpacks anew, and so does a file of it that is gone or has another size, time, mode, owner or link; what others put into the folder goes with it then, and the plan
/// names it. A folder that holds something and was not unpacked by muster is left alone and is an error. An archive with absolute paths, `..`, links that
/// lead out, or devices is refused before anything is written. Set-id bits are not kept, nor are the archive's owners. What others add
/// is left alone until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "an archive")]
#[serde(deny_unknown_fields)]
pub struct ArchiveSpec {
    /// The folder, made with its parents.
    #[schemars(extend("format" = "path"))]
    pub path: String,
    /// Where it is fetched from, by apt's own downloader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "url"))]
    pub url: Option<String>,
    /// A file of the site, relative to the role's folder. It comes with the catalog: large ones belong on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "site-path"))]
    pub source: Option<String>,
    /// What a `source` holds, in a compiled catalog alone: it stands in no site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub content: Option<String>,
    /// The same where that is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub content_base64: Option<Binary>,
    /// SHA-256 of the archive, 64 hexadecimal digits. A `url` needs it; a `source` has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "sha256"))]
    pub sha256: Option<String>,
    /// So many leading parts of each path in it are left out; what has no more parts is not unpacked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub strip: u8,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub owner: String,
    #[serde(default = "super::root")]
    #[schemars(extend("format" = "word"))]
    pub group: String,
    /// True removes the folder with all in it, where muster unpacked it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

impl ArchiveSpec {
    /// The archive itself, where it is the site's.
    pub fn bytes(&self) -> Option<&[u8]> {
        match (&self.content, &self.content_base64) {
            (Some(text), _) => Some(text.as_bytes()),
            (None, binary) => binary.as_ref().map(|binary| binary.0.as_slice()),
        }
    }

    /// The digest that it must have; empty where it is to go.
    pub fn digest(&self) -> &str {
        self.sha256.as_deref().unwrap_or_default()
    }

    fn origin_fault(&self) -> Option<Fault> {
        let path = &self.path;
        let expected = "expected one of: url, source";
        match (self.url.is_some(), self.bytes(), self.absent) {
            (_, _, true) => None,
            (false, None, false) => {
                Some(Fault::new("path", format!("the archive {path} comes from nowhere"), expected))
            }
            (true, Some(_), false) => {
                Some(Fault::new("source", format!("the archive {path} has `url` and `source`"), expected))
            }
            (true, None, false) if self.sha256.is_none() => Some(
                Fault::new(
                    "url",
                    format!("the archive {path} has no `sha256`"),
                    "whoever answers there could send another",
                )
                .help("`sha256sum` of the archive says it"),
            ),
            (true, None, false) => None,
            (false, Some(bytes), false) => {
                let found = muster_ids::Digest::of(bytes).to_string();
                (found != self.digest()).then(|| {
                    Fault::new(
                        "sha256",
                        format!("the archive {path} has another digest"),
                        format!("its own is {found}"),
                    )
                    .help("leave it out, or find out who changed the file")
                })
            }
        }
    }
}

fn is_zero(strip: &u8) -> bool {
    *strip == 0
}

impl Kind for ArchiveSpec {
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::path(&self.path)]
    }

    fn needs(&self) -> Vec<Need> {
        owned(&self.path, &self.owner, &self.group)
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::tree(&self.path)]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::Reading
    }

    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.path.clone()), Signal::Inside(self.path.clone())]
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place { path: &self.path, holds: true })
    }

    fn texts(&mut self) -> Option<Texts<'_>> {
        Some(Texts {
            content: &mut self.content,
            source: &mut self.source,
            template: None,
            binary: Some(&mut self.content_base64),
        })
    }

    fn resolved(&mut self) {
        if self.sha256.is_none() {
            self.sha256 = self.bytes().map(|bytes| muster_ids::Digest::of(bytes).to_string());
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.origin_fault().into_iter().collect();
        if super::mount::is_essential(&self.path) || self.path == "/home" || self.path == "/srv" || self.path == "/opt"
        {
            faults.push(
                Fault::new("path", format!("{} cannot belong to an archive", self.path), "others live in there, too")
                    .help("name a folder of its own below it"),
            );
        }
        faults
    }
}

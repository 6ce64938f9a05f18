//! `[[archive]]`: a tar archive, unpacked into a folder of its own.

use serde::{Deserialize, Serialize};

use super::{Claim, Cost, Kind, Need, Owned, Place, Presence, SecretName, Signal, owned};

/// What a tar archive holds, plain or with gzip, in a folder that belongs to it.
///
/// It is fetched and unpacked once per digest: beside the folder, and then put in its place as a whole. Another digest, `strip`, owner or group
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
    #[schemars(extend("format" = "url"))]
    pub url: String,
    /// SHA-256 of the archive, 64 hexadecimal digits.
    #[schemars(extend("format" = "sha256"))]
    pub sha256: String,
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

    fn faults(&self) -> Vec<super::Fault> {
        let mut faults = Vec::new();
        if super::mount::is_essential(&self.path) || self.path == "/home" || self.path == "/srv" || self.path == "/opt"
        {
            faults.push(
                super::Fault::new(
                    "path",
                    format!("{} cannot belong to an archive", self.path),
                    "others live in there, too",
                )
                .help("name a folder of its own below it"),
            );
        }
        faults
    }
}

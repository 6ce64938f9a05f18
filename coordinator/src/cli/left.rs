//! What `down` leaves on purpose, because the next `up` needs it or it is not this environment's alone.

use std::{fmt, path::Path};

use serde::Serialize;

use super::{advice::word, remembered};
use crate::cloud::docker::{DockerError, Engine, Scope};

/// What `cargo xtask up` names its images.
const IMAGES: [&str; 3] = ["muster-coordinator", "muster-node", "muster-services"];

/// One thing that is left, and the command that removes it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    what: String,
    remove: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Left: {}. Remove with: {}", self.what, self.remove)
    }
}

/// Looks what is there.
pub async fn of(engine: &Engine, scope: &Scope) -> Result<Vec<Left>, DockerError> {
    let images = engine.images(&IMAGES).await?;
    Ok(listed(&images, remembered::folder(scope).ok().filter(|folder| folder.exists()).as_deref()))
}

fn listed(images: &[String], folder: Option<&Path>) -> Vec<Left> {
    let all = match images {
        [] => None,
        [_] => Some("1 image".to_owned()),
        many => Some(format!("{} images", many.len())),
    };
    let images = all.map(|all| Left {
        what: format!("{all} that all local environments share"),
        remove: format!("docker image rm {}", images.join(" ")),
    });
    let folder = folder.map(|folder| Left {
        what: "this environment's operator key, and where its artefacts are".to_owned(),
        remove: format!("rm -r {}", word(&folder.to_string_lossy())),
    });
    images.into_iter().chain(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_with_the_command_that_removes_it() {
        let images = ["muster-node:a".to_owned(), "muster-services:b".to_owned()];
        let said: Vec<String> = listed(&images, Some(Path::new("/home/dana/my state/muster/easypay-local")))
            .iter()
            .map(Left::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "Left: 2 images that all local environments share. Remove with: docker image rm muster-node:a muster-services:b",
                "Left: this environment's operator key, and where its artefacts are. Remove with: rm -r '/home/dana/my state/muster/easypay-local'",
            ]
        );
        assert_eq!(listed(&[], None), []);
    }
}

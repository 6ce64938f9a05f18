//! The agent's note of how far this node came on its way into the cluster.

use muster_plan::kinds::cluster_member::{Membership, Stage};

use crate::{StepError, ports::Files};

/// Beside the agent's own state: `kubeadm reset` must not take it.
pub const PATH: &str = "/var/lib/muster-agent/membership.json";

pub fn read(files: &dyn Files) -> Result<Option<Membership>, StepError> {
    let Some(text) = files.read(PATH)? else { return Ok(None) };
    match serde_json::from_slice::<Membership>(&text) {
        Ok(note) if note.version == Membership::VERSION => Ok(Some(note)),
        Ok(note) => {
            Err(StepError::failed(format!("{PATH} has version {}, which this agent does not know", note.version))
                .help("a newer agent wrote it: install that one again"))
        }
        // A note that cannot be read is as good as none: the files and the API say the rest.
        Err(error) => {
            tracing::warn!(%error, "the note of this node's membership cannot be read and is made anew");
            Ok(None)
        }
    }
}

pub fn write(files: &dyn Files, note: &Membership) -> Result<(), StepError> {
    let text = serde_json::to_vec_pretty(note).expect("a note is plain data");
    Ok(files.write(PATH, &text, 0o600, 0, 0)?)
}

/// Notes a further stage; an earlier one is never noted again.
pub fn reach(files: &dyn Files, note: &mut Membership, stage: Stage) -> Result<(), StepError> {
    if stage > note.stage {
        note.stage = stage;
        write(files, note)?;
    }
    Ok(())
}

/// The node is a member no more.
pub fn forget(files: &dyn Files) -> Result<(), StepError> {
    Ok(files.remove(PATH, false)?)
}

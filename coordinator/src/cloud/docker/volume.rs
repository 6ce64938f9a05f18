//! Volumes: disks, and the coordinator's state.

use std::collections::HashMap;

use bollard::{
    models::{Volume, VolumeCreateRequest},
    query_parameters::RemoveVolumeOptions,
};

use super::{
    engine::Engine,
    error::{DockerError, absent},
    scope::{LABEL, Role, Scope},
};

impl Engine {
    /// Makes the volume or finds it. `labels` come on top of the environment's and are set at creation only.
    pub async fn ensure_volume(
        &self,
        scope: &Scope,
        name: &str,
        role: Role,
        labels: HashMap<String, String>,
    ) -> Result<(), DockerError> {
        let volume = match self.volume(name).await? {
            Some(volume) => volume,
            None => {
                let mut all = scope.labels(role);
                all.extend(labels);
                let request =
                    VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(all), ..Default::default() };
                let created = self.docker.create_volume(request).await;
                created.map_err(|error| DockerError::of(format!("create volume {name}"), error))?
            }
        };
        if volume.labels.get(LABEL) != Some(&scope.to_string()) {
            return Err(DockerError::Foreign { what: "volume", name: name.to_owned() });
        }
        Ok(())
    }

    /// The volume by name.
    pub(super) async fn volume(&self, name: &str) -> Result<Option<Volume>, DockerError> {
        match self.docker.inspect_volume(name).await {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(DockerError::of(format!("look at volume {name}"), error)),
        }
    }

    /// Gone already is success.
    pub async fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        match self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(DockerError::of(format!("remove volume {name}"), error)),
        }
    }
}

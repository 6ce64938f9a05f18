//! A node: a container that boots systemd, with a /var of its own, its disks, and what runs its user-data put in before the
//! first start.
//!
//! cloud-init does the same on a machine of a cloud. Here it would cost more than all else of a boot: four starts of Python
//! on each of five nodes that share this machine's cores. A unit of a few lines runs the same script once.

use std::{collections::BTreeMap, net::IpAddr};

use muster_catalog::kinds::cluster_member::MemberRole;
use muster_ids::NodeName;
use muster_planner::blueprint::NodePlan;

use super::{
    archive::Upload,
    cloud::DockerCloud,
    container::{ContainerSpec, Found, Mount, State, short},
    error::DockerError,
    scope::{ADDRESS, DISKS, INCARNATION, LABEL, NODE, PODS, Role, TOKEN},
};
use crate::cloud::{Bootstrap, Proof};

/// Where an agent finds what it enrols with.
pub const INSTANCE_FILE: &str = "/var/lib/muster-agent/instance.json";
const USER_DATA: &str = "/var/lib/muster-agent/user-data";
const UNIT_FILE: &str = "/etc/systemd/system/muster-user-data.service";
/// Or cloud-init, where an image has it, would look for the metadata of a cloud that is not there.
const CLOUD_INIT_OFF: &str = "/etc/cloud/cloud-init.disabled";
/// Runs user-data until it has succeeded once.
const UNIT: &str = "[Unit]
Description=Run this node's user-data at its first boot
ConditionPathExists=!/var/lib/muster-agent/user-data.done

[Service]
Type=oneshot
ExecStart=/bin/sh /var/lib/muster-agent/user-data
ExecStartPost=/bin/touch /var/lib/muster-agent/user-data.done
Restart=on-failure
RestartSec=1
";
/// Enables it without a link: an archive of ours holds none.
const WANTS_FILE: &str = "/etc/systemd/system/multi-user.target.d/muster-user-data.conf";
const WANTS: &str = "[Unit]
Wants=muster-user-data.service
";
/// Where disks are mounted, by name.
pub const DISK_FOLDER: &str = "/var/lib/muster/disks";

/// All nodes share this machine's cores: whom the others wait for comes first. At a cluster's birth that is the node that
/// makes it, and later the control planes.
fn weight(plan: &NodePlan) -> u32 {
    match plan.member {
        MemberRole::ControlPlane if plan.init => 8192,
        MemberRole::ControlPlane => 2048,
        MemberRole::Worker => 1024,
    }
}

impl DockerCloud {
    pub(super) fn node_spec(&self, name: &NodeName, plan: &NodePlan) -> ContainerSpec {
        let scope = &self.config.scope;
        let mut labels: BTreeMap<_, _> = scope.labels(Role::Node).into_iter().collect();
        labels.insert(NODE.to_owned(), name.to_string());
        // Own volumes carry the environment's labels alone, so that nobody takes one for the node.
        let own = labels.clone();
        labels.insert(TOKEN.to_owned(), plan.token.clone());
        labels.insert(INCARNATION.to_owned(), plan.incarnation.to_string());
        labels.insert(PODS.to_owned(), plan.pods.to_string());
        let disks: Vec<_> = plan.disks.iter().map(ToString::to_string).collect();
        labels.insert(DISKS.to_owned(), disks.join(","));
        let mut mounts = vec![Mount::Own { at: "/var".to_owned(), labels: own }];
        mounts.extend(
            plan.disks.iter().map(|disk| Mount::Volume { name: scope.disk(disk), at: format!("{DISK_FOLDER}/{disk}") }),
        );
        ContainerSpec {
            name: scope.node(name),
            image: plan.image.clone(),
            hostname: name.to_string(),
            labels,
            command: vec!["/sbin/init".to_owned()],
            environment: vec!["container=docker".to_owned()],
            mounts,
            // Docker's tmpfs has noexec and everybody's rights unless told.
            tmpfs: [("/run", "exec,mode=755"), ("/run/lock", "mode=1777"), ("/tmp", "exec,mode=1777")]
                .map(|(path, options)| (path.to_owned(), options.to_owned()))
                .into(),
            network: scope.network(),
            address: Some(plan.address.to_string()),
            capabilities: self.config.capabilities.clone(),
            node: true,
            stop_signal: Some("SIGRTMIN+3".to_owned()),
            stop_timeout: Some(20),
            memory: plan.memory,
            cpus: plan.cpus,
            weight: Some(weight(plan)),
            ..Default::default()
        }
    }

    pub(super) async fn make_node(
        &self,
        name: &NodeName,
        plan: &NodePlan,
        boot: &Bootstrap,
        proof: &Proof,
    ) -> Result<String, DockerError> {
        let spec = self.node_spec(name, plan);
        let found = match self.engine.container(&spec.name).await? {
            Some(found) => Some(found),
            None => {
                for disk in &plan.disks {
                    // Docker would make a missing volume, empty and without a label.
                    if self.engine.volume(&self.config.scope.disk(disk)).await?.is_none() {
                        return Err(DockerError::DiskGone { disk: disk.to_string() });
                    }
                }
                match self.engine.create(&spec).await {
                    Ok(id) => {
                        self.seed(&id, name, boot, proof).await?;
                        self.engine.start(&id, &spec).await?;
                        return Ok(id);
                    }
                    // Made meanwhile, by a call whose answer was lost.
                    Err(error) if error.status() == Some(409) => self.engine.container(&spec.name).await?,
                    Err(error) => return Err(error),
                }
            }
        };
        let Some(found) = found else { return Err(DockerError::Removing { name: spec.name }) };
        let ours = found.labels.get(LABEL) == Some(&self.config.scope.to_string())
            && found.labels.get(TOKEN) == Some(&plan.token);
        if !ours {
            return Err(DockerError::Name { name: spec.name, id: short(&found.id) });
        }
        let fixed = [ADDRESS, DISKS].map(|label| found.labels.get(label).map(String::as_str).unwrap_or_default());
        if fixed != [plan.address.to_string().as_str(), spec.labels[DISKS].as_str()] {
            return Err(DockerError::Parameters { name: spec.name });
        }
        match found.state {
            State::Running | State::Restarting => {}
            State::Created => {
                self.seed(&found.id, name, boot, proof).await?;
                self.engine.start(&found.id, &spec).await?;
            }
            State::Paused | State::Stopped => self.engine.start(&found.id, &spec).await?,
            State::Removing => return Err(DockerError::Removing { name: spec.name }),
        }
        Ok(found.id)
    }

    /// What the node finds at its first boot. The token is for root's eyes and not in user-data.
    async fn seed(&self, id: &str, name: &NodeName, boot: &Bootstrap, proof: &Proof) -> Result<(), DockerError> {
        let instance = serde_json::json!({ "instance": id, "node": name, "token": proof.token });
        let files = [
            Upload::file(CLOUD_INIT_OFF, 0o644, "By muster: this node's user-data has a unit of its own.\n"),
            Upload::file(UNIT_FILE, 0o644, UNIT),
            Upload::file(WANTS_FILE, 0o644, WANTS),
            Upload::folder("/var/lib/muster-agent", 0o700),
            Upload::file(USER_DATA, 0o700, boot.user_data.clone()),
            Upload::file(INSTANCE_FILE, 0o600, instance.to_string()),
        ];
        self.engine.upload(id, &files).await
    }

    pub(super) async fn start_node(&self, name: &NodeName, id: &str) -> Result<(), DockerError> {
        let found = self.engine.container(id).await?.filter(|found| found.id == id);
        let Some(found) = found else { return Err(DockerError::Gone { name: name.to_string(), id: short(id) }) };
        if !self.is_ours(&found, NODE, name.as_str()) {
            return Err(DockerError::Name { name: name.to_string(), id: short(id) });
        }
        match found.state {
            State::Running | State::Restarting => Ok(()),
            State::Paused | State::Stopped => self.engine.start(id, &found.spec(&self.config.scope)).await,
            // It has not got what it boots with.
            State::Created => Err(DockerError::Gone { name: name.to_string(), id: short(id) }),
            State::Removing => Err(DockerError::Removing { name: name.to_string() }),
        }
    }

    pub(super) async fn unmake_node(&self, name: &NodeName, id: &str) -> Result<(), DockerError> {
        self.remove_ours(id, NODE, name.as_str()).await
    }

    /// Removes a container of this environment whose label says that it is the one that was meant.
    pub(super) async fn remove_ours(&self, id: &str, label: &str, value: &str) -> Result<(), DockerError> {
        let Some(found) = self.engine.container(id).await? else { return Ok(()) };
        if found.id != id || !self.is_ours(&found, label, value) {
            return Err(DockerError::Name { name: value.to_owned(), id: short(id) });
        }
        self.engine.remove_container(id).await
    }

    fn is_ours(&self, found: &Found, label: &str, value: &str) -> bool {
        found.labels.get(LABEL) == Some(&self.config.scope.to_string())
            && found.labels.get(label).map(String::as_str) == Some(value)
    }

    pub(super) async fn vouches(&self, name: &NodeName, id: &str, address: IpAddr) -> Result<bool, DockerError> {
        let Some(found) = self.engine.container(&self.config.scope.node(name)).await? else { return Ok(false) };
        Ok(found.id == id
            && self.is_ours(&found, NODE, name.as_str())
            && found.state == State::Running
            && found.address == Some(address.to_string()))
    }
}

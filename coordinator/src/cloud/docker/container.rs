//! Containers: from a plain description to a running one, idempotent by name and label.

use std::collections::{BTreeMap, HashMap};

use bollard::{
    body_full,
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
        ContainerSummaryStateEnum, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
        HostConfigLogConfig, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptions, DownloadFromContainerOptions, KillContainerOptions, LogsOptions,
        RemoveContainerOptions, StartContainerOptions, StopContainerOptions, UploadToContainerOptions,
    },
};
use futures::{StreamExt, TryStreamExt};
use muster_ids::Digest;
use serde::Serialize;

use super::{
    archive::{Upload, first_file, pack},
    engine::Engine,
    error::{DockerError, absent},
    scope::{ADDRESS, LABEL, ROLE, SPEC, Scope},
};

/// What a container is created from. Its digest is kept as a label: another one means another container.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ContainerSpec {
    pub name: String,
    pub image: String,
    pub hostname: String,
    /// Labels on top of the environment's, which must be in here too ([`Scope::labels`]).
    pub labels: BTreeMap<String, String>,
    /// Program and arguments, in place of the image's.
    pub command: Vec<String>,
    /// `NAME=value`; no secrets, anybody with the socket reads them.
    pub environment: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Path → options.
    pub tmpfs: BTreeMap<String, String>,
    pub network: String,
    /// Fixed, in the network's subnet.
    pub address: Option<String>,
    /// Ports of the container that the machine's own addresses forward to, `host → container`, TCP.
    pub ports: BTreeMap<u16, u16>,
    /// Besides Docker's default ones.
    pub capabilities: Vec<String>,
    /// No confinement and all devices: a node, which runs systemd, containerd and kubelet.
    pub node: bool,
    pub stop_signal: Option<String>,
    /// Seconds from the stop signal to the kill.
    pub stop_timeout: Option<i64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths.
    pub cpus: Option<u32>,
    /// Share of the machine's cores when they are short, against 1024 of any other container.
    pub weight: Option<u32>,
}

/// A place in a container with a life of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mount {
    /// A named volume.
    Volume { name: String, at: String },
    /// A volume that goes with the container; the labels make it found should only the container go.
    Own { at: String, labels: BTreeMap<String, String> },
    /// A file or folder of the machine.
    Host { path: String, at: String, read_only: bool },
}

/// A container as the daemon lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub name: String,
    pub image: String,
    pub role: String,
    pub labels: HashMap<String, String>,
    pub state: State,
    /// Set while it runs.
    pub address: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never started: files can still be put where its first start will find them.
    Created,
    Running,
    /// It ends again and again, and the daemon brings it back.
    Restarting,
    Paused,
    Stopped,
    Removing,
}

impl Found {
    /// As much of what it was made from as a start needs.
    pub(super) fn spec(&self, scope: &Scope) -> ContainerSpec {
        ContainerSpec {
            name: self.name.clone(),
            network: scope.network(),
            address: self.labels.get(ADDRESS).cloned(),
            ..Default::default()
        }
    }
}

impl ContainerSpec {
    /// Equal for equal containers.
    pub fn digest(&self) -> String {
        Digest::of(serde_json::to_vec(self).expect("a container holds nothing that JSON cannot say")).to_string()
    }

    fn body(&self) -> ContainerCreateBody {
        let mut labels: HashMap<_, _> = self.labels.clone().into_iter().collect();
        labels.insert(SPEC.to_owned(), self.digest());
        let ipam = self.address.clone().map(|address| {
            labels.insert(ADDRESS.to_owned(), address.clone());
            EndpointIpamConfig { ipv4_address: Some(address), ..Default::default() }
        });
        let endpoint = EndpointSettings { ipam_config: ipam, ..Default::default() };
        let ports: HashMap<_, _> = self
            .ports
            .iter()
            .map(|(host, inner)| {
                let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(host.to_string()) };
                (format!("{inner}/tcp"), Some(vec![binding]))
            })
            .collect();
        let mut host = HostConfig {
            network_mode: Some(self.network.clone()),
            mounts: Some(self.mounts.iter().map(Mount::model).collect()),
            tmpfs: Some(self.tmpfs.clone().into_iter().collect()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            cap_add: Some(self.capabilities.clone()),
            memory: self.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            // Without swap of its own: what kubelet is told is what there is.
            memory_swap: self.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            nano_cpus: self.cpus.map(|cpus| i64::from(cpus) * 1_000_000),
            cpu_shares: self.weight.map(i64::from),
            // The driver that keeps the last 100 MB and drops the rest: what is logged fills no disk.
            log_config: Some(HostConfigLogConfig { typ: Some("local".to_owned()), config: None }),
            port_bindings: Some(ports),
            ..Default::default()
        };
        if self.node {
            host.security_opt = Some(["seccomp=unconfined", "apparmor=unconfined"].map(str::to_owned).to_vec());
            host.device_cgroup_rules = Some(vec!["a *:* rwm".to_owned()]);
            host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::PRIVATE);
            // What the command line calls systempaths=unconfined.
            host.masked_paths = Some(vec![]);
            host.readonly_paths = Some(vec![]);
        }
        ContainerCreateBody {
            hostname: Some(self.hostname.clone()).filter(|name| !name.is_empty()),
            image: Some(self.image.clone()),
            cmd: (!self.command.is_empty()).then(|| self.command.clone()),
            env: Some(self.environment.clone()),
            labels: Some(labels),
            stop_signal: self.stop_signal.clone(),
            stop_timeout: self.stop_timeout,
            exposed_ports: (!self.ports.is_empty())
                .then(|| self.ports.values().map(|inner| format!("{inner}/tcp")).collect()),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.clone(), endpoint)])),
            }),
            ..Default::default()
        }
    }
}

impl Mount {
    fn model(&self) -> bollard::models::Mount {
        let (typ, source, at, read_only, labels) = match self {
            Mount::Volume { name, at } => (MountType::VOLUME, Some(name.clone()), at, false, None),
            Mount::Own { at, labels } => (MountType::VOLUME, None, at, false, Some(labels.clone())),
            Mount::Host { path, at, read_only } => (MountType::BIND, Some(path.clone()), at, *read_only, None),
        };
        bollard::models::Mount {
            target: Some(at.clone()),
            source,
            typ: Some(typ),
            read_only: Some(read_only),
            volume_options: labels
                .map(|labels| MountVolumeOptions { labels: Some(labels.into_iter().collect()), ..Default::default() }),
            ..Default::default()
        }
    }
}

impl Engine {
    /// The container by name or id.
    pub async fn container(&self, name: &str) -> Result<Option<Found>, DockerError> {
        match self.docker.inspect_container(name, None).await {
            Ok(container) => Ok(Some(Found::from(container))),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(DockerError::of(format!("look at container {name}"), error)),
        }
    }

    /// Makes a service's container run as described: created, created anew when the description changed, or started.
    /// `files` are put in before the first start. Returns its id, and whether anything was done.
    pub async fn ensure_container(
        &self,
        scope: &Scope,
        spec: &ContainerSpec,
        files: &[Upload],
    ) -> Result<(String, bool), DockerError> {
        if let Some(found) = self.container(&spec.name).await? {
            if found.labels.get(LABEL) != Some(&scope.to_string()) {
                return Err(DockerError::Name { name: spec.name.clone(), id: short(&found.id) });
            }
            if found.labels.get(SPEC) == Some(&spec.digest()) {
                match found.state {
                    State::Running | State::Restarting => return Ok((found.id, false)),
                    State::Created => self.upload(&found.id, files).await?,
                    State::Paused | State::Stopped => {}
                    State::Removing => return Err(DockerError::Removing { name: spec.name.clone() }),
                }
                self.start(&found.id, spec).await?;
                return Ok((found.id, true));
            }
            self.remove_container(&found.id).await?;
        }
        let id = self.create(spec).await?;
        self.upload(&id, files).await?;
        self.start(&id, spec).await?;
        Ok((id, true))
    }

    /// Creates without starting. A taken name is an error of status 409.
    pub(super) async fn create(&self, spec: &ContainerSpec) -> Result<String, DockerError> {
        let options = CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        let mut body = spec.body();
        loop {
            let created = self.docker.create_container(Some(options.clone()), body.clone()).await;
            let error = match created {
                Ok(created) => return Ok(created.id),
                Err(error) => DockerError::of(format!("create container {}", spec.name), error),
            };
            // An older daemon does not know the newest capabilities, and cannot be asked which it knows.
            let text = error.to_string();
            let unknown = text.split("unknown capability: \"CAP_").nth(1).and_then(|rest| rest.split('"').next());
            let asked = body.host_config.as_mut().and_then(|host| host.cap_add.as_mut());
            match (unknown, asked) {
                (Some(unknown), Some(asked)) if asked.iter().any(|name| name == unknown) => {
                    asked.retain(|name| name != unknown);
                }
                (None | Some(_), _) => return Err(error),
            }
        }
    }

    /// Starts it, or wakes it when paused. Running already is success.
    pub(super) async fn start(&self, id: &str, spec: &ContainerSpec) -> Result<(), DockerError> {
        let what = format!("start container {}", spec.name);
        if self.container(id).await?.is_some_and(|found| found.state == State::Paused) {
            return self.docker.unpause_container(id).await.map_err(|error| DockerError::of(what, error));
        }
        let started = self.docker.start_container(id, None::<StartContainerOptions>).await;
        let Err(error) = started else { return Ok(()) };
        let error = DockerError::of(what, error);
        match &spec.address {
            Some(address) if error.to_string().contains("Address already in use") => {
                let holder = self.address_holder(&spec.network, address).await;
                Err(DockerError::Address { address: address.clone(), holder })
            }
            _ => Err(error),
        }
    }

    /// Stops it within its own time-out. Stopped or gone already is success.
    pub async fn stop(&self, id: &str) -> Result<(), DockerError> {
        match self.docker.stop_container(id, None::<StopContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(error) if absent(&error) => Ok(()),
            Err(error) => Err(DockerError::of(format!("stop container {}", short(id)), error)),
        }
    }

    /// Removes it and the volumes that are its own. Gone already, or going, is success.
    pub async fn remove_container(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        match self.docker.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if absent(&error) => Ok(()),
            Err(error) => {
                let error = DockerError::of(format!("remove container {}", short(id)), error);
                if error.status() == Some(409) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Puts files into it, running or not; through its volumes, not through its tmpfs.
    pub async fn upload(&self, id: &str, files: &[Upload]) -> Result<(), DockerError> {
        if files.is_empty() {
            return Ok(());
        }
        let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
        let sent = self.docker.upload_to_container(id, Some(options), body_full(pack(files).into())).await;
        sent.map_err(|error| DockerError::of(format!("put files into container {}", short(id)), error))
    }

    /// A file's content, of a stopped container too; absent when there is none.
    pub async fn read_file(&self, id: &str, path: &str) -> Result<Option<Vec<u8>>, DockerError> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let archive: Result<Vec<_>, _> = self.docker.download_from_container(id, Some(options)).try_collect().await;
        match archive {
            Ok(parts) => Ok(first_file(&parts.concat())),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(DockerError::of(format!("read {path} of container {}", short(id)), error)),
        }
    }

    /// Sends a signal to its first process.
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), DockerError> {
        let options = KillContainerOptions { signal: signal.to_owned() };
        let sent = self.docker.kill_container(id, Some(options)).await;
        sent.map_err(|error| DockerError::of(format!("send {signal} to container {}", short(id)), error))
    }

    /// The last lines that it wrote.
    pub async fn log(&self, id: &str, lines: u32) -> String {
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..Default::default() };
        let parts: Vec<_> = self.docker.logs(id, Some(options)).collect().await;
        parts.into_iter().filter_map(Result::ok).map(|part| part.to_string()).collect()
    }
}

/// The first digits of an id, as Docker shows it.
pub(super) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

impl From<ContainerSummary> for Found {
    fn from(summary: ContainerSummary) -> Self {
        use ContainerSummaryStateEnum as S;
        let labels = summary.labels.unwrap_or_default();
        let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let name = summary.names.and_then(|names| names.into_iter().next()).unwrap_or_default();
        Self {
            id: summary.id.unwrap_or_default(),
            name: name.trim_start_matches('/').to_owned(),
            image: summary.image.unwrap_or_default(),
            role: labels.get(ROLE).cloned().unwrap_or_default(),
            labels,
            state: match summary.state {
                Some(S::CREATED) => State::Created,
                Some(S::RUNNING) => State::Running,
                Some(S::RESTARTING) => State::Restarting,
                Some(S::PAUSED) => State::Paused,
                Some(S::REMOVING) => State::Removing,
                Some(S::EXITED | S::DEAD | S::STOPPING | S::EMPTY) | None => State::Stopped,
            },
            address: address(networks),
        }
    }
}

impl From<ContainerInspectResponse> for Found {
    fn from(container: ContainerInspectResponse) -> Self {
        use ContainerStateStatusEnum as S;
        let config = container.config.unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        let networks = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        Self {
            id: container.id.unwrap_or_default(),
            name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            role: labels.get(ROLE).cloned().unwrap_or_default(),
            labels,
            state: match container.state.and_then(|state| state.status) {
                Some(S::CREATED) => State::Created,
                Some(S::RUNNING) => State::Running,
                Some(S::RESTARTING) => State::Restarting,
                Some(S::PAUSED) => State::Paused,
                Some(S::REMOVING) => State::Removing,
                Some(S::EXITED | S::DEAD | S::STOPPING | S::EMPTY) | None => State::Stopped,
            },
            address: address(networks),
        }
    }
}

fn address(networks: HashMap<String, EndpointSettings>) -> Option<String> {
    networks.into_values().filter_map(|endpoint| endpoint.ip_address).find(|address| !address.is_empty())
}

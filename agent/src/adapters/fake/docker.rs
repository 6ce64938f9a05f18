//! A Docker daemon with a registry behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::BoxStream};
use muster_catalog::kinds::container::ContainerSpec;
use muster_ids::Digest;
use muster_plan::kinds::container::Volume;

use crate::ports::{ContainerState, Docker, DockerError, DockerEvent};

#[derive(Default)]
pub struct FakeDocker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registry: BTreeSet<String>,
    registry_away: bool,
    images: BTreeSet<String>,
    containers: BTreeMap<String, Held>,
    /// Where containers of an image get volumes without a name.
    places: BTreeMap<String, Vec<String>>,
    /// Images whose programs end at once.
    broken: BTreeSet<String>,
    /// How many containers were ever made.
    made: u64,
    /// All volumes that were ever made: nothing here removes one.
    volumes: BTreeSet<String>,
    listeners: Vec<tokio::sync::mpsc::UnboundedSender<DockerEvent>>,
}

struct Held {
    state: ContainerState,
    ports: Vec<String>,
}

impl State {
    fn tell(&mut self, event: DockerEvent) {
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }
}

impl FakeDocker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An image that can be pulled.
    pub fn publish(&self, image: &str) {
        self.lock().registry.insert(image.to_owned());
    }

    /// Its containers get a volume at this place where they are given none.
    pub fn keeps_data(&self, image: &str, at: &str) {
        self.lock().places.entry(image.to_owned()).or_default().push(at.to_owned());
    }

    /// Its containers end at once.
    pub fn ends_at_once(&self, image: &str) {
        self.lock().broken.insert(image.to_owned());
    }

    pub fn registry_away(&self, away: bool) {
        self.lock().registry_away = away;
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut ContainerState)) -> Result<(), DockerError> {
        let mut state = self.lock();
        let Some(container) = state.containers.get_mut(name) else {
            return Err(DockerError::Refused(format!("No such container: {name}")));
        };
        change(&mut container.state);
        state.tell(DockerEvent::Container { name: name.to_owned() });
        Ok(())
    }

    /// By hand, past the agent.
    pub fn change_by_hand(&self, name: &str, change: impl FnOnce(&mut ContainerState)) -> Result<(), DockerError> {
        self.with(name, change)
    }
}

#[async_trait::async_trait]
impl Docker for FakeDocker {
    async fn image(&self, name: &str) -> Result<Option<String>, DockerError> {
        Ok(self.lock().images.contains(name).then(|| Digest::of(name).to_string()))
    }

    async fn pull(&self, name: &str) -> Result<(), DockerError> {
        let mut state = self.lock();
        let image = name.to_owned();
        if state.registry_away {
            return Err(DockerError::Registry { image, source: "connection refused".into() });
        }
        if !state.registry.contains(name) {
            return Err(DockerError::NoImage { image });
        }
        state.images.insert(image.clone());
        state.tell(DockerEvent::Image { name: image });
        Ok(())
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerState>, DockerError> {
        Ok(self.lock().containers.get(name).map(|held| held.state.clone()))
    }

    async fn create(
        &self,
        spec: &ContainerSpec,
        labels: &BTreeMap<String, String>,
        volumes: &[Volume],
    ) -> Result<(), DockerError> {
        let mut state = self.lock();
        if !state.images.contains(&spec.image) {
            return Err(DockerError::Refused(format!("No such image: {}", spec.image)));
        }
        if state.containers.contains_key(&spec.name) {
            return Err(DockerError::Refused(format!("The container name \"/{}\" is already in use", spec.name)));
        }
        let mut all = volumes.to_vec();
        for volume in &spec.volumes {
            let mut parts = volume.split(':').map(str::to_owned);
            let (name, at) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            if !name.starts_with('/') {
                all.push(Volume { name, at, anonymous: false, read_only: parts.next().is_some() });
            }
        }
        for at in state.places.get(&spec.image).cloned().unwrap_or_default() {
            let taken = spec.volumes.iter().any(|volume| volume.split(':').nth(1) == Some(&at));
            if !taken && !all.iter().any(|volume| volume.at == at) {
                let name = format!("{:064x}", state.volumes.len() + 1);
                all.push(Volume { name, at, anonymous: true, read_only: false });
            }
        }
        state.volumes.extend(all.iter().map(|volume| volume.name.clone()));
        let host_port = |port: &String| port.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        state.made += 1;
        let host = spec.lives_in().and_then(|host| state.containers.get(host));
        let container = ContainerState {
            id: format!("{:064x}", state.made),
            lives_in: host.map(|host| host.state.id.clone()),
            labels: labels.clone(),
            image: Digest::of(&spec.image).to_string(),
            image_name: spec.image.clone(),
            volumes: all,
            kept_up: true,
            ..ContainerState::default()
        };
        state
            .containers
            .insert(spec.name.clone(), Held { state: container, ports: spec.ports.iter().map(host_port).collect() });
        state.tell(DockerEvent::Container { name: spec.name.clone() });
        Ok(())
    }

    async fn start(&self, name: &str) -> Result<(), DockerError> {
        let state = self.lock();
        let ports = state.containers.get(name).map(|held| held.ports.clone()).unwrap_or_default();
        let others = state.containers.iter().filter(|(other, held)| *other != name && held.state.running);
        if let Some(port) = others.flat_map(|(_, held)| &held.ports).find(|port| ports.contains(port)) {
            return Err(DockerError::PortInUse { port: port.clone() });
        }
        let broken = state.broken.clone();
        drop(state);
        self.with(name, |container| {
            container.running = !broken.contains(&container.image_name);
            container.run.push('+');
            container.up = if container.running { 3600 } else { 0 };
            container.status = i64::from(!container.running);
        })
    }

    async fn stop(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| container.running = false)
    }

    async fn restart(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| {
            container.running = true;
            container.run.push('+');
        })
    }

    async fn keep_up(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| container.kept_up = true)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DockerError> {
        let mut state = self.lock();
        if state.containers.contains_key(to) {
            return Err(DockerError::Refused(format!("The container name \"/{to}\" is already in use")));
        }
        let Some(held) = state.containers.remove(from) else {
            return Err(DockerError::Refused(format!("No such container: {from}")));
        };
        state.containers.insert(to.to_owned(), held);
        Ok(())
    }

    async fn last_words(&self, _name: &str, _lines: u32) -> Result<Vec<String>, DockerError> {
        Ok(Vec::new())
    }

    async fn lodgers(&self, _name: &str) -> Result<Vec<String>, DockerError> {
        Ok(Vec::new())
    }

    async fn remove(&self, name: &str) -> Result<(), DockerError> {
        let mut state = self.lock();
        if state.containers.remove(name).is_some() {
            state.tell(DockerEvent::Container { name: name.to_owned() });
        }
        Ok(())
    }

    fn events(&self) -> BoxStream<'static, DockerEvent> {
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        self.lock().listeners.push(tell);
        tokio_stream::wrappers::UnboundedReceiverStream::new(told).boxed()
    }
}

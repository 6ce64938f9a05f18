//! A Docker daemon with a registry behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::BoxStream};
use muster_catalog::kinds::container::ContainerSpec;
use muster_ids::Digest;

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
    containers: BTreeMap<String, (ContainerState, Vec<String>)>,
    listeners: Vec<tokio::sync::mpsc::UnboundedSender<DockerEvent>>,
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

    pub fn registry_away(&self, away: bool) {
        self.lock().registry_away = away;
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut ContainerState)) -> Result<(), DockerError> {
        let mut state = self.lock();
        let Some((container, _)) = state.containers.get_mut(name) else {
            return Err(DockerError::Refused(format!("No such container: {name}")));
        };
        change(container);
        state.tell(DockerEvent::Container { name: name.to_owned() });
        Ok(())
    }

    /// By hand, past the agent.
    pub fn stop(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| container.running = false)
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
        Ok(self.lock().containers.get(name).map(|(state, _)| state.clone()))
    }

    async fn run(&self, spec: &ContainerSpec, labels: &BTreeMap<String, String>) -> Result<(), DockerError> {
        if self.image(&spec.image).await?.is_none() {
            self.pull(&spec.image).await?;
        }
        let mut state = self.lock();
        if state.containers.contains_key(&spec.name) {
            return Err(DockerError::Refused(format!("The container name \"/{}\" is already in use", spec.name)));
        }
        let host = |port: &String| port.split(':').next().unwrap_or_default().to_owned();
        let ports: Vec<String> = spec.ports.iter().map(host).collect();
        let taken = state.containers.values().filter(|(other, _)| other.running).flat_map(|(_, ports)| ports);
        if let Some(port) = taken.clone().find(|port| ports.contains(port)) {
            return Err(DockerError::PortInUse { port: port.clone() });
        }
        let image = Digest::of(&spec.image).to_string();
        let container = ContainerState { running: true, labels: labels.clone(), image };
        state.containers.insert(spec.name.clone(), (container, ports));
        state.tell(DockerEvent::Container { name: spec.name.clone() });
        Ok(())
    }

    async fn start(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| container.running = true)
    }

    async fn restart(&self, name: &str) -> Result<(), DockerError> {
        self.with(name, |container| container.running = true)
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

//! Load balancers: haproxy in a container at a fixed address.
//!
//! A new configuration is checked by haproxy before it takes the place of the old one, then the master process starts a
//! new worker that is given the listening sockets: no connection is refused, and the old worker ends its own in peace.

use std::{net::SocketAddr, time::Duration};

use muster_ids::EndpointName;
use muster_planner::blueprint::LoadBalancerPlan;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    archive::Upload,
    cloud::DockerCloud,
    container::{ContainerSpec, State, short},
    error::DockerError,
    exec::Ran,
    scope::{ENDPOINT, LABEL, Role, SPEC},
};
use crate::cloud::haproxy;

const CONFIG: &str = "/etc/haproxy/muster.cfg";
const NEXT: &str = "/etc/haproxy/muster.next.cfg";
/// What haproxy was told to load: written after the signal, so that a crash before it is seen.
pub(super) const LOADED: &str = "/etc/haproxy/muster.loaded.cfg";
/// How long a fresh haproxy may take to listen.
const GRACE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

impl DockerCloud {
    fn balancer_spec(&self, name: &EndpointName, plan: &LoadBalancerPlan) -> ContainerSpec {
        let scope = &self.config.scope;
        let mut labels: std::collections::BTreeMap<_, _> = scope.labels(Role::LoadBalancer).into_iter().collect();
        labels.insert(ENDPOINT.to_owned(), name.to_string());
        ContainerSpec {
            name: scope.load_balancer(name),
            image: self.config.services_image.clone(),
            hostname: format!("endpoint-{name}"),
            labels,
            command: ["haproxy", "-W", "-db", "-f", CONFIG].map(str::to_owned).to_vec(),
            network: scope.network(),
            address: Some(plan.address.to_string()),
            // haproxy's own signal for "finish what is open, take nothing new".
            stop_signal: Some("SIGUSR1".to_owned()),
            stop_timeout: Some(5),
            ..Default::default()
        }
    }

    pub(super) async fn make_balancer(&self, name: &EndpointName, plan: &LoadBalancerPlan) -> Result<(), DockerError> {
        let spec = self.balancer_spec(name, plan);
        let config = haproxy::render(plan);
        let file = [CONFIG, LOADED].map(|path| Upload::file(path, 0o644, config.clone()));
        let found = self.engine.container(&spec.name).await?;
        let Some(found) = found.filter(|found| found.labels.get(SPEC) == Some(&spec.digest())) else {
            self.engine.ensure_container(&self.config.scope, &spec, &file).await?;
            return self.stays(&spec, plan).await;
        };
        if found.labels.get(LABEL) != Some(&self.config.scope.to_string()) {
            return Err(DockerError::Name { name: spec.name, id: short(&found.id) });
        }
        match found.state {
            State::Running => self.reconfigure(&found.id, &config).await,
            State::Created | State::Paused | State::Stopped | State::Restarting => {
                self.engine.stop(&found.id).await?;
                self.engine.upload(&found.id, &file).await?;
                self.engine.start(&found.id, &spec).await?;
                self.stays(&spec, plan).await
            }
            State::Removing => Err(DockerError::Removing { name: spec.name }),
        }
    }

    async fn reconfigure(&self, id: &str, config: &str) -> Result<(), DockerError> {
        if self.engine.read_file(id, LOADED).await?.as_deref() == Some(config.as_bytes()) {
            return Ok(());
        }
        self.engine.upload(id, &[Upload::file(NEXT, 0o644, config)]).await?;
        for command in [&["haproxy", "-c", "-f", NEXT][..], &["mv", NEXT, CONFIG]] {
            let Ran { code, out, err } = self.engine.exec(id, command, "").await?;
            if code != 0 {
                return Err(DockerError::Balancer(format!("{out}{err}").trim().to_owned()));
            }
        }
        self.engine.signal(id, "SIGUSR2").await?;
        self.engine.upload(id, &[Upload::file(LOADED, 0o644, config)]).await
    }

    /// Waits until it takes connections, or tells why it ended.
    async fn stays(&self, spec: &ContainerSpec, plan: &LoadBalancerPlan) -> Result<(), DockerError> {
        let front = SocketAddr::new(plan.address, plan.listen);
        let deadline = Instant::now() + GRACE;
        loop {
            sleep(PAUSE).await;
            let Some(found) = self.engine.container(&spec.name).await? else {
                return Err(DockerError::Removing { name: spec.name.clone() });
            };
            match found.state {
                State::Running => {}
                State::Created | State::Paused | State::Stopped | State::Restarting | State::Removing => {
                    let log = self.engine.log(&found.id, 5).await;
                    return Err(DockerError::Ended { name: spec.name.clone(), log });
                }
            }
            if matches!(timeout(PAUSE, TcpStream::connect(front)).await, Ok(Ok(_))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(DockerError::Deaf { front });
            }
        }
    }
}

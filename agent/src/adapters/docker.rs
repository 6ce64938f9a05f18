//! The Docker daemon, by bollard over its socket.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    errors::Error,
    models::{
        ContainerCreateBody, ContainerSummary, ContainerUpdateBody, HostConfig, PortBinding, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder,
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, RestartContainerOptions,
        StartContainerOptions, StopContainerOptionsBuilder,
    },
};
use futures::{StreamExt, stream::BoxStream};
use muster_catalog::kinds::container::ContainerSpec;
use muster_plan::kinds::container::Volume;

use crate::ports::{ContainerState, Docker, DockerError, DockerEvent};

const SOCKET: &str = "/var/run/docker.sock";
/// Seconds of one request; a pull's are only those to its first word.
const TIMEOUT: u64 = 120;
/// For so long Docker is given to find containerd again, and between two questions.
const CONTAINERD: Duration = Duration::from_secs(15);
const ASKED_AGAIN: Duration = Duration::from_millis(250);
/// A pull reports progress all along: one that is silent for so long has stalled.
const SILENCE: Duration = Duration::from_secs(120);
/// A whole pull; containerd's are given as long.
const PULL: Duration = Duration::from_secs(900);
/// Seconds between the polite and the final end of a container.
const STOP: i32 = 10;

#[derive(Default)]
pub struct Bollard {
    client: Mutex<Option<bollard::Docker>>,
}

impl Bollard {
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self) -> Result<bollard::Docker, DockerError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let new = bollard::Docker::connect_with_socket(SOCKET, TIMEOUT, bollard::API_DEFAULT_VERSION).map_err(other)?;
        *client = Some(new.clone());
        Ok(new)
    }

    /// The id of the container that bears exactly this name. Docker itself takes a name that nobody bears for the beginning of
    /// an id: `db` would be whichever container's id begins so.
    async fn id(&self, name: &str) -> Result<Option<String>, DockerError> {
        let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let path = format!("/{name}");
        let all = self.client()?.list_containers(Some(options)).await.map_err(other)?;
        let bears = |one: &ContainerSummary| one.names.as_ref().is_some_and(|names| names.contains(&path));
        Ok(all.into_iter().find(bears).and_then(|one| one.id))
    }

    async fn must_have(&self, name: &str) -> Result<String, DockerError> {
        self.id(name).await?.ok_or_else(|| DockerError::Refused(format!("there is no container {name}")))
    }
}

/// With its tag. Without one Docker would pull all of them, and take a name that no image has for the beginning of an id.
fn tagged(image: &str) -> String {
    let has_one = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_one { image.to_owned() } else { format!("{image}:latest") }
}

fn other(error: Error) -> DockerError {
    match error {
        Error::DockerResponseServerError { message, .. } => refused(message),
        Error::DockerStreamError { error } => refused(error),
        transport => DockerError::Unreachable(Box::new(transport)),
    }
}

fn refused(message: String) -> DockerError {
    if message.contains("port is already allocated") || message.contains("address already in use") {
        let port = bound_port(&message).unwrap_or_else(|| format!("({message})"));
        return DockerError::PortInUse { port };
    }
    if without_containerd(&message) {
        return DockerError::Containerd(message);
    }
    DockerError::Refused(message)
}

/// The port of the first `ADDRESS:PORT` in what Docker says: the daemon itself, its proxy and the network driver each have words of their own.
fn bound_port(message: &str) -> Option<String> {
    message.split_whitespace().find_map(|word| {
        let (address, rest) = match word.strip_prefix('[') {
            Some(six) => six.split_once("]:")?,
            None => word.split_once(':')?,
        };
        address.parse::<std::net::IpAddr>().ok()?;
        let port = rest.split(|character: char| !character.is_ascii_digit()).next()?;
        port.parse::<u16>().ok().map(|port| port.to_string())
    })
}

/// A change that needs containerd. Docker loses that when it is started anew, and looks for it again after pauses; until then it refuses, and
/// is asked again.
async fn patiently<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let until = tokio::time::Instant::now() + CONTAINERD;
    loop {
        match ask().await {
            Err(Error::DockerResponseServerError { message, .. })
                if without_containerd(&message) && tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(ASKED_AGAIN).await;
            }
            ended => return ended,
        }
    }
}

/// Whether that is why Docker refuses.
fn without_containerd(message: &str) -> bool {
    message.contains("containerd.sock") && message.contains("connection error")
}

/// The end of a pull. One that does not come to it would hold up all else on this node for good.
async fn pulled<T>(
    image: &str,
    progress: impl futures::Stream<Item = Result<T, Error>> + Unpin,
) -> Result<(), DockerError> {
    let late = |_| stalled(image, format!("the image is not here after {} s", PULL.as_secs()));
    tokio::time::timeout(PULL, followed(image, progress)).await.map_err(late)?
}

async fn followed<T>(
    image: &str,
    mut progress: impl futures::Stream<Item = Result<T, Error>> + Unpin,
) -> Result<(), DockerError> {
    let silent = |_| stalled(image, format!("no progress for {} s", SILENCE.as_secs()));
    while let Some(step) = tokio::time::timeout(SILENCE, progress.next()).await.map_err(silent)? {
        let message = match step {
            Ok(_) => continue,
            Err(Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message }) => {
                message
            }
            Err(error) => return Err(other(error)),
        };
        let image = image.to_owned();
        let unknown = ["not found", "manifest unknown", "does not exist", "name unknown"];
        return Err(if unknown.iter().any(|words| message.contains(words)) {
            DockerError::NoImage { image }
        } else {
            DockerError::Registry { image, source: message.into() }
        });
    }
    Ok(())
}

fn stalled(image: &str, why: String) -> DockerError {
    DockerError::Registry { image: image.to_owned(), source: why.into() }
}

fn missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

#[async_trait::async_trait]
impl Docker for Bollard {
    async fn image(&self, name: &str) -> Result<Option<String>, DockerError> {
        match self.client()?.inspect_image(&tagged(name)).await {
            Ok(image) => Ok(Some(image.id.unwrap_or_default())),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    async fn pull(&self, name: &str) -> Result<(), DockerError> {
        let client = self.client()?;
        let options = CreateImageOptionsBuilder::default().from_image(&tagged(name)).build();
        pulled(name, client.create_image(Some(options), None, None)).await
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerState>, DockerError> {
        let Some(id) = self.id(name).await? else { return Ok(None) };
        match self.client()?.inspect_container(&id, None).await {
            Ok(container) => Ok(Some(state(container))),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    async fn create(
        &self,
        spec: &ContainerSpec,
        labels: &BTreeMap<String, String>,
        volumes: &[Volume],
    ) -> Result<(), DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
        let body = body(spec, labels, volumes);
        self.client()?.create_container(Some(options), body).await.map(|_| ()).map_err(other)
    }

    async fn start(&self, name: &str) -> Result<(), DockerError> {
        let (client, id) = (self.client()?, self.must_have(name).await?);
        match patiently(|| client.start_container(&id, None::<StartContainerOptions>)).await {
            Err(Error::DockerResponseServerError { message, .. }) if message.contains("paused") => {
                patiently(|| client.unpause_container(&id)).await.map_err(other)
            }
            started => started.map_err(other),
        }
    }

    async fn stop(&self, name: &str) -> Result<(), DockerError> {
        let stop = StopContainerOptionsBuilder::default().t(STOP).build();
        let (client, id) = (self.client()?, self.must_have(name).await?);
        patiently(|| client.stop_container(&id, Some(stop.clone()))).await.map_err(other)
    }

    async fn restart(&self, name: &str) -> Result<(), DockerError> {
        let (client, id) = (self.client()?, self.must_have(name).await?);
        patiently(|| client.restart_container(&id, None::<RestartContainerOptions>)).await.map_err(other)
    }

    async fn keep_up(&self, name: &str) -> Result<(), DockerError> {
        let id = self.must_have(name).await?;
        let body = ContainerUpdateBody { restart_policy: Some(unless_stopped()), ..ContainerUpdateBody::default() };
        self.client()?.update_container(&id, body).await.map_err(other)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), DockerError> {
        let options = RenameContainerOptionsBuilder::default().name(to).build();
        let id = self.must_have(from).await?;
        self.client()?.rename_container(&id, options).await.map_err(other)
    }

    async fn remove(&self, name: &str) -> Result<(), DockerError> {
        let Some(id) = self.id(name).await? else { return Ok(()) };
        // Not running any more is as good: the removal says what matters.
        let _ = self.stop(name).await;
        // Without `v`, which would take the data of volumes along that have no name.
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        let client = self.client()?;
        match patiently(|| client.remove_container(&id, Some(options.clone()))).await {
            Err(error) if !missing(&error) => Err(other(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn last_words(&self, name: &str, lines: u32) -> Result<Vec<String>, DockerError> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let id = self.must_have(name).await?;
        let mut log = self.client()?.logs(&id, Some(options));
        let mut text = String::new();
        while let Some(part) = log.next().await {
            text.push_str(&String::from_utf8_lossy(&part.map_err(other)?.into_bytes()));
        }
        Ok(text.lines().map(str::to_owned).collect())
    }

    async fn lodgers(&self, name: &str) -> Result<Vec<String>, DockerError> {
        let (client, id) = (self.client()?, self.must_have(name).await?);
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let mut found = Vec::new();
        for one in client.list_containers(Some(options)).await.map_err(other)? {
            let Some(other_id) = one.id.filter(|other_id| *other_id != id) else { continue };
            let container = match client.inspect_container(&other_id, None).await {
                Ok(container) => container,
                Err(error) if missing(&error) => continue,
                Err(error) => return Err(other(error)),
            };
            let config = container.host_config.unwrap_or_default();
            let modes = [config.network_mode, config.ipc_mode, config.pid_mode];
            let mut hosts =
                modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("container:").map(str::to_owned));
            if hosts.any(|host| host == id || host == name) {
                found.push(container.name.unwrap_or(other_id).trim_start_matches('/').to_owned());
            }
        }
        Ok(found)
    }

    fn events(&self) -> BoxStream<'static, DockerEvent> {
        let Ok(client) = self.client() else { return futures::stream::empty().boxed() };
        let filters = HashMap::from([("type".to_owned(), vec!["container".to_owned(), "image".to_owned()])]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let stream = async_stream(client, options);
        stream.boxed()
    }
}

fn async_stream(
    client: bollard::Docker,
    options: bollard::query_parameters::EventsOptions,
) -> impl futures::Stream<Item = DockerEvent> + Send {
    client.events(Some(options)).take_while(|event| futures::future::ready(event.is_ok())).filter_map(
        |event| async move {
            let event = event.ok()?;
            let actor = event.actor?;
            let name = actor.attributes.and_then(|mut attributes| attributes.remove("name"));
            match event.typ? {
                bollard::models::EventMessageTypeEnum::CONTAINER => Some(DockerEvent::Container { name: name? }),
                bollard::models::EventMessageTypeEnum::IMAGE => Some(DockerEvent::Image { name: name.or(actor.id)? }),
                _other => None,
            }
        },
    )
}

fn state(container: bollard::models::ContainerInspectResponse) -> ContainerState {
    let state = container.state.unwrap_or_default();
    let [paused, restarting] = [state.paused, state.restarting].map(|is| is.unwrap_or(false));
    let config = container.config.unwrap_or_default();
    let host = container.host_config.unwrap_or_default();
    let policy = host.restart_policy.and_then(|policy| policy.name);
    // Docker writes the beginning of all time for what never ended.
    let ended = state.finished_at.as_deref().filter(|time| !time.starts_with("0001-"));
    let lives_in = host.network_mode.as_deref().and_then(|mode| mode.strip_prefix("container:")).map(str::to_owned);
    let id = container.id.unwrap_or_default();
    ContainerState {
        run: format!("{id} {}", state.started_at.as_deref().unwrap_or_default()),
        id,
        lives_in,
        running: state.running.unwrap_or(false) && !paused && !restarting,
        restarts: container.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
        up: state.started_at.as_deref().map_or(0, since),
        kept_up: matches!(policy, Some(RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ALWAYS)),
        down: ended.or(container.created.as_deref()).map_or(0, since),
        status: state.exit_code.unwrap_or(0),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        image: container.image.unwrap_or_default(),
        image_name: config.image.unwrap_or_default(),
        goes_when_it_ends: host.auto_remove.unwrap_or(false),
        volumes: container.mounts.unwrap_or_default().into_iter().filter_map(volume).collect(),
    }
}

/// Whole seconds since a time as Docker writes it.
fn since(time: &str) -> u64 {
    let then = time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    u64::try_from(jiff::Timestamp::now().as_second() - then).unwrap_or(0)
}

/// None for what is no volume of Docker's.
fn volume(mount: bollard::models::MountPoint) -> Option<Volume> {
    let name = mount.name.filter(|_| mount.typ.as_deref() == Some("volume"))?;
    Some(Volume {
        anonymous: name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()),
        name,
        at: mount.destination?,
        read_only: !mount.rw.unwrap_or(true),
    })
}

fn unless_stopped() -> RestartPolicy {
    RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), maximum_retry_count: None }
}

fn body(spec: &ContainerSpec, labels: &BTreeMap<String, String>, volumes: &[Volume]) -> ContainerCreateBody {
    let kept = volumes
        .iter()
        .map(|Volume { name, at, read_only, .. }| format!("{name}:{at}{}", if *read_only { ":ro" } else { "" }));
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &spec.ports {
        let (pair, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let (host, inner) = pair.rsplit_once(':').unwrap_or((pair, pair));
        let (address, host) = host.rsplit_once(':').map_or((None, host), |(address, host)| (Some(address), host));
        let binding = PortBinding { host_ip: address.map(str::to_owned), host_port: Some(host.to_owned()) };
        bindings
            .entry(format!("{inner}/{protocol}"))
            .or_insert_with(|| Some(Vec::new()))
            .get_or_insert_default()
            .push(binding);
    }
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels.clone().into_iter().collect()),
        exposed_ports: Some(bindings.keys().cloned().collect()),
        host_config: Some(HostConfig {
            binds: Some(spec.volumes.iter().cloned().chain(kept).collect()),
            port_bindings: Some(bindings),
            network_mode: spec.network.clone(),
            restart_policy: Some(unless_stopped()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::StepError;

    #[test]
    fn the_port_is_found_in_every_wording() {
        for said in [
            "driver failed programming external connectivity on endpoint x (0a1b): Bind for 0.0.0.0:5432 failed: port is already allocated",
            "Error starting userland proxy: listen tcp4 0.0.0.0:5432: bind: address already in use",
            "failed to set up container networking: failed to bind host port for [::]:5432:172.17.0.2:80/tcp: address already in use",
        ] {
            let DockerError::PortInUse { port } = refused(said.to_owned()) else { panic!("{said}") };
            assert_eq!(port, "5432", "{said}");
        }
        assert!(matches!(refused("no such thing".to_owned()), DockerError::Refused(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn docker_is_asked_again_until_it_has_containerd() {
        const SAID: &str = "connection error: desc = \"transport: Error while dialing dial unix:///run/containerd/containerd.sock: timeout\": unavailable";
        let asked = std::cell::Cell::new(0);
        let answers = |message: &'static str, fails: usize| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                let refuses = asked.get() <= fails;
                let error = Error::DockerResponseServerError { status_code: 500, message: message.to_owned() };
                std::future::ready(if refuses { Err(error) } else { Ok(()) })
            }
        };
        assert!(patiently(answers(SAID, 8)).await.is_ok());
        assert_eq!(asked.replace(0), 9);
        assert!(patiently(answers("no such image", 8)).await.is_err());
        assert_eq!(asked.replace(0), 1, "another refusal is one");
        let given_up = patiently(answers(SAID, usize::MAX)).await.map_err(other).unwrap_err();
        assert!(asked.get() > 10);
        let StepError::Failed(failure) = StepError::from(given_up) else { panic!("it has failed") };
        assert!(failure.retry && failure.help.is_some_and(|help| help.contains("containerd")));
    }

    /// What a pull that does not end is given up for; that it is tried again is checked too.
    async fn given_up(progress: impl futures::Stream<Item = Result<(), Error>> + Unpin) -> String {
        let error = pulled("x:1", progress).await.unwrap_err();
        let DockerError::Registry { source, .. } = &error else { panic!("{error:?}") };
        let why = source.to_string();
        assert!(matches!(StepError::from(error), StepError::Failed(failure) if failure.retry));
        why
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_that_stalls_or_crawls_is_given_up() {
        let stalls = stream::iter([Ok(())]).chain(stream::pending());
        assert_eq!(given_up(stalls).await, "no progress for 120 s");
        let crawls = stream::unfold((), |()| async {
            tokio::time::sleep(SILENCE / 2).await;
            Some((Ok::<(), Error>(()), ()))
        });
        assert_eq!(given_up(crawls.boxed()).await, "the image is not here after 900 s");
        pulled("x:1", stream::iter([Ok(()), Ok(())])).await.unwrap();
    }
}

//! Network, packages and coordinator: what must run on this machine before anything can be asked of the coordinator.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, bail};
use ipnet::IpNet;
use muster_catalog::{Site, site::Provider};
use tokio::time::timeout;

use super::{GRPC_PORT, HTTP_PORT, addresses::Addresses, containers, manifest::Manifest};
use crate::{
    app::{Config, ProviderKind},
    cloud::docker::{self, DEFAULT_SOCKET, Engine, Role, Scope, Upload},
};

/// A container that has not answered by then will not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything on this machine that belongs to the site's environment.
pub fn scope(site: &Site) -> Scope {
    Scope { cluster: site.cluster.clone(), environment: site.environment.clone() }
}

/// The nodes' network of an environment that runs on this machine; any other is refused.
pub fn subnet(site: &Site) -> anyhow::Result<IpNet> {
    match &site.provider {
        Provider::Docker { subnet } => Ok(*subnet),
        Provider::Aws { .. } => bail!(
            "environment {} does not run on this machine\n  help: `up` and `down` are for environments with [provider.docker]",
            site.environment
        ),
    }
}

/// The daemon of this machine.
pub async fn engine() -> anyhow::Result<Engine> {
    Ok(Engine::connect(&docker::own_socket()?).await?)
}

/// Ensures all three; returns whether anything was done.
pub async fn start(site: &Site, manifest: &Manifest) -> anyhow::Result<bool> {
    start_with(site, manifest, &[]).await
}

/// The same, with files put into a new coordinator before it starts.
pub async fn start_with(site: &Site, manifest: &Manifest, state: &[Upload]) -> anyhow::Result<bool> {
    let subnet = subnet(site)?;
    let engine = engine().await?;
    for image in [&manifest.node_image, &manifest.services_image, &manifest.coordinator_image] {
        if !engine.has_image(image).await? {
            bail!("Docker has no image {image}\n  help: cargo xtask up makes it");
        }
    }
    let scope = scope(site);
    let addresses = Addresses::of(subnet)?;
    engine.ensure_network(&scope, subnet).await?;
    engine.ensure_volume(&scope, &containers::state_volume(&scope), Role::Coordinator, HashMap::new()).await?;
    let (artefacts, artefact_files) = containers::artefacts(&scope, manifest, addresses.artefacts)?;
    let config = config(site, manifest, addresses)?;
    let (coordinator, mut coordinator_files) =
        containers::coordinator(&scope, manifest, addresses.coordinator, &docker::own_socket()?, &config)?;
    coordinator_files.extend_from_slice(state);
    let (first, second) = tokio::try_join!(
        engine.ensure_container(&scope, &artefacts, &artefact_files),
        engine.ensure_container(&scope, &coordinator, &coordinator_files),
    )?;
    let health = format!("{}:{HTTP_PORT}", addresses.coordinator);
    if let Err(error) = answers(&health, "/healthz", PATIENCE).await {
        let log = engine.log(&second.0, 20).await;
        return Err(error.context(format!("the coordinator does not become healthy; its log ends with\n{log}")));
    }
    answers(&format!("{}:80", addresses.artefacts), "/debian/dists/muster/InRelease", PATIENCE)
        .await
        .context("the packages' container does not answer")?;
    answers(&format!("{}:5000", addresses.artefacts), "/v2/", PATIENCE)
        .await
        .context("the registry does not answer")?;
    Ok(first.1 || second.1)
}

fn config(site: &Site, manifest: &Manifest, addresses: Addresses) -> anyhow::Result<String> {
    let config = Config {
        cluster: site.cluster.clone(),
        environment: site.environment.clone(),
        state_dir: "/var/lib/muster".into(),
        listen: format!("0.0.0.0:{GRPC_PORT}").parse()?,
        http_listen: format!("0.0.0.0:{HTTP_PORT}").parse()?,
        address: addresses.coordinator.into(),
        provider: ProviderKind::Docker,
        agent_binary: "/usr/local/bin/muster-agent".into(),
        node_image: manifest.node_image.clone(),
        services_image: manifest.services_image.clone(),
        apt_key: Some(
            std::fs::read_to_string(&manifest.apt_key)
                .with_context(|| format!("cannot read {}", manifest.apt_key.display()))?,
        ),
        capabilities: docker::bounding_capabilities(),
        docker_socket: DEFAULT_SOCKET.into(),
    };
    Ok(toml::to_string(&config)?)
}

/// Waits until a plain HTTP server answers a GET with 200; not longer than `patience`.
pub async fn answers(address: &str, path: &str, patience: Duration) -> anyhow::Result<()> {
    let whole = async {
        loop {
            if let Ok(Ok((200, _))) = timeout(Duration::from_secs(5), docker::get(address, path)).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(patience, whole)
        .await
        .with_context(|| format!("http://{address}{path} did not answer within {} s", patience.as_secs()))
}

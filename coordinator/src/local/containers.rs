//! The two containers that the command line itself starts: the coordinator, and the packages and images for the nodes.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use anyhow::Context;

use super::manifest::Manifest;
use crate::cloud::docker::{ContainerSpec, DEFAULT_SOCKET, Mount, Role, Scope, Upload};

const REGISTRY: &str = "version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /srv/registry}
  maintenance: {readonly: {enabled: true}, uploadpurging: {enabled: false}}
  cache: {blobdescriptor: inmemory}
http: {addr: \":5000\"}
";

const NGINX: &str = "daemon off; pid /run/nginx.pid; error_log stderr warn; worker_processes 1;
events {}
http { sendfile on; access_log off; server { listen 80; location /debian/ { alias /srv/debian/; } } }
";

/// Two servers in one container, which ends, and is started again, when either of them does.
const SERVE: &str = "#!/bin/bash
docker-registry serve /etc/muster/registry.yml &
nginx -c /etc/muster/nginx.conf &
trap 'kill %1 %2; wait; exit 0' TERM
wait -n
exit 1
";

fn labels(scope: &Scope, role: Role) -> BTreeMap<String, String> {
    scope.labels(role).into_iter().collect()
}

fn host(path: &Path, at: &str, read_only: bool) -> anyhow::Result<Mount> {
    let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned();
    Ok(Mount::Host { path, at: at.to_owned(), read_only })
}

/// Packages and images, read-only.
pub fn artefacts(
    scope: &Scope,
    manifest: &Manifest,
    address: Ipv4Addr,
) -> anyhow::Result<(ContainerSpec, Vec<Upload>)> {
    let spec = ContainerSpec {
        name: scope.name("artefacts"),
        image: manifest.services_image.clone(),
        hostname: "artefacts".to_owned(),
        labels: labels(scope, Role::Artefacts),
        command: vec!["/bin/bash".to_owned(), "/etc/muster/serve".to_owned()],
        mounts: vec![
            host(&manifest.apt_repository, "/srv/debian", true)?,
            host(&manifest.registry, "/srv/registry", true)?,
        ],
        network: scope.network(),
        address: Some(address.to_string()),
        stop_timeout: Some(2),
        ..ContainerSpec::default()
    };
    let files = vec![
        Upload::folder("/etc/muster", 0o755),
        Upload::file("/etc/muster/registry.yml", 0o644, REGISTRY),
        Upload::file("/etc/muster/nginx.conf", 0o644, NGINX),
        Upload::file("/etc/muster/serve", 0o755, SERVE),
    ];
    Ok((spec, files))
}

/// The volume with the coordinator's state: its keys, its store.
pub fn state_volume(scope: &Scope) -> String {
    scope.name("state")
}

/// The coordinator. Its configuration is part of what it is created from: another one is another container, on the
/// same state. Docker's `socket` on this machine is in the default place within.
pub fn coordinator(
    scope: &Scope,
    manifest: &Manifest,
    address: Ipv4Addr,
    socket: &Path,
    config: &str,
) -> anyhow::Result<(ContainerSpec, Vec<Upload>)> {
    let mut labels = labels(scope, Role::Coordinator);
    labels.insert("muster.configuration".to_owned(), muster_ids::Digest::of(config).to_string());
    let spec = ContainerSpec {
        name: scope.name("coordinator"),
        image: manifest.coordinator_image.clone(),
        hostname: "coordinator".to_owned(),
        labels,
        mounts: vec![
            Mount::Volume { name: state_volume(scope), at: "/var/lib/muster".to_owned() },
            host(socket, DEFAULT_SOCKET, false)?,
        ],
        network: scope.network(),
        address: Some(address.to_string()),
        stop_timeout: Some(5),
        ..ContainerSpec::default()
    };
    let files = vec![Upload::folder("/etc/muster", 0o755), Upload::file("/etc/muster/coordinator.toml", 0o644, config)];
    Ok((spec, files))
}

//! This node's client of the Kubernetes API, from the kubeconfig that kubeadm or kubelet wrote.

use std::{sync::Arc, time::Duration};

use base64::Engine as _;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use muster_ids::Digest;
use tokio::{runtime, sync::Mutex};

use super::{KUBERNETES, LOCAL_API};
use crate::{
    StepError,
    ports::{Files, Kube},
};

/// kubelet's client certificate, renewed in place.
const KUBELET_PEM: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

/// The real adapter of [`Kube`]: `admin.conf` against the own API server on control planes, kubelet's credentials on
/// workers. Made anew when the credentials on disk change, and for another runtime: a client's worker is a task of the one
/// that it was made in, and a plan's runtime ends with the plan.
pub struct KubeFiles {
    files: Arc<dyn Files>,
    made: Mutex<Option<(Digest, runtime::Id, Client)>>,
}

impl KubeFiles {
    pub fn new(files: Arc<dyn Files>) -> Self {
        Self { files, made: Mutex::new(None) }
    }

    fn credentials(&self) -> Result<Option<(String, Option<&'static str>, Digest)>, StepError> {
        for (name, server) in [("admin.conf", Some(LOCAL_API)), ("kubelet.conf", None)] {
            let Some(text) = self.files.read(&format!("{KUBERNETES}/{name}"))? else { continue };
            let text = String::from_utf8_lossy(&text).into_owned();
            let mut seen = text.clone().into_bytes();
            if text.contains(KUBELET_PEM) {
                // kubelet has not written it yet: there are no credentials.
                let Some(pem) = self.files.read(KUBELET_PEM)? else { return Ok(None) };
                seen.extend(pem);
            }
            let digest = Digest::of(&seen);
            return Ok(Some((text, server, digest)));
        }
        Ok(None)
    }
}

#[async_trait::async_trait]
impl Kube for KubeFiles {
    async fn client(&self) -> Result<Client, StepError> {
        let Some((text, server, digest)) = self.credentials()? else {
            return Err(StepError::waits("this node to become a member of the cluster"));
        };
        let here = runtime::Handle::current().id();
        let mut made = self.made.lock().await;
        if let Some((of, home, client)) = made.as_ref()
            && (*of, *home) == (digest, here)
        {
            return Ok(client.clone());
        }
        let client = of_kubeconfig(&text, server).await?;
        *made = Some((digest, here, client.clone()));
        Ok(client)
    }
}

/// A kubeconfig that makes no client.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the kubeconfig cannot be read")]
    Yaml(#[source] serde_yaml_ng::Error),
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    #[error("no client can be made of the kubeconfig")]
    Client(#[source] Box<kube::Error>),
    #[error("`{0}` is no address of an API server")]
    Address(String),
}

impl From<CredentialsError> for StepError {
    fn from(error: CredentialsError) -> Self {
        let message = error.to_string();
        match error {
            CredentialsError::Yaml(source) => Self::failed(message).because(source).retry(),
            CredentialsError::Kubeconfig(source) => Self::failed(message).because(source).retry(),
            CredentialsError::Client(source) => Self::failed(message).because(source).retry(),
            CredentialsError::Address(_) => Self::failed(message),
        }
    }
}

/// A kubeconfig, by the YAML parser that reads all else here: the client's own would be a second one in every agent's memory.
pub(super) fn parse(text: &str) -> Result<Kubeconfig, serde_yaml_ng::Error> {
    serde_yaml_ng::from_str(text)
}

/// How long an open connection may say nothing; kubectl and the controllers have the same.
const WATCH: Duration = Duration::from_secs(295);

/// A client of a kubeconfig's current context, dialling `server` where one is given.
pub async fn of_kubeconfig(text: &str, server: Option<&str>) -> Result<Client, CredentialsError> {
    let mut kubeconfig = parse(text).map_err(CredentialsError::Yaml)?;
    if let Some(server) = server {
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(server.to_owned());
        }
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(CredentialsError::Kubeconfig)?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Watches end after 290 s and begin anew; what is silent for longer is dead. Calls have a limit of their own.
    config.read_timeout = Some(WATCH);
    // Each caller says for itself whether trying again is right.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| CredentialsError::Client(Box::new(error)))
}

/// A client without credentials. With no `ca_pem` it believes any server: what it reads must be verified by other means.
pub fn anonymous(server: &str, ca_pem: Option<&str>) -> Result<Client, CredentialsError> {
    let uri = server.parse().map_err(|_| CredentialsError::Address(server.to_owned()))?;
    let mut config = Config::new(uri);
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(10));
    config.default_retry = false;
    match ca_pem {
        Some(pem) => config.root_cert = Some(ders(pem)),
        None => config.accept_invalid_certs = true,
    }
    Client::try_from(config).map_err(|error| CredentialsError::Client(Box::new(error)))
}

/// A client that shows a certificate, of any HTTPS server with JSON: etcd's too.
pub fn with_certificate(server: &str, ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Client, CredentialsError> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let uri = server.parse().map_err(|_| CredentialsError::Address(server.to_owned()))?;
    let mut config = Config::new(uri);
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    config.root_cert = Some(ders(ca_pem));
    config.auth_info.client_certificate_data = Some(base64.encode(cert_pem));
    config.auth_info.client_key_data = Some(base64.encode(key_pem).into());
    Client::try_from(config).map_err(|error| CredentialsError::Client(Box::new(error)))
}

/// The certificates of a PEM text, DER.
pub(crate) fn ders(pem: &str) -> Vec<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .filter_map(Result::ok)
        .filter(|block| block.label == "CERTIFICATE")
        .map(|block| block.contents)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::fake::FakeFiles;

    const KUBECONFIG: &str = "{apiVersion: v1, kind: Config, current-context: c, \
        clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: u, user: {}}], \
        contexts: [{name: c, context: {cluster: k, user: u}}]}";

    fn within<T>(asked: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
    }

    /// What it says of a server that is not there. A client whose worker is gone never gets so far.
    async fn refused(kube: &KubeFiles) -> String {
        let client = kube.client().await.unwrap();
        let error = super::super::api::get(&client, "/version").await.unwrap_err();
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    #[test]
    fn a_client_outlives_the_plan_that_asked_for_it_first() {
        let files = Arc::new(FakeFiles::default());
        files.put(&format!("{KUBERNETES}/kubelet.conf"), KUBECONFIG);
        let kube = KubeFiles::new(files);
        for _plan_then_converge in 0..2 {
            let error = within(refused(&kube));
            assert!(error.to_lowercase().contains("connect"), "{error}");
        }
    }
}

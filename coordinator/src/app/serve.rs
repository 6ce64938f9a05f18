//! `muster coordinator serve`: the real parts of a container.

use std::{
    fs::{self, File},
    io::Read as _,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use muster_ids::Digest;
use muster_proto::{Clock as _, SystemClock};
use rustix::fs::{FlockOperation, flock};
use sha2::Digest as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::{
    AppError,
    config::{Config, ProviderKind},
    log,
    parts::{Parts, start},
};
use crate::{
    backup,
    ca::Authority,
    cloud::{
        Bootstrap, Cloud,
        docker::{DockerCloud, DockerConfig, Engine, Scope},
    },
    execute::user_data::{self, Stub},
    secrets::MasterKey,
    state::Local,
    store::Sqlite,
    tasks::Boot,
};

/// Runs until SIGTERM or SIGINT.
pub async fn serve(config: Config) -> Result<(), AppError> {
    log::start();
    let _lock = folder(&config.state_dir)?;
    whole(&config.state_dir)?;
    let agent = digest(&config.agent_binary)?;
    let clock = Arc::new(SystemClock);
    let authority = Arc::new(Authority::open_or_create(&config.state_dir, config.realm(), clock.clone())?);
    let cloud: Arc<dyn Cloud> = match config.provider {
        ProviderKind::Docker => {
            let engine = Engine::connect(&config.docker_socket).await?;
            let scope = Scope { cluster: config.cluster.clone(), environment: config.environment.clone() };
            Arc::new(DockerCloud::new(
                engine,
                DockerConfig {
                    scope,
                    services_image: config.services_image.clone(),
                    capabilities: config.capabilities.clone(),
                    now: || SystemClock.now(),
                },
            ))
        }
    };
    let stub = user_data::render(&Stub {
        cluster: config.cluster.clone(),
        environment: config.environment.clone(),
        coordinator: config.address.to_string(),
        grpc: config.listen.port(),
        http: config.http_listen.port(),
        agent,
        ca: authority.pin(),
    });
    let boot: Boot = Arc::new(move |_, _| Bootstrap { user_data: stub.clone() });
    // The store comes last: where it is, all keys are.
    let master = MasterKey::open_or_create(&config.state_dir)?;
    let parts = Parts {
        realm: config.realm(),
        store: Arc::new(Sqlite::open(&config.state_dir.join(backup::STORE))?),
        local: Arc::new(Local::open(&config.state_dir.join(backup::LOCAL))?),
        authority,
        master,
        cloud,
        clock,
        node_image: config.node_image.clone(),
        provided: config.provided(),
        state_dir: config.state_dir.clone(),
        seed: rand::random::<u64>().max(1),
        boot,
        agent: Some((agent, config.agent_binary.clone())),
    };
    let grpc = listen(config.listen).await?;
    let http = listen(config.http_listen).await?;
    let running = start(parts, grpc, Some(http))?;
    tracing::info!(realm = %config.realm(), grpc = %config.listen, http = %config.http_listen, "the coordinator serves");
    let stopper = running.stopper();
    tokio::spawn(async move {
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("the coordinator stops");
        stopper.cancel();
    });
    running.ended().await
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|source| AppError::Listen { address, source })
}

/// Makes the folder, for its owner alone, and takes its lock: two daemons on one folder would be two writers.
fn folder(path: &Path) -> Result<File, AppError> {
    let failed = |source| AppError::Folder { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let lock = File::create(path.join("lock")).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(AppError::Locked(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// A key that is missing beside a store was lost: a new one would open no secret, and no node would believe it.
fn whole(folder: &Path) -> Result<(), AppError> {
    if !folder.join(backup::STORE).exists() {
        return Ok(());
    }
    let missing = backup::KEYS.iter().map(|key| folder.join(key)).find(|path| !path.exists());
    missing.map_or(Ok(()), |path| Err(AppError::Missing(path)))
}

/// The digest of the agent's program.
fn digest(path: &Path) -> Result<Digest, AppError> {
    let failed = |source| AppError::Agent { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut sha = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => sha.update(&buffer[..read]),
        }
    }
    Ok(hex::encode(sha.finalize()).parse().expect("SHA-256 is 64 hexadecimal digits"))
}

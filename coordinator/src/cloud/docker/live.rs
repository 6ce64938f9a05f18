//! Against the real daemon: what only haproxy, Docker's network and Docker's errors can show. Ignored unless asked for.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use muster_planner::blueprint::{LoadBalancerPlan, NetworkPlan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{DockerCloud, DockerConfig, DockerError, Engine, Ran, Scope, bounding_capabilities};
use crate::cloud::{Cloud, CloudError};

const NEEDS: &str = "these tests need Docker and the image muster-services: run `cargo xtask artefacts`";

async fn lab(environment: &str) -> (DockerCloud, Scope) {
    let engine = Engine::connect(&super::own_socket().expect(NEEDS)).await.expect(NEEDS);
    let scope = Scope { cluster: "balance".parse().unwrap(), environment: environment.parse().unwrap() };
    engine.remove_all(&scope).await.unwrap();
    let services_image = engine.newest_image("muster-services").await.unwrap().expect(NEEDS);
    let config =
        DockerConfig { scope: scope.clone(), services_image, capabilities: bounding_capabilities(), now: || 0 };
    (DockerCloud::new(engine, config), scope)
}

/// A target: answers every request, counts them, and can be told to hang up after it has read one.
struct Target {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    rude: Arc<AtomicBool>,
}

impl Target {
    async fn on(gateway: &str, name: &'static str) -> Self {
        let listener = TcpListener::bind((gateway, 0)).await.unwrap();
        let (served, rude) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let target = Self { address: listener.local_addr().unwrap(), served: served.clone(), rude: rude.clone() };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (served, rude) = (served.clone(), rude.clone());
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let Ok(length @ 1..) = stream.read(&mut request).await else { return };
                    let check = request[..length].starts_with(b"GET /ready");
                    if !check {
                        served.fetch_add(1, SeqCst);
                        if rude.load(SeqCst) {
                            return;
                        }
                    }
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{name}");
                    drop(stream.write_all(answer.as_bytes()).await);
                });
            }
        });
        target
    }
}

/// One request on a new connection; the status code.
async fn post(to: SocketAddr) -> Result<u16, String> {
    let call = async {
        let mut stream = TcpStream::connect(to).await.map_err(|error| error.to_string())?;
        let request = "POST /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.ok_or_else(|| format!("no answer: {answer:?}"))
    };
    timeout(Duration::from_secs(5), call).await.map_err(|_| "time-out".to_owned())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "live: needs Docker and the image muster-services"]
async fn docker_changes_targets_without_losing_a_request() {
    let (cloud, scope) = lab("targets").await;
    cloud.ensure_network(&NetworkPlan { subnet: "10.88.4.0/25".parse().unwrap() }).await.unwrap();
    let (one, two) = (Target::on("10.88.4.1", "1").await, Target::on("10.88.4.1", "2").await);
    let name = "web".parse().unwrap();
    let plan = |targets: &[(&str, SocketAddr)]| LoadBalancerPlan {
        address: "10.88.4.11".parse().unwrap(),
        listen: 80,
        targets: targets.iter().map(|(node, target)| (node.parse().unwrap(), *target)).collect(),
        tls: false,
        check: "/ready".to_owned(),
    };
    let (first, second) = (("n-1", one.address), ("n-2", two.address));
    cloud.ensure_load_balancer(&name, &plan(&[first])).await.unwrap();
    let front: SocketAddr = "10.88.4.11:80".parse().unwrap();
    assert_eq!(post(front).await, Ok(200));

    // A client pays without pause while targets come and go.
    let stop = Arc::new(AtomicBool::new(false));
    let client = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut sent, mut failed) = (0u32, Vec::new());
            while !stop.load(SeqCst) {
                sent += 1;
                match post(front).await {
                    Ok(200) => {}
                    other => failed.push(other),
                }
                sleep(Duration::from_millis(2)).await;
            }
            (sent, failed)
        }
    });
    let served = || one.served.load(SeqCst).min(two.served.load(SeqCst));
    for round in (0..).take_while(|round| *round < 12 || served() <= 50 && *round < 120) {
        let targets = [vec![first], vec![first, second], vec![second]][round % 3].clone();
        cloud.ensure_load_balancer(&name, &plan(&targets)).await.unwrap();
        sleep(Duration::from_millis(250)).await;
    }
    stop.store(true, SeqCst);
    let (sent, failed) = client.await.unwrap();
    assert!(failed.is_empty(), "{} of {sent} failed: {:?}", failed.len(), failed.first());
    assert!(served() > 50);

    // A target that refuses connections costs no request: nothing was sent to it.
    let dead = SocketAddr::new(one.address.ip(), 1);
    cloud.ensure_load_balancer(&name, &plan(&[("n-0", dead), first])).await.unwrap();
    for _ in 0..50 {
        assert_eq!(post(front).await, Ok(200));
    }

    // What a target has read is never sent again, not even to another one.
    cloud.ensure_load_balancer(&name, &plan(&[first, second])).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    for target in [&one, &two] {
        target.rude.store(true, SeqCst);
        target.served.store(0, SeqCst);
    }
    for _ in 0..20 {
        assert_eq!(post(front).await, Ok(502));
    }
    assert_eq!(one.served.load(SeqCst) + two.served.load(SeqCst), 20, "each request was read once");
    for target in [&one, &two] {
        target.rude.store(false, SeqCst);
    }

    // A configuration that haproxy refuses does not take the place of a good one.
    let before = cloud.observe().await.unwrap().load_balancers[&name].clone();
    let bad = LoadBalancerPlan { check: "/ready\n    nonsense".to_owned(), ..plan(&[first]) };
    let refused = cloud.ensure_load_balancer(&name, &bad).await;
    assert!(matches!(&refused, Err(CloudError::Final { what, .. }) if what.contains("nonsense")), "{refused:?}");
    assert_eq!(cloud.observe().await.unwrap().load_balancers[&name], before);
    assert_eq!(post(front).await, Ok(200));

    // A program in it reads what it is given. One that was killed runs none, as one that was never there.
    let (engine, container) = (cloud.engine(), scope.load_balancer(&name));
    let ran = engine.exec(&container, &["sh", "-c", "cat; echo no >&2; exit 3"], "yes\n").await.unwrap();
    assert_eq!(ran, Ran { code: 3, out: "yes\n".to_owned(), err: "no\n".to_owned() });
    engine.signal(&container, "SIGKILL").await.unwrap();
    for container in [container.as_str(), "muster-balance-nosuch"] {
        let none = async || engine.exec_if_running(container, &["true"], "").await;
        // Docker notices a moment later.
        while none().await.unwrap().is_some_and(|ran| ran.code == 0) {
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(none().await.unwrap(), None, "{container}");
    }
    engine.remove_all(&scope).await.unwrap();
}

#[tokio::test]
#[ignore = "live: needs Docker"]
async fn docker_says_who_has_the_subnet_and_leaves_others_alone() {
    let (cloud, scope) = lab("subnet").await;
    let (other_cloud, other) = lab("other").await;
    let subnet = "10.88.4.128/26".parse().unwrap();
    other_cloud.ensure_network(&NetworkPlan { subnet }).await.unwrap();
    let taken = cloud.engine().ensure_network(&scope, subnet).await;
    let Err(DockerError::Subnet { holder, .. }) = taken else { panic!("{taken:?}") };
    assert_eq!(holder, "Docker network muster-balance-other");
    // Removing one environment leaves the other.
    assert_eq!(cloud.engine().remove_all(&scope).await.unwrap(), super::Removed::default());
    assert!(other_cloud.observe().await.unwrap().network.is_some());
    assert_eq!(other_cloud.engine().remove_all(&other).await.unwrap().networks, 1);
}

#[test]
fn only_a_socket_of_this_machine_is_taken_for_docker() {
    let socket = |host: &str| super::socket(Some(host.as_ref()));
    assert_eq!(super::socket(None).unwrap(), Path::new(super::DEFAULT_SOCKET));
    assert_eq!(socket("").unwrap(), Path::new(super::DEFAULT_SOCKET));
    assert_eq!(socket("unix:///run/other.sock").unwrap(), Path::new("/run/other.sock"));
    for other in ["tcp://10.0.0.1:2376", "ssh://root@other", "unix://", "unix://relative.sock", "/run/docker.sock"] {
        let error = socket(other).unwrap_err();
        assert!(error.to_string().contains(other) && error.hint().is_some(), "{error}");
    }
}

#[tokio::test]
async fn no_socket_and_no_daemon_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("docker.sock");
    assert!(matches!(Engine::connect(&absent).await, Err(DockerError::NoSocket { .. })));
    drop(std::os::unix::net::UnixListener::bind(&absent).unwrap());
    let dead = Engine::connect(&absent).await;
    assert!(matches!(dead, Err(DockerError::NotRunning { .. })), "{dead:?}");
}

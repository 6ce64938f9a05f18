//! Many connections that prove nothing, and nodes that call too often: over real TLS on loopback.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use muster_proto::{
    Method, OperatorRole,
    tls::{SERVER_NAME, client, server::Connection},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tonic::{Code, codegen::http, service::Routes};

use super::testing::{Lab, Running, call, realm};

/// A service that answers every call with the port that it came from.
fn ports() -> Routes {
    axum::Router::new()
        .fallback(|request: http::Request<axum::body::Body>| async move {
            let port = request.extensions().get::<Connection>().map_or(0, |connection| connection.address.port());
            http::Response::builder()
                .header("content-type", "application/grpc")
                .header("caller", port)
                .body(axum::body::Body::empty())
                .unwrap()
        })
        .into()
}

/// A bound on a wait, and no measure: behind a queue of the crowd's it would be some ten seconds.
const PROMPT: Duration = Duration::from_secs(5);

/// Both ends of all connections are this process's.
fn many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map_or(Some(1 << 16), |most| Some(most.min(1 << 16)));
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// A connection that says nothing.
async fn idle(from: IpAddr, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(server).await.unwrap()
}

/// As many, by turns from each of these addresses; in parts, because what the kernel's queue has no room for looks open.
async fn crowd(many: usize, from: &[IpAddr], server: SocketAddr) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    while crowd.len() < many {
        let part = (0..200).map(|number| idle(from[number % from.len()], server));
        crowd.extend(join_all(part).await);
        sleep(Duration::from_millis(20)).await;
    }
    crowd
}

/// Waits until so many of them are open, and fails where more stay. A few of them are nowhere but here: the kernel dropped
/// the other end.
async fn at_most(most: usize, crowd: &[TcpStream]) {
    // Nobody says anything on them: what can be read is the end.
    let waits = |idle: &&TcpStream| idle.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let open = || crowd.iter().filter(waits).count();
    let fewer = async {
        while open() > most {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), fewer).await.unwrap_or_else(|_| panic!("{} are open, at most {most}", open()));
}

/// How long a call takes on a connection of its own.
async fn takes(lab: &Lab, server: &Running) -> Duration {
    let channel = lab.channel(server.address, Some(lab.agent("workers-1")));
    let began = Instant::now();
    call(channel, Method::AgentReport.path()).await.unwrap();
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_idle_connections_keep_no_agent_out() {
    many_files();
    let lab = Lab::new();
    let server = lab.serve(ports()).await;
    let before = lab.channel(server.address, Some(lab.agent("workers-2")));
    let port = call(before.clone(), Method::AgentReport.path()).await.unwrap();
    // 2,000 from the address that agents of this test have, 2,400 from twelve others.
    let mut idle = crowd(2000, &[Ipv4Addr::LOCALHOST.into()], server.address).await;
    let alone = takes(&lab, &server).await;
    assert!(alone < PROMPT, "among those of its own address: {alone:?}");
    at_most(256 + 200, &idle).await;
    let others: Vec<IpAddr> = (1..=12).map(|last| [127, 0, 1, last].into()).collect();
    idle.extend(crowd(2400, &others, server.address).await);
    let all = takes(&lab, &server).await;
    assert!(all < PROMPT, "among those of all: {all:?}");
    at_most(2048 + 200, &idle).await;
    assert_eq!(call(before, Method::AgentReport.path()).await.unwrap(), port, "one with a certificate is never cut");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_calls_nothing_is_cut_and_one_that_calls_is_not() {
    let lab = Lab::new();
    let server = lab.serve(ports()).await;
    let mut silent = idle(Ipv4Addr::LOCALHOST.into(), server.address).await;
    let (guest, agent) = (lab.channel(server.address, None), lab.channel(server.address, Some(lab.agent("workers-1"))));
    let enrol = || call(guest.clone(), Method::EnrolmentEnrol.path());
    let (guests, agents) = (enrol().await.unwrap(), call(agent.clone(), Method::AgentPull.path()).await.unwrap());
    // Its handshake is over, and no call comes.
    let config = client::config(None, lab.trust(), &realm(), Arc::new(lab.clock.clone())).unwrap();
    let wire = TcpStream::connect(server.address).await.unwrap();
    let mut speechless = TlsConnector::from(config).connect(SERVER_NAME.try_into().unwrap(), wire).await.unwrap();
    sleep(Duration::from_secs(11)).await;
    let soon = PROMPT;
    let mut said = Vec::new();
    let end = timeout(soon, silent.read_to_end(&mut said)).await.expect("a handshake that never began ends");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    drop(timeout(soon, speechless.read_to_end(&mut said)).await.expect("one that calls nothing ends"));
    assert_eq!(enrol().await.unwrap(), guests, "the same connection");
    assert_eq!(call(agent, Method::AgentPull.path()).await.unwrap(), agents, "the same connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_calls_too_often_is_told_when_to_come_again() {
    let lab = Lab::new();
    let server = lab.serve(ports()).await;
    let agent = lab.channel(server.address, Some(lab.agent("workers-1")));
    let other = lab.channel(server.address, Some(lab.agent("workers-2")));
    for (method, most) in [(Method::EnrolmentRenew, 20), (Method::AgentPull, 120), (Method::AgentTakeTurn, 120)] {
        let mut refused = None;
        // Some are filled again while the others are made.
        for _ in 0..2 * most {
            if let Err(status) = call(agent.clone(), method.path()).await {
                refused = Some(status);
                break;
            }
        }
        let refused = refused.expect("it ends");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{method:?}");
        assert!(
            refused.message().starts_with("workers-1 ") && refused.message().contains(": come again in "),
            "{refused}"
        );
        assert!(call(other.clone(), method.path()).await.is_ok(), "{method:?} of another node");
    }
    assert!(call(agent, Method::AgentReport.path()).await.is_ok());
    // Operators are not counted.
    let operator = lab.channel(server.address, Some(lab.operator(Some(OperatorRole::Read), "dana")));
    for _ in 0..150 {
        call(operator.clone(), Method::OperatorStatus.path()).await.unwrap();
    }
}

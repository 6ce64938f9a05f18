//! A front end whose database's name is taken away, or leads elsewhere, against real PostgreSQL.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::settings::{Database, Password};
use crate::store::{Resolver, Store};
use crate::testing::postgres::{PASSWORD, Postgres};
use crate::testing::{http, logged};
use crate::{probe, web};

const PATIENCE: Duration = Duration::from_secs(3);
/// How much later than the patience a replica may say that it is not ready.
const LATE: Duration = Duration::from_secs(2);

/// What the look-up of the database's name finds.
#[derive(Clone, Copy, Debug)]
enum Name {
    LeadsTo(u16),
    Unknown,
    Unanswered,
}

struct FrontEnd {
    to: SocketAddr,
    name: Arc<Mutex<Name>>,
}

impl FrontEnd {
    async fn ready(name: Name, connections: usize) -> Self {
        let name = Arc::new(Mutex::new(name));
        let now = Arc::clone(&name);
        let resolver: Resolver = Box::new(move || {
            let name = *now.lock().unwrap();
            Box::pin(async move {
                match name {
                    Name::LeadsTo(port) => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
                    Name::Unknown => Err(std::io::Error::other("temporary failure in name resolution")),
                    Name::Unanswered => std::future::pending().await,
                }
            })
        });
        let database = Database {
            host: "database".to_owned(),
            port: 5432,
            name: "easypay".to_owned(),
            user: "easypay".to_owned(),
            password: Password::Value(PASSWORD.to_owned()),
            connections,
        };
        let store = Store::with_resolver(database, PATIENCE, resolver).unwrap();
        probe::start(&store);
        let router = web::router(web::App { store, currency: "EUR".into(), leaving: watch::channel(false).1 });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let front_end = Self { to, name };
        front_end.is(200).await;
        front_end
    }

    fn name(&self, name: Name) {
        *self.name.lock().unwrap() = name;
    }

    async fn ready_now(&self) -> u16 {
        http::get(self.to, "/ready").await.status
    }

    /// Waits until it is ready or not, and says for how long.
    async fn is(&self, status: u16) -> Duration {
        let start = Instant::now();
        let becomes = async {
            while self.ready_now().await != status {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), becomes).await.unwrap_or_else(|_| panic!("/ready never is {status}"));
        start.elapsed()
    }

    async fn pay(&self, key: &str) -> u16 {
        http::pay(self.to, "dana", 1, key).await.status
    }

    /// So many payments at once, for as many connections as there may be.
    async fn pay_at_once(&self, count: u32) {
        let to = self.to;
        let pay = |n| tokio::spawn(async move { http::pay(to, "dana", 1, &format!("at-once-{n}")).await.status });
        for one in (0..count).map(pay).collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), 201);
        }
    }

    /// Every payment and every question for readiness goes well, for as long as a loss takes to show.
    async fn serves_on(&self, key: &str) {
        let start = Instant::now();
        for n in 0.. {
            assert_eq!(self.pay(&format!("{key}-{n}")).await, 201, "after {:?}", start.elapsed());
            assert_eq!(self.ready_now().await, 200, "after {:?}", start.elapsed());
            if start.elapsed() > PATIENCE + LATE {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Ends all sessions of front ends, as a loss of their connections does.
async fn end_sessions(postgres: &Postgres) -> i64 {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'easypay'";
    postgres.number(end).await
}

/// A port on which nobody listens.
fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn payments_go_on_by_the_address_while_the_name_is_not_to_be_had() {
    for lost in [Name::Unknown, Name::Unanswered] {
        let log = logged();
        let postgres = Postgres::start().await;
        let front_end = FrontEnd::ready(Name::LeadsTo(postgres.port), 8).await;
        front_end.pay_at_once(20).await;
        front_end.name(lost);
        for round in 0..2 {
            assert!(end_sessions(&postgres).await > 0);
            front_end.serves_on(&format!("{lost:?}-{round}")).await;
        }
        assert_eq!(log.lines("the database's name cannot be looked up"), 1, "{}", log.text());
        assert_eq!(log.lines("gave up"), 0, "{}", log.text());
    }
}

#[tokio::test]
async fn without_name_and_address_it_is_not_ready_once_the_patience_is_over() {
    for lost in [Name::Unknown, Name::Unanswered] {
        let mut postgres = Postgres::start().await;
        let front_end = FrontEnd::ready(Name::LeadsTo(postgres.port), 8).await;
        front_end.pay_at_once(20).await;
        front_end.name(lost);
        postgres.down(Signal::QUIT);
        let key = format!("{lost:?}");
        let (paid, after) = tokio::join!(front_end.pay(&key), front_end.is(503));
        assert_eq!(paid, 503);
        assert!(PATIENCE - Duration::from_secs(1) < after && after < PATIENCE + LATE, "{lost:?}: {after:?}");
        assert_eq!(front_end.pay(&key).await, 503);
        assert_eq!(front_end.ready_now().await, 503);

        postgres.up().await;
        front_end.is(200).await;
        assert_eq!(front_end.pay(&key).await, 201, "the address is good again, the name still not to be had");
    }
}

/// A node that is gone answers nothing, not even that nobody listens.
#[tokio::test]
async fn a_silent_address_shows_as_soon() {
    let postgres = Postgres::start().await;
    let front_end = FrontEnd::ready(Name::LeadsTo(postgres.port), 8).await;
    front_end.pay_at_once(20).await;
    front_end.name(Name::Unanswered);
    postgres.signal_all(Signal::STOP);
    let (paid, after) = tokio::join!(front_end.pay("silent"), front_end.is(503));
    assert_eq!(paid, 503);
    assert!(after < PATIENCE + LATE, "{after:?}");
    postgres.signal_all(Signal::CONT);
    front_end.is(200).await;
    assert_eq!(front_end.pay("silent").await, 201);
}

#[tokio::test]
async fn a_database_that_moved_is_found_by_its_name_and_remembered_there() {
    let mut old = Postgres::start().await;
    let new = Postgres::start().await;
    let front_end = FrontEnd::ready(Name::LeadsTo(old.port), 8).await;
    front_end.pay_at_once(20).await;

    old.down(Signal::QUIT);
    front_end.name(Name::LeadsTo(new.port));
    // The new one has no schema, which the probe makes.
    assert_eq!(front_end.pay("moved").await, 201);
    assert_eq!(new.number("SELECT count(*) FROM payments").await, 1);
    front_end.name(Name::Unknown);
    end_sessions(&new).await;
    front_end.serves_on("by-address").await;

    // It moves back while the name is not to be had: nothing leads there but the name.
    old.up().await;
    drop(new);
    front_end.is(503).await;
    front_end.name(Name::LeadsTo(old.port));
    front_end.is(200).await;
    assert_eq!(front_end.pay("back").await, 201);
    assert_eq!(old.number("SELECT count(*) FROM payments").await, 21);
}

/// The fault of a probe with a connection of its own: it lived on, and payments found none.
#[tokio::test]
async fn too_few_connections_count_once_payments_fail_by_them() {
    let postgres = Postgres::start().await;
    let front_end = FrontEnd::ready(Name::LeadsTo(postgres.port), 8).await;
    front_end.name(Name::LeadsTo(dead_port()));
    front_end.serves_on("one-is-enough").await;

    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END'; \
                CREATE TRIGGER slow BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION slow()";
    postgres.sql().await.batch_execute(slow).await.unwrap();
    let to = front_end.to;
    let load = tokio::spawn(async move {
        let pay = |n| tokio::spawn(async move { http::pay(to, "eve", 1, &format!("load-{n}")).await.status });
        let mut sent = Vec::new();
        for n in 0..200 {
            sent.push(pay(n));
            sleep(Duration::from_millis(50)).await;
        }
        let mut statuses = Vec::new();
        for one in sent {
            statuses.push(one.await.unwrap());
        }
        statuses
    });
    let after = front_end.is(503).await;
    assert!(PATIENCE - Duration::from_secs(1) < after && after < PATIENCE + LATE, "{after:?}");
    let statuses = load.await.unwrap();
    assert!(statuses.contains(&201) && statuses.contains(&503), "the one connection lived on: {statuses:?}");
    let living = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'easypay'";
    assert_eq!(postgres.number(living).await, 1);
    assert_eq!(front_end.ready_now().await, 503, "no request comes any more, and still there is no connection for it");

    front_end.name(Name::LeadsTo(postgres.port));
    front_end.is(200).await;
    assert_eq!(front_end.pay("enough").await, 201);
}

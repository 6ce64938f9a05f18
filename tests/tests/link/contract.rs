//! What the agent's ports to the coordinator promise (turns, secrets, tickets): its fake and its link are held to the same.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use muster_agent::{
    adapters::fake::FakeCoordinator,
    link::{CoordinatorSecrets, CoordinatorTickets, CoordinatorTurns, Link},
    ports::{HeldTurn, JoinTicket, PortError, Secrets, Taken, Tickets, Turn, Turns},
};
use muster_proto::v1;

use super::{
    coordinator::Coordinator,
    node::{keeper, machine},
};

struct Ports<'a> {
    turns: &'a dyn Turns,
    secrets: &'a dyn Secrets,
    tickets: &'a dyn Tickets,
}

/// What happens beyond the ports. It begins with the secret DATABASE_PASSWORD, `sesame`, and nobody who mints.
#[async_trait]
trait World: Send {
    /// `workers-2` takes this turn, or gives it back.
    async fn other(&mut self, turn: Turn, holds: bool);
    /// A ticket can be had from now on.
    fn mints(&mut self, ticket: JoinTicket);
    /// The coordinator goes away, or comes back.
    async fn away(&mut self, away: bool);
    /// So much time passes.
    async fn passes(&mut self, time: Duration);
}

fn ticket() -> JoinTicket {
    JoinTicket {
        token: "abcdef.0123456789abcdef".to_owned(),
        ca_hash: "sha256:00".to_owned(),
        certificate_key: Some("key".to_owned()),
        expires: 1_800_000_600,
    }
}

async fn keeps(ports: &Ports<'_>, world: &mut dyn World) {
    let take = async |turn| match ports.turns.take(turn, "restart containerd").await {
        Ok(Taken::Granted(held)) => Ok(held),
        Ok(Taken::HeldBy(node)) => Err(node),
        Err(error) => panic!("{error:?}"),
    };
    // A turn is one node's at a time, and each turn is its own.
    let held = take(Turn::Disrupt).await.expect("nobody has it");
    assert!(held.valid());
    held.give().await;
    world.other(Turn::Disrupt, true).await;
    assert_eq!(take(Turn::Disrupt).await.err().as_deref(), Some("workers-2"));
    take(Turn::Etcd).await.expect("it is another turn").give().await;
    world.other(Turn::Disrupt, false).await;
    let held = take(Turn::Disrupt).await.expect("it was given back");

    assert_eq!(ports.secrets.get("DATABASE_PASSWORD").await.unwrap(), b"sesame");
    let refused = ports.secrets.get("OTHER").await;
    assert!(matches!(&refused, Err(PortError::Refused(why)) if why.contains("OTHER")), "{refused:?}");

    // Nobody who mints is something to wait for. The certificate key is for control planes alone.
    let nobody = ports.tickets.join(false).await;
    assert!(matches!(nobody, Err(PortError::NotYet(_))), "{nobody:?}");
    world.mints(ticket());
    assert_eq!(ports.tickets.join(true).await.unwrap(), ticket());
    assert_eq!(ports.tickets.join(false).await.unwrap(), JoinTicket { certificate_key: None, ..ticket() });

    // Away: what was had is there, and nothing new.
    world.away(true).await;
    world.passes(Duration::from_secs(20)).await;
    assert!(held.valid(), "a lease outlives a short absence");
    let turn = ports.turns.take(Turn::Etcd, "join").await.map(drop);
    assert!(matches!(turn, Err(PortError::Unreachable(_))), "{turn:?}");
    let away = ports.tickets.join(false).await;
    assert!(matches!(away, Err(PortError::Unreachable(_))), "{away:?}");
    assert_eq!(ports.secrets.get("DATABASE_PASSWORD").await.unwrap(), b"sesame");
    let away = ports.secrets.get("OTHER").await;
    assert!(matches!(away, Err(PortError::Unreachable(_))), "{away:?}");

    // Back: the same ports go on by themselves.
    world.away(false).await;
    let again = async {
        while ports.tickets.join(false).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is asked again");
    assert!(held.valid());
    held.give().await;
    world.other(Turn::Disrupt, true).await;
    assert_eq!(take(Turn::Disrupt).await.err().as_deref(), Some("workers-2"), "it was given back");

    // A turn is over before its lease of a minute is, where nobody kept it alive: another may have it then.
    let held = take(Turn::Etcd).await.expect("nobody has it");
    world.away(true).await;
    world.passes(Duration::from_secs(55)).await;
    assert!(!held.valid());
    // Its holder is gone with it, and gives nothing back.
    drop(held);
    world.passes(Duration::from_secs(10)).await;
    world.away(false).await;
    world.other(Turn::Etcd, true).await;
    let again = async {
        loop {
            match ports.turns.take(Turn::Etcd, "join").await {
                Ok(Taken::HeldBy(node)) => return assert_eq!(node, "workers-2"),
                Ok(Taken::Granted(_)) => panic!("two have it"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it is asked again");
}

struct Faked(Arc<FakeCoordinator>);

#[async_trait]
impl World for Faked {
    async fn other(&mut self, turn: Turn, holds: bool) {
        self.0.turn_held_by(turn, holds.then_some("workers-2"));
    }

    fn mints(&mut self, ticket: JoinTicket) {
        self.0.put_ticket(ticket);
    }

    async fn away(&mut self, away: bool) {
        self.0.away(away);
    }

    async fn passes(&mut self, time: Duration) {
        self.0.passes(time);
    }
}

#[tokio::test]
async fn the_fake_keeps_it() {
    let fake = Arc::new(FakeCoordinator::default());
    fake.put_secret("DATABASE_PASSWORD", b"sesame");
    keeps(&Ports { turns: &*fake, secrets: &*fake, tickets: &*fake }, &mut Faked(fake.clone())).await;
}

struct Real {
    coordinator: Coordinator,
    other: CoordinatorTurns,
    held: Option<Box<dyn HeldTurn>>,
}

#[async_trait]
impl World for Real {
    async fn other(&mut self, turn: Turn, holds: bool) {
        if let Some(held) = self.held.take() {
            held.give().await;
        }
        if holds {
            self.held = Some(loop {
                match self.other.take(turn, "too").await {
                    Ok(Taken::Granted(held)) => break held,
                    Ok(Taken::HeldBy(node)) => panic!("{node} has it"),
                    // It was away, and is asked again.
                    Err(PortError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                    Err(error) => panic!("{error:?}"),
                }
            });
        }
    }

    fn mints(&mut self, ticket: JoinTicket) {
        let JoinTicket { token, ca_hash, certificate_key, expires } = ticket;
        let certificate_key = certificate_key.unwrap_or_default();
        self.coordinator.ticket.send_replace(Some(v1::JoinTicket { token, ca_hash, certificate_key, expires }));
    }

    async fn away(&mut self, away: bool) {
        if away {
            self.coordinator.stop().await;
        } else {
            self.coordinator.serve().await;
        }
    }

    async fn passes(&mut self, time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }
}

async fn link(folder: &tempfile::TempDir, coordinator: &Coordinator, name: &str) -> Link {
    let config = machine(folder.path(), coordinator, name);
    let keeper = keeper(folder.path(), &config, coordinator);
    let link = keeper.link();
    tokio::spawn(keeper.run());
    link.ready().await.unwrap();
    link
}

#[tokio::test]
async fn the_link_keeps_it() {
    let coordinator = Coordinator::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mine = link(&one, &coordinator, "workers-1").await;
    let other = CoordinatorTurns::new(link(&two, &coordinator, "workers-2").await);
    let (turns, tickets) = (CoordinatorTurns::new(mine.clone()), CoordinatorTickets::new(mine.clone()));
    let secrets = CoordinatorSecrets::new(mine, one.path());
    let ports = Ports { turns: &turns, secrets: &secrets, tickets: &tickets };
    keeps(&ports, &mut Real { coordinator, other, held: None }).await;
}

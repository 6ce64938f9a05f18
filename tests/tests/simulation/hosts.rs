//! The hosts on the simulated network: one coordinator, one operator, and a machine for each instance of the provider's.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use muster_ids::Digest;
use turmoil::{Builder, Sim};

use crate::{
    coordinator::{authority, coordinator},
    machine::Machine,
    node::{COORDINATOR, agent},
    operator::operator,
    plants::{Plant, believes},
    stage::Stage,
};

/// How much time passes before messages are delivered again. Timers are exact within it.
const TICK: Duration = Duration::from_millis(40);
const OPERATOR: &str = "10.89.0.99";
/// Longer than any history.
const LONGEST: Duration = Duration::from_secs(3600);

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

type Slot = Arc<Mutex<Option<Arc<Machine>>>>;

/// A place on the network, and the machine that has it now.
#[derive(Default)]
struct Seat {
    machine: Slot,
    /// The network knows of it.
    known: bool,
    on: bool,
    /// When it is switched on.
    boots: Option<Duration>,
}

/// All of them.
pub struct Hosts {
    pub sim: Sim<'static>,
    pub stage: Arc<Stage>,
    pin: Digest,
    seats: BTreeMap<IpAddr, Seat>,
    /// When the coordinator is started again.
    coordinator_starts: Option<Duration>,
}

impl Hosts {
    pub fn new(stage: Arc<Stage>) -> Self {
        let mut sim = Builder::new()
            .tick_duration(TICK)
            .simulation_duration(LONGEST)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(80))
            .tcp_capacity(256)
            .rng_seed(stage.seed)
            .build();
        let pin = authority(&stage).pin();
        let shared = stage.clone();
        sim.host(address(COORDINATOR), move || coordinator(shared.clone()));
        let shared = stage.clone();
        sim.host(address(OPERATOR), move || operator(shared.clone()));
        Self { sim, stage, pin, seats: BTreeMap::new(), coordinator_starts: None }
    }

    /// One tick, and what follows from what the provider did in it.
    pub fn step(&mut self) -> turmoil::Result {
        self.sim.step()?;
        self.stage.clock.stepped(self.sim.elapsed());
        self.follow_provider();
        believes(&self.stage);
        if self.stage.plant == Plant::NoDurability && self.sim.elapsed().as_millis().is_multiple_of(10_000) {
            self.stage.keeps();
        }
        let now = self.sim.elapsed();
        let due = |seat: &Seat| seat.boots.is_some_and(|boots| boots <= now);
        let due: Vec<IpAddr> = self.seats.iter().filter(|(_, seat)| due(seat)).map(|(address, _)| *address).collect();
        for address in due {
            self.start(address);
        }
        if self.coordinator_starts.is_some_and(|starts| starts <= now) {
            self.coordinator_starts = None;
            self.sim.bounce(address(COORDINATOR));
        }
        Ok(())
    }

    /// Machines that the provider made are switched on in a while; those that it stopped or lost are off.
    fn follow_provider(&mut self) {
        let world = self.stage.cloud.fake.world();
        let now = self.sim.elapsed();
        for instance in world.living() {
            let seat = self.seats.entry(instance.address).or_default();
            let machine = seat.machine.lock().unwrap().clone().filter(|machine| machine.instance == instance.id);
            let Some(machine) = machine else {
                let machine =
                    Machine::new(self.stage.clone(), instance.node.clone(), instance.id.clone(), instance.address);
                let proof =
                    serde_json::json!({ "token": instance.proof, "instance": instance.id, "node": instance.node });
                std::fs::write(machine.folder.join("instance.json"), proof.to_string()).unwrap();
                self.stage.tell(format!("{} is made: {}", instance.node, instance.id));
                seat.boots = Some(now + machine.between(500, 4000));
                *seat.machine.lock().unwrap() = Some(machine);
                if seat.on {
                    self.off(instance.address);
                }
                continue;
            };
            match (instance.running, seat.on) {
                (false, true) => self.off(instance.address),
                // Started again by whoever stopped it.
                (true, false) if seat.boots.is_none() => {
                    machine.boots(false);
                    seat.boots = Some(now + Duration::from_secs(1));
                }
                (true | false, _) => {}
            }
        }
        let lives = |address: &IpAddr| world.living().any(|instance| instance.address == *address);
        let gone: Vec<IpAddr> = self.seats.keys().filter(|address| !lives(address)).copied().collect();
        for address in gone {
            let Some(machine) = self.seats[&address].machine.lock().unwrap().take() else { continue };
            self.stage.tell(format!("{} is gone: {}", machine.node, machine.instance));
            self.off(address);
            self.stage.cluster.lock().unwrap().lost(&machine.node, &machine.instance);
        }
    }

    fn start(&mut self, address: IpAddr) {
        let Some(seat) = self.seats.get_mut(&address) else { return };
        (seat.boots, seat.on) = (None, true);
        if std::mem::replace(&mut seat.known, true) {
            self.sim.bounce(address);
            return;
        }
        let (slot, pin) = (seat.machine.clone(), self.pin);
        self.sim.host(address, move || {
            let machine = slot.lock().unwrap().clone();
            async move {
                match machine {
                    Some(machine) => agent(machine, pin).await,
                    None => Ok(()),
                }
            }
        });
    }

    fn off(&mut self, address: IpAddr) {
        let Some(seat) = self.seats.get_mut(&address) else { return };
        seat.on = false;
        if seat.known {
            self.sim.crash(address);
        }
    }

    /// The machines that there are, in the order of their addresses.
    pub fn machines(&self) -> Vec<Arc<Machine>> {
        self.seats.values().filter_map(|seat| seat.machine.lock().unwrap().clone()).collect()
    }

    pub fn on(&self, machine: &Machine) -> bool {
        self.seats.get(&machine.address).is_some_and(|seat| seat.on)
    }

    /// The agent's process ends, and starts again after a while.
    pub fn crash(&mut self, machine: &Machine, away: Duration) {
        self.off(machine.address);
        let again = self.sim.elapsed() + away;
        if let Some(seat) = self.seats.get_mut(&machine.address) {
            seat.boots = Some(again);
        }
    }

    /// A machine that is off is switched on now.
    pub fn switch_on(&mut self, machine: &Machine) {
        let now = self.sim.elapsed();
        if let Some(seat) = self.seats.get_mut(&machine.address) {
            seat.boots = Some(now);
        }
    }

    pub fn coordinator_runs(&self) -> bool {
        self.coordinator_starts.is_none()
    }

    /// As by `kill -9`.
    pub fn crash_coordinator(&mut self, away: Duration) {
        // Before its runtime goes, so that nothing of it lives on.
        drop(self.stage.coordinator.lock().unwrap().take());
        self.sim.crash(address(COORDINATOR));
        match self.stage.plant {
            Plant::NoDurability => self.stage.forgets(),
            Plant::NoRevocation => self.stage.forgives(),
            Plant::UsedTokens => self.stage.renews_tokens(),
            _other => {}
        }
        self.coordinator_starts = Some(self.sim.elapsed() + away);
    }

    /// Whoever is off is on soon.
    pub fn all_on(&mut self) {
        let soon = self.sim.elapsed() + Duration::from_secs(1);
        for seat in self.seats.values_mut() {
            seat.boots = seat.boots.map(|boots| boots.min(soon));
        }
        self.coordinator_starts = self.coordinator_starts.map(|starts| starts.min(soon));
    }
}

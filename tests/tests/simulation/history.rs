//! What happens to the hosts, by seed: which sorts of trouble a history knows, when they come, and how long they last.
//!
//! Each seed knows about half of the sorts, so that some histories are all of one thing. Trouble is bounded: a clock jumps
//! only when every machine has its identity (a token lives for a day), and only one machine is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use muster_coordinator::{backup, cloud::fake::Faults};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    absence::Absence,
    hosts::{Hosts, address},
    machine::{FORGED, Machine},
    node::COORDINATOR,
    operator::Order,
    plants::Plant,
    run::FIRST,
    site::Site,
    stage::Stage,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Partition,
    OneWay,
    Hold,
    Loss,
    Isolation,
    AgentCrash,
    Reboot,
    CoordinatorCrash,
    Apply,
    ApplyOnly,
    Pause,
    Jump,
    Lost,
    LongOff,
    Stopped,
    Provider,
    FileByHand,
    UnitByHand,
    Thief,
    OldDisk,
    Restore,
}

const ALL: [Trouble; 21] = [
    Trouble::Partition,
    Trouble::OneWay,
    Trouble::Hold,
    Trouble::Loss,
    Trouble::Isolation,
    Trouble::AgentCrash,
    Trouble::Reboot,
    Trouble::CoordinatorCrash,
    Trouble::Apply,
    Trouble::ApplyOnly,
    Trouble::Pause,
    Trouble::Jump,
    Trouble::Lost,
    Trouble::LongOff,
    Trouble::Stopped,
    Trouble::Provider,
    Trouble::FileByHand,
    Trouble::UnitByHand,
    Trouble::Thief,
    Trouble::OldDisk,
    Trouble::Restore,
];

/// What is wrong with a node's way to the coordinator, and until when.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Cut,
    Held,
    Lossy,
}

/// A history under way.
pub struct History {
    random: StdRng,
    known: Vec<Trouble>,
    next: Duration,
    /// Trouble goes on for so long after the cluster's birth.
    after_birth: Duration,
    links: BTreeMap<IpAddr, (Wrong, Duration)>,
    provider_heals: Option<Duration>,
    /// As the operator wants it.
    site: Site,
    lost: bool,
    absence: Option<Absence>,
    /// How often somebody's hand was at each instance.
    hands: BTreeMap<String, u32>,
    backup: Option<Vec<u8>>,
    restored: bool,
    /// What comes with the next disruption: the moment at which it hurts most.
    ambush: Option<Trouble>,
    /// Instances that no blueprint has, and since when.
    unknown: BTreeMap<String, Duration>,
    identity: age::x25519::Identity,
}

/// Trouble that keeps a cluster from its birth ends by then.
const UNBORN: Duration = Duration::from_secs(180);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl History {
    pub fn new(seed: u64, stage: &Arc<Stage>) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x4157);
        stage.orders.lock().unwrap().give(Order::Apply { site: FIRST, only: String::new(), attempts: u32::MAX });
        let mut known: Vec<Trouble> = ALL.into_iter().filter(|_| random.random_bool(0.5)).collect();
        if let Some(needed) = needed(stage.plant) {
            known.extend(needed);
        }
        let next = seconds(random.random_range(1..20));
        let after_birth = seconds(random.random_range(30..90));
        Self {
            random,
            known,
            next,
            after_birth,
            links: BTreeMap::new(),
            provider_heals: None,
            site: FIRST,
            lost: false,
            absence: None,
            hands: BTreeMap::new(),
            backup: None,
            restored: false,
            ambush: None,
            unknown: BTreeMap::new(),
            identity: age::x25519::Identity::generate(),
        }
    }

    /// What the operator wants in the end.
    pub fn last(&self) -> Site {
        self.site
    }

    /// Addresses whose way to the coordinator is shut, at least in one direction.
    pub fn cut(&self) -> BTreeSet<IpAddr> {
        let shut = self.links.iter().filter(|(_, (wrong, _))| matches!(wrong, Wrong::Cut | Wrong::Held));
        shut.map(|(address, _)| *address).collect()
    }

    /// True once all faults have ended.
    pub fn step(&mut self, hosts: &mut Hosts) -> bool {
        let now = hosts.sim.elapsed();
        self.heal(hosts, now);
        if self.absence.as_mut().is_some_and(|absence| absence.step(hosts)) {
            self.absence = None;
        }
        let born = hosts.stage.cluster.lock().unwrap().known_born;
        let ends = born.map_or(UNBORN, |born| born + self.after_birth);
        if now >= ends && self.absence.is_none() {
            self.end(hosts);
            return true;
        }
        if now >= self.next && !self.known.is_empty() {
            self.next = now + Duration::from_millis(self.random.random_range(200..6000));
            let trouble = *self.known.choose(&mut self.random).expect("some are known");
            let waits = matches!(trouble, Trouble::CoordinatorCrash | Trouble::Isolation)
                || (trouble == Trouble::Restore && self.backup.is_some());
            if waits && self.ambush.is_none() && self.random.random_bool(0.5) {
                self.ambush = Some(trouble);
            } else {
                self.trouble(hosts, trouble, now);
            }
        }
        let hurts = {
            let cluster = hosts.stage.cluster.lock().unwrap();
            !cluster.disrupted.is_empty() || cluster.changing.is_some()
        };
        if hurts && let Some(trouble) = self.ambush.take() {
            self.trouble(hosts, trouble, now);
        }
        false
    }

    fn heal(&mut self, hosts: &mut Hosts, now: Duration) {
        let over: Vec<IpAddr> =
            self.links.iter().filter(|(_, (_, until))| *until <= now).map(|(address, _)| *address).collect();
        for node in over {
            self.mend(hosts, node);
        }
        if self.provider_heals.is_some_and(|heals| heals <= now) {
            self.provider_heals = None;
            hosts.stage.cloud.fake.set_faults(Faults::default());
            hosts.stage.tell("the provider is well");
        }
    }

    fn mend(&mut self, hosts: &mut Hosts, node: IpAddr) {
        let coordinator = address(COORDINATOR);
        match self.links.remove(&node) {
            Some((Wrong::Cut, _)) => hosts.sim.repair(node, coordinator),
            Some((Wrong::Held, _)) => hosts.sim.release(node, coordinator),
            Some((Wrong::Lossy, _)) => hosts.sim.set_link_fail_rate(node, coordinator, 0.0),
            None => {}
        }
        hosts.stage.tell(format!("the way of {node} is well"));
    }

    /// Everything is well from now on, and the operator says once more what is wanted.
    fn end(&mut self, hosts: &mut Hosts) {
        let broken: Vec<IpAddr> = self.links.keys().copied().collect();
        for node in broken {
            self.mend(hosts, node);
        }
        hosts.stage.cloud.fake.set_faults(Faults::default());
        hosts.all_on();
        self.vary();
        let mut orders = hosts.stage.orders.lock().unwrap();
        orders.forget();
        orders.give(Order::Apply { site: self.site, only: String::new(), attempts: u32::MAX });
    }

    /// What a backup was too old for, and no pool lacks, nobody but the operator removes: the status names it.
    pub fn tidy(&mut self, hosts: &Hosts) {
        let Some(ctx) = hosts.stage.coordinator().filter(|_| self.restored) else { return };
        let Ok(published) = ctx.current() else { return };
        let now = hosts.sim.elapsed();
        for machine in hosts.machines() {
            if published.blueprint.nodes.contains_key(&machine.node) {
                self.unknown.remove(&machine.instance);
            } else if *self.unknown.entry(machine.instance.clone()).or_insert(now) + seconds(60) < now {
                hosts.stage.tell(format!("the operator removes {}, which nobody knows", machine.instance));
                hosts.stage.lost.lock().unwrap().insert(machine.instance.clone());
                hosts.stage.cloud.fake.lose(&machine.node);
            }
        }
    }

    /// Another site than before.
    fn vary(&mut self) {
        match self.random.random_range(0..5) {
            0 => self.site.motd += 1,
            1..4 => self.site.engine += 1,
            _ => self.site.workers = 5 - self.site.workers,
        }
    }

    fn lasts(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from * 1000..to * 1000))
    }

    fn any(&mut self, hosts: &Hosts) -> Option<Arc<Machine>> {
        hosts.machines().choose(&mut self.random).cloned()
    }

    fn wrong(&mut self, hosts: &mut Hosts, node: IpAddr, trouble: Trouble, until: Duration) {
        let coordinator = address(COORDINATOR);
        if self.links.contains_key(&node) {
            return;
        }
        let wrong = match trouble {
            Trouble::OneWay => {
                if self.random.random_bool(0.5) {
                    hosts.sim.partition_oneway(node, coordinator);
                } else {
                    hosts.sim.partition_oneway(coordinator, node);
                }
                Wrong::Cut
            }
            Trouble::Hold => {
                hosts.sim.hold(node, coordinator);
                Wrong::Held
            }
            Trouble::Loss => {
                hosts.sim.set_link_fail_rate(node, coordinator, self.random.random_range(0.005..0.08));
                Wrong::Lossy
            }
            _cut => {
                hosts.sim.partition(node, coordinator);
                Wrong::Cut
            }
        };
        hosts.stage.tell(format!("the way of {node}: {trouble:?} until {}", until.as_secs()));
        self.links.insert(node, (wrong, until));
    }

    fn trouble(&mut self, hosts: &mut Hosts, trouble: Trouble, now: Duration) {
        let stage = hosts.stage.clone();
        match trouble {
            Trouble::Partition | Trouble::OneWay | Trouble::Hold | Trouble::Loss => {
                let Some(machine) = self.any(hosts) else { return };
                // The network knows a machine once it was on.
                if hosts.on(&machine) {
                    let until = now + self.lasts(1, 40);
                    self.wrong(hosts, machine.address, trouble, until);
                }
            }
            Trouble::Isolation => {
                let until = now + self.lasts(1, 30);
                for machine in hosts.machines() {
                    if hosts.on(&machine) {
                        self.wrong(hosts, machine.address, trouble, until);
                    }
                }
            }
            Trouble::AgentCrash | Trouble::Reboot | Trouble::OldDisk => {
                let Some(machine) = self.any(hosts).filter(|machine| hosts.on(machine)) else { return };
                let away = self.lasts(0, 15);
                stage.tell(format!("{}: {trouble:?}, away for {} ms", machine.node, away.as_millis()));
                hosts.crash(&machine, away);
                match trouble {
                    Trouble::Reboot => machine.boots(self.random.random_bool(0.3)),
                    Trouble::OldDisk => self.tamper(&machine),
                    _agent => {}
                }
            }
            Trouble::CoordinatorCrash => {
                if hosts.coordinator_runs() {
                    let away = self.lasts(0, 20);
                    stage.tell(format!("the coordinator crashes for {} ms", away.as_millis()));
                    hosts.crash_coordinator(away);
                }
            }
            Trouble::Apply => {
                self.vary();
                let site = Site { bad: self.random.random_bool(0.1), ..self.site };
                let order = Order::Apply { site, only: String::new(), attempts: 3 };
                stage.orders.lock().unwrap().give(order);
            }
            Trouble::ApplyOnly => {
                let Some(machine) = self.any(hosts) else { return };
                self.vary();
                let site = Site { bad: self.random.random_bool(0.4), ..self.site };
                let order = Order::Apply { site, only: machine.node.to_string(), attempts: 2 };
                stage.orders.lock().unwrap().give(order);
            }
            Trouble::Pause => {
                let Some(machine) = self.any(hosts) else { return };
                let order = Order::Pause {
                    node: machine.node.to_string(),
                    seconds: if self.random.random_bool(0.2) { 0 } else { self.random.random_range(5..60) },
                };
                stage.orders.lock().unwrap().give(order);
            }
            Trouble::Jump => {
                if self.all_enrolled(hosts) {
                    let hours = *[7, 13, 30, 80].choose(&mut self.random).expect("four");
                    stage.tell(format!("{hours} hours pass"));
                    stage.clock.jump(hours * 3600);
                    self.known.retain(|known| *known != Trouble::Jump);
                }
            }
            Trouble::Lost => self.lose(hosts),
            Trouble::LongOff => self.leave_off(hosts),
            Trouble::Stopped => {
                let Some(machine) = self.any(hosts).filter(|machine| hosts.on(machine)) else { return };
                stage.tell(format!("{} is stopped past everybody", machine.node));
                stage.cloud.fake.stop(&machine.node);
            }
            Trouble::Provider => {
                let faults = Faults {
                    lag: self.random.random_range(0..2),
                    lost: self.random.random_range(0..30),
                    throttled: self.random.random_range(0..30),
                    partial: self.random.random_range(0..30),
                    full: self.random.random_range(0..30),
                    zones: vec![],
                };
                stage.tell("the provider is unwell");
                stage.cloud.fake.set_faults(faults);
                self.provider_heals = Some(now + self.lasts(5, 40));
            }
            Trouble::FileByHand => {
                let Some(machine) = self.any(hosts).filter(|machine| self.hand_at(machine)) else { return };
                stage.tell(format!("{}: a file is changed by hand", machine.node));
                machine.changed_by_hand("/etc/engine.conf");
            }
            Trouble::UnitByHand => {
                let Some(machine) = self.any(hosts).filter(|machine| self.hand_at(machine)) else { return };
                stage.tell(format!("{}: a unit is stopped by hand", machine.node));
                machine.stopped_by_hand();
            }
            Trouble::Thief => {
                let Some(machine) = self.any(hosts).filter(|_| !self.restored) else { return };
                machine.thief.notify_one();
            }
            Trouble::Restore => self.restore(hosts),
        }
    }

    /// Whether somebody's hand may be at a machine once more: what is put back five times in an hour is a fight, and is left
    /// alone for longer than faults take to heal.
    fn hand_at(&mut self, machine: &Machine) -> bool {
        let hands = self.hands.entry(machine.instance.clone()).or_default();
        *hands += 1;
        *hands < 5
    }

    /// Whether every instance is in the record as made, and has its identity: a token's day must not end before its
    /// machine enrols.
    fn all_enrolled(&self, hosts: &Hosts) -> bool {
        let machines = hosts.machines();
        if !machines.iter().all(|machine| machine.folder.join("identity/identity.json").exists()) {
            return false;
        }
        let Some(ctx) = hosts.stage.coordinator() else { return false };
        let Ok(published) = ctx.current() else { return false };
        let root = ctx.state.snapshot();
        !machines.is_empty()
            && published.blueprint.nodes.iter().all(|(name, plan)| {
                root.made.get(name).is_some_and(|made| {
                    made.token == plan.token
                        && machines.iter().any(|machine| machine.node == *name && machine.instance == made.id)
                })
            })
    }

    /// A machine that the cluster can spare; one is all that it can.
    fn spared(&mut self, hosts: &Hosts) -> Option<Arc<Machine>> {
        let whole = {
            let cluster = hosts.stage.cluster.lock().unwrap();
            cluster.known_born.is_some() && cluster.etcd.len() == 3
        };
        self.any(hosts).filter(|_| whole && !self.lost)
    }

    /// A machine is off for longer than its certificate can be renewed. A coordinator that is restored meanwhile would
    /// know none of the certificates that the others have by then.
    fn leave_off(&mut self, hosts: &mut Hosts) {
        if self.backup.is_some() || !self.all_enrolled(hosts) {
            return;
        }
        let Some(machine) = self.spared(hosts).filter(|machine| hosts.on(machine)) else { return };
        self.lost = true;
        self.known.retain(|known| !matches!(known, Trouble::Restore | Trouble::Jump));
        let readmits = self.random.random_bool(0.5);
        self.absence = Some(Absence::begin(hosts, machine, readmits));
    }

    /// A machine is lost for good.
    fn lose(&mut self, hosts: &Hosts) {
        let stage = hosts.stage.clone();
        let Some(machine) = self.spared(hosts) else { return };
        self.lost = true;
        stage.tell(format!("{} is lost", machine.node));
        stage.lost.lock().unwrap().insert(machine.instance.clone());
        stage.cloud.fake.lose(&machine.node);
    }

    /// While its agent is away, a machine's disk gets an older catalog back, or a forged one.
    fn tamper(&mut self, machine: &Machine) {
        let path = machine.folder.join("catalog.toml");
        let Ok(now) = std::fs::read_to_string(&path) else { return };
        let forge = machine.stage.plant != Plant::NoMark && self.random.random_bool(0.5);
        let kept = machine.folder.join("kept.toml");
        if forge {
            std::fs::write(&path, now.replace("6.", &format!("{FORGED} 6."))).unwrap();
        } else if let Ok(old) = std::fs::read(&kept) {
            std::fs::write(&path, old).unwrap();
        } else {
            std::fs::write(&kept, now).unwrap();
        }
    }

    /// First a backup is taken; later the coordinator's disk is lost, and the backup restored onto an empty one.
    fn restore(&mut self, hosts: &mut Hosts) {
        let stage = hosts.stage.clone();
        let Some(sealed) = &self.backup else {
            let Some(ctx) = stage.coordinator() else { return };
            if ctx.current().is_err() {
                return;
            }
            let manifest = backup::Manifest { version: 1, realm: Stage::realm(), taken: stage.clock.seconds() };
            let mut sealed = Vec::new();
            backup::write(&stage.state(), &manifest, &[self.identity.to_public()], &mut sealed).unwrap();
            stage.tell("a backup is taken");
            self.backup = Some(sealed);
            return;
        };
        if self.restored || !hosts.coordinator_runs() {
            return;
        }
        self.restored = true;
        stage.tell("the coordinator's disk is lost, and its backup restored");
        let away = Duration::from_millis(self.random.random_range(500..20_000));
        hosts.crash_coordinator(away);
        stage.restores(sealed, &self.identity);
    }
}

/// What a planted fault needs to show.
fn needed(plant: Plant) -> Option<Vec<Trouble>> {
    match plant {
        Plant::Nothing => None,
        Plant::NoTurns => Some(vec![Trouble::Apply; 4]),
        Plant::NoEtcdTurn | Plant::NoRevocation => Some(vec![]),
        Plant::NoMark => Some([vec![Trouble::OldDisk; 6], vec![Trouble::Apply; 6]].concat()),
        Plant::NoPause => Some([vec![Trouble::Pause; 6], vec![Trouble::Apply; 6]].concat()),
        Plant::NoEpoch => Some([vec![Trouble::Restore; 4], vec![Trouble::Apply; 6]].concat()),
        Plant::EndlessTurn => Some([vec![Trouble::Apply; 8], vec![Trouble::Partition; 2]].concat()),
        Plant::Drafts => Some(vec![Trouble::Apply; 2]),
        Plant::UsedTokens => Some(vec![Trouble::CoordinatorCrash; 4]),
        Plant::Hearsay => Some(vec![Trouble::Partition; 8]),
        Plant::StaleReports => Some(vec![Trouble::Apply; 6]),
        Plant::NoDurability => Some([vec![Trouble::CoordinatorCrash; 4], vec![Trouble::Apply; 6]].concat()),
    }
}

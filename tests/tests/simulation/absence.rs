//! A node that is off for 32 days while the others go on: longer than its last certificate may be renewed.

use std::{sync::Arc, time::Duration};

use muster_coordinator::status::{self, NodeLife};
use muster_planner::blueprint::NodeState;

use crate::{hosts::Hosts, machine::Machine};

/// Longer than any history.
const FOR_GOOD: Duration = Duration::from_secs(100_000);
/// Within the thirty days in which those that are on may renew what has expired.
const DAYS: i64 = 16;
/// How long it asks in vain before somebody looks.
const IN_VAIN: Duration = Duration::from_secs(30);

/// One node's absence.
pub struct Absence {
    machine: Arc<Machine>,
    /// How often sixteen days pass still.
    jumps: u32,
    back: Option<Back>,
}

/// It was switched on again.
struct Back {
    /// Simulated time.
    since: Duration,
    /// Seconds since the epoch.
    at: i64,
}

impl Absence {
    /// Switches a machine off.
    pub fn begin(hosts: &mut Hosts, machine: Arc<Machine>) -> Self {
        hosts.stage.tell(format!("{} is off for 32 days", machine.node));
        hosts.crash(&machine, FOR_GOOD);
        Self { machine, jumps: 2, back: None }
    }

    /// True once the operator has done something about it.
    pub fn step(&mut self, hosts: &mut Hosts) -> bool {
        let stage = hosts.stage.clone();
        let now = hosts.sim.elapsed();
        match &self.back {
            Some(back) => return now > back.since + IN_VAIN && self.told(hosts, back.at),
            None if !self.others_renewed(hosts) => {}
            None if self.jumps > 0 => {
                self.jumps -= 1;
                stage.tell(format!("{DAYS} days pass"));
                stage.clock.jump(DAYS * 24 * 3600);
            }
            None => {
                stage.tell(format!("{} is on again", self.machine.node));
                hosts.switch_on(&self.machine);
                self.back = Some(Back { since: now, at: stage.clock.seconds() });
            }
        }
        false
    }

    /// Whether all others have shown certificates that are good now.
    fn others_renewed(&self, hosts: &Hosts) -> bool {
        let Some(ctx) = hosts.stage.coordinator() else { return false };
        let (root, now) = (ctx.state.snapshot(), hosts.stage.clock.seconds());
        let shown = |machine: &Arc<Machine>| {
            let member = root.identities.members.get(&format!("agent/{}", machine.node));
            member.is_some_and(|member| member.shown_until > now)
        };
        hosts.machines().iter().filter(|machine| machine.instance != self.machine.instance).all(shown)
    }

    /// It was not let in, and is named; then the operator gives its machine up, and another one takes its place.
    fn told(&self, hosts: &Hosts, back: i64) -> bool {
        let (stage, node) = (&hosts.stage, &self.machine.node);
        let Some(ctx) = stage.coordinator() else { return false };
        let Ok(published) = ctx.current() else { return false };
        let (Ok(status), Ok(view)) = (status::of(&ctx), ctx.local.node(node)) else { return false };
        if ctx.hub.connected(node) || view.seen >= back {
            stage.breaks("a node that was off too long is not let in by itself", node.as_str());
        }
        let in_service = published.blueprint.nodes.get(node).is_some_and(|plan| plan.state == NodeState::InService);
        let named = status.nodes.iter().any(|told| told.name == *node && told.state == NodeLife::Silent);
        if in_service && (!named || status.as_written) {
            stage.breaks("a node that is not let in is named", status.text());
        }
        stage.tell(format!("the operator gives {node} up"));
        stage.lost.lock().unwrap().insert(self.machine.instance.clone());
        stage.cloud.fake.lose(node);
        true
    }
}

//! What the coordinator tells, as `muster status` has it, against the machines: what it does not know it calls unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use muster_coordinator::{
    context::Context,
    status::{self, NodeLife},
};
use muster_ids::NodeName;

use crate::hosts::Hosts;

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(500);
/// A stream that leads nowhere is closed after six seconds, and a node may be without one for four.
const NOTICED: Duration = Duration::from_secs(15);

/// What was seen before.
#[derive(Default)]
pub struct Told {
    asked: Duration,
    /// When a node's machine was last on and had its way to the coordinator.
    spoke: BTreeMap<NodeName, Duration>,
    /// Since when it is on and has it, without a break.
    open: BTreeMap<NodeName, Duration>,
}

impl Told {
    /// `cut` are the addresses that have no way to the coordinator just now.
    pub fn hold(&mut self, hosts: &Hosts, ctx: &Context, cut: &BTreeSet<IpAddr>) {
        let stage = &*hosts.stage;
        let now = stage.clock.elapsed();
        let machines = hosts.machines();
        for machine in &machines {
            if hosts.on(machine) && !cut.contains(&machine.address) {
                self.spoke.insert(machine.node.clone(), now);
                self.open.entry(machine.node.clone()).or_insert(now);
            } else {
                self.open.remove(&machine.node);
            }
        }
        if now < self.asked + EVERY {
            return;
        }
        self.asked = now;
        let Ok(status) = status::of(ctx) else { return };
        let written = |state| state == NodeLife::Written;
        for node in status.nodes.iter().filter(|node| written(node.state)) {
            let spoke = self.spoke.get(&node.name).copied().unwrap_or_default();
            if now > spoke + NOTICED {
                let text = format!("{} had no word for {} s", node.name, (now - spoke).as_secs());
                stage.breaks("what is not heard is not told to be as written", text);
            }
            let applied = machines.iter().find(|machine| machine.node == node.name).and_then(|of| of.generation());
            // What it began while it had no way it tells first when it has one.
            let heard = self.open.get(&node.name).is_some_and(|open| now > *open + NOTICED);
            if spoke == now && heard && applied != Some(node.wanted) {
                let text = format!("{} is told to have {}, and began {applied:?}", node.name, node.wanted);
                stage.breaks("a report counts for its own generation alone", text);
            }
        }
        if !status.as_written {
            return;
        }
        let unknown: Vec<_> = status.nodes.iter().filter(|node| !written(node.state)).collect();
        if !unknown.is_empty() || (status.born && status.control_plane.is_none()) {
            stage.breaks("what nobody knows is not as written", status.text());
        }
    }
}

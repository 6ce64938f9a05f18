//! Scenario scripts with golden output: `tests/scenarios/*.txt`, one command a line.
//!
//! After every `plan`: planning again changes nothing, and the checker is clean. A command that a script misspells is
//! an error, not a comment.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use common::World;
use muster_ids::{Digest, NodeName};
use muster_planner::{AddressTaken, Blueprint, addresses_taken, check_seen, may_disrupt, rows};

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "scripts are missing from {}", folder.display());
    for path in scripts {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let output = run(&name, &fs::read_to_string(&path).unwrap());
        insta::with_settings!({ snapshot_path => "scenarios/golden", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, output);
        });
    }
}

struct Session {
    world: World,
    backups: BTreeMap<String, World>,
    output: String,
}

fn run(name: &str, script: &str) -> String {
    let mut session = Session { world: World::new(), backups: BTreeMap::new(), output: String::new() };
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            writeln!(session.output, "{line}").unwrap();
            continue;
        }
        writeln!(session.output, "> {line}").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        session.command(&words).unwrap_or_else(|| panic!("{name}.txt:{}: `{line}` is no command", number + 1));
    }
    session.output
}

impl Session {
    fn say(&mut self, text: impl std::fmt::Display) {
        writeln!(self.output, "    {text}").unwrap();
    }

    fn command(&mut self, words: &[&str]) -> Option<()> {
        let world = &mut self.world;
        match *words {
            ["pool", name, "gone"] => {
                world.policy.pools.remove(&name.parse().ok()?)?;
            }
            ["pool", name, count] => world.pool(name, count.parse().ok()?),
            ["disrupt", name, budget] => {
                world.policy.pools.get_mut(&name.parse().ok()?)?.disrupt = budget.parse().ok()?;
            }
            ["endpoint", name, "gone"] => drop(world.policy.endpoints.remove(&name.parse().ok()?)?),
            ["endpoint", name, "to", pool, "listen", listen, "port", port, "check", check] => {
                world.endpoint(name, pool, listen.parse().ok()?, port.parse().ok()?, check);
            }
            ["endpoint", name, "at", address] => {
                world.policy.endpoints.get_mut(&name.parse().ok()?)?.address = Some(address.parse().ok()?);
            }
            ["endpoint", name, "anywhere"] => {
                world.policy.endpoints.get_mut(&name.parse().ok()?)?.address = None;
            }
            ["disk", name, "gone"] => drop(world.policy.disks.remove(&name.parse().ok()?)?),
            ["disk", name, "in", pool, gib] => world.disk(name, pool, gib.parse::<u64>().ok()? << 30),
            ["set", name] => drop(world.policy.sets.insert(name.to_owned())),
            ["set", name, "gone"] => drop(world.policy.sets.take(name)?),
            ["image", image] => world.policy.node_image = image.to_owned(),
            ["site", text] => world.policy.site = Digest::of(text),
            ["subnet", subnet] => world.policy.subnet = subnet.parse().ok()?,
            ["pods", pods] => world.policy.pods = pods.parse().ok()?,
            ["read"] => world.read(true),
            ["read", "partial"] => world.read(false),
            ["born"] => world.cluster().born = true,
            ["ready", ref nodes @ ..] => {
                let nodes: Option<Vec<NodeName>> = nodes.iter().map(|node| node.parse().ok()).collect();
                world.cluster().ready.extend(nodes?);
            }
            ["unready", node] => {
                world.cluster().ready.remove(&node.parse().ok()?);
            }
            ["left", node] => world.leave(&node.parse().ok()?),
            ["revoke", node] => drop(world.revoked.insert(node.parse().ok()?)),
            ["stop", node] => {
                world.truth.instances.get_mut(&node.parse().ok()?)?.running = false;
            }
            ["lose", node] => world.lose(&node.parse().ok()?),
            ["lose", "disk", disk] => drop(world.truth.disks.remove(&disk.parse().ok()?)),
            ["backup"] => drop(self.backups.insert(String::new(), world.clone())),
            ["backup", name] => drop(self.backups.insert(name.to_owned(), world.clone())),
            ["restore"] => self.restore("")?,
            ["restore", name] => self.restore(name)?,
            ["plan"] => self.plan(),
            ["show"] => self.show()?,
            ["execute"] => self.execute(),
            ["settle"] => self.settle(),
            ["orphans"] => self.orphans()?,
            ["taken"] => self.taken()?,
            ["turn", node, ref holders @ ..] => self.turn(node, holders)?,
            _ => return None,
        }
        Some(())
    }

    fn plan(&mut self) {
        let parent = self.world.blueprint.clone();
        let (next, report) = self.world.plan();
        let generation = match &parent {
            Some(parent) if *parent == next => format!("{} as before", next.generation),
            Some(parent) => format!("{} → {}", parent.generation, next.generation),
            None => format!("{} is the first", next.generation),
        };
        self.say(format_args!("blueprint {generation}"));
        for did in report.did() {
            self.say(did);
        }
        for waits in report.waits() {
            self.say(format_args!("… {waits}"));
        }
        for note in &report.notes {
            self.say(format_args!("({note})"));
        }
        for row in rows(self.world.input(parent.as_ref()), &next) {
            self.say(format_args!("  {row}"));
        }
        let findings = self.world.findings(parent.as_ref());
        assert!(findings.is_empty(), "the checker finds: {findings:?}\n{}", self.output);
    }

    fn show(&mut self) -> Option<()> {
        let blueprint: Blueprint = self.world.blueprint.clone()?;
        for (name, node) in &blueprint.nodes {
            let state = serde_json::to_string(&node.state).ok()?;
            let (init, disks) = (if node.init { " init" } else { "" }, node.disks.len());
            let disks = if disks > 0 { format!(" {disks} disk") } else { String::new() };
            self.say(format_args!(
                "{name} {} {} {} #{} {}{init}{disks}",
                node.address,
                node.pods,
                state.trim_matches('"'),
                node.incarnation,
                node.image
            ));
        }
        for (name, balancer) in &blueprint.load_balancers {
            let targets: Vec<_> = balancer.targets.values().map(ToString::to_string).collect();
            self.say(format_args!("{name} {}:{} to {}", balancer.address, balancer.listen, targets.join(" ")));
        }
        for (name, disk) in &blueprint.disks {
            self.say(format_args!("disk {name} on {}", disk.node));
        }
        let sets = blueprint.sets.iter().map(|set| format!("set {set}"));
        for line in sets.chain(blueprint.left_sets.iter().map(|set| format!("set {set} left"))) {
            self.say(line);
        }
        Some(())
    }

    fn execute(&mut self) {
        let steps = self.world.execute();
        if steps.is_empty() {
            self.say("nothing to do");
        }
        for step in steps {
            self.say(step);
        }
    }

    fn settle(&mut self) {
        let rounds = self.world.settle();
        self.say(format_args!("settled in {rounds} rounds"));
    }

    /// The site goes back with the coordinator's memory.
    fn restore(&mut self, name: &str) -> Option<()> {
        let backup = self.backups.get(name)?;
        self.world.restore(backup);
        self.world.policy.clone_from(&backup.policy);
        Some(())
    }

    fn orphans(&mut self) -> Option<()> {
        let findings = check_seen(self.world.blueprint.as_ref()?, &self.world.seen.latest);
        if findings.is_empty() {
            self.say("none");
        }
        for finding in findings {
            self.say(finding);
        }
        Some(())
    }

    fn taken(&mut self) -> Option<()> {
        let taken = addresses_taken(&self.world.policy, self.world.blueprint.as_ref()?);
        if taken.is_empty() {
            self.say("none");
        }
        for AddressTaken { endpoint, address, holder, free } in taken {
            self.say(format_args!("{address} of {endpoint} is {holder}'s; free: {free:?}"));
        }
        Some(())
    }

    fn turn(&mut self, node: &str, holders: &[&str]) -> Option<()> {
        let holders: Option<BTreeSet<NodeName>> = holders.iter().map(|node| node.parse().ok()).collect();
        let (world, node) = (&self.world, node.parse().ok()?);
        let ready = &world.seen.cluster.ready;
        let turn = may_disrupt(&node, world.blueprint.as_ref()?, &world.policy, &holders?, ready);
        let text = match turn {
            muster_planner::Turn::Granted => "granted".to_owned(),
            muster_planner::Turn::Held { .. } | muster_planner::Turn::Quorum { .. } | muster_planner::Turn::Unknown => {
                format!("waits for {turn}")
            }
        };
        self.say(text);
        Some(())
    }
}

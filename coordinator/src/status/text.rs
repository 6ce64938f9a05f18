//! The status in words.

use std::fmt::Write as _;

use super::{NodeLife, NodeStatus, RolloutStatus, Status};
use crate::{plan::ago, state::RolloutState};

impl NodeLife {
    /// As people read it.
    pub fn text(self) -> &'static str {
        match self {
            NodeLife::Planned => "planned",
            NodeLife::Booting => "booting",
            NodeLife::Converging => "converging",
            NodeLife::Written => "as written",
            NodeLife::Unready => "not ready",
            NodeLife::Failing => "failing",
            NodeLife::Paused => "paused",
            NodeLife::Silent => "silent",
            NodeLife::Draining => "draining",
            NodeLife::Revoked => "revoked",
            NodeLife::Retired => "retired",
        }
    }
}

impl Status {
    /// The whole status, ending with a new line.
    pub fn text(&self) -> String {
        let mut out = format!("{}/{}", self.cluster, self.environment);
        if let Some(kubernetes) = &self.kubernetes {
            _ = write!(out, " · Kubernetes {kubernetes}");
        }
        match (&self.catalog, self.generation) {
            (Some(catalog), Some(generation)) => {
                let all = if self.written() { "everything as written".to_owned() } else { self.progress() };
                _ = writeln!(out, " · catalog {catalog} · generation {generation} · {all}");
            }
            _ => _ = writeln!(out, " · nothing has been applied yet"),
        }
        out.push('\n');
        for pool in &self.pools {
            let (cpu, memory) = self.usage(&pool.name);
            let mut counts = format!("{} of {} ready", pool.ready, pool.wanted);
            if pool.takes_pods != pool.ready {
                let take = if pool.takes_pods == 1 { "takes" } else { "take" };
                _ = write!(counts, ", {} {take} new pods", pool.takes_pods);
            }
            _ = writeln!(out, "{:<16} {counts:<14} {cpu:<10} {memory}", pool.name.to_string());
        }
        for endpoint in &self.endpoints {
            let ok = if endpoint.ok { "ok" } else { "not ready" };
            let (name, url) = (&endpoint.name, &endpoint.url);
            _ = write!(out, "{:<16} {name} {url} {ok} ({} of {})", "endpoint", endpoint.ready, endpoint.targets);
            let trouble = endpoint.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
            _ = writeln!(out, "{trouble}");
        }
        for app in &self.apps {
            if let Some(url) = &app.url {
                _ = writeln!(out, "{:<16} {} {url}", "application", app.name);
            }
        }
        for turn in &self.turns {
            _ = writeln!(out, "{:<16} {} has the turn {}: {}", "turns", turn.node, turn.turn, turn.reason);
        }
        if let Some(rollout) = &self.rollout {
            _ = writeln!(out, "{:<16} {}", "only", rollout.text());
        }
        for node in &self.nodes {
            for line in self.remarks(node) {
                _ = writeln!(out, "{:<16} {}: {line}", "node", node.name);
            }
        }
        for trouble in self.cluster_troubles() {
            _ = writeln!(out, "{:<16} {trouble}", "cluster");
        }
        for workload in &self.workloads {
            _ = writeln!(out, "{:<16} {workload}", "rolls out");
            if let Some(why) = &workload.why {
                _ = writeln!(out, "{:<16}   {why}", "");
            }
        }
        for wait in &self.waits {
            _ = writeln!(out, "{:<16} {wait}", "waits");
        }
        for problem in &self.failing {
            _ = writeln!(out, "{:<16} {}: {}", "failing", problem.what, problem.text);
            if let Some(help) = &problem.help {
                _ = writeln!(out, "{:<16}   help: {help}", "");
            }
        }
        out
    }

    /// What is wrong with the cluster's own parts and is no one node's.
    fn cluster_troubles(&self) -> Vec<String> {
        match &self.control_plane {
            Some(seen) => {
                let ours = |of: &Option<muster_ids::NodeName>| {
                    of.as_ref().is_some_and(|of| self.nodes.iter().any(|node| node.name == *of))
                };
                let troubles = seen.troubles().into_iter().filter(|(of, _)| !ours(of));
                troubles.map(|(of, text)| of.map_or(text.clone(), |of| format!("{of}: {text}"))).collect()
            }
            None if self.born => {
                vec!["no control plane tells how the cluster is: none leads, or none was heard lately".to_owned()]
            }
            None => vec![],
        }
    }

    /// What is worth a line of its own: trouble, drift, silence.
    fn remarks(&self, node: &NodeStatus) -> Vec<String> {
        let mut lines = Vec::new();
        match node.state {
            NodeLife::Silent => {
                let seen = node
                    .last_seen
                    .map_or("never seen".to_owned(), |seen| format!("last seen {} ago", ago(self.time - seen)));
                lines.push(format!("silent, {seen}"));
            }
            NodeLife::Planned
            | NodeLife::Booting
            | NodeLife::Converging
            | NodeLife::Written
            | NodeLife::Unready
            | NodeLife::Failing
            | NodeLife::Paused
            | NodeLife::Draining
            | NodeLife::Retired => {}
            NodeLife::Revoked => {
                lines.push("revoked: it is taken out of the cluster, and its machine stopped".to_owned())
            }
        }
        if node.locked_out.is_some() {
            lines.push(format!(
                "off for more than 30 days, its certificate cannot be renewed; where it runs: muster node readmit {}",
                node.name
            ));
        }
        let lives =
            matches!(node.state, NodeLife::Unready | NodeLife::Failing | NodeLife::Converging | NodeLife::Paused);
        if lives && let Some(why) = &node.unready {
            lines.push(format!("not ready: {why}"));
        }
        if node.cordoned {
            lines.push("takes no new pods (cordoned)".to_owned());
        }
        if let Some(pause) = &node.paused {
            let left = ago(pause.until - self.time);
            lines.push(format!("paused by {} for another {left}: {}", pause.by, pause.reason));
        }
        for problem in node.problems.iter().filter(|problem| problem.fails) {
            let help = problem.help.as_ref().map_or(String::new(), |help| format!("\n{:<18} help: {help}", ""));
            lines.push(format!("{}: {}{help}", problem.what, problem.text));
        }
        if !node.drift.is_empty() {
            let when = node.last_converge.map_or(String::new(), |time| format!(" {} ago", ago(self.time - time)));
            lines.push(format!("drift: {} was changed on the node, put back{when}", node.drift.join(", ")));
        }
        lines
    }

    /// One line for people who wait.
    pub fn progress(&self) -> String {
        if self.generation.is_none() {
            return "nothing has been applied yet".to_owned();
        }
        let ready = self.nodes.iter().filter(|node| node.ready).count();
        let mut parts = vec![format!("{ready} of {} nodes ready", self.nodes.len())];
        parts.extend(self.rollout.as_ref().map(RolloutStatus::text));
        for node in self.nodes.iter().filter(|node| !(node.ready && node.converged)) {
            parts.push(format!("{}: {}", node.name, node.doing()));
        }
        parts.extend(self.failing.iter().map(|problem| format!("{}: {}", problem.what, problem.text)));
        if self.nodes.iter().all(|node| node.ready && node.converged) {
            parts.extend(self.workloads.iter().map(ToString::to_string));
            parts.extend(self.cluster_troubles());
            let troubles =
                self.endpoints.iter().filter_map(|endpoint| Some((&endpoint.name, endpoint.trouble.as_ref()?)));
            parts.extend(troubles.map(|(name, trouble)| format!("endpoint {name}: {trouble}")));
            parts.extend(self.waits.iter().cloned());
            if !self.settled {
                parts.push("the provider is being put right".to_owned());
            }
        }
        parts.join("; ")
    }

    fn usage(&self, pool: &muster_ids::PoolName) -> (String, String) {
        let (mut cpu, mut cpus, mut memory, mut total) = (0, 0, 0, 0);
        for usage in self.nodes.iter().filter(|node| node.pool == *pool).filter_map(|node| node.usage) {
            cpu += usage.cpu_used_milli;
            cpus += usage.cpu_total_milli;
            memory += usage.memory_used;
            total += usage.memory_total;
        }
        let share = |part: u64, whole: u64| (part * 100).checked_div(whole);
        let text = |name: &str, share: Option<u64>| share.map_or(String::new(), |share| format!("{name} {share} %"));
        (text("cpu", share(cpu, cpus)), text("memory", share(memory, total)))
    }
}

impl RolloutStatus {
    /// One line: what is tried where, and how that goes.
    pub(super) fn text(&self) -> String {
        let state = match &self.state {
            RolloutState::Trying => "is being tried; the other nodes and the cluster's objects wait".to_owned(),
            RolloutState::Stopped { why } => format!("failed and goes no further: {why}"),
        };
        format!("catalog {} on {} {state}", self.catalog, self.only)
    }
}

impl NodeStatus {
    /// The columns of `muster nodes`.
    pub const HEAD: [&'static str; 7] = ["NODE", "POOL", "ADDRESS", "READY", "STATE", "GENERATION", "SEEN"];

    /// One line of `muster nodes`.
    pub fn cells(&self) -> Vec<String> {
        let generation = self.generation.map_or("-".to_owned(), |has| {
            if has == self.wanted { has.to_string() } else { format!("{has} → {}", self.wanted) }
        });
        let seen =
            if self.connected { "connected".to_owned() } else { self.last_seen.map_or("never".to_owned(), clock) };
        vec![
            self.name.to_string(),
            self.pool.to_string(),
            self.address.clone(),
            if self.ready { "yes" } else { "no" }.to_owned(),
            self.state.text().to_owned(),
            generation,
            seen,
        ]
    }

    /// What it is busy with, in a few words.
    fn doing(&self) -> String {
        match self.state {
            NodeLife::Converging | NodeLife::Failing => match self.problems.first() {
                Some(problem) => format!("{} {}", problem.what, problem.text),
                None if self.generation != Some(self.wanted) => "converging".to_owned(),
                None => "not ready yet".to_owned(),
            },
            NodeLife::Written => "not ready yet".to_owned(),
            NodeLife::Unready => match &self.unready {
                Some(why) => format!("not ready: {why}"),
                None => "not ready yet".to_owned(),
            },
            NodeLife::Planned
            | NodeLife::Booting
            | NodeLife::Paused
            | NodeLife::Silent
            | NodeLife::Draining
            | NodeLife::Revoked
            | NodeLife::Retired => self.state.text().to_owned(),
        }
    }

    /// Why it is not as it should be: every step that is not done, with error and help.
    pub fn why(&self) -> String {
        let mut out = String::new();
        let generation = self.generation.map_or("none".to_owned(), |generation| generation.to_string());
        _ = writeln!(
            out,
            "{} is {}{}",
            self.name,
            self.state.text(),
            if self.ready { " and ready" } else { " and not ready" }
        );
        if let Some(why) = &self.unready {
            _ = writeln!(out, "  not ready   {why}");
        }
        if let Some(since) = self.locked_out {
            _ = writeln!(
                out,
                "  locked out  since {}: its certificate cannot be renewed; where it runs: muster node readmit {}",
                clock(since),
                self.name
            );
        }
        if self.cordoned {
            _ = writeln!(out, "  cordoned    it takes no new pods");
        }
        _ = writeln!(out, "  generation  {generation}, wanted {}", self.wanted);
        let seen = if self.connected {
            "now: it is connected".to_owned()
        } else {
            self.last_seen.map_or("never".to_owned(), clock)
        };
        _ = writeln!(out, "  seen        {seen}");
        _ = writeln!(out, "  steps       {} already right, {} changed", self.already_right, self.changed);
        if let Some(pause) = &self.paused {
            _ = writeln!(out, "  paused      until {} by {}: {}", clock(pause.until), pause.by, pause.reason);
        }
        for problem in &self.problems {
            let kind = if problem.fails { "fails" } else { "waits" };
            _ = writeln!(out, "  {kind:<11} {}: {}", problem.what, problem.text);
            if let Some(help) = &problem.help {
                _ = writeln!(out, "              help: {help}");
            }
        }
        for drift in &self.drift {
            _ = writeln!(out, "  drift       {drift} was changed on the node and put back");
        }
        out
    }
}

fn clock(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

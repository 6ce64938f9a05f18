//! When a wait for a converge ends: what is heard and the time go in, the verdict comes out.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use muster_ids::NodeName;

use crate::status::{NodeLife, NodeStatus, Outlook, Status, Stuck};

/// A verdict that leaves nodes out must hold this long: an agent that is started anew says nothing for a moment, and one
/// that has failed may be about to report better.
const HOLDS: Duration = Duration::from_secs(5);
/// Patience with the other nodes where one has failed for good: what they wait for may be that one.
const LITTLE: Duration = Duration::from_secs(60);

/// What silent nodes are to a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silent {
    /// They boot, and are waited for.
    Boot,
    /// They follow when they are back: said, not waited for. Only those that were silent from the start; one that falls
    /// silent later may have done so because of what was applied.
    Aside,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Good {
        /// A sentence for each node that was not waited for.
        aside: Vec<String>,
    },
    Wait {
        /// How far it is.
        told: String,
    },
    Stuck {
        /// For people, with help lines.
        error: String,
    },
}

/// One wait.
pub struct Wait {
    patience: Duration,
    silent: Silent,
    /// What was applied, and is waited for; absent: whatever nodes follow.
    catalog: Option<String>,
    /// The nodes that were silent at first; absent until the first answer.
    at_first: Option<BTreeSet<NodeName>>,
    moved: Instant,
    /// Since when something will not pass by itself.
    lasting: Option<Instant>,
    told: String,
    /// The verdict that would end this, and since when it is the same.
    holds: Option<(Next, Instant)>,
}

impl Wait {
    pub fn new(patience: Duration, silent: Silent, now: Instant) -> Self {
        Self {
            patience,
            silent,
            catalog: None,
            at_first: None,
            moved: now,
            lasting: None,
            told: String::new(),
            holds: None,
        }
    }

    /// A wait for what was applied: another apply that takes its place ends it.
    pub fn of(self, catalog: &str) -> Self {
        Self { catalog: Some(catalog.to_owned()), ..self }
    }

    /// Who applied what instead of what is waited for.
    fn overtaken(&self, status: &Status) -> Option<String> {
        let ours = self.catalog.as_ref()?;
        let tried = status.rollout.as_ref().is_some_and(|rollout| rollout.catalog == *ours);
        if status.catalog.as_ref() == Some(ours) || tried {
            return None;
        }
        let (catalog, generation) = (status.catalog.as_ref()?, status.generation?);
        let by = status.applied_by.as_deref().unwrap_or("another operator");
        Some(format!(
            "overtaken: {by} applied catalog {catalog} meanwhile, and nodes follow it as generation {generation}\n  help: muster status --watch; where catalog {ours} is still wanted, muster plan and apply it anew"
        ))
    }

    /// Takes one answer of the coordinator, or that there was none.
    pub fn heard(&mut self, asked: Result<&Status, &anyhow::Error>, now: Instant) -> Next {
        let (end, told, lasting) = match asked {
            Ok(status) => {
                if let Some(error) = self.overtaken(status) {
                    return Next::Stuck { error };
                }
                let aside = self.aside(status);
                let (end, lasting) = match status.outlook(&aside) {
                    Outlook::Written { aside } if aside.is_empty() => return Next::Good { aside: vec![] },
                    Outlook::Written { .. } => (Some(Next::Good { aside: sentences(status, &aside) }), false),
                    Outlook::Stuck(Stuck::Rollout { why }) => return Next::Stuck { error: rollout(&why) },
                    Outlook::Stuck(Stuck::Nodes(problems)) => {
                        let problems = problems
                            .iter()
                            .map(|((what, text, help), nodes)| problem(nodes, what, text, help.as_deref()));
                        (Some(Next::Stuck { error: failed(&problems.collect::<Vec<_>>()) }), true)
                    }
                    Outlook::Moving { lasting } => (None, lasting),
                };
                (end, status.progress(), lasting)
            }
            Err(error) => {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                (None, format!("waiting for the coordinator: {first}"), false)
            }
        };
        if let Some(end) = self.held(end, now) {
            return end;
        }
        if told != self.told {
            (self.moved, self.told) = (now, told.clone());
        }
        self.lasting = lasting.then(|| self.lasting.unwrap_or(now));
        // How long it stood still before that is another matter.
        let little = self.lasting.map(|since| (LITTLE, since.max(self.moved)));
        for (patience, since) in little.into_iter().chain([(self.patience, self.moved)]) {
            if now.duration_since(since) > patience {
                return Next::Stuck { error: no_movement(patience, &told, asked) };
            }
        }
        Next::Wait { told }
    }

    /// The verdict, once it was the same for long enough.
    fn held(&mut self, end: Option<Next>, now: Instant) -> Option<Next> {
        let Some(end) = end else {
            self.holds = None;
            return None;
        };
        match &self.holds {
            Some((same, since)) if *same == end => (now.duration_since(*since) >= HOLDS).then_some(end),
            Some(_) | None => {
                self.holds = Some((end, now));
                None
            }
        }
    }

    fn aside(&mut self, status: &Status) -> BTreeSet<NodeName> {
        let all_of = |state| {
            let nodes = status.nodes.iter().filter(move |node| node.state == state);
            nodes.map(|node| node.name.clone()).collect::<BTreeSet<_>>()
        };
        let (silent, mut aside) = (all_of(NodeLife::Silent), all_of(NodeLife::Paused));
        let at_first = self.at_first.get_or_insert_with(|| silent.clone());
        match self.silent {
            Silent::Boot => {}
            Silent::Aside => aside.extend(silent.intersection(at_first).cloned()),
        }
        aside
    }
}

fn sentences(status: &Status, aside: &BTreeSet<NodeName>) -> Vec<String> {
    let sentence = |node: &NodeStatus| match &node.paused {
        Some(pause) => format!("{} is paused ({}): it follows when the pause ends", node.name, pause.reason),
        None => format!("{} did not answer: it follows when it is back", node.name),
    };
    status.nodes.iter().filter(|node| aside.contains(&node.name)).map(sentence).collect()
}

fn problem(nodes: &[NodeName], what: &str, text: &str, help: Option<&str>) -> String {
    let nodes = nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>().join(", ");
    let help = help.map_or(String::new(), |help| format!("\n  help: {help}"));
    format!("{nodes}: {what}: {text}{help}")
}

fn failed(problems: &[String]) -> String {
    let next = "mend the site and apply it again, or mend the node: it tries again at its next converge";
    format!("this will not pass by itself:\n{}\n  help: {next}", problems.join("\n"))
}

fn rollout(why: &str) -> String {
    format!("{why}\n  help: mend the site and apply it again; the other nodes are as they were")
}

fn no_movement(patience: Duration, told: &str, asked: Result<&Status, &anyhow::Error>) -> String {
    let all = asked.map_or_else(ToString::to_string, Status::text);
    let seconds = patience.as_secs();
    format!(
        "nothing moved for {seconds} s: {told}\n{all}\n  help: muster node why NODE; muster events; run this command again to go on"
    )
}

#[cfg(test)]
mod tests {
    use muster_plan::Workload;

    use super::*;
    use crate::{
        state::{Pause, RolloutState},
        status::{
            Problem, RolloutStatus,
            fixture::{node, status},
        },
    };

    /// Feeds the same status for so many seconds, ten times a second, and tells what came last.
    fn after(seconds: u64, wait: &mut Wait, began: Instant, status: &Status) -> Next {
        let mut last = None;
        for tick in 0..=seconds * 10 {
            let next = wait.heard(Ok(status), began + Duration::from_millis(tick * 100));
            if !matches!(next, Next::Wait { .. }) {
                return next;
            }
            last = Some(next);
        }
        last.unwrap()
    }

    fn waits(next: &Next) -> bool {
        matches!(next, Next::Wait { .. })
    }

    fn wait(silent: Silent) -> (Wait, Instant) {
        let began = Instant::now();
        (Wait::new(Duration::from_secs(300), silent, began), began)
    }

    fn fails(name: &str, lasting: bool) -> NodeStatus {
        let problem = Problem {
            what: "package.nosuch".to_owned(),
            text: "there is no package nosuch".to_owned(),
            help: Some("check the name".to_owned()),
            fails: true,
            lasting,
        };
        NodeStatus { problems: vec![problem], ..node(name, NodeLife::Failing) }
    }

    #[test]
    fn what_is_written_ends_at_once() {
        let (mut wait, began) = wait(Silent::Aside);
        assert_eq!(wait.heard(Ok(&status()), began), Next::Good { aside: vec![] });
    }

    #[test]
    fn what_will_not_pass_ends_within_seconds_with_problem_and_help() {
        for silent in [Silent::Aside, Silent::Boot] {
            let mut status = status();
            (status.nodes[1], status.nodes[2]) = (fails("workers-1", true), fails("workers-2", true));
            let (mut wait, began) = wait(silent);
            assert!(waits(&after(4, &mut wait, began, &status)), "a report may be overtaken by a better one");
            let Next::Stuck { error } = after(6, &mut wait, began, &status) else { panic!("it waits") };
            assert!(error.contains("workers-1, workers-2: package.nosuch: there is no package"), "{error}");
            assert!(error.contains("help: check the name"), "{error}");
        }
    }

    #[test]
    fn what_is_tried_again_is_waited_for() {
        let mut status = status();
        status.nodes[1] = fails("workers-1", false);
        let (mut first, began) = wait(Silent::Boot);
        assert!(waits(&after(120, &mut first, began, &status)));
        // What fails for good beside it may come from it.
        status.nodes[1].problems.extend(fails("workers-1", true).problems);
        let (mut second, began) = wait(Silent::Boot);
        assert!(waits(&after(120, &mut second, began, &status)));
    }

    #[test]
    fn a_failure_of_an_older_generation_is_no_verdict() {
        let mut status = status();
        status.nodes[1] = fails("workers-1", true);
        status.nodes[1].wanted.counter += 1;
        let (mut wait, began) = wait(Silent::Aside);
        assert!(waits(&after(120, &mut wait, began, &status)));
    }

    #[test]
    fn what_will_not_pass_has_its_minute_from_when_it_began() {
        let mut status = status();
        let web = |lasting| Workload {
            name: "shop/web".to_owned(),
            open: "1 of 2 pods are available".to_owned(),
            why: None,
            lasting,
        };
        status.workloads = vec![web(false)];
        let (mut wait, began) = wait(Silent::Boot);
        assert!(waits(&after(200, &mut wait, began, &status)), "an image may be large");
        status.workloads = vec![web(true)];
        assert!(waits(&after(55, &mut wait, began + Duration::from_secs(200), &status)));
        let Next::Stuck { error } = after(10, &mut wait, began + Duration::from_secs(255), &status) else {
            panic!("it waits")
        };
        assert!(error.starts_with("nothing moved for 60 s"), "{error}");
    }

    #[test]
    fn others_that_move_are_waited_for_and_others_that_do_not_only_for_a_minute() {
        let mut status = status();
        status.nodes[1] = fails("workers-1", true);
        status.nodes[2] = node("workers-2", NodeLife::Converging);
        let (mut wait, began) = wait(Silent::Boot);
        assert!(waits(&after(55, &mut wait, began, &status)));
        status.nodes[2].state = NodeLife::Booting;
        assert!(waits(&after(55, &mut wait, began + Duration::from_secs(55), &status)));
        let ended = after(70, &mut wait, began + Duration::from_secs(110), &status);
        assert!(matches!(ended, Next::Stuck { .. }), "{ended:?}");
    }

    #[test]
    fn a_node_that_is_silent_or_paused_is_said_and_not_waited_for() {
        let mut status = status();
        status.nodes[1] = node("workers-1", NodeLife::Silent);
        let pause = Pause { until: 13_600, reason: "disk".to_owned(), by: "dana".to_owned() };
        status.nodes[2] = NodeStatus { paused: Some(pause), ..node("workers-2", NodeLife::Paused) };
        status.waits = vec!["pool workers waits for workers-1 to be Ready".to_owned()];
        let (mut apply, began) = wait(Silent::Aside);
        let aside = vec![
            "workers-1 did not answer: it follows when it is back".to_owned(),
            "workers-2 is paused (disk): it follows when the pause ends".to_owned(),
        ];
        assert_eq!(after(6, &mut apply, began, &status), Next::Good { aside });
        let (mut up, began) = wait(Silent::Boot);
        assert!(waits(&after(290, &mut up, began, &status)), "it boots");
        status.waits = vec!["pool workers waits for workers-11 to be Ready".to_owned()];
        let (mut apply, began) = wait(Silent::Aside);
        assert!(waits(&after(60, &mut apply, began, &status)), "that is another node");
    }

    #[test]
    fn a_node_that_falls_silent_in_between_is_waited_for() {
        let mut status = status();
        let (mut wait, began) = wait(Silent::Aside);
        status.nodes[1] = node("workers-1", NodeLife::Converging);
        assert!(waits(&after(1, &mut wait, began, &status)));
        status.nodes[1] = node("workers-1", NodeLife::Silent);
        assert!(waits(&after(60, &mut wait, began, &status)));
    }

    #[test]
    fn a_try_that_was_stopped_ends_at_once() {
        let mut status = status();
        let rollout = |state| RolloutStatus { only: "workers-1".parse().unwrap(), catalog: "9c02de".to_owned(), state };
        status.rollout = Some(rollout(RolloutState::Trying));
        let (mut wait, began) = wait(Silent::Aside);
        let Next::Wait { told } = after(1, &mut wait, began, &status) else { panic!("it ends") };
        assert!(told.contains("catalog 9c02de on workers-1 is being tried"), "{told}");
        status.rollout = Some(rollout(RolloutState::Stopped { why: "file./x: the disk is full".to_owned() }));
        let Next::Stuck { error } = wait.heard(Ok(&status), began + Duration::from_secs(2)) else { panic!("it waits") };
        assert!(error.contains("goes no further: file./x: the disk is full"), "{error}");
    }

    #[test]
    fn an_apply_that_is_overtaken_is_told_by_whom() {
        let (wait, began) = wait(Silent::Aside);
        let mut wait = wait.of("9c02de");
        let mut status = status();
        status.nodes[1] = node("workers-1", NodeLife::Converging);
        assert!(waits(&wait.heard(Ok(&status), began)));
        // It is tried on one node first: the others follow the old one.
        status.catalog = Some("old".to_owned());
        let rollout = |catalog: &str| RolloutStatus {
            only: "workers-1".parse().unwrap(),
            catalog: catalog.to_owned(),
            state: RolloutState::Trying,
        };
        status.rollout = Some(rollout("9c02de"));
        assert!(waits(&wait.heard(Ok(&status), began)));
        status.rollout = None;
        (status.catalog, status.applied_by) = (Some("41af07".to_owned()), Some("dana".to_owned()));
        let Next::Stuck { error } = wait.heard(Ok(&status), began) else { panic!("it waits") };
        assert!(error.starts_with("overtaken: dana applied catalog 41af07 meanwhile"), "{error}");
        assert!(error.contains("generation 1.41"), "{error}");
    }

    #[test]
    fn a_coordinator_that_is_away_is_waited_for_with_patience() {
        let away = anyhow::anyhow!("the coordinator does not answer");
        let (mut wait, began) = wait(Silent::Aside);
        assert!(waits(&wait.heard(Err(&away), began)));
        assert!(waits(&wait.heard(Err(&away), began + Duration::from_secs(299))));
        assert!(matches!(wait.heard(Err(&away), began + Duration::from_secs(302)), Next::Stuck { .. }));
    }
}

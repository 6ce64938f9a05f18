//! The agent killed after each of its calls that change something, kind by kind: the next converge ends as if nothing had been.
//!
//! On a node, by `kills/sweep.sh`: the agent runs under strace, which tells of each call and holds the agent for a moment after it, so
//! that `kills/at.sh` can kill it there, before the next one. What the next converge leaves is compared with what one leaves that was not
//! killed: files with their attributes, accounts, mounts, the ledger, and what the tools beneath say (`live` of a case).

use std::{env, fmt::Write as _};

use crate::lab::Lab;

/// For the node's `/root/kills`.
const SCRIPTS: [(&str, &str); 7] = [
    ("at.sh", include_str!("kills/at.sh")),
    ("calls", include_str!("kills/calls")),
    ("make.sh", include_str!("packages/make.sh")),
    ("repository.sh", include_str!("kills/repository.sh")),
    ("split.sh", include_str!("kills/split.sh")),
    ("state.py", include_str!("kills/state.py")),
    ("sweep.sh", include_str!("kills/sweep.sh")),
];

/// What one node does, while another one does its own.
const FIRST: [&str; 3] =
    [include_str!("kills/services.cases"), include_str!("kills/accounts.cases"), include_str!("kills/settings.cases")];
const SECOND: [&str; 3] =
    [include_str!("kills/files.cases"), include_str!("kills/mounts.cases"), include_str!("kills/packages.cases")];
/// With Docker.
const THIRD: [&str; 1] = [include_str!("kills/containers.cases")];

/// Which points are tried.
struct Points {
    /// Of each case, this many calls of the agent, and of the programs that it starts; 0 for all.
    agent: u32,
    programs: u32,
    /// Only these cases.
    only: Option<String>,
}

impl Points {
    /// `MUSTER_KILLS` is `all`, or cases, as in `mount,user`, of which all is tried.
    fn asked_for() -> Self {
        match env::var("MUSTER_KILLS") {
            Ok(all) if all == "all" => Self { agent: 0, programs: 60, only: None },
            Ok(only) => Self { agent: 0, programs: 60, only: Some(only) },
            Err(_) => Self { agent: 2, programs: 1, only: None },
        }
    }

    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|name| name == case))
    }
}

/// What was found on a node, in words; empty where nothing was.
fn sweep(cases: &[&str], points: &Points, prepare: fn(&Lab)) -> String {
    let names: Vec<&str> =
        cases.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("=== ")).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| points.wants(name)).collect();
    if names.is_empty() {
        return String::new();
    }
    let lab = Lab::start();
    lab.must(&["mkdir", "-p", "/root/kills"]);
    for (name, text) in SCRIPTS {
        lab.put(&format!("/root/kills/{name}"), text);
    }
    lab.put("/root/kills/all.cases", &cases.concat());
    lab.must(&["sh", "/root/kills/split.sh", "/root/kills/all.cases"]);
    prepare(&lab);
    let repository = format!("REPOSITORY=http://{}/debian", lab.server_address);
    let mut faults = String::new();
    for name in names {
        let (agent, programs) = (points.agent.to_string(), points.programs.to_string());
        let (status, out, err) =
            lab.run(&["env", &repository, "bash", "/root/kills/sweep.sh", name, &agent, &programs]);
        println!("{}", out.trim_end());
        if status != 0 {
            let _ = writeln!(faults, "{out}{err}");
        }
    }
    faults
}

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_killed_agent_is_as_if_it_had_not_been() {
    let points = &Points::asked_for();
    let faults: Vec<String> = std::thread::scope(|scope| {
        let docker: fn(&Lab) = |lab| drop(lab.applied(&crate::containers::docker(lab)));
        let sweeps = [
            scope.spawn(|| sweep(&FIRST, points, |_| ())),
            scope.spawn(move || sweep(&SECOND, points, |_| ()) + &sweep(&THIRD, points, docker)),
        ];
        sweeps.into_iter().map(|sweep| sweep.join().expect("a sweep ends")).collect()
    });
    let faults = faults.concat();
    assert!(faults.is_empty(), "{faults}");
}

//! Commands on a real node: what counts as their end, and what outlives the agent.

use std::time::Duration;

use muster_plan::{Certainty, Row};

use crate::lab::{Lab, failed};

#[test]
#[ignore = "needs Docker and MUSTER_ARTEFACTS; cargo xtask test asks for it"]
fn a_command_ends_when_it_itself_ends_and_runs_once_whatever_becomes_of_the_agent() {
    let lab = Lab::start();
    a_child_outlives_it(&lab);
    a_time_out_ends_all_of_it(&lab);
    a_terminal_is_not_asked(&lab);
    a_guard_that_cannot_be_run_is_an_error(&lab);
    a_guard_may_come_with_a_package(&lab);
    a_killed_agent_leaves_it_running_and_the_next_one_waits(&lab);
}

fn a_child_outlives_it(lab: &Lab) {
    let toml = r#"
[[command]]
name = "helper"
run = ["sh", "-c", "sleep 100000 & echo $! > /run/helper.pid; touch /run/helper.done"]
creates = "/run/helper.done"
timeout = 86400
"#;
    lab.applied(toml);
    lab.must(&["sh", "-c", "kill -0 $(cat /run/helper.pid)"]);
    lab.must(&["sh", "-c", "kill $(cat /run/helper.pid)"]);
}

fn a_time_out_ends_all_of_it(lab: &Lab) {
    let toml = r#"
[[command]]
name = "slow"
run = ["sh", "-c", "setsid sleep 100001 & sleep 100000 & echo $! > /run/slow.pid; echo so far; wait"]
creates = "/run/never"
timeout = 1
"#;
    let (status, report) = lab.apply(toml);
    let (error, help) = failed(&report, "command.slow");
    assert!(status == 4 && error.contains("did not end within 1 s") && error.contains("so far"), "{error}");
    assert!(help.contains("timeout"), "{help}");
    lab.wait("its child is gone", Duration::from_secs(60), || {
        lab.run(&["sh", "-c", "kill -0 $(cat /run/slow.pid)"]).0 != 0
    });
    assert_ne!(lab.run(&["pgrep", "--full", "sleep 100001"]).0, 0, "nor in a session of its own");
    assert_eq!(lab.must(&["ls", "/run/muster/commands"]).trim(), "lock", "nothing is left written down");
}

fn a_terminal_is_not_asked(lab: &Lab) {
    let toml =
        "[[command]]\nname = \"asks\"\nrun = [\"sh\", \"-c\", \"read word < /dev/tty\"]\ncreates = \"/run/never\"\n";
    lab.put("/root/asks.toml", toml);
    let apply = "timeout --foreground 60 muster-agent apply /root/asks.toml";
    let (status, out, err) = lab.run(&["script", "--quiet", "--return", "--command", apply, "/dev/null"]);
    assert!(status == 4 && out.contains("/dev/tty"), "{status} {out}{err}");
}

fn a_guard_that_cannot_be_run_is_an_error(lab: &Lab) {
    lab.put("/root/plain", "#!/bin/sh\n");
    for (guard, why) in [
        (r#"["/usr/local/bin/is-don", "--quiet"]"#, "is not installed"),
        (r#"["/root/plain"]"#, "Permission denied"),
        (r#"["sh", "-c", "is-don --quiet"]"#, "status 127"),
    ] {
        let run = r#"["sh", "-c", "echo ran >> /run/typo"]"#;
        let toml = format!("[[command]]\nname = \"typo\"\nrun = {run}\nunless = {guard}\n");
        let (status, report) = lab.apply(&toml);
        let (error, help) = failed(&report, "command.typo");
        assert!(status == 4 && error.contains("guard `unless`") && error.contains(why), "{guard}: {error}");
        assert!(!help.is_empty(), "{guard}: {error}");
        assert_ne!(lab.run(&["test", "-e", "/run/typo"]).0, 0, "{guard}: it ran");
    }
}

fn a_guard_may_come_with_a_package(lab: &Lab) {
    let toml = r#"
[[package]]
name = "tree"

[[command]]
name = "grow"
run = ["touch", "/run/grown"]
only_if = ["tree", "--version"]
creates = "/run/grown"
after = ["package.tree"]
"#;
    let toml = format!("{}{toml}", lab.source());
    lab.put("/root/apply.toml", &toml);
    let (status, plan, err) = lab.run(&["muster-agent", "plan", "/root/apply.toml", "--json"]);
    assert_eq!(status, 2, "{err}");
    let rows: Vec<Row> = serde_json::from_str(&plan).unwrap();
    let row = rows.iter().find(|row| row.resource.to_string() == "command.grow").expect("it is planned");
    assert!(matches!(row.certainty, Certainty::KnownAfter(_)), "{row:?}");
    assert_eq!(row.detail[0], "touch /run/grown");
    lab.applied(&toml);
    lab.must(&["test", "-e", "/run/grown"]);
}

fn a_killed_agent_leaves_it_running_and_the_next_one_waits(lab: &Lab) {
    // It begins once for each line of one file, and ends once for each line of the other when it is let.
    let toml = r#"
[[command]]
name = "long"
run = ["sh", "-c", "echo $$ >> /run/long.began; echo words; until [ -e /run/long.go ]; do sleep 0.1; done; echo words; echo x >> /run/long.ended"]
creates = "/run/long.ended"
timeout = 86400
"#;
    lab.put("/root/long.toml", toml);
    let begin = |unit: &str| {
        let unit = format!("--unit={unit}");
        let how = ["--property=KillMode=process", "--property=RemainAfterExit=yes"];
        lab.must(&["systemd-run", &unit, how[0], how[1], "muster-agent", "apply", "/root/long.toml"]);
    };
    let began = || lab.run(&["cat", "/run/long.began"]).1.lines().count();
    let runs = |unit: &str| lab.must(&["systemctl", "show", "--property=SubState", unit]).contains("SubState=running");
    begin("first");
    lab.wait("it began", Duration::from_secs(60), || began() == 1);
    lab.must(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "first"]);
    lab.wait("the agent is gone", Duration::from_secs(60), || !runs("first"));
    let pid = lab.must(&["cat", "/run/long.began"]);
    lab.must(&["kill", "-0", pid.trim()]);
    let (status, plan, err) = lab.run(&["muster-agent", "plan", "/root/long.toml"]);
    assert!(status == 2 && plan.contains(&format!("wait for process {}", pid.trim())), "{plan}{err}");

    // Two that come after it, and one of them is stopped in between.
    begin("second");
    begin("third");
    std::thread::sleep(Duration::from_secs(2));
    lab.must(&["systemctl", "stop", "third"]);
    assert_eq!(began(), 1, "it runs once");
    lab.must(&["kill", "-0", pid.trim()]);
    lab.must(&["touch", "/run/long.go"]);
    lab.wait("the second one has ended", Duration::from_secs(60), || !runs("second"));
    let status = lab.must(&["systemctl", "show", "--property=ExecMainStatus", "second"]);
    assert_eq!(status.trim(), "ExecMainStatus=2");
    assert_eq!((began(), lab.must(&["cat", "/run/long.ended"]).lines().count()), (1, 1));
    assert_eq!(lab.apply(toml).0, 0);
}

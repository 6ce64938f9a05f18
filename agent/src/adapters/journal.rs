//! What a unit and systemd said of it.

use std::time::{Duration, SystemTime};

use crate::ports::{Commands, Invocation};

/// systemd itself says four to seven lines of a start that failed, more where it tried again: the program's are asked for apart.
const PROGRAMS: &str = "6";
const SYSTEMDS: &str = "4";

/// Steps of systemd's that say nothing of the reason.
const NOISE: [&str; 7] = [
    "Started ",
    "Starting ",
    "Stopped ",
    "Stopping ",
    ": Scheduled restart job",
    ": Consumed ",
    ": Deactivated successfully",
];

/// What systemd's own half of a process says in a container before it becomes the program.
const NO_WORDS: &str = "to compat systemd cgroup";

/// SD_MESSAGE_UNIT_STARTED: sd-messages.h.
const STARTED: &str = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf";

/// The program's last lines since `since` and then systemd's about it, with ` | ` between them; empty where the journal
/// cannot be read.
///
/// `pid` is its main process: what a process says that ends at once can be in the journal without its unit, where its
/// control group was gone before journald looked (one to three of a hundred on a busy machine).
pub async fn tail(commands: &dyn Commands, unit: &str, pid: Option<u32>, since: SystemTime) -> String {
    // What is still on its way to the journal is waited for; without an answer what is there is shown.
    let _best_effort = commands.run(Invocation::new(["journalctl", "--sync"]).timeout(Duration::from_secs(5))).await;
    let program = ask(commands, of_the_program(unit, pid, since));
    let systemd = ask(commands, of_systemd(unit, since));
    let (mut lines, said) = futures::join!(program, systemd);
    lines.extend(said.into_iter().filter(|line| !NOISE.iter().any(|noise| line.contains(noise))));
    lines.retain(|line| !line.contains(NO_WORDS));
    lines.join(" | ")
}

/// Whether a unit's start was done since then.
pub async fn ran(commands: &dyn Commands, unit: &str, since: SystemTime) -> bool {
    let question = [&*from(since), "--lines=1", STARTED, &format!("UNIT={unit}"), "JOB_RESULT=done"].map(str::to_owned);
    !ask(commands, question.into()).await.is_empty()
}

async fn ask(commands: &dyn Commands, question: Vec<String>) -> Vec<String> {
    let fixed = ["journalctl", "--quiet", "--no-pager", "--output=cat"].map(str::to_owned);
    let run = Invocation::new(fixed.into_iter().chain(question)).timeout(Duration::from_secs(5));
    match commands.run(run).await {
        Ok(output) => output.stdout().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

fn from(since: SystemTime) -> String {
    format!("--since=@{}", since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

fn of_the_program(unit: &str, pid: Option<u32>, since: SystemTime) -> Vec<String> {
    let mut question = vec![from(since), format!("--lines={PROGRAMS}"), format!("_SYSTEMD_UNIT={unit}")];
    question.extend(pid.into_iter().flat_map(|pid| ["+".into(), format!("_PID={pid}")]));
    question
}

fn of_systemd(unit: &str, since: SystemTime) -> Vec<String> {
    vec![from(since), format!("--lines={SYSTEMDS}"), "_PID=1".into(), format!("UNIT={unit}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_asked_for_beside_its_unit() {
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(7_900);
        let asked = |pid| of_the_program("a.service", pid, since).join(" ");
        assert_eq!(asked(None), "--since=@7 --lines=6 _SYSTEMD_UNIT=a.service");
        assert_eq!(asked(Some(12)), "--since=@7 --lines=6 _SYSTEMD_UNIT=a.service + _PID=12");
        assert_eq!(of_systemd("a.service", since).join(" "), "--since=@7 --lines=4 _PID=1 UNIT=a.service");
    }
}

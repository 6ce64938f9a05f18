//! What a unit and systemd said of it.

use std::time::{Duration, SystemTime};

use crate::ports::{Commands, Invocation};

/// systemd itself says four or five lines of a start that failed; the other half is the program's.
const LINES: &str = "10";

/// The last ten lines since `began`, of the unit and of systemd about it, with ` | ` between them; empty where the
/// journal cannot be read.
///
/// `pid` is its main process: what a process says that ends at once can be in the journal without its unit, where its
/// control group was gone before journald looked (one to three of a hundred on a busy machine).
pub async fn tail(commands: &dyn Commands, unit: &str, pid: Option<u32>, began: SystemTime) -> String {
    // What is still on its way to the journal is waited for; without an answer what is there is shown.
    let _best_effort = commands.run(Invocation::new(["journalctl", "--sync"]).timeout(Duration::from_secs(5))).await;
    let run = Invocation::new(question(unit, pid, began)).timeout(Duration::from_secs(5));
    match commands.run(run).await {
        Ok(output) => output.stdout().lines().collect::<Vec<_>>().join(" | "),
        Err(_) => String::new(),
    }
}

fn question(unit: &str, pid: Option<u32>, began: SystemTime) -> Vec<String> {
    let since = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let fixed = ["journalctl", "--quiet", "--no-pager", "--output", "cat", "--lines", LINES];
    let mut question: Vec<_> = fixed.map(str::to_owned).into();
    question.extend([format!("--since=@{since}"), format!("_SYSTEMD_UNIT={unit}"), "+".into(), format!("UNIT={unit}")]);
    question.extend(pid.into_iter().flat_map(|pid| ["+".into(), format!("_PID={pid}")]));
    question
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_asked_for_beside_its_unit() {
        let began = SystemTime::UNIX_EPOCH + Duration::from_millis(7_900);
        let asked = |pid| question("a.service", pid, began)[7..].join(" ");
        assert_eq!(asked(None), "--since=@7 _SYSTEMD_UNIT=a.service + UNIT=a.service");
        assert_eq!(asked(Some(12)), "--since=@7 _SYSTEMD_UNIT=a.service + UNIT=a.service + _PID=12");
    }
}

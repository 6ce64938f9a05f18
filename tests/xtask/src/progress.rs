//! Says what goes on and for how long: the first run takes minutes, and silence looks like a hang.
//!
//! On a terminal each running stage has a spinner; elsewhere (CI, a pipe) a stage prints a line when it starts,
//! one every half minute, and one when it ends. All of it goes to standard error: standard output belongs to
//! results such as `--json`. Stages may run on several threads at once.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const HEARTBEAT: Duration = Duration::from_secs(30);

/// Where stages are shown.
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Spinners if standard error is a terminal, else plain lines.
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars }
    }

    /// Prints one line without disturbing the spinners.
    pub fn note(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Runs `work` as a stage named `title`, whose name also opens its error.
    pub fn stage<T>(&self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let result = match &self.bars {
            Some(bars) => {
                let bar = bars.add(ProgressBar::new_spinner().with_message(title.to_owned()));
                if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg}  {elapsed}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                let result = work();
                bar.finish_and_clear();
                bars.remove(&bar);
                result
            }
            None => {
                eprintln!("  · {title} …");
                let (done, running) = mpsc::channel::<()>();
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        while running.recv_timeout(HEARTBEAT) == Err(mpsc::RecvTimeoutError::Timeout) {
                            eprintln!("  · {title} … {}", elapsed(started.elapsed()));
                        }
                    });
                    let result = work();
                    drop(done);
                    result
                })
            }
        };
        let mark = if result.is_ok() { "✓" } else { "✗" };
        self.note(&format!("  {mark} {title}  {}", elapsed(started.elapsed())));
        result.with_context(|| title.to_owned())
    }
}

/// `0.4 s`, `12 s`, `3 m 05 s`.
pub fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} m {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elapsed_is_short() {
        assert_eq!(elapsed(Duration::from_millis(430)), "0.4 s");
        assert_eq!(elapsed(Duration::from_millis(12_900)), "12 s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3 m 05 s");
    }

    #[test]
    fn a_failed_stage_names_itself() {
        let progress = Progress { bars: None };
        let error = progress.stage("bake a cake", || -> Result<()> { anyhow::bail!("no flour") });
        assert_eq!(format!("{:#}", error.unwrap_err()), "bake a cake: no flour");
    }
}

//! Progress of long work: a spinner with elapsed time on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// One stage of long work. Dropped unfinished, it says nothing more: the error that follows does.
pub struct Stage {
    what: String,
    began: Instant,
    bar: Option<ProgressBar>,
    last: String,
}

impl Stage {
    /// Says that `what` begins.
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {msg}").expect("a fixed template");
            let bar = ProgressBar::new_spinner().with_style(style).with_prefix(format!("{what:<28}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{what} …");
        }
        Self { what, began: Instant::now(), bar, last: String::new() }
    }

    /// How far it is. The same text twice is said once.
    pub fn update(&mut self, text: impl Into<String>) {
        let text = text.into();
        if text == self.last {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.clone()),
            None => eprintln!("  {:>4} s  {text}", self.began.elapsed().as_secs()),
        }
        self.last = text;
    }

    /// It is done; returns how long it took.
    pub fn done(self, text: &str) -> Duration {
        let took = self.began.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{:<28} {:>6.1} s  {text}", self.what, took.as_secs_f64());
        took
    }
}

//! Events: what happened, numbered for good, kept on disk, and told to those who follow.

use std::sync::Arc;

use muster_ids::NodeName;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::state::{Local, LocalError};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 and is never reused.
    pub number: u64,
    /// Seconds since the epoch.
    pub time: i64,
    pub level: Level,
    pub node: Option<NodeName>,
    /// A short fixed phrase: "drift", "converged", "instance created".
    pub what: String,
    /// For people. Never a secret.
    pub text: String,
    /// How often it happened: the one before that says the same, but for its numbers, is in this one.
    #[serde(default = "once")]
    pub count: u32,
}

fn once() -> u32 {
    1
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    /// A human must act.
    Error,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }

    /// Anything unknown counts as an error, so that nothing is played down.
    pub fn from_text(text: &str) -> Self {
        match text {
            "info" => Level::Info,
            "warn" => Level::Warn,
            _ => Level::Error,
        }
    }
}

impl Event {
    pub fn new(time: i64, level: Level, node: Option<&NodeName>, what: &str, text: impl Into<String>) -> Self {
        Self { number: 0, time, level, node: node.cloned(), what: what.to_owned(), text: text.into(), count: 1 }
    }

    /// Whether both say the same of the same.
    pub(crate) fn repeats(&self, before: &Self) -> bool {
        (self.level, &self.node, &self.what) == (before.level, &before.node, &before.what)
            && says_the_same(&self.text, &before.text)
    }

    pub(crate) fn node_text(&self) -> &str {
        self.node.as_ref().map_or("", NodeName::as_str)
    }
}

impl From<Event> for muster_proto::v1::Event {
    fn from(event: Event) -> Self {
        Self {
            number: event.number,
            time: event.time,
            level: event.level.as_str().to_owned(),
            node: event.node_text().to_owned(),
            what: event.what,
            text: event.text,
            count: event.count,
        }
    }
}

/// An event's text ends here, in characters. An agent's failure may hold a whole log.
const LONGEST: usize = 2000;
/// Room for the note that it was cut.
const NOTE: usize = 50;

/// The text as it is kept; what was cut off is said.
fn cut(mut text: String) -> String {
    if text.len() <= LONGEST || text.chars().nth(LONGEST).is_none() {
        return text;
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST - NOTE) {
        let more = text[end..].chars().count();
        text.truncate(end);
        text.push_str(&format!("… ({more} more characters were cut)"));
    }
    text
}

/// Whether two texts differ in numbers alone, behind what they are about: a failure names processes and times that are
/// others each time, and `file./srv/1` is not `file./srv/2`.
pub(crate) fn says_the_same(one: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (about, rest) = text.split_once(": ").unwrap_or((text, ""));
        let mut said = String::with_capacity(rest.len());
        for c in rest.chars() {
            match c {
                '0'..='9' if said.ends_with('0') => {}
                '0'..='9' => said.push('0'),
                c => said.push(c),
            }
        }
        (about.to_owned(), said)
    };
    one == other || parts(one) == parts(other)
}

/// Keeps and tells events.
pub struct Events {
    local: Arc<Local>,
    tell: broadcast::Sender<Event>,
}

impl Events {
    pub fn new(local: Arc<Local>) -> Self {
        Self { local, tell: broadcast::channel(1024).0 }
    }

    /// Keeps the event, logs it and tells followers. A full disk loses the event and not the work that it is about.
    pub fn add(&self, event: Event) {
        let event = Event { text: cut(event.text), ..event };
        let node = event.node_text();
        match event.level {
            Level::Info => tracing::info!(node, what = event.what, "{}", event.text),
            Level::Warn => tracing::warn!(node, what = event.what, "{}", event.text),
            Level::Error => tracing::error!(node, what = event.what, "{}", event.text),
        }
        match self.local.append(event) {
            // No follower is no error.
            Ok(event) => drop(self.tell.send(event)),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "an event could not be kept"),
        }
    }

    /// The events so far and those to come, without a gap or a repetition between them.
    pub fn follow(&self, after: u64) -> Result<(Vec<Event>, broadcast::Receiver<Event>), LocalError> {
        // Subscribed first: what comes between is in both, and the number tells.
        let coming = self.tell.subscribe();
        let so_far = self.local.events(after, if after == 0 { 100 } else { u64::from(u32::MAX) })?;
        Ok((so_far, coming))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Event, Events, LONGEST, Level, cut, says_the_same};
    use crate::state::Local;

    #[test]
    fn a_text_ends_at_two_thousand_characters_and_says_so() {
        let events = Events::new(Arc::new(Local::in_memory().unwrap()));
        events.add(Event::new(1, Level::Warn, None, "step failed", "ä".repeat(5000)));
        let kept = events.follow(0).unwrap().0.remove(0).text;
        assert!(kept.ends_with("ää… (3050 more characters were cut)"), "{kept}");
        assert!(kept.chars().count() <= 2000);
        // The whole of it, where it fits.
        for fits in ["ä".repeat(LONGEST), "x".repeat(LONGEST), String::new()] {
            assert_eq!(cut(fits.clone()), fits);
        }
        assert!(cut("x".repeat(LONGEST + 1)).ends_with("x… (51 more characters were cut)"));
    }

    #[test]
    fn numbers_make_no_other_failure_and_another_resource_does() {
        let failed = |pid: &str| format!("service.x: it ended; its log ends: x[{pid}]: no database");
        assert!(says_the_same(&failed("412"), &failed("9")));
        assert!(!says_the_same(&failed("412"), &failed("9").replace("database", "disk")));
        assert!(!says_the_same("file./srv/1: disk full", "file./srv/2: disk full"));
        assert!(says_the_same("file./srv/1 was changed", "file./srv/1 was changed"));
        assert!(!says_the_same("file./srv/1 was changed", "file./srv/2 was changed"));
    }
}

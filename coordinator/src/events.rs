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
        Self { number: 0, time, level, node: node.cloned(), what: what.to_owned(), text: text.into() }
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
        }
    }
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

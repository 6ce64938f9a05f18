//! The local side of the state: what agents said last, saved plans and events. Lost, it fills again by itself.
//!
//! One SQLite file of its own, so that the store port stays as small as its weakest backend. Kept on disk because a
//! restarted coordinator should know facts and last reports at once, and because events are numbered for good.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use muster_catalog::Facts;
use muster_ids::{Digest, Generation, NodeName};
use muster_plan::Report;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};

use crate::events::Event;

/// Why the local state failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("the local state cannot be used")]
    Database(#[from] rusqlite::Error),
    #[error("the local state holds damaged JSON")]
    Json(#[from] serde_json::Error),
}

/// What one node said last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    pub facts: Option<Facts>,
    pub report: Option<Report>,
    /// The generation that the report is about.
    pub generation: Generation,
    pub metrics: Option<Usage>,
    /// Seconds since the epoch; 0: never.
    pub seen: i64,
    /// The newest catalog that it was given.
    pub issued: Option<Issued>,
}

/// CPU and memory of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Thousandths of a CPU.
    pub cpu_used_milli: u64,
    pub cpu_total_milli: u64,
    /// Bytes.
    pub memory_used: u64,
    pub memory_total: u64,
}

/// A catalog that was given to a node: one generation never has two contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub generation: Generation,
    pub content: Digest,
}

/// As many events are kept.
const EVENTS_KEPT: u64 = 20_000;
/// An event that repeats one of so many before it is one with it, if that is not older than this: seconds.
const REPEATS_AMONG: u64 = 100;
const REPEATS_WITHIN: i64 = 3600;
/// As many plans are kept.
const PLANS_KEPT: u64 = 50;

/// The database.
pub struct Local {
    connection: Mutex<Connection>,
}

impl Local {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self, LocalError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Self::with(connection)
    }

    /// One that lives in memory only.
    pub fn in_memory() -> Result<Self, LocalError> {
        Self::with(Connection::open_in_memory()?)
    }

    fn with(connection: Connection) -> Result<Self, LocalError> {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS node (
                 name TEXT PRIMARY KEY, facts TEXT, report TEXT, generation TEXT, metrics TEXT,
                 seen INTEGER NOT NULL DEFAULT 0, issued TEXT
             ) STRICT;
             CREATE TABLE IF NOT EXISTS event (
                 number INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, level TEXT NOT NULL,
                 node TEXT NOT NULL, what TEXT NOT NULL, text TEXT NOT NULL
             ) STRICT;
             CREATE TABLE IF NOT EXISTS repeated (number INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS plan (id TEXT PRIMARY KEY, made INTEGER NOT NULL, json TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS turn (
                 turn TEXT NOT NULL, node TEXT NOT NULL, seconds INTEGER NOT NULL, reason TEXT NOT NULL,
                 PRIMARY KEY (turn, node)
             ) STRICT;",
        )?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, node: &NodeName, column: Column, json: &str) -> Result<(), LocalError> {
        let column = column.name();
        self.lock().execute(
            &format!(
                "INSERT INTO node (name, {column}) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET {column} = ?2"
            ),
            params![node.as_str(), json],
        )?;
        Ok(())
    }

    pub fn set_facts(&self, node: &NodeName, facts: &Facts) -> Result<(), LocalError> {
        self.set(node, Column::Facts, &serde_json::to_string(facts)?)
    }

    pub fn set_issued(&self, node: &NodeName, issued: &Issued) -> Result<(), LocalError> {
        self.set(node, Column::Issued, &serde_json::to_string(issued)?)
    }

    pub fn set_report(&self, node: &NodeName, generation: Generation, report: &Report) -> Result<(), LocalError> {
        self.set(node, Column::Report, &serde_json::to_string(report)?)?;
        self.set(node, Column::Generation, &serde_json::to_string(&generation)?)
    }

    pub fn set_metrics(&self, node: &NodeName, usage: &Usage) -> Result<(), LocalError> {
        self.set(node, Column::Metrics, &serde_json::to_string(usage)?)
    }

    /// Notes that the node was heard of.
    pub fn saw(&self, node: &NodeName, now: i64) -> Result<(), LocalError> {
        self.lock().execute(
            "INSERT INTO node (name, seen) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET seen = ?2",
            params![node.as_str(), now],
        )?;
        Ok(())
    }

    /// What this node said last; empty for a node that never spoke.
    pub fn node(&self, node: &NodeName) -> Result<NodeView, LocalError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT name, facts, report, generation, metrics, seen, issued FROM node WHERE name = ?1",
        )?;
        let found = statement.query_row([node.as_str()], view).optional()?;
        Ok(found.map(|(_, view)| view).unwrap_or_default())
    }

    /// All nodes that ever spoke.
    pub fn nodes(&self) -> Result<BTreeMap<NodeName, NodeView>, LocalError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT name, facts, report, generation, metrics, seen, issued FROM node")?;
        let rows = statement.query_map([], view)?.collect::<Result<Vec<_>, _>>()?;
        let mut nodes = BTreeMap::new();
        for (name, view) in rows {
            // A name that this program could not have written is left out rather than believed.
            if let Ok(name) = name.parse() {
                nodes.insert(name, view);
            }
        }
        Ok(nodes)
    }

    /// Forgets a node that is retired.
    pub fn forget(&self, node: &NodeName) -> Result<(), LocalError> {
        self.lock().execute("DELETE FROM node WHERE name = ?1", [node.as_str()])?;
        Ok(())
    }

    /// Appends an event and numbers it. One that repeats another takes its place at the end, with a count: what fails again
    /// and again pushes nothing else out.
    pub fn append(&self, mut event: Event) -> Result<Event, LocalError> {
        let mut connection = self.lock();
        let connection = connection.transaction()?;
        let before = {
            let mut statement = connection.prepare_cached(
                "SELECT event.number, time, level, node, what, text, count FROM event LEFT JOIN repeated USING (number) \
                 WHERE event.number > (SELECT MAX(number) FROM event) - ?1 AND time >= ?2 AND node = ?3 AND what = ?4 \
                 ORDER BY event.number DESC",
            )?;
            let recent = params![signed(REPEATS_AMONG), event.time - REPEATS_WITHIN, event.node_text(), event.what];
            let rows = statement.query_map(recent, self::event)?.collect::<Result<Vec<_>, _>>()?;
            rows.into_iter().find(|before| event.repeats(before))
        };
        if let Some(before) = before {
            event.count = before.count.saturating_add(event.count);
            for table in ["event", "repeated"] {
                let forget = format!("DELETE FROM {table} WHERE number = ?1");
                connection.execute(&forget, [signed(before.number)])?;
            }
        }
        connection.execute(
            "INSERT INTO event (time, level, node, what, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![event.time, event.level.as_str(), event.node_text(), event.what, event.text],
        )?;
        event.number = u64::try_from(connection.last_insert_rowid()).unwrap_or(0);
        if event.count > 1 {
            connection.execute(
                "INSERT INTO repeated (number, count) VALUES (?1, ?2)",
                params![signed(event.number), event.count],
            )?;
        }
        if event.number.is_multiple_of(100) {
            let kept = "SELECT number FROM event ORDER BY number DESC LIMIT 1 OFFSET ?1";
            for table in ["event", "repeated"] {
                let forget = format!("DELETE FROM {table} WHERE number <= ({kept})");
                connection.execute(&forget, [signed(EVENTS_KEPT)])?;
            }
        }
        connection.commit()?;
        Ok(event)
    }

    /// Takes events of another file over, with their numbers.
    pub fn keep(&self, events: &[Event]) -> Result<(), LocalError> {
        let mut connection = self.lock();
        let connection = connection.transaction()?;
        for event in events {
            let number = signed(event.number);
            connection.execute(
                "INSERT INTO event (number, time, level, node, what, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![number, event.time, event.level.as_str(), event.node_text(), event.what, event.text],
            )?;
            if event.count > 1 {
                let counted = "INSERT INTO repeated (number, count) VALUES (?1, ?2)";
                connection.execute(counted, params![number, event.count])?;
            }
        }
        Ok(connection.commit()?)
    }

    /// The events after this number, oldest first; after 0: the last `most`.
    pub fn events(&self, after: u64, most: u64) -> Result<Vec<Event>, LocalError> {
        let connection = self.lock();
        let (text, first) = if after == 0 {
            (
                "SELECT * FROM (SELECT event.number, time, level, node, what, text, count FROM event \
                 LEFT JOIN repeated USING (number) WHERE event.number > ?1 ORDER BY event.number DESC LIMIT ?2) \
                 ORDER BY number",
                0,
            )
        } else {
            (
                "SELECT event.number, time, level, node, what, text, count FROM event LEFT JOIN repeated USING (number) \
                 WHERE event.number > ?1 ORDER BY event.number LIMIT ?2",
                after,
            )
        };
        let mut statement = connection.prepare_cached(text)?;
        let events =
            statement.query_map(params![signed(first), signed(most)], event)?.collect::<Result<Vec<_>, _>>()?;
        Ok(events)
    }

    /// Keeps a plan under its id; one of the same id is replaced.
    pub fn keep_plan(&self, id: &str, made: i64, json: &str) -> Result<(), LocalError> {
        let connection = self.lock();
        connection
            .execute("INSERT OR REPLACE INTO plan (id, made, json) VALUES (?1, ?2, ?3)", params![id, made, json])?;
        connection.execute(
            "DELETE FROM plan WHERE id NOT IN (SELECT id FROM plan ORDER BY made DESC, rowid DESC LIMIT ?1)",
            [signed(PLANS_KEPT)],
        )?;
        Ok(())
    }

    pub fn plan(&self, id: &str) -> Result<Option<String>, LocalError> {
        let found = self.lock().query_row("SELECT json FROM plan WHERE id = ?1", [id], |row| row.get(0)).optional()?;
        Ok(found)
    }

    /// Remembers a lease, so that a restarted coordinator does not give the turn away.
    pub fn keep_turn(&self, turn: &str, node: &NodeName, seconds: u64, reason: &str) -> Result<(), LocalError> {
        self.lock().execute(
            "INSERT OR REPLACE INTO turn (turn, node, seconds, reason) VALUES (?1, ?2, ?3, ?4)",
            params![turn, node.as_str(), signed(seconds), reason],
        )?;
        Ok(())
    }

    pub fn drop_turn(&self, turn: &str, node: &NodeName) -> Result<(), LocalError> {
        self.lock().execute("DELETE FROM turn WHERE turn = ?1 AND node = ?2", params![turn, node.as_str()])?;
        Ok(())
    }

    /// Leases as remembered: turn, node, seconds, reason. Expired ones are among them: nobody counted while nobody ran.
    pub fn turns(&self) -> Result<Vec<(String, String, u64, String)>, LocalError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT turn, node, seconds, reason FROM turn")?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, unsigned(row.get(2)?), row.get(3)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        Ok(rows)
    }
}

/// A column that holds JSON; named here so that no text from outside reaches a statement.
#[derive(Clone, Copy)]
enum Column {
    Facts,
    Report,
    Generation,
    Metrics,
    Issued,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Facts => "facts",
            Column::Report => "report",
            Column::Generation => "generation",
            Column::Metrics => "metrics",
            Column::Issued => "issued",
        }
    }
}

/// SQLite's integers are signed; none of ours comes near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn view(row: &Row<'_>) -> rusqlite::Result<(String, NodeView)> {
    let texts: [Option<String>; 5] = [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(6)?];
    let seen = row.get(5)?;
    let [facts, report, generation, metrics, issued] = &texts;
    let view = NodeView {
        facts: json(facts),
        report: json(report),
        generation: json(generation).unwrap_or_default(),
        metrics: json(metrics),
        seen,
        issued: json(issued),
    };
    Ok((row.get(0)?, view))
}

/// What cannot be read, from another version of this program perhaps, is as if it was never said: the node says it again.
fn json<T: serde::de::DeserializeOwned>(text: &Option<String>) -> Option<T> {
    let parsed = serde_json::from_str(text.as_deref()?);
    parsed.inspect_err(|error| tracing::warn!(%error, "what a node said last cannot be read")).ok()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let level: String = row.get(2)?;
    let node: String = row.get(3)?;
    Ok(Event {
        number: unsigned(row.get(0)?),
        time: row.get(1)?,
        level: crate::events::Level::from_text(&level),
        node: node.parse().ok(),
        what: row.get(4)?,
        text: row.get(5)?,
        count: row.get::<_, Option<u32>>(6)?.unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Level;

    #[test]
    fn what_a_node_said_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("local.sqlite");
        let node: NodeName = "workers-1".parse().unwrap();
        let generation = Generation { epoch: 1, counter: 3 };
        {
            let local = Local::open(&path).unwrap();
            local.set_facts(&node, &Facts { arch: "amd64".into(), ..Facts::default() }).unwrap();
            local.set_report(&node, generation, &Report { converged: true, ..Report::default() }).unwrap();
            local.saw(&node, 17).unwrap();
        }
        let view = Local::open(&path).unwrap().node(&node).unwrap();
        assert_eq!((view.seen, view.generation), (17, generation));
        assert_eq!(view.facts.unwrap().arch, "amd64");
        assert!(view.report.unwrap().converged);
    }

    #[test]
    fn what_cannot_be_read_is_as_if_never_said() {
        let (local, node) = (Local::in_memory().unwrap(), "workers-1".parse().unwrap());
        local.set_facts(&node, &Facts::default()).unwrap();
        local.set(&node, Column::Report, r#"{"outcome": "of another version"}"#).unwrap();
        let view = local.nodes().unwrap().remove(&node).unwrap();
        assert!(view.report.is_none() && view.facts.is_some(), "{view:?}");
        local.set_report(&node, Generation::default(), &Report { converged: true, ..Report::default() }).unwrap();
        assert!(local.node(&node).unwrap().report.unwrap().converged);
    }

    #[test]
    fn events_are_numbered_and_the_last_come_first_asked() {
        let local = Local::in_memory().unwrap();
        for count in 1..=5 {
            let event = Event::new(count, Level::Info, None, "converged", format!("event {count}"));
            assert_eq!(local.append(event).unwrap().number, count as u64);
        }
        let numbers =
            |after, most| -> Vec<u64> { local.events(after, most).unwrap().iter().map(|event| event.number).collect() };
        assert_eq!(numbers(0, 2), [4, 5]);
        assert_eq!(numbers(2, 100), [3, 4, 5]);
    }

    #[test]
    fn equal_events_are_one_with_a_count() {
        let local = Local::in_memory().unwrap();
        let add = |time, text: &str| {
            local.append(Event::new(time, Level::Warn, None, "step failed", text)).unwrap();
        };
        add(1, "file./etc/x: disk full");
        for time in 2..=90 {
            add(time, &format!("service.x: it ended; its log ends: x[{time}]: no database"));
            add(time, &format!("service.y: it ended; its log ends: y[{time}]: no database"));
        }
        let kept = |local: &Local| -> Vec<(String, u32)> {
            let name = |event: Event| (event.text[..9].to_owned(), event.count);
            local.events(0, 100).unwrap().into_iter().map(name).collect()
        };
        let seen = [("file./etc".to_owned(), 1), ("service.x".to_owned(), 89), ("service.y".to_owned(), 89)];
        assert_eq!(kept(&local), seen);
        // What is old is another's story.
        add(90 + REPEATS_WITHIN + 1, "service.x: it ended; its log ends: x[5]: no database");
        assert_eq!(kept(&local).len(), 4);
        let numbers: Vec<u64> = local.events(0, 100).unwrap().iter().map(|event| event.number).collect();
        assert_eq!(numbers, [1, 178, 179, 180], "no number comes twice");
    }

    #[test]
    fn old_plans_go() {
        let local = Local::in_memory().unwrap();
        for count in 0..60 {
            local.keep_plan(&format!("{count}-x"), count, "{}").unwrap();
        }
        assert!(local.plan("9-x").unwrap().is_none());
        assert!(local.plan("10-x").unwrap().is_some());
    }
}

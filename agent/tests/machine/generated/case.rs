//! One catalog and what is to be true of it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::things;

/// The randomness of a case: a seed's numbers are the same on every machine and in every version.
pub type Dice = ChaCha8Rng;

/// A resource, or several that belong together.
#[derive(Debug, Clone, Default)]
pub struct Thing {
    /// What somebody did before, as a shell script.
    pub prep: String,
    /// As it is written to be there.
    pub present: String,
    /// As it is written to be gone; empty where it cannot be.
    pub absent: String,
    /// After an apply.
    pub checks: Vec<Check>,
    /// After it was taken away.
    pub gone: Vec<Check>,
    /// Keys of the snapshot that are its own: by their beginnings.
    pub owns: Vec<String>,
}

/// What a tool must say.
#[derive(Debug, Clone)]
pub struct Check {
    /// A shell script.
    pub asks: String,
    /// Its output, trimmed.
    pub says: String,
}

impl Thing {
    pub fn check(mut self, asks: impl Into<String>, says: impl Into<String>) -> Self {
        self.checks.push(Check { asks: asks.into(), says: says.into() });
        self
    }

    pub fn gone(mut self, asks: impl Into<String>, says: impl Into<String>) -> Self {
        self.gone.push(Check { asks: asks.into(), says: says.into() });
        self
    }

    pub fn owns(mut self, key: impl Into<String>) -> Self {
        self.owns.push(key.into());
        self
    }
}

/// A catalog and its judges.
#[derive(Debug, Clone)]
pub struct Case {
    pub seed: u64,
    pub things: Vec<Thing>,
}

impl Case {
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::seed_from_u64(seed);
        Self { seed, things: things::some(seed, &mut dice) }
    }

    /// The first apply is killed, and after so many milliseconds.
    pub fn killed_after(&self) -> Option<u64> {
        // Seeds next to one another must not be killed at the same place.
        self.seed.is_multiple_of(3).then(|| 5 + self.seed.wrapping_mul(7919) % 900)
    }

    pub fn prep(&self) -> String {
        self.things.iter().map(|thing| format!("{}\n", thing.prep)).collect()
    }

    pub fn present(&self) -> String {
        self.things.iter().map(|thing| format!("{}\n", thing.present)).collect()
    }

    pub fn absent(&self) -> String {
        self.things.iter().map(|thing| format!("{}\n", thing.absent)).collect()
    }

    pub fn owns(&self, key: &str) -> bool {
        self.things.iter().flat_map(|thing| &thing.owns).any(|own| key.starts_with(own.as_str()))
    }
}

/// A text as TOML.
pub fn toml(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text as one word of a shell.
pub fn sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

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
    /// Keys that may come: what is there already is somebody's.
    pub makes: Vec<String>,
    /// What the lab's server has for it, below `http://server/broken/`.
    pub serves: Vec<Served>,
    /// It needs Docker on the node.
    pub docker: bool,
}

/// Something to fetch.
#[derive(Debug, Clone)]
pub enum Served {
    File {
        name: String,
        content: Vec<u8>,
    },
    /// The signed package repository, under a name of its own.
    Repository {
        name: String,
    },
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

    pub fn makes(mut self, key: impl Into<String>) -> Self {
        self.makes.push(key.into());
        self
    }

    /// An apply of another catalog, before.
    pub fn formerly(&mut self, catalog: &str) {
        self.prep.push_str(&format!(
            "cat > /root/former.toml <<'FORMER'\n{catalog}\nFORMER\nmuster-agent apply /root/former.toml > /root/former.log 2>&1 || test $? = 2 || {{ cat /root/former.log; exit 1; }}\n"
        ));
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

    /// The first apply is killed at this call of those that change something.
    pub fn killed_at(&self) -> Option<u64> {
        // Seeds next to one another must not be killed at the same place.
        self.seed.is_multiple_of(3).then(|| 1 + self.seed.wrapping_mul(7919) % 150)
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

    pub fn makes(&self, key: &str) -> bool {
        self.owns(key) || self.things.iter().flat_map(|thing| &thing.makes).any(|own| key.starts_with(own.as_str()))
    }

    pub fn docker(&self) -> bool {
        self.things.iter().any(|thing| thing.docker)
    }
}

/// A text as TOML.
pub fn toml(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Texts as a list in TOML.
pub fn list(texts: &[impl AsRef<str>]) -> String {
    format!("[{}]", texts.iter().map(|text| toml(text.as_ref())).collect::<Vec<_>>().join(", "))
}

/// What `od -An -v -tx1 | tr -d ' \\n'` says.
pub fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// With the end of its last line.
pub fn whole_line(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// A text as one word of a shell.
pub fn sh(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

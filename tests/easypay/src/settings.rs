//! Settings of the front end, from the environment, so that a pod needs no file but its secret.
//!
//! The environment comes in as a function: tests need not touch the process's own.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a front end needs to know.
#[derive(Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// ISO 4217 code. Known imprecision: amounts are shown with two decimals whatever the currency.
    pub currency: String,
    pub database: Database,
    /// How long one request waits for a database that is away, and so how long this replica stays ready without one.
    pub patience: Duration,
    /// How long to go on serving after SIGTERM, so that load balancers can take this replica out.
    pub grace: Duration,
    pub log: String,
}

/// Where the database is and how to log in.
#[derive(Debug)]
pub struct Database {
    /// A host name, an address, or the folder of a unix socket. Only a name is looked up, anew for each connection.
    pub host: String,
    pub port: u16,
    pub name: String,
    pub user: String,
    pub password: Password,
    pub connections: usize,
}

/// Where the password comes from. A file is read again for each connection, so that a rotated secret needs no restart.
pub enum Password {
    None,
    File(PathBuf),
    Value(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Value(_) => f.write_str("given"),
        }
    }
}

impl Password {
    /// The password now; `None` where the server asks for none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self) -> std::io::Result<Option<String>> {
        Ok(match self {
            Self::None => None,
            Self::File(path) => Some(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned()),
            Self::Value(value) => Some(value.clone()),
        })
    }
}

/// A setting that cannot be used. Never quotes a value: it may be a secret put into the wrong variable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{name} is not set")]
    Missing { name: &'static str },
    #[error("{name} must be {expected}")]
    Wrong { name: &'static str, expected: &'static str },
    #[error("the file named by DATABASE_PASSWORD_FILE cannot be read")]
    PasswordFile(#[source] std::io::Error),
}

impl Settings {
    /// Reads all settings by `lookup`; an empty value counts as absent.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let or = |name: &str, default: &str| get(name).unwrap_or_else(|| default.to_owned());

        let currency = or("CURRENCY", "EUR");
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(SettingsError::Wrong { name: "CURRENCY", expected: "three capital letters such as EUR" });
        }
        let password = match (get("DATABASE_PASSWORD_FILE"), get("DATABASE_PASSWORD")) {
            (Some(path), _) => Password::File(path.into()),
            (None, Some(value)) => Password::Value(value),
            (None, None) => Password::None,
        };
        password.read().map_err(SettingsError::PasswordFile)?;
        Ok(Self {
            listen: or("LISTEN", "0.0.0.0:8080")
                .parse()
                .map_err(|_| SettingsError::Wrong { name: "LISTEN", expected: "ADDRESS:PORT" })?,
            currency,
            database: Database {
                host: get("DATABASE_HOST").ok_or(SettingsError::Missing { name: "DATABASE_HOST" })?,
                port: or("DATABASE_PORT", "5432")
                    .parse()
                    .map_err(|_| SettingsError::Wrong { name: "DATABASE_PORT", expected: "a port" })?,
                name: or("DATABASE_NAME", "easypay"),
                user: or("DATABASE_USER", "easypay"),
                password,
                connections: or("DATABASE_CONNECTIONS", "8")
                    .parse()
                    .ok()
                    .filter(|n| (1..=100).contains(n))
                    .ok_or(SettingsError::Wrong { name: "DATABASE_CONNECTIONS", expected: "from 1 to 100" })?,
            },
            patience: time(&or("PATIENCE", "5s"), "PATIENCE").and_then(|patience| {
                let range = Duration::from_millis(100)..=Duration::from_secs(60);
                let expected = "from 100ms to 60s";
                range.contains(&patience).then_some(patience).ok_or(SettingsError::Wrong { name: "PATIENCE", expected })
            })?,
            grace: time(&or("GRACE", "8s"), "GRACE")?,
            log: or("LOG", "info,tokio_postgres=warn"),
        })
    }
}

fn time(text: &str, name: &'static str) -> Result<Duration, SettingsError> {
    duration(text).map_err(|_| SettingsError::Wrong { name, expected: "a duration such as 500ms or 5s" })
}

/// Reads `500ms`, `60s`, `5m` or `1h`.
///
/// # Errors
/// Anything else, with what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 500ms, 60s, 5m or 1h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_lookup(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn only_the_host_is_required() {
        let settings = with(&[("DATABASE_HOST", "database")]).unwrap();
        assert_eq!((settings.listen.port(), settings.currency.as_str()), (8080, "EUR"));
        assert_eq!(with(&[]).unwrap_err().to_string(), "DATABASE_HOST is not set");
    }

    #[test]
    fn wrong_values_are_refused_without_being_quoted() {
        for (name, value) in [
            ("CURRENCY", "euro"),
            ("DATABASE_PORT", "s3cret"),
            ("LISTEN", "9999"),
            ("PATIENCE", "77"),
            ("PATIENCE", "99ms"),
            ("PATIENCE", "2m"),
            ("DATABASE_CONNECTIONS", "777"),
            ("DATABASE_PASSWORD_FILE", "/does/not/exist"),
        ] {
            let error = with(&[("DATABASE_HOST", "database"), (name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains(value), "{error}");
        }
    }

    #[test]
    fn the_password_is_not_printed_and_loses_its_newline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let settings = with(&[("DATABASE_HOST", "h"), ("DATABASE_PASSWORD_FILE", path)]).unwrap();
        assert_eq!(settings.database.password.read().unwrap().as_deref(), Some("s3cret"));
        let settings = with(&[("DATABASE_HOST", "h"), ("DATABASE_PASSWORD", "s3cret")]).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["", "5", "s", "-5s", "5 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

//! How an environment stands on this machine, as far as Docker alone can say: what to do where no coordinator answers.

use std::fmt;

use super::containers;
use crate::cloud::docker::{DockerError, Engine, Found, Role, Scope};

/// What there is of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its coordinator's container is there, running or not.
    Coordinator,
    /// Only its state is: another container goes on from it.
    State,
    /// Neither is, and these are: nodes and load balancers that a state once made.
    Lost(Vec<String>),
    /// Never been up, or taken down.
    Nothing,
}

impl Standing {
    pub async fn look(engine: &Engine, scope: &Scope) -> Result<Self, DockerError> {
        let volumes = engine.volumes(scope).await?;
        Ok(Self::of(scope, &engine.containers(scope).await?, &volumes))
    }

    /// Disks alone are no loss: `down` that was broken off leaves them, and an environment that is made anew takes them.
    fn of(scope: &Scope, containers: &[Found], volumes: &[String]) -> Self {
        let is = |found: &&Found, role: Role| found.role == role.to_string();
        if containers.iter().any(|found| is(&found, Role::Coordinator)) {
            return Self::Coordinator;
        }
        if volumes.contains(&containers::state_volume(scope)) {
            return Self::State;
        }
        let made = containers.iter().filter(|found| is(found, Role::Node) || is(found, Role::LoadBalancer));
        let prefix = scope.name("");
        let mut made: Vec<String> =
            made.map(|found| found.name.strip_prefix(&prefix).unwrap_or(&found.name).to_owned()).collect();
        made.sort();
        if made.is_empty() { Self::Nothing } else { Self::Lost(made) }
    }
}

/// What a state once made, shortened: it is the number that counts.
pub struct Names<'a>(pub &'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let shown: Vec<&str> = self.0.iter().take(SHOWN).map(String::as_str).collect();
        f.write_str(&shown.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::cloud::docker::State;

    fn found(what: &str, role: Role) -> Found {
        Found {
            id: what.to_owned(),
            name: format!("muster-easypay-local-{what}"),
            image: String::new(),
            role: role.to_string(),
            labels: HashMap::new(),
            state: State::Running,
            address: None,
        }
    }

    #[test]
    fn a_state_is_lost_where_what_it_made_is_there_without_it() {
        let scope = Scope { cluster: "easypay".parse().unwrap(), environment: "local".parse().unwrap() };
        let state = [containers::state_volume(&scope)];
        let disk = ["muster-easypay-local-disk-orders".to_owned()];
        let made = [
            found("workers-1", Role::Node),
            found("artefacts", Role::Artefacts),
            found("endpoint-api", Role::LoadBalancer),
        ];
        let lost = Standing::Lost(vec!["endpoint-api".to_owned(), "workers-1".to_owned()]);
        assert_eq!(Standing::of(&scope, &made, &disk), lost);
        assert_eq!(Standing::of(&scope, &made, &state), Standing::State);
        assert_eq!(Standing::of(&scope, &[found("coordinator", Role::Coordinator)], &[]), Standing::Coordinator);
        // As `down` or `up` leave it that were broken off.
        assert_eq!(Standing::of(&scope, &made[1..2], &disk), Standing::Nothing);
        let names: Vec<String> = (1..=6).map(|number| format!("workers-{number}")).collect();
        assert_eq!(Names(&names).to_string(), "workers-1, workers-2, workers-3, workers-4 and 2 more");
        assert_eq!(Names(&names[..2]).to_string(), "workers-1, workers-2");
    }
}

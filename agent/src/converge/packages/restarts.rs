//! Restarts that upgraded packages asked for and did not get: apt runs without them, because a restart may need a turn.
//!
//! A service of the catalog is restarted by its own step, which sees that it is outdated. Here is what is left at the end of
//! a converge: services whose step had ended before, and units that no resource names. The debt is not ours to remember:
//! it stands on the node, and is paid by whatever starts the unit anew (see [`crate::ports::Packages::owed`]).

use std::collections::BTreeSet;

use muster_catalog::{Catalog, Spec};

use crate::{Context, ports::Owed};

/// An agent that restarts itself ends in the middle of its own converge.
const OWN: &str = "muster-agent.service";

/// What is still to be started anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Services of the catalog: their steps have to be taken again.
    pub steps: BTreeSet<usize>,
    /// Lines for people: units of no resource that were restarted, with their package.
    pub restarted: Vec<(String, String)>,
}

/// Restarts what no resource names, and names the steps that have to look again.
pub async fn settle(ctx: &Context, catalog: &Catalog) -> Left {
    let mut left = Left::default();
    for Owed { units, package } in ctx.packages.owed().await {
        let is_it = |name: &String| units.contains(name);
        let service = catalog.resource.iter().position(|resource| match &resource.spec {
            Spec::Service(service) => is_it(&service.whole_name()),
            _other => false,
        });
        let unit = units.first().cloned().unwrap_or_default();
        match service {
            Some(step) => drop(left.steps.insert(step)),
            None if is_it(&OWN.to_owned()) => {}
            None => {
                let line = match ctx.units.restart(&unit).await {
                    Ok(()) => format!("restarted {unit}, which ran as before the upgrade"),
                    Err(error) => format!("{unit} runs as before the upgrade: {error}"),
                };
                left.restarted.push((package, line));
            }
        }
    }
    left
}

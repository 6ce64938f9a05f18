//! The API: gRPC for agents and operators, plain HTTP for health, metrics and the agent's program.
//!
//! Who may call what was decided before a handler runs (`authz`). Handlers turn wire types into domain types, refuse what
//! cannot be one, and leave decisions to pure code.

mod agent;
mod http;
mod hub;
mod join;
mod nodes;
mod operator;
mod operators;
mod report;
mod sign;
mod visitors;
mod watch;

pub use agent::AgentApi;
pub use http::{HttpState, router};
pub use hub::Hub;
pub use operator::OperatorApi;
pub use visitors::Visitors;

use muster_catalog::{Diagnostics, diagnostic::Diagnostic};
use muster_ids::NodeName;
use tonic::{Request, Status};

use crate::{
    authz,
    context::PublishedError,
    state::{LocalError, StateError},
};

/// A whole site, or a catalog with long files, is bigger than tonic's 4 MiB.
pub const LARGEST_MESSAGE: usize = 64 << 20;

/// The node that calls.
fn node_of<T>(request: &Request<T>) -> Result<NodeName, Status> {
    authz::peer(request)?.node().ok_or_else(|| Status::permission_denied("this call is an agent's"))
}

/// Our own failure: logged here, once; the caller may try again.
fn broken(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Status {
    tracing::error!(error, "{what}");
    Status::unavailable(format!("{what}; try again"))
}

fn local(error: LocalError) -> Status {
    broken("the coordinator cannot use its local state", &error)
}

fn state(error: StateError) -> Status {
    broken("the coordinator cannot use its state", &error)
}

fn published(error: PublishedError) -> Status {
    match error {
        PublishedError::Nothing => Status::failed_precondition("nothing has been applied yet"),
        PublishedError::Library(error) => broken("the coordinator cannot read what was applied", &error),
    }
}

/// Diagnostics as one text, for agents and logs.
fn diagnostics(errors: &Diagnostics) -> String {
    let line = |error: &Diagnostic| match error.places.first() {
        Some(place) => format!("{}:{}:{}: {}", place.file, place.line, place.column, error.message),
        None => error.message.clone(),
    };
    errors.0.iter().map(line).collect::<Vec<_>>().join("; ")
}

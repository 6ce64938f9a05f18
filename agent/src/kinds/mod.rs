//! Looking and doing, kind by kind. Each kind's module has
//!
//! - `async fn observe(ctx: &Context, spec: &XSpec) -> Result<Observed, StepError>`: reads only, also when run without write access;
//! - `async fn apply(ctx: &Context, spec: &XSpec, change: &Change) -> Result<Done, StepError>`: does what the change says and decides nothing,
//!
//! with `Observed`, `Change` and the pure `diff` in `muster_plan::kinds::x`. The engine observes again after each apply, and
//! the difference must be empty then.

// Written out, not made by the macro: rustfmt and editors follow only these.
pub mod accounts;
pub mod apt_source;
pub mod archive;
pub mod authorized_key;
pub mod block;
pub mod ca_certificate;
pub mod cluster_member;
pub mod command;
pub mod container;
pub mod directory;
mod editing;
pub mod file;
pub mod fstab_file;
pub mod group;
pub mod hostname;
pub mod image;
pub mod kernel_module;
pub mod link;
pub mod manifest;
pub mod mount;
pub mod package;
pub mod place;
pub mod pod_network;
pub mod program;
mod purge;
pub mod service;
pub mod swap;
pub mod sysctl;
pub mod timer;
pub mod timezone;
pub mod unread;
pub mod user;

use muster_catalog::Spec;
use muster_plan::kinds::{Change, Observed};

use crate::{Context, Done, StepError};

macro_rules! kinds {
    ($($variant:ident $module:ident $key:literal $written:ident $spec:ident $name:ident;)*) => {
        /// Looks at one resource. Reads only.
        pub async fn observe(ctx: &Context, spec: &Spec) -> Result<Observed, StepError> {
            match spec {
                $(Spec::$variant(spec) => $module::observe(ctx, spec).await.map(Observed::$variant),)*
            }
        }

        /// Makes one change.
        pub async fn apply(ctx: &Context, spec: &Spec, change: &Change) -> Result<Done, StepError> {
            match (spec, change) {
                $((Spec::$variant(spec), Change::$variant(change)) => $module::apply(ctx, spec, change).await,)*
                (spec, _) => Err(StepError::failed(format!("a change of another kind was planned for {}: this is a bug", spec.id()))),
            }
        }
    };
}

muster_catalog::each_kind!(kinds);

/// A name for the run of what runs on: another one once it was started anew. None for what has no runs of its own.
pub async fn run(ctx: &Context, spec: &Spec) -> Result<Option<String>, StepError> {
    Ok(match spec {
        Spec::Service(service) => Some(ctx.units.run(&service.whole_name()).await?),
        Spec::Container(container) => {
            Some(ctx.docker.container(&container.name).await?.map(|state| state.run).unwrap_or_default())
        }
        _other => None,
    })
}

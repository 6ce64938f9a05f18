//! What is there, what would change, and the pure difference of the two, kind by kind.
//!
//! Each kind's module has `Observed`, `Change` (which describes itself), and `diff(&XSpec, &Observed) -> Option<Change>`.

// Written out, not made by the macro: rustfmt and editors follow only these.
pub mod apt_source;
pub mod archive;
pub mod authorized_key;
pub mod block;
pub mod ca_certificate;
pub mod cluster_member;
pub mod command;
pub mod container;
pub mod directory;
pub mod file;
pub mod group;
pub mod hostname;
pub mod image;
pub mod kernel_module;
pub mod link;
pub mod manifest;
pub mod mount;
pub mod package;
pub mod pod_network;
pub mod service;
pub mod swap;
pub mod sysctl;
pub mod timer;
pub mod timezone;
pub mod user;

use muster_catalog::{Spec, kinds::service::Disrupts};

use crate::row::Action;

/// How a change speaks of itself in plans and reports.
pub trait Describe {
    fn action(&self) -> Action;
    /// Lines for people; never a secret.
    fn detail(&self) -> Vec<String>;
    /// What applying it disturbs.
    fn disrupts(&self) -> Disrupts {
        Disrupts::Nothing
    }
    /// It differs for what the agent did itself: a restart that an upgrade asked for, a start that has to prove itself. No drift.
    fn of_our_doing(&self) -> bool {
        false
    }
    /// Applying it ends what runs and begins a new run, which knows of all that changed before.
    fn begins_a_run(&self) -> bool {
        false
    }
    /// What of it is left to do where it is told to begin anew right after.
    fn before_a_new_start(self) -> Option<Self>
    where
        Self: Sized,
    {
        Some(self)
    }
}

macro_rules! kinds {
    ($($variant:ident $module:ident $key:literal $written:ident $spec:ident $name:ident;)*) => {
        /// What was seen of one resource.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Observed {
            $($variant($module::Observed),)*
        }

        /// What would be changed at one resource: all that applying needs to know.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Change {
            $($variant($module::Change),)*
        }

        impl Describe for Change {
            fn action(&self) -> Action {
                match self {
                    $(Self::$variant(change) => change.action(),)*
                }
            }
            fn detail(&self) -> Vec<String> {
                match self {
                    $(Self::$variant(change) => change.detail(),)*
                }
            }
            fn disrupts(&self) -> Disrupts {
                match self {
                    $(Self::$variant(change) => change.disrupts(),)*
                }
            }
            fn of_our_doing(&self) -> bool {
                match self {
                    $(Self::$variant(change) => change.of_our_doing(),)*
                }
            }
            fn begins_a_run(&self) -> bool {
                match self {
                    $(Self::$variant(change) => change.begins_a_run(),)*
                }
            }
            fn before_a_new_start(self) -> Option<Self> {
                match self {
                    $(Self::$variant(change) => change.before_a_new_start().map(Self::$variant),)*
                }
            }
        }

        /// What has to change; none where all is as written. An observation of another kind differs in nothing
        /// that could be said, and the engine never makes one.
        pub fn diff(spec: &Spec, observed: &Observed) -> Option<Change> {
            match (spec, observed) {
                $((Spec::$variant(spec), Observed::$variant(observed)) => $module::diff(spec, observed).map(Change::$variant),)*
                (spec, _) => unreachable!("{} was observed as another kind", spec.id()),
            }
        }
    };
}

muster_catalog::each_kind!(kinds);

/// What a notification does, on top of the difference: a restart of what runs, a run of what waits to be told.
pub fn on_notify(spec: &Spec, observed: &Observed) -> Option<Change> {
    match (spec, observed) {
        (Spec::Service(spec), Observed::Service(observed)) => service::on_notify(spec, observed).map(Change::Service),
        (Spec::Command(spec), Observed::Command(observed)) => command::on_notify(spec, observed).map(Change::Command),
        (Spec::Container(spec), Observed::Container(observed)) => {
            container::on_notify(spec, observed).map(Change::Container)
        }
        (_, _) => None,
    }
}

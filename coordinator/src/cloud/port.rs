//! What the executor asks of a provider: one reading, and idempotent "ensure" steps.
//!
//! Every adapter keeps to `contract`: the same token never makes two instances, what a name or an address already
//! belongs to is told and never taken, and gone already is success for a removal.

use std::{collections::BTreeSet, fmt, future::Future, net::IpAddr, pin::Pin};

use muster_ids::{DiskName, EndpointName, NodeName};
use muster_planner::{
    Inventory,
    blueprint::{DiskPlan, LoadBalancerPlan, NetworkPlan, NodePlan},
};

/// A boxed future: the port is used as a trait object.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CloudError>> + Send + 'a>>;

/// Why the provider did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Try again: throttled, lost, or not yet visible. It may have been done.
    #[error("{0}")]
    Passing(String),
    /// It will not get better by itself; the hint says what to do.
    #[error("{what}")]
    Final { what: String, hint: String },
}

/// What a new instance boots with. No secret: those are in [`Proof`], which travels beside user-data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    pub user_data: String,
}

/// The instance's own proof for enrolment: single use, bound to instance and address.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    pub token: String,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

/// What a load balancer is to its clients just now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// The nodes that it sends to, as it says itself.
    pub to: BTreeSet<NodeName>,
    /// What came of a request through it, for people, where that was no good.
    pub trouble: Option<String>,
}

/// A provider of instances, disks and load balancers.
pub trait Cloud: Send + Sync {
    /// One reading; incomplete where a part of it failed. An error when nothing could be read.
    fn observe(&self) -> Answer<'_, Inventory>;
    fn ensure_network<'a>(&'a self, plan: &'a NetworkPlan) -> Answer<'a, ()>;
    /// Returns the provider's id.
    fn ensure_disk<'a>(&'a self, name: &'a DiskName, plan: &'a DiskPlan) -> Answer<'a, String>;
    /// Creates the instance, or finishes and starts one that was. The same token never makes two. Returns the provider's
    /// id; a provider whose tokens remember the dead may hand back a dead one's, which readings then show to be gone.
    fn ensure_instance<'a>(
        &'a self,
        name: &'a NodeName,
        plan: &'a NodePlan,
        boot: &'a Bootstrap,
        proof: &'a Proof,
    ) -> Answer<'a, String>;
    /// Starts the instance with this id and name again; makes none. Running already is success, gone is a passing error.
    fn start_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()>;
    /// Only the instance with this id and name; gone already is success.
    fn remove_instance<'a>(&'a self, name: &'a NodeName, id: &'a str) -> Answer<'a, ()>;
    /// Creates it, gives it this configuration, starts it. Connections live through a change of targets.
    fn ensure_load_balancer<'a>(&'a self, name: &'a EndpointName, plan: &'a LoadBalancerPlan) -> Answer<'a, ()>;
    /// Asks a load balancer as its clients do; nothing where the provider cannot. What it comes to is no error.
    fn served<'a>(&'a self, _plan: &'a LoadBalancerPlan) -> Answer<'a, Option<Served>> {
        Box::pin(async { Ok(None) })
    }
    /// Only the load balancer with this id and name; gone already is success.
    fn remove_load_balancer<'a>(&'a self, name: &'a EndpointName, id: &'a str) -> Answer<'a, ()>;
    /// Whether an instance of this name and id exists, runs and has this address: the check behind enrolment.
    fn vouch<'a>(&'a self, name: &'a NodeName, id: &'a str, address: IpAddr) -> Answer<'a, bool>;
}

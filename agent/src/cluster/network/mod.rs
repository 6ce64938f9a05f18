//! The kernel's side of the pod network: routes, the VXLAN device and its neighbours by netlink, the masquerade by nft.

mod masquerade;
mod netlink;

pub use masquerade::{masquerade, masqueraded};
pub use netlink::{NetlinkError, changes, execute, look};

//! This node's part of the pod network: the kernel by netlink and nft, the pods by CNI's configuration.

use std::net::Ipv4Addr;

use muster_catalog::kinds::pod_network::{Mode, PodNetworkSpec};
use muster_plan::kinds::pod_network::{CONFLIST, Change, Observed};

use crate::{Context, Done, StepError, cluster::network};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

pub async fn observe(ctx: &Context, spec: &PodNetworkSpec) -> Result<Observed, StepError> {
    match spec.mode {
        Mode::External => return Ok(Observed::default()),
        Mode::Vxlan | Mode::Direct => {}
    }
    let address: Ipv4Addr = spec.address.parse().map_err(|_| {
        StepError::failed(format!("`{}` is no IPv4 address: pod networks are IPv4 so far", spec.address))
    })?;
    let mut observed = network::look(address).await?;
    if observed.interface.is_none() {
        return Err(StepError::failed(format!("no interface of this node has the address {address}"))
            .help("the blueprint and the machine disagree about its address")
            .retry());
    }
    if observed.down {
        let name = observed.interface.as_ref().map(|(name, _)| name.as_str()).unwrap_or_default();
        return Err(StepError::waits(format!("the link of {name} to come up: with it its routes went")));
    }
    observed.conflist = ctx.files.read(CONFLIST)?.map(|text| String::from_utf8_lossy(&text).into_owned());
    observed.masquerade = network::masqueraded(ctx).await?;
    observed.ip_forward = ctx.files.read(FORWARD)?.is_some_and(|value| value.trim_ascii() == b"1");
    Ok(observed)
}

pub async fn apply(ctx: &Context, _spec: &PodNetworkSpec, change: &Change) -> Result<Done, StepError> {
    if change.ip_forward {
        ctx.files.write_in_place(FORWARD, b"1\n")?;
    }
    network::execute(change).await?;
    if let Some(pods) = change.masquerade {
        network::masquerade(ctx, pods).await?;
    }
    if let Some(conflist) = &change.conflist {
        ctx.files.write(CONFLIST, conflist.as_bytes(), 0o644, 0, 0)?;
    }
    Ok(Done::default())
}

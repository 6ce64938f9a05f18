//! The node's part of the pod network: its CNI configuration, its routes to the other nodes' pods, and the address under
//! which pods leave the cluster.
//!
//! Everything that is wanted follows from the specification and the interface that holds the node's address, so a node
//! routes right after a reboot with no coordinator and no API server. Only routes and entries of our own protocol number
//! and device are looked at, so nothing that somebody else made can be taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use muster_catalog::kinds::pod_network::{Mode, PodNetworkSpec};
use serde_json::json;

use super::Describe;
use crate::row::Action;

/// The VXLAN device, and what it is made with.
pub const DEVICE: &str = "muster.vxlan";
pub const VNI: u32 = 4096;
pub const PORT: u16 = 4789;
/// Bytes of a VXLAN frame around the pod's packet over IPv4.
pub const VXLAN_OVERHEAD: u32 = 50;
/// The number of our routes in `ip route show proto 109`.
pub const PROTOCOL: u8 = 109;
pub const CONFLIST: &str = "/etc/cni/net.d/10-muster.conflist";

/// An IPv4 range, normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Range {
    /// None: no IPv4 CIDR (the language refuses such a text before it comes here).
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        (prefix <= 32).then(|| Self::new(address, prefix))
    }

    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Self { address: Ipv4Addr::from(u32::from(address) & mask), prefix }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A hardware address.
pub type Mac = [u8; 6];

/// Every node's VXLAN device has the address that follows from the node's, so that no node has to be asked for it:
/// locally administered, `m`, and the four bytes of the address.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x6d, a, b, c, d]
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The interface with the node's address: its name and MTU. None: the address is on no interface.
    pub interface: Option<(String, u32)>,
    /// It carries no packets: no route can be by it.
    pub down: bool,
    pub conflist: Option<String>,
    pub device: Option<Device>,
    pub routes: BTreeMap<Range, Route>,
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
    /// The pods' range that is masqueraded, as our table says.
    pub masquerade: Option<Range>,
    pub ip_forward: bool,
}

/// The VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub vni: u32,
    pub port: u16,
    pub local: Option<Ipv4Addr>,
    pub mac: Mac,
    pub mtu: u32,
    pub up: bool,
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// A route to another node's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub via: Ipv4Addr,
    pub device: String,
    pub onlink: bool,
}

/// What the specification asks for on this interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub conflist: String,
    pub device: Option<Device>,
    pub routes: BTreeMap<Range, Route>,
    pub neighbours: BTreeMap<Ipv4Addr, Mac>,
    pub forwarding: BTreeMap<Mac, Ipv4Addr>,
    pub masquerade: Range,
}

/// What has to be done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub ip_forward: bool,
    /// Removed before it is made again: a VXLAN device cannot change its number or port.
    pub remove_device: bool,
    pub make_device: Option<Device>,
    /// MTU, state or address of the device are put right.
    pub adjust_device: Option<Device>,
    pub remove_routes: BTreeSet<Range>,
    pub remove_neighbours: BTreeSet<Ipv4Addr>,
    pub remove_forwarding: BTreeMap<Mac, Ipv4Addr>,
    pub add_neighbours: BTreeMap<Ipv4Addr, Mac>,
    pub add_forwarding: BTreeMap<Mac, Ipv4Addr>,
    pub add_routes: BTreeMap<Range, Route>,
    pub masquerade: Option<Range>,
    /// Last: kubelet calls the node ready once it is there.
    pub conflist: Option<String>,
    creates: bool,
}

impl Change {
    /// Whether neighbours of the VXLAN device change.
    pub fn touches_device(&self) -> bool {
        !(self.remove_neighbours.is_empty()
            && self.remove_forwarding.is_empty()
            && self.add_neighbours.is_empty()
            && self.add_forwarding.is_empty())
    }
}

impl Describe for Change {
    fn action(&self) -> Action {
        if self.creates { Action::Create } else { Action::Change }
    }

    fn detail(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.ip_forward {
            lines.push("+ net.ipv4.ip_forward = 1".to_owned());
        }
        if self.remove_device {
            lines.push(format!("- device {DEVICE}"));
        }
        lines.extend(self.make_device.iter().map(|d| format!("+ device {DEVICE}, VXLAN {}, MTU {}", d.vni, d.mtu)));
        lines.extend(self.adjust_device.iter().map(|d| format!("~ device {DEVICE}, MTU {}", d.mtu)));
        lines.extend(self.remove_routes.iter().map(|range| format!("- route {range}")));
        lines.extend(
            self.add_routes
                .iter()
                .map(|(range, route)| format!("+ route {range} via {} dev {}", route.via, route.device)),
        );
        let entries = self.add_neighbours.len().max(self.add_forwarding.len());
        if entries > 0 {
            lines.push(format!("+ {entries} neighbours of {DEVICE}"));
        }
        let stale = self.remove_neighbours.len().max(self.remove_forwarding.len());
        if stale > 0 {
            lines.push(format!("- {stale} neighbours of {DEVICE}"));
        }
        lines.extend(self.masquerade.iter().map(|pods| format!("+ masquerade of pods that leave {pods}")));
        if self.conflist.is_some() {
            lines.push(format!("~ {CONFLIST}"));
        }
        lines
    }
}

/// What the specification asks for. None: with `external`, or where the specification holds no addresses.
pub fn wanted(spec: &PodNetworkSpec, interface: &(String, u32)) -> Option<Wanted> {
    let (name, interface_mtu) = interface;
    let local: Ipv4Addr = spec.address.parse().ok()?;
    let (pods, own) = (Range::parse(&spec.pods)?, Range::parse(&spec.node_pods)?);
    let vxlan = match spec.mode {
        Mode::Vxlan => true,
        Mode::Direct => false,
        Mode::External => return None,
    };
    let most = if vxlan { interface_mtu.saturating_sub(VXLAN_OVERHEAD) } else { *interface_mtu };
    let mtu = spec.mtu.unwrap_or(most);
    let mut wanted = Wanted {
        conflist: conflist(own, mtu),
        device: vxlan.then(|| Device {
            vni: VNI,
            port: PORT,
            local: Some(local),
            mac: mac_of(local),
            mtu,
            up: true,
            addresses: [own.address].into(),
        }),
        routes: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        forwarding: BTreeMap::new(),
        masquerade: pods,
    };
    for peer in &spec.peers {
        let (Ok(address), Some(range)) = (peer.address.parse::<Ipv4Addr>(), Range::parse(&peer.pods)) else { continue };
        if address == local {
            continue;
        }
        let route = if vxlan {
            // The first address of its range belongs to no pod: it is the peer's device.
            wanted.neighbours.insert(range.address, mac_of(address));
            wanted.forwarding.insert(mac_of(address), address);
            Route { via: range.address, device: DEVICE.to_owned(), onlink: true }
        } else {
            Route { via: address, device: name.clone(), onlink: false }
        };
        wanted.routes.insert(range, route);
    }
    Some(wanted)
}

/// CNI's list of plugins: a routed pair of interfaces for each pod, addresses from this node's range, host ports.
pub fn conflist(own: Range, mtu: u32) -> String {
    let list = json!({
        "cniVersion": "1.0.0",
        "name": "muster",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": false,
                "mtu": mtu,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": own.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    });
    format!("{list:#}\n")
}

/// What has to change; none where all is as written or the network is left to others.
pub fn diff(spec: &PodNetworkSpec, observed: &Observed) -> Option<Change> {
    let wanted = wanted(spec, observed.interface.as_ref()?)?;
    let rebuild = match (&wanted.device, &observed.device) {
        (Some(wanted), Some(seen)) => {
            (wanted.vni, wanted.port, wanted.local, wanted.mac) != (seen.vni, seen.port, seen.local, seen.mac)
        }
        (None, Some(_)) => true,
        (_, None) => false,
    };
    // What hangs on a device goes with it.
    let gone = rebuild || observed.device.is_none();
    let nothing = (BTreeMap::new(), BTreeMap::new());
    let (neighbours, forwarding) =
        if gone { (&nothing.0, &nothing.1) } else { (&observed.neighbours, &observed.forwarding) };
    let routes: BTreeMap<_, _> = observed
        .routes
        .iter()
        .filter(|(_, route)| !(rebuild && route.device == DEVICE))
        .map(|(range, route)| (*range, route.clone()))
        .collect();
    let change = Change {
        ip_forward: !observed.ip_forward,
        remove_device: rebuild,
        make_device: wanted.device.clone().filter(|_| gone),
        adjust_device: wanted.device.clone().filter(|device| !gone && observed.device.as_ref() != Some(device)),
        remove_routes: routes.keys().filter(|range| !wanted.routes.contains_key(range)).copied().collect(),
        remove_neighbours: neighbours.keys().filter(|ip| !wanted.neighbours.contains_key(ip)).copied().collect(),
        remove_forwarding: differing(forwarding, &wanted.forwarding, true),
        add_neighbours: differing(&wanted.neighbours, neighbours, false),
        add_forwarding: differing(&wanted.forwarding, forwarding, false),
        add_routes: differing(&wanted.routes, &routes, false),
        masquerade: (observed.masquerade != Some(wanted.masquerade)).then_some(wanted.masquerade),
        conflist: (observed.conflist.as_ref() != Some(&wanted.conflist)).then_some(wanted.conflist),
        creates: observed.conflist.is_none(),
    };
    (change != Change { creates: change.creates, ..Change::default() }).then_some(change)
}

/// Entries of `left` that `right` has not; with `only_keys`, whose key it has not.
fn differing<K: Ord + Clone, V: PartialEq + Clone>(
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
    only_keys: bool,
) -> BTreeMap<K, V> {
    left.iter()
        .filter(|(key, value)| match right.get(*key) {
            None => true,
            Some(other) => !only_keys && other != *value,
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use muster_catalog::kinds::pod_network::Peer;
    use proptest::prelude::*;

    use super::*;

    fn spec(mode: Mode) -> PodNetworkSpec {
        PodNetworkSpec {
            mode,
            pods: "10.244.0.0/16".into(),
            node_pods: "10.244.1.0/24".into(),
            address: "10.89.1.1".into(),
            peers: vec![
                Peer { name: "a".into(), address: "10.89.1.2".into(), pods: "10.244.2.0/24".into() },
                Peer { name: "b".into(), address: "10.89.1.3".into(), pods: "10.244.3.0/24".into() },
            ],
            mtu: None,
        }
    }

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap()
    }

    /// The executor, on the observation: what a right executor leaves.
    fn applied(observed: &Observed, change: &Change) -> Observed {
        let mut after = observed.clone();
        after.ip_forward |= change.ip_forward;
        if change.remove_device {
            after.device = None;
            after.routes.retain(|_, r| r.device != DEVICE);
            after.neighbours.clear();
            after.forwarding.clear();
        }
        if let Some(device) = change.make_device.clone().or(change.adjust_device.clone()) {
            after.device = Some(device);
        }
        after.routes.retain(|k, _| !change.remove_routes.contains(k));
        after.neighbours.retain(|k, _| !change.remove_neighbours.contains(k));
        after.forwarding.retain(|k, _| !change.remove_forwarding.contains_key(k));
        after.routes.extend(change.add_routes.clone());
        after.neighbours.extend(change.add_neighbours.clone());
        after.forwarding.extend(change.add_forwarding.clone());
        after.masquerade = change.masquerade.or(after.masquerade);
        after.conflist = change.conflist.clone().or(after.conflist);
        after
    }

    fn blank() -> Observed {
        Observed { interface: Some(("eth0".into(), 1500)), ..Observed::default() }
    }

    #[test]
    fn a_blank_node_gets_all_of_it_and_then_nothing() {
        for mode in [Mode::Vxlan, Mode::Direct] {
            let change = diff(&spec(mode), &blank()).unwrap();
            assert_eq!(change.action(), Action::Create);
            assert_eq!(diff(&spec(mode), &applied(&blank(), &change)), None, "{mode:?}");
        }
        assert_eq!(diff(&spec(Mode::External), &blank()), None);
    }

    #[test]
    fn vxlan_routes_go_by_the_peers_devices() {
        let wanted = wanted(&spec(Mode::Vxlan), &("eth0".into(), 1500)).unwrap();
        let device = wanted.device.unwrap();
        assert_eq!((device.mtu, device.mac), (1450, [0x02, 0x6d, 10, 89, 1, 1]));
        assert_eq!(
            wanted.routes[&range("10.244.2.0/24")],
            Route { via: "10.244.2.0".parse().unwrap(), device: DEVICE.into(), onlink: true }
        );
        assert_eq!(wanted.forwarding[&mac_of("10.89.1.2".parse().unwrap())], "10.89.1.2".parse::<Ipv4Addr>().unwrap());
        insta::assert_snapshot!(wanted.conflist);
    }

    #[test]
    fn a_removed_route_is_one_route_to_put_back() {
        let all = applied(&blank(), &diff(&spec(Mode::Direct), &blank()).unwrap());
        let mut less = all.clone();
        less.routes.remove(&range("10.244.3.0/24"));
        let change = diff(&spec(Mode::Direct), &less).unwrap();
        assert_eq!(change.detail(), ["+ route 10.244.3.0/24 via 10.89.1.3 dev eth0"]);
        assert_eq!(change.action(), Action::Change);
    }

    #[test]
    fn a_peer_that_left_takes_its_route_along() {
        let all = applied(&blank(), &diff(&spec(Mode::Vxlan), &blank()).unwrap());
        let mut fewer = spec(Mode::Vxlan);
        fewer.peers.pop();
        let change = diff(&fewer, &all).unwrap();
        assert_eq!(change.remove_routes, [range("10.244.3.0/24")].into());
        assert_eq!(diff(&fewer, &applied(&all, &change)), None);
    }

    #[test]
    fn changing_the_mode_takes_the_device_away() {
        let vxlan = applied(&blank(), &diff(&spec(Mode::Vxlan), &blank()).unwrap());
        let change = diff(&spec(Mode::Direct), &vxlan).unwrap();
        assert!(change.remove_device && change.make_device.is_none());
        assert_eq!(diff(&spec(Mode::Direct), &applied(&vxlan, &change)), None);
    }

    proptest! {
        #[test]
        fn one_change_is_enough_from_anywhere(
            routes in prop::collection::btree_map((0u8..6, 0u8..2), 0u8..4, 0..6),
            neighbours in prop::collection::btree_map(0u8..6, 0u8..4, 0..6),
            device in prop::option::of((any::<bool>(), 1400u32..1500)),
            masquerade in any::<bool>(),
            vxlan in any::<bool>(),
        ) {
            let mode = if vxlan { Mode::Vxlan } else { Mode::Direct };
            let device = device.map(|(ours, mtu)| Device {
                vni: if ours { VNI } else { 7 }, port: PORT, local: Some("10.89.1.1".parse().unwrap()),
                mac: mac_of("10.89.1.1".parse().unwrap()), mtu, up: ours, addresses: BTreeSet::new(),
            });
            let observed = Observed {
                routes: routes.into_iter().map(|((third, on), via)| (
                    range(&format!("10.244.{third}.0/24")),
                    Route { via: Ipv4Addr::new(10, 89, 1, via), device: if on == 0 { DEVICE.into() } else { "eth0".into() }, onlink: on == 0 },
                )).filter(|(_, r)| device.is_some() || r.device != DEVICE).collect(),
                neighbours: if device.is_some() { neighbours.into_iter().map(|(a, b)| (Ipv4Addr::new(10, 244, a, 0), mac_of(Ipv4Addr::new(10, 89, 1, b)))).collect() } else { BTreeMap::new() },
                device,
                masquerade: masquerade.then(|| range("10.0.0.0/8")),
                ..blank()
            };
            if let Some(change) = diff(&spec(mode), &observed) {
                prop_assert_eq!(diff(&spec(mode), &applied(&observed, &change)), None);
            }
        }
    }
}

//! Routes, devices and neighbours by rtnetlink. Reads everything of ours, and writes what a change says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use futures::{Stream, StreamExt, TryStreamExt};
use muster_plan::kinds::pod_network::{Change, DEVICE, Device, Mac, Observed, PROTOCOL, Range, Route};
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, MulticastGroup, RouteMessageBuilder,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::AddressAttribute,
        link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol},
    },
};

/// The kernel said no.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("no netlink socket can be opened")]
    Socket(#[source] std::io::Error),
    #[error("the kernel refuses to {what}")]
    Refused {
        what: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("there is no interface {0}")]
    NoInterface(String),
}

impl From<NetlinkError> for crate::StepError {
    fn from(error: NetlinkError) -> Self {
        let message = error.to_string();
        match error {
            NetlinkError::Socket(source) => Self::failed(message).because(source),
            NetlinkError::Refused { source, .. } => Self::failed(message).because(source).retry(),
            NetlinkError::NoInterface(_) => Self::failed(message).retry(),
        }
    }
}

fn refused(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    let what = what.into();
    move |source| NetlinkError::Refused { what, source }
}

/// A socket and the task that reads it; dropping it ends both.
struct Socket {
    handle: Handle,
    reader: tokio::task::JoinHandle<()>,
}

impl Socket {
    fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _messages) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        Ok(Self { handle, reader: tokio::spawn(connection) })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// What the kernel has of ours, and the interface that holds `address`.
pub async fn look(address: Ipv4Addr) -> Result<Observed, NetlinkError> {
    let socket = Socket::open()?;
    let handle = &socket.handle;
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(refused("list the interfaces"))?;
    let names: BTreeMap<u32, (String, u32)> =
        links.iter().map(|link| (link.header.index, name_and_mtu(link))).collect();
    let mut observed = Observed::default();
    let vxlan = links.iter().find(|link| name_and_mtu(link).0 == DEVICE);
    observed.device = vxlan.map(device);

    let addresses: Vec<_> =
        handle.address().get().execute().try_collect().await.map_err(refused("list the addresses"))?;
    for message in addresses {
        let local = local(&message.attributes);
        if local == Some(address) {
            observed.interface = names.get(&message.header.index).cloned();
            let link = links.iter().find(|link| link.header.index == message.header.index);
            observed.down = link.is_some_and(|link| !is_up(link));
        }
        if let (Some(local), Some(link), Some(device)) = (local, vxlan, observed.device.as_mut())
            && message.header.index == link.header.index
        {
            device.addresses.insert(local);
        }
    }
    observed.routes = routes(handle, &names).await?;
    if let Some(link) = vxlan {
        (observed.neighbours, observed.forwarding) = neighbours(handle, link.header.index).await?;
    }
    Ok(observed)
}

fn name_and_mtu(link: &LinkMessage) -> (String, u32) {
    link.attributes.iter().fold((String::new(), 0), |(name, mtu), attribute| match attribute {
        LinkAttribute::IfName(name) => (name.clone(), mtu),
        LinkAttribute::Mtu(mtu) => (name, *mtu),
        _other => (name, mtu),
    })
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device {
        vni: 0,
        port: 0,
        local: None,
        mac: [0; 6],
        mtu: name_and_mtu(link).1,
        up: link.header.flags.contains(LinkFlags::Up),
        addresses: Default::default(),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(mac) => device.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    let LinkInfo::Data(InfoData::Vxlan(data)) = info else { continue };
                    for value in data {
                        match value {
                            InfoVxlan::Id(vni) => device.vni = *vni,
                            InfoVxlan::Port(port) => device.port = *port,
                            InfoVxlan::Local(local) => device.local = Some(*local),
                            _other => {}
                        }
                    }
                }
            }
            _other => {}
        }
    }
    device
}

async fn routes(handle: &Handle, names: &BTreeMap<u32, (String, u32)>) -> Result<BTreeMap<Range, Route>, NetlinkError> {
    let all: Vec<RouteMessage> = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute()
        .try_collect()
        .await
        .map_err(refused("list the routes"))?;
    Ok(all.iter().filter_map(|message| ours(message, names)).collect())
}

/// Our own routes are those of our protocol number in the main table.
fn ours(message: &RouteMessage, names: &BTreeMap<u32, (String, u32)>) -> Option<(Range, Route)> {
    if !is_ours(message) {
        return None;
    }
    let (mut to, mut via, mut device) = (None, Ipv4Addr::UNSPECIFIED, String::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => via = *gateway,
            RouteAttribute::Oif(index) => device = names.get(index).map(|(name, _)| name.clone()).unwrap_or_default(),
            _other => {}
        }
    }
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    Some((Range::new(to?, message.header.destination_prefix_length), Route { via, device, onlink }))
}

fn is_ours(message: &RouteMessage) -> bool {
    message.header.protocol == RouteProtocol::Other(PROTOCOL) && message.header.table == MAIN_TABLE
}

/// RT_TABLE_MAIN.
const MAIN_TABLE: u8 = 254;

type Neighbours = (BTreeMap<Ipv4Addr, Mac>, BTreeMap<Mac, Ipv4Addr>);

async fn neighbours(handle: &Handle, index: u32) -> Result<Neighbours, NetlinkError> {
    let mut seen = Neighbours::default();
    for family in [AddressFamily::Inet, AddressFamily::Bridge] {
        let all: Vec<NeighbourMessage> = handle
            .neighbours()
            .get()
            .set_address_family(family)
            .execute()
            .try_collect()
            .await
            .map_err(refused("list the neighbours"))?;
        for message in all.iter().filter(|message| message.header.ifindex == index) {
            let (mut ip, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => ip = Some(*address),
                    // Of a forwarding entry the family says nothing of its destination's.
                    NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                        ip = <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from);
                    }
                    NeighbourAttribute::LinkLayerAddress(address) => mac = Mac::try_from(address.as_slice()).ok(),
                    _other => {}
                }
            }
            let (Some(ip), Some(mac)) = (ip, mac) else { continue };
            if family == AddressFamily::Bridge {
                seen.1.insert(mac, ip);
            } else if message.header.state == NeighbourState::Permanent {
                seen.0.insert(ip, mac);
            }
        }
    }
    Ok(seen)
}

/// Does what the change says of devices, neighbours and routes, in its order.
pub async fn execute(change: &Change) -> Result<(), NetlinkError> {
    let socket = Socket::open()?;
    let handle = &socket.handle;
    if change.remove_device
        && let Some(link) = find(handle, DEVICE).await?
    {
        handle.link().del(link).execute().await.map_err(refused(format!("remove {DEVICE}")))?;
    }
    if let Some(device) = &change.make_device {
        let mut vxlan = LinkVxlan::new(DEVICE, device.vni).port(device.port).learning(false);
        if let Some(local) = device.local {
            vxlan = vxlan.local(local);
        }
        let message = vxlan.address(device.mac.to_vec()).mtu(device.mtu).build();
        handle.link().add(message).execute().await.map_err(refused(format!("make {DEVICE}")))?;
    }
    if let Some(device) = change.make_device.as_ref().or(change.adjust_device.as_ref()) {
        adjust(handle, device).await?;
    }
    if change.touches_device() {
        let index = find(handle, DEVICE).await?.ok_or_else(|| NetlinkError::NoInterface(DEVICE.to_owned()))?;
        write_neighbours(handle, index, change).await?;
    }
    write_routes(handle, change).await
}

async fn find(handle: &Handle, name: &str) -> Result<Option<u32>, NetlinkError> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(refused("list the interfaces"))?;
    Ok(links.iter().find(|link| name_and_mtu(link).0 == name).map(|link| link.header.index))
}

async fn adjust(handle: &Handle, device: &Device) -> Result<(), NetlinkError> {
    let index = find(handle, DEVICE).await?.ok_or_else(|| NetlinkError::NoInterface(DEVICE.to_owned()))?;
    let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(device.mtu).up().build();
    handle.link().set(message).execute().await.map_err(refused(format!("bring {DEVICE} up")))?;
    let all: Vec<_> = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute()
        .try_collect()
        .await
        .map_err(refused("list the addresses"))?;
    for message in all {
        let local = local(&message.attributes);
        if local.is_some_and(|local| !device.addresses.contains(&local)) {
            handle.address().del(message).execute().await.map_err(refused(format!("take an address from {DEVICE}")))?;
        }
    }
    for address in &device.addresses {
        let request = handle.address().add(index, IpAddr::V4(*address), 32).replace();
        request.execute().await.map_err(refused(format!("give {DEVICE} its address")))?;
    }
    Ok(())
}

async fn write_neighbours(handle: &Handle, index: u32, change: &Change) -> Result<(), NetlinkError> {
    let mut stale: Vec<NeighbourMessage> = Vec::new();
    for address in &change.remove_neighbours {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(*address)));
        stale.push(message);
    }
    for (mac, address) in &change.remove_forwarding {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(*address)));
        stale.push(message);
    }
    for message in stale {
        handle.neighbours().del(message).execute().await.map_err(refused("remove a neighbour"))?;
    }
    for (address, mac) in &change.add_neighbours {
        let request = handle.neighbours().add(index, IpAddr::V4(*address)).link_layer_address(mac).replace();
        request.execute().await.map_err(refused(format!("add the neighbour {address}")))?;
    }
    for (mac, address) in &change.add_forwarding {
        let request = handle.neighbours().add_bridge(index, mac);
        let request = request.destination(IpAddr::V4(*address)).flags(NeighbourFlags::Own).replace();
        request.execute().await.map_err(refused(format!("add the forwarding to {address}")))?;
    }
    Ok(())
}

async fn write_routes(handle: &Handle, change: &Change) -> Result<(), NetlinkError> {
    for range in &change.remove_routes {
        let message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.address, range.prefix)
            .protocol(RouteProtocol::Other(PROTOCOL))
            .build();
        handle.route().del(message).execute().await.map_err(refused(format!("remove the route to {range}")))?;
    }
    for (range, route) in &change.add_routes {
        let index =
            find(handle, &route.device).await?.ok_or_else(|| NetlinkError::NoInterface(route.device.clone()))?;
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.address, range.prefix)
            .gateway(route.via)
            .output_interface(index)
            .protocol(RouteProtocol::Other(PROTOCOL));
        if route.onlink {
            message = message.onlink();
        }
        let request = handle.route().add(message.build()).replace();
        request.execute().await.map_err(refused(format!("add the route to {range}")))?;
    }
    Ok(())
}

/// Something of ours went away: a route, the device, a neighbour of it; or the interface with the node's address went down
/// or came up, with which its routes go and of which the kernel says nothing. One item each time.
pub fn changes(address: Option<Ipv4Addr>) -> Result<impl Stream<Item = ()> + Send, NetlinkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Ifaddr];
    let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Socket)?;
    let socket = Socket { handle, reader: tokio::spawn(connection) };
    let mut links = Links { address, ..Links::default() };
    Ok(messages.filter_map(move |(message, _)| {
        let _held_while_the_stream_lives = &socket;
        let NetlinkPayload::InnerMessage(message) = message.payload else { return std::future::ready(None) };
        std::future::ready((links.turned(&message) || concerns_us(&message)).then_some(()))
    }))
}

/// Interfaces, as far as was heard of them.
#[derive(Default)]
struct Links {
    address: Option<Ipv4Addr>,
    /// Which carry packets.
    up: BTreeMap<u32, bool>,
}

impl Links {
    /// Whether an interface that was heard of before went down or came up, or the node's address came or went. A pod's comes
    /// up once.
    fn turned(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                let up = is_up(link);
                let before = self.up.insert(link.header.index, up);
                // One that was not heard of yet was there before the watch: an end of it is news, a beginning is a new one's.
                let pods = name_and_mtu(link).0.starts_with("veth");
                !pods && before.map_or(!up, |before| before != up)
            }
            RouteNetlinkMessage::DelLink(link) => {
                self.up.remove(&link.header.index);
                false
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.address.is_some() && local(&address.attributes) == self.address
            }
            _other_kinds => false,
        }
    }
}

fn local(attributes: &[AddressAttribute]) -> Option<Ipv4Addr> {
    attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(local)) => Some(*local),
        _not_it => None,
    })
}

/// It is set up, and something is at the other end.
fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

fn concerns_us(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::DelRoute(route) => is_ours(route),
        RouteNetlinkMessage::DelLink(link) | RouteNetlinkMessage::NewLink(link) => name_and_mtu(link).0 == DEVICE,
        RouteNetlinkMessage::DelAddress(address) => address
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, AddressAttribute::Label(label) if label == DEVICE)),
        RouteNetlinkMessage::DelNeighbour(neighbour) => neighbour.header.flags.contains(NeighbourFlags::Own),
        _other_kinds => false,
    }
}

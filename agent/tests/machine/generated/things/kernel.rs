//! Kernel parameters of the node's own network, in the words of people and of the kernel.

use super::pick;
use crate::generated::case::{Dice, Thing, toml};

/// As written, the parameter, as `sysctl` says it.
const PARAMETERS: [(&str, &str, &str, &str); 9] = [
    (
        "net.ipv4.ip_local_reserved_ports",
        "32000,30000-30010,30011",
        "net.ipv4.ip_local_reserved_ports",
        "30000-30011,32000",
    ),
    ("net.ipv4.ip_local_port_range", "20000  50000", "net.ipv4.ip_local_port_range", "20000\t50000"),
    ("net.ipv4.conf.lo.forwarding", "1", "net.ipv4.conf.lo.forwarding", "1"),
    ("net.ipv4.tcp_rmem", "4096\t131072\t6291456", "net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
    ("net.ipv4.conf.all.rp_filter", "2", "net.ipv4.conf.all.rp_filter", "2"),
    ("net.ipv4.tcp_fin_timeout", "0x20", "net.ipv4.tcp_fin_timeout", "32"),
    ("net.ipv4.tcp_ecn", " 01 ", "net.ipv4.tcp_ecn", "1"),
    ("net.ipv4.ping_group_range", "0   2147483647", "net.ipv4.ping_group_range", "0\t2147483647"),
    ("net.ipv4.tcp_keepalive_time", "600", "net.ipv4.tcp_keepalive_time", "600"),
];

pub fn parameter(_tag: &str, dice: &mut Dice) -> Thing {
    let (written, value, name, says) = pick(dice, &PARAMETERS);
    Thing { present: format!("[[sysctl]]\nkey = {}\nvalue = {}\n", toml(written), toml(value)), ..Thing::default() }
        .check(format!("sysctl --values {name}"), says)
        .owns("path:/etc/sysctl.d/zz-muster-")
}

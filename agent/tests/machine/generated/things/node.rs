//! What a node has once: its name, and its time.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing};

/// Docker gives the node its name at each start, and a file of its own for it. A machine takes it from its disk.
pub const NAMED_AT_BOOT: &str = r#"
cat > /etc/systemd/system/lab-name.service <<'UNIT'
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'umount /etc/hostname; test -s /etc/hostname || echo node-1 > /etc/hostname; hostname --file /etc/hostname'
[Install]
WantedBy=sysinit.target
UNIT
systemctl enable --now lab-name
"#;

pub fn name(tag: &str, dice: &mut Dice) -> Thing {
    let name = match dice.random_range(0..4) {
        0 => tag.to_owned(),
        1 => format!("{tag}.example.org"),
        2 => format!("a-1.{tag}"),
        // The longest.
        _ => format!("{tag}.{}", "x".repeat(63 - tag.len())),
    };
    let prep = pick(
        dice,
        &["", "printf '# by hand\\n\\n  node-1  \\n' > /etc/hostname\n", "hostname other\n", "rm /etc/hostname\n"],
    );
    let other =
        if dice.random_bool(0.2) { format!("hostname {name}; echo {name} > /etc/hostname\n") } else { prep.to_owned() };
    Thing { prep: other, present: format!("[[hostname]]\nname = \"{name}\"\n"), ..Thing::default() }
        .owns("path:/etc/hostname")
        .check("uname --nodename; cat /etc/hostname", format!("{name}\n{name}"))
}

pub fn time(_tag: &str, dice: &mut Dice) -> Thing {
    let (zone, says) = pick(
        dice,
        &[
            ("Asia/Tokyo", "+0900 JST"),
            ("America/Argentina/Buenos_Aires", "-0300 -03"),
            ("Asia/Kathmandu", "+0545 +0545"),
            ("Etc/GMT+5", "-0500 -05"),
            ("UTC", "+0000 UTC"),
        ],
    );
    let prep = pick(
        dice,
        &[
            "",
            "ln -sfn ../usr/share/zoneinfo/Europe/Paris /etc/localtime; echo Europe/Paris > /etc/timezone\n",
            "rm -f /etc/localtime /etc/timezone\n",
            "rm -f /etc/localtime; cp /usr/share/zoneinfo/Europe/Paris /etc/localtime\n",
            "echo junk > /etc/timezone\n",
        ],
    );
    Thing { prep: prep.to_owned(), present: format!("[[timezone]]\nname = \"{zone}\"\n"), ..Thing::default() }
        .check("date '+%z %Z' --date 2026-01-15", says)
        .check("cat /etc/timezone; realpath --canonicalize-missing --no-symlinks \"/etc/$(readlink /etc/localtime | sed 's,^/,../,')\"", format!("{zone}\n/usr/share/zoneinfo/{zone}"))
        .owns("path:/etc/localtime")
        .owns("path:/etc/timezone")
}

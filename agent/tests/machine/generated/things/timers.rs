//! Timers with programs of their own.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing};

pub fn timer(tag: &str, dice: &mut Dice) -> Thing {
    let when = pick(
        dice,
        &[
            "on_calendar = \"Mon..Fri 02:30\"\n",
            "on_calendar = [\"daily\", \"*-*-01 04:00:00\"]\npersistent = true\n",
            "every = \"36h\"\n",
            "on_boot = \"20h\"\nrandom_delay = \"10min\"\n",
        ],
    );
    let user = if dice.random_bool(0.5) { "user = \"daemon\"\n" } else { "" };
    Thing {
        present: format!("[[timer]]\nname = \"{tag}\"\n{when}{user}run = [\"/bin/true\", \"%s $HOME\"]\n"),
        absent: format!("[[timer]]\nname = \"{tag}\"\nabsent = true\n"),
        ..Thing::default()
    }
    .check(format!("systemctl is-active {tag}.timer; systemctl is-enabled {tag}.timer"), "active\nenabled")
    .check(format!("systemctl show --property Unit --value {tag}.timer"), format!("{tag}.service"))
    .check(format!("systemctl show --property User --value {tag}.service"), if user.is_empty() { "" } else { "daemon" })
    .gone(format!("systemctl is-active {tag}.timer; ls /etc/systemd/system/{tag}.* 2>/dev/null"), "inactive")
    .owns(format!("path:/etc/systemd/system/{tag}."))
    .owns(format!("path:/etc/systemd/system/timers.target.wants/{tag}."))
    .owns(format!("unit:{tag}."))
    .owns(format!("path:/var/lib/systemd/timers/stamp-{tag}."))
}

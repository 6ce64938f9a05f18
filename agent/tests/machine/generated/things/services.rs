//! Services: odd names, sorts and states, whose unit file is the site's.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing, sh, toml};

pub fn service(tag: &str, dice: &mut Dice) -> Thing {
    // The unit's file, the unit, and how a site may call it.
    let (file, unit, name) = match dice.random_range(0..6) {
        0 => (format!("{tag}8.2-fpm.service"), format!("{tag}8.2-fpm.service"), format!("{tag}8.2-fpm")),
        1 => (format!("{tag}@.service"), format!("{tag}@site.example.service"), format!("{tag}@site.example")),
        2 => (format!("{tag}@.service"), format!("{tag}@plain.service"), format!("{tag}@plain")),
        3 => (format!("{tag}.service"), format!("{tag}.service"), format!("{tag}.service")),
        4 => (format!("{tag}:x_y.service"), format!("{tag}:x_y.service"), format!("{tag}:x_y")),
        _ => (format!("{tag}.service"), format!("{tag}.service"), tag.to_owned()),
    };
    let oneshot = dice.random_bool(0.25);
    let (running, enabled) = pick(dice, &[(true, true), (true, true), (true, true), (false, false)]);
    // What runs and does not start at boot, and the other way round, is changed at each boot.
    let (running, enabled) = if oneshot { (true, true) } else { (running, enabled) };
    let kind = if oneshot { "Type=oneshot\n" } else { pick(dice, &["", "Type=exec\n", "Restart=always\n"]) };
    let program = if oneshot {
        format!("/bin/sh -c 'echo ran >> /run/{tag}.ran'")
    } else {
        pick(dice, &["/bin/sleep infinity", "/usr/bin/tail -f /dev/null"]).to_owned()
    };
    let content = format!(
        "[Unit]\nDescription=Made by a seed\n[Service]\n{kind}ExecStart={program}\n[Install]\nWantedBy=multi-user.target\n"
    );
    let path = format!("/etc/systemd/system/{file}");
    let at = sh(&unit);
    let mut thing = Thing {
        present: format!(
            "[[file]]\npath = {0}\ncontent = {1}\nnotify = [{2}]\n[[service]]\nname = {3}\nenabled = {enabled}\nrunning = {running}\n",
            toml(&path),
            toml(&content),
            toml(&format!("service.{name}")),
            toml(&name),
        ),
        absent: format!(
            "[[file]]\npath = {}\nabsent = true\n[[service]]\nname = {}\nenabled = false\nrunning = false\n",
            toml(&path),
            toml(&name),
        ),
        ..Thing::default()
    };
    thing = thing
        .check(format!("systemctl is-enabled -- {at}"), if enabled { "enabled" } else { "disabled" })
        .gone(format!("systemctl is-active -- {at}"), "inactive")
        .gone(format!("ls /etc/systemd/system/*/{at} 2>/dev/null || echo none"), "none")
        .owns(format!("path:{path}"))
        .owns(format!("path:/etc/systemd/system/multi-user.target.wants/{unit}"))
        .owns(format!("unit:{file}"))
        .owns(format!("unit:{unit}"));
    if oneshot {
        thing
            .check(format!("systemctl show --property Result --value -- {at}"), "success")
            .check(format!("wc -l < /run/{tag}.ran"), "1")
    } else if running {
        thing.check(format!("systemctl is-active -- {at}"), "active")
    } else {
        thing.check(format!("systemctl show --property MainPID --value -- {at}"), "0")
    }
}

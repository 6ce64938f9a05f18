//! Users and groups: numbers, memberships written and unwritten, primary groups.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing};

pub fn account(tag: &str, dice: &mut Dice) -> Thing {
    let user = format!("u{}{tag}", pick(dice, &["", "-", "_", "."]));
    let group = format!("g-{tag}");
    let uid = dice.random_range(20_000..60_000u32);
    let fixed = dice.random_bool(0.5);
    let own_group = dice.random_bool(0.5);
    let system = dice.random_bool(0.5);
    let shell = pick(dice, &[None, Some("/bin/bash"), Some("/usr/sbin/nologin")]);
    let home = dice.random_bool(0.5).then(|| format!("/home/{tag}"));
    let was_there = dice.random_bool(0.4);
    let groups = pick(dice, &[None, Some(&[][..]), Some(&["adm"][..]), Some(&["dialout", "adm"][..])]);
    let in_own_list = own_group && groups.is_some_and(|groups| !groups.is_empty()) && dice.random_bool(0.5);

    // Somebody made the primary group, and keeps it.
    let theirs = !own_group && dice.random_bool(0.3);

    let mut thing = Thing::default();
    if theirs {
        thing.prep.push_str(&format!("groupadd --gid {} {group}\n", uid + 1));
        thing = thing.gone(format!("getent group {group}"), format!("{group}:x:{}:", uid + 1));
    }
    if was_there {
        thing.prep.push_str(&format!("useradd --groups adm,cdrom --home-dir /var/lib/demo --shell /bin/sh {user}\n"));
    }
    if own_group {
        let gid = if fixed { format!("gid = {uid}\n") } else { String::new() };
        thing.present.push_str(&format!("[[group]]\nname = \"{group}\"\n{gid}"));
        thing.absent.push_str(&format!("[[group]]\nname = \"{group}\"\nabsent = true\n"));
        thing = thing.gone(format!("getent group {group} || echo none"), "none");
    }
    thing.present.push_str(&format!("[[user]]\nname = \"{user}\"\nsystem = {system}\n"));
    if fixed {
        thing.present.push_str(&format!("uid = {uid}\n"));
        thing = thing.check(format!("id --user {user}"), uid.to_string());
    }
    if own_group || theirs {
        thing.present.push_str(&format!("group = \"{group}\"\n"));
        thing = thing.check(format!("id --group --name {user}"), group.clone());
    } else if !was_there {
        thing = thing.check(format!("id --group --name {user}"), user.clone());
    }
    if let Some(shell) = shell {
        thing.present.push_str(&format!("shell = \"{shell}\"\n"));
        thing = thing.check(format!("getent passwd {user} | cut -d: -f7"), shell);
    } else if was_there {
        thing = thing.check(format!("getent passwd {user} | cut -d: -f7"), "/bin/sh");
    }
    if let Some(home) = &home {
        thing.present.push_str(&format!("home = \"{home}\"\n"));
        thing = thing.check(format!("getent passwd {user} | cut -d: -f6"), home.clone());
    } else if was_there {
        thing = thing.check(format!("getent passwd {user} | cut -d: -f6"), "/var/lib/demo");
    }
    let mut member: Vec<&str> = match groups {
        Some(groups) => {
            let own = if in_own_list { Some(group.as_str()) } else { None };
            let list: Vec<String> = groups.iter().copied().chain(own).map(|name| format!("\"{name}\"")).collect();
            thing.present.push_str(&format!("groups = [{}]\n", list.join(", ")));
            groups.to_vec()
        }
        // What is not written is left alone.
        None if was_there => vec!["adm", "cdrom"],
        None => Vec::new(),
    };
    member.sort_unstable();
    thing
        .check(
            // Membership by the group's line, the primary one left out.
            format!("getent group | awk -F: -v u={user} -v own={group} '{{n=split($4,m,\",\"); for(i=1;i<=n;i++) if(m[i]==u && $1!=own) print $1}}' | sort | tr '\\n' ' '"),
            member.join(" "),
        )
        .check(format!("getent passwd {user} | wc -l"), "1")
        .gone(format!("getent passwd {user} || echo none"), "none")
        .with_absent(&format!("[[user]]\nname = \"{user}\"\nabsent = true\n"))
        .owns(format!("passwd:{user}"))
        .owns(format!("shadow:{user}"))
        .owns(format!("group:{user}"))
        .owns(format!("gshadow:{user}"))
        .owns(format!("group:{group}"))
        .owns(format!("gshadow:{group}"))
        // Their lines hold its name.
        .owns("group:adm")
        .owns("group:cdrom")
        .owns("group:dialout")
        .owns("gshadow:adm")
        .owns("gshadow:cdrom")
        .owns("gshadow:dialout")
        .owns(format!("path:/home/{user}"))
        .owns(format!("path:/home/{tag}"))
}

impl Thing {
    fn with_absent(mut self, toml: &str) -> Self {
        self.absent.push_str(toml);
        self
    }
}

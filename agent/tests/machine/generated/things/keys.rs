//! Authorized keys among those that somebody had by hand.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{Rng, RngCore};

use super::pick;
use crate::generated::case::{Dice, Thing, hex, list, sh, toml};

/// Type and key, as OpenSSH writes them.
fn key(dice: &mut Dice) -> (&'static str, String) {
    let rsa = dice.random_bool(0.3);
    let kind = if rsa { "ssh-rsa" } else { "ssh-ed25519" };
    let mut number = vec![0; if rsa { 257 } else { 32 }];
    dice.fill_bytes(&mut number);
    let mut fields = vec![kind.as_bytes().to_vec()];
    if rsa {
        // A positive number of 2,048 bits, and odd.
        (number[0], number[1], number[256]) = (0, number[1] | 0x80, number[256] | 1);
        fields.push(vec![1, 0, 1]);
    }
    fields.push(number);
    let field = |field: Vec<u8>| [&(field.len() as u32).to_be_bytes()[..], &field].concat();
    (kind, STANDARD.encode(fields.into_iter().flat_map(field).collect::<Vec<u8>>()))
}

pub fn keys(tag: &str, dice: &mut Dice) -> Thing {
    let user = format!("k{tag}");
    let home = pick(dice, &["/home/TAG", "/home/TAG x", "/srv/TAG/deep/home"]).replace("TAG", tag);
    // Made by hand, or by the catalog.
    let by_hand = dice.random_bool(0.6);
    let count = dice.random_range(1..=3);
    let mine: Vec<_> = (0..count).map(|_| key(dice)).collect();
    let mut thing = Thing::default();
    let file = format!("{home}/.ssh/authorized_keys");
    let at = sh(&file);
    let (mut others, mut mode) = (String::new(), "600");
    let account = if by_hand {
        thing
            .prep
            .push_str(&format!("mkdir -p $(dirname {0}); useradd --create-home --home-dir {0} {user}\n", sh(&home)));
        if dice.random_bool(0.7) {
            let there;
            (there, others) = former(dice, &mine[0]);
            let (was, is) = pick(dice, &[("600", "600"), ("644", "644"), ("664", "644")]);
            mode = is;
            let folder = sh(&format!("{home}/.ssh"));
            thing.prep.push_str(&format!(
                "mkdir -m 700 {folder}; printf %s {} > {at}; chmod {was} {at}; chown -R {user}: {folder}\n",
                sh(&there)
            ));
        }
        (String::new(), String::new())
    } else {
        let head = format!("[[user]]\nname = \"{user}\"\n");
        (format!("{head}home = {}\n", toml(&home)), format!("{head}absent = true\n"))
    };
    thing.present.push_str(&account.0);
    thing.absent.push_str(&account.1);
    let mut theirs = format!("cat {at} 2>/dev/null");
    for (number, (kind, body)) in mine.iter().enumerate() {
        let options: &[&str] = pick(
            dice,
            &[
                &[][..],
                &["no-pty"],
                &["from=\"10.0.0.0/8,!10.1.0.0/16\"", "command=\"echo \\\"a b\\\" $HOME\"", "restrict"],
            ],
        );
        let own = pick(dice, &["", " alice@laptop", " with blanks  ж"]);
        let comment = pick(dice, &[None, None, Some("written # here")]);
        let name = format!("{tag}-{number}");
        let head = format!(
            "[[authorized_key]]\nname = \"{name}\"\nuser = \"{user}\"\nkey = {}\n",
            toml(&format!("{kind} {body}{own}"))
        );
        let written = comment.map_or(String::new(), |comment| format!("comment = {}\n", toml(comment)));
        thing.present.push_str(&format!("{head}options = {}\n{written}", list(options)));
        thing.absent.push_str(&format!("{head}absent = true\n"));
        let own: Vec<&str> = own.split_whitespace().collect();
        let comment = comment.map_or(if own.is_empty() { name } else { own.join(" ") }, str::to_owned);
        let options = if options.is_empty() { String::new() } else { format!("{} ", options.join(",")) };
        theirs.push_str(&format!(" | grep -vF {}", sh(body)));
        thing = thing
            .check(format!("grep -F {} {at}", sh(body)), format!("{options}{kind} {body} {comment}"))
            .gone(format!("grep -cF {} {at} 2>/dev/null | grep . || echo 0", sh(body)), "0");
    }
    // Lines of others, in their order; `grep` ends the last one.
    theirs.push_str(" | od -An -v -tx1 | tr -d ' \\n'");
    let others = hex(&crate::generated::case::whole_line(&others));
    thing
        .check(theirs.clone(), others.clone())
        .gone(theirs, others)
        .check(format!("stat --format '%a %U' -- {at}"), format!("{mode} {user}"))
        .check(format!("stat --format '%a %U' -- {}", sh(&format!("{home}/.ssh"))), format!("700 {user}"))
        .owns(format!("path:{}", if home.starts_with("/srv") { format!("/srv/{tag}") } else { home }))
        .owns(format!("passwd:{user}"))
        .owns(format!("shadow:{user}"))
        .owns(format!("group:{user}"))
        .owns(format!("gshadow:{user}"))
}

/// What somebody had, and what of it is others'.
fn former(dice: &mut Dice, (kind, body): &(&str, String)) -> (String, String) {
    let (other_kind, other) = key(dice);
    let before = pick(dice, &["", "# by hand\n\n", "\n  \n#\n"]);
    let other = format!("from=\"192.0.2.1\",no-pty {other_kind} {other} bob's  key # 1\n");
    // The very key, under other conditions.
    let same = pick(dice, &["", "no-pty KEY old comment\n", "KEY\ncommand=\"/bin/true\" KEY again\n"]);
    let same = same.replace("KEY", &format!("{kind} {body}"));
    let after = pick(dice, &["", "# the end", "# the end\n"]);
    (format!("{before}{same}{other}{after}"), format!("{before}{other}{after}"))
}

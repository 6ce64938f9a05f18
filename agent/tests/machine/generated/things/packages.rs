//! Packages of a small repository of the node's own: versions, holds, names with an architecture.

use rand::Rng;

use super::pick;
use crate::generated::case::{Dice, Thing};

/// Makes the repository: ten packages that differ in their names alone, each with versions to go up and down.
pub const REPOSITORY: &str = r#"
mkdir -p /srv/repository /tmp/make; cd /tmp/make
make() {
  name=$1 version=$2 architecture=$3 more=$4
  rm -rf here; mkdir -p here/DEBIAN here/usr/share/$name here/etc; echo $version > here/usr/share/$name/version; echo "v=$version" > here/etc/$name.conf
  printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\nDescription: made for a test\n%b' $name $version $architecture "$more" > here/DEBIAN/control
  echo /etc/$name.conf > here/DEBIAN/conffiles
  dpkg-deb --root-owner-group -Zgzip --build here "/srv/repository/${name}_$(echo $version | tr : _)_$architecture.deb" >/dev/null
}
for number in 0 1 2 3 4 5 6 7 8 9; do
  for version in 1.0-1 2.0~rc1-1 2.0-1 1:1.5-1; do make try$number $version all ''; done
  make native$number 1.0-1 $(dpkg --print-architecture) ''
done
cd /srv/repository
for file in *.deb; do dpkg-deb --field $file; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' $file $(stat --format %s $file) $(sha256sum $file | cut -d' ' -f1); done > Packages
mkdir -p /root/aside; mv /etc/apt/sources.list /etc/apt/sources.list.d/* /root/aside/ 2>/dev/null || true
echo 'deb [trusted=yes] file:/srv/repository ./' > /etc/apt/sources.list.d/try.list
apt-get update -qq
mv /srv/repository /usr/local/repository; sed -i s,/srv/,/usr/local/, /etc/apt/sources.list.d/try.list; apt-get update -qq
"#;

pub fn package(_tag: &str, dice: &mut Dice) -> Thing {
    let number = dice.random_range(0..10);
    if dice.random_bool(0.2) {
        let name = format!("native{number}");
        let written = format!("{name}:amd64");
        return Thing {
            prep: format!("dpkg --purge {name} >/dev/null 2>&1 || true"),
            present: format!("[[package]]\nname = \"{written}\"\n"),
            absent: format!("[[package]]\nname = \"{written}\"\nabsent = true\n"),
            ..Thing::default()
        }
        .check(format!("dpkg-query --show --showformat '${{Status}}' {name}"), "install ok installed")
        .gone(format!("dpkg-query --show --showformat '${{db:Status-Status}}' {name} 2>/dev/null | sed s/config-files/none/ | grep . || echo none"), "none")
        .owns(format!("package:{name}"))
        .owns(format!("path:/etc/{name}.conf"));
    }
    let name = format!("try{number}");
    let (version, says) = pick(
        dice,
        &[
            (None, "1:1.5-1"),
            (Some("1.0-*"), "1.0-1"),
            (Some("2.0-1"), "2.0-1"),
            (Some("2.0~rc1-1"), "2.0~rc1-1"),
            (Some("1:1.*"), "1:1.5-1"),
            (Some("latest"), "1:1.5-1"),
        ],
    );
    let hold = pick(dice, &[None, Some(true), Some(false)]);
    let there = pick(dice, &[None, Some("1.0-1"), Some("2.0-1")]);
    let held_before = there.is_some() && dice.random_bool(0.5);
    let mut prep =
        format!("apt-mark unhold {name} >/dev/null 2>&1 || true; dpkg --purge {name} >/dev/null 2>&1 || true\n");
    if let Some(there) = there {
        prep.push_str(&format!("apt-get install -y -qq --allow-downgrades {name}={there} >/dev/null 2>&1\n"));
        if held_before {
            prep.push_str(&format!("apt-mark hold {name} >/dev/null\n"));
        }
    }
    let says = if version.is_none() { there.unwrap_or(says) } else { says };
    let held = hold.unwrap_or(held_before);
    let mut present = format!("[[package]]\nname = \"{name}\"\n");
    if let Some(version) = version {
        present.push_str(&format!("version = \"{version}\"\n"));
    }
    if let Some(hold) = hold {
        present.push_str(&format!("hold = {hold}\n"));
    }
    Thing { prep, present, absent: format!("[[package]]\nname = \"{name}\"\nabsent = true\n"), ..Thing::default() }
        .check(format!("dpkg-query --show --showformat '${{db:Status-Status}} ${{Version}}' {name}"), format!("installed {says}"))
        .check(format!("apt-mark showhold {name}"), if held { name.clone() } else { String::new() })
        .gone(format!("dpkg-query --show --showformat '${{db:Status-Status}}' {name} 2>/dev/null | sed s/config-files/none/ | grep . || echo none"), "none")
        .owns(format!("package:{name}"))
        .owns(format!("path:/etc/{name}.conf"))
}

//! What is on a node, as lines of a key and a value: so that what belongs to others can be shown to be the same.

use std::collections::BTreeMap;

use super::case::Case;

/// Every file and folder that a catalog may touch with its metadata, ACL and digest; accounts, units, mounts, packages.
pub const SCRIPT: &str = r#"
places="/etc /srv /home /opt /usr/local /var/lib/demo"
find $places -xdev \( -path /etc/passwd -o -path /etc/group -o -path /etc/shadow -o -path /etc/gshadow -o -path /etc/subuid -o -path /etc/subgid \
  -o -name 'passwd-' -o -name 'group-' -o -name 'shadow-' -o -name 'gshadow-' -o -name 'subuid-' -o -name 'subgid-' -o -path /etc/.pwd.lock \
  -o -path /etc/fstab -o -path /etc/ld.so.cache -o -path /etc/mtab -o -path /etc/hosts -o -path /etc/resolv.conf \) -prune \
  -o -printf 'path:%p\t%y %m %U %G %l\n' 2>/dev/null \
  | sed -E 's,^path:/etc/ssl/certs/[0-9a-f]{8}\.[0-9]+\t(.*) ([^ ]+)$,path:/etc/ssl/certs/\2 by its hash\t\1,'
find $places -xdev -type f ! -path '/etc/*shadow*' ! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/sub?id*' ! -path /etc/fstab ! -path /etc/ld.so.cache \
  -exec sha256sum {} + 2>/dev/null | sed 's/^\\//; s/^\([0-9a-f]*\)  \(.*\)$/path:\2 content\t\1/'
getfacl --absolute-names --skip-base --recursive $places 2>/dev/null | awk '/^# file: /{f=substr($0,9)} /^(user|group|mask|default)/{print "path:" f " acl " $0 "\tyes"}'
for base in passwd shadow group gshadow; do sed "s/^\([^:]*\):\(.*\)$/$base:\1\t\2/" /etc/$base; done
nl -ba -w1 -s'	' /etc/fstab 2>/dev/null | cut -f2- | sed 's/$/\tline/; s/^/fstab:/'
awk '{for(i=7;$i!="-";i++); if($5 !~ "^/(var/lib|run)/docker/|^/run/credentials/") print "mount:" $5 "\t" $4 " " $(i+1) " " $(i+2)}' /proc/self/mountinfo
dpkg-query --show --showformat 'package:${binary:Package}\t${Version} ${Status}\n'
systemctl list-unit-files --no-legend --plain | awk '$2!="generated"' | sed 's/^\([^ ]*\) */unit:\1\t/'
if systemctl --quiet is-active docker; then
  # `ps` names the image by the tag that it has at the moment.
  docker ps --all --quiet | xargs --no-run-if-empty docker inspect --format '{{.Name}}{{"\t"}}{{.Id}} {{.Image}} {{.Config.Image}}' | sed 's,^/,container:,'
  docker volume ls --format 'volume:{{.Name}}\t{{.Driver}}'
  docker network ls --no-trunc --filter type=custom --format 'network:{{.Name}}\t{{.ID}}'
  docker image ls --no-trunc --format 'image:{{.Repository}}:{{.Tag}}\t{{.ID}}'
fi
"#;

/// Lines by key.
pub type Snapshot = BTreeMap<String, String>;

pub fn read(text: &str) -> Snapshot {
    let line = |line: &str| line.split_once('\t').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(line).collect()
}

/// What is different and not the case's own.
pub fn others(case: &Case, before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for (key, was) in before {
        match after.get(key) {
            Some(is) if is == was => {}
            Some(is) if !case.owns(key) => found.push(format!("{key}: {was} → {is}")),
            None if !case.owns(key) => found.push(format!("{key}: {was} → gone")),
            Some(_) | None => {}
        }
    }
    let new = after.iter().filter(|(key, _)| !before.contains_key(*key) && !case.makes(key));
    found.extend(new.map(|(key, is)| format!("{key}: new: {is}")));
    found
}

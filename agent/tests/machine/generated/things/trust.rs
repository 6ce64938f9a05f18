//! Whom a node trusts: certificate authorities, and repositories of packages.

use rand::{Rng, RngCore};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use super::pick;
use crate::generated::case::{Dice, Served, Thing, sh, toml};
use crate::lab;

/// One that the seed alone decides.
fn certificate(name: &str, dice: &mut Dice) -> String {
    // PKCS #8 of Ed25519, RFC 8410.
    let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    let mut secret = [0; 32];
    dice.fill_bytes(&mut secret);
    key.extend(secret);
    let key = KeyPair::try_from(key).expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Tells it from another one of its name.
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&key).expect("a certificate").pem()
}

pub fn authority(tag: &str, dice: &mut Dice) -> Thing {
    let name = format!("{tag}{}", pick(dice, &["", ".example.org", "-a_b"]));
    let new = certificate(&format!("{tag} new"), dice);
    // Of the same subject, and so of the same hash, or of another.
    let old = certificate(&format!("{tag} {}", pick(dice, &["new", "old"])), dice);
    let folder = "/usr/local/share/ca-certificates";
    let file = format!("{folder}/{name}.crt");
    let new_at = format!("/var/lib/demo/{tag}-new.pem");
    let old_at = format!("/var/lib/demo/{tag}-old.pem");
    let mut thing = Thing {
        prep: format!("printf %s {} > {new_at}; printf %s {} > {old_at}\n", sh(&new), sh(&old)),
        present: format!("[[ca_certificate]]\nname = \"{name}\"\ncontent = {}\n", toml(&new)),
        absent: format!("[[ca_certificate]]\nname = \"{name}\"\nabsent = true\n"),
        ..Thing::default()
    };
    // By the folder of hashed names, and by the bundle.
    let trusted = |at: &str| {
        let by = |how: &str| format!("openssl verify {how} {at} >/dev/null 2>&1; printf '%s ' $?");
        format!(
            "{}; {}",
            by("-no-CAfile -CApath /etc/ssl/certs"),
            by("-no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt")
        )
    };
    let update = "update-ca-certificates >/dev/null 2>&1\n";
    let (mut theirs, mut both) = (false, false);
    match dice.random_range(0..7) {
        // Another one under its name.
        0 => thing.prep.push_str(&format!("cp {old_at} {file}; {update}")),
        // It, and the bundle never made.
        1 => thing.prep.push_str(&format!("cp {new_at} {file}\n")),
        2 => thing.prep.push_str(&format!("cp {new_at} {file}; {update}echo > /etc/ssl/certs/ca-certificates.crt\n")),
        // Somebody trusts another one.
        3 | 4 => {
            thing.prep.push_str(&format!("cp {old_at} {folder}/{tag}-theirs.crt; {update}"));
            theirs = true;
        }
        // Or the same.
        5 => {
            thing.prep.push_str(&format!("cp {new_at} {folder}/{tag}-theirs.crt; {update}"));
            both = true;
        }
        _ => {}
    }
    // OpenSSL's exit status: 2 for what it does not trust.
    let old_is = if theirs { "0 0" } else { "2 2" };
    thing = thing.check(trusted(&new_at), "0 0").gone(trusted(&new_at), if both { "0 0" } else { "2 2" });
    thing = thing.check(trusted(&old_at), old_is).gone(trusted(&old_at), old_is);
    thing
        .gone("find /etc/ssl/certs -xtype l", "")
        .check("grep -c BEGIN /etc/ssl/certs/ca-certificates.crt | awk '$1>100{print \"all\"}'", "all")
        .gone(
            format!(
                "find /etc/ssl/certs /usr/local/share/ca-certificates -name '{name}.*' -o -lname '*{name}.*' | wc -l"
            ),
            "0",
        )
        .owns("path:/etc/ssl/certs/ca-certificates.crt")
        .owns(format!("path:{file}"))
        // Of two that are the same one has the link.
        .owns(format!("path:/etc/ssl/certs/{}", if both { tag } else { name.as_str() }))
}

pub fn source(tag: &str, dice: &mut Dice) -> Thing {
    let name = format!("{tag}{}", pick(dice, &["", ".example.org", "-a_b"]));
    // In apt's own files some of these characters are written otherwise.
    let place = format!("{tag}{}", pick(dice, &["", "_under", "~tilde", "/deep/er", "+plus.dot"]));
    let url = format!("http://{}/broken/{place}{}", pick(dice, &["server", "server:80"]), pick(dice, &["", "/"]));
    let key = std::fs::read_to_string(lab::artefacts().apt_key).expect("the repository's key");
    let (source, keyring) =
        (format!("/etc/apt/sources.list.d/{name}.sources"), format!("/etc/apt/keyrings/{name}.asc"));
    let written = if dice.random_bool(0.5) {
        format!("key = {}\n", toml(&key))
    } else {
        let digest = muster_ids::Digest::of(key.as_bytes());
        format!("key = \"http://server/broken/{tag}.asc\"\nkey_sha256 = \"{digest}\"\n")
    };
    let head = format!(
        "[[apt_source]]\nname = \"{name}\"\nurl = \"{url}\"\nsuites = [\"muster\"]\ncomponents = [\"main\"]\n{written}"
    );
    let mut thing = Thing { present: head.clone(), absent: format!("{head}absent = true\n"), ..Thing::default() };
    match dice.random_range(0..5) {
        0 => thing.prep.push_str(&format!(
            "printf 'Types: deb\\nURIs: {url}\\nSuites: muster\\nComponents: main\\nEnabled: no\\n' > {source}\n"
        )),
        1 => thing.prep.push_str(&format!("mkdir -p /etc/apt/keyrings; echo junk > {keyring}; chmod 600 {keyring}\n")),
        // Here before, and its index lost.
        2 => {
            thing.formerly(&head);
            thing.prep.push_str(&format!("rm -f /var/lib/apt/lists/*{tag}*\n"));
        }
        _ => {}
    }
    if dice.random_bool(0.4) {
        // And something from it.
        thing.prep.push_str("dpkg --purge tree >/dev/null 2>&1 || true\n");
        thing.present.push_str("[[package]]\nname = \"tree\"\n");
        thing.absent.push_str("[[package]]\nname = \"tree\"\nabsent = true\n");
        thing = thing
            .check("tree --version | grep -c ^tree", "1")
            .gone("command -v tree || echo none", "none")
            .owns("package:tree");
    }
    thing.serves = vec![
        Served::Repository { name: place.clone() },
        Served::File { name: format!("{tag}.asc"), content: key.into_bytes() },
    ];
    let known = format!("apt-cache policy | grep -cF -- '/broken/{place} muster/main'");
    thing
        .check(known.clone(), "1")
        .check(format!("cmp {keyring} /root/key.asc && stat --format '%a %U' {keyring} {source}"), "644 root\n644 root")
        .gone(known, "0")
        .gone(format!("ls {source} {keyring} 2>/dev/null | wc -l"), "0")
        .owns(format!("path:{source}"))
        .owns(format!("path:{keyring}"))
}

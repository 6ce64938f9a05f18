//! `[[authorized_key]]`: a public key that may log in as a user.

use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::{Claim, Fault, Kind, Need, Owned, Presence, SecretName, Signal};

/// A public key in a user's `~/.ssh/authorized_keys`. Equal is one line with the key, these options and this comment, wherever it
/// stands. All other lines stay as they are; every line with this very key is its
/// own, so that no second one lets it in with other options. The folder is made where it is missing (`0700`, the user's). A file or
/// folder that is a link is refused: the user may point it anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "an authorized key")]
#[serde(deny_unknown_fields)]
pub struct AuthorizedKeySpec {
    /// Names the resource.
    #[schemars(extend("format" = "word"))]
    pub name: String,
    #[schemars(extend("format" = "account"))]
    pub user: String,
    /// The text of a `.pub` file: type, key, and mostly a comment.
    pub key: String,
    /// Options of sshd(8), as in `from="10.0.0.0/8"` or `no-pty`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Absent: the key's own, else the resource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True takes the key away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// sshd's options, and whether each takes a value. One that it does not know makes it leave the whole line out.
const OPTIONS: &[(&str, bool)] = &[
    ("agent-forwarding", false),
    ("cert-authority", false),
    ("command", true),
    ("environment", true),
    ("expiry-time", true),
    ("from", true),
    ("no-agent-forwarding", false),
    ("no-port-forwarding", false),
    ("no-pty", false),
    ("no-touch-required", false),
    ("no-user-rc", false),
    ("no-x11-forwarding", false),
    ("permitlisten", true),
    ("permitopen", true),
    ("port-forwarding", false),
    ("principals", true),
    ("pty", false),
    ("restrict", false),
    ("tunnel", true),
    ("user-rc", false),
    ("verify-required", false),
    ("x11-forwarding", false),
];

impl AuthorizedKeySpec {
    /// Type and key, as they stand in the file.
    pub fn parts(&self) -> (&str, &str) {
        let mut words = self.key.split_whitespace();
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The line of the file, without its end.
    pub fn line(&self) -> String {
        let (kind, key) = self.parts();
        let own = self.key.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
        let comment = match &self.comment {
            Some(comment) => comment,
            None if own.is_empty() => &self.name,
            None => &own,
        };
        let options = self.options.join(",");
        let options = if options.is_empty() { options } else { format!("{options} ") };
        format!("{options}{kind} {key} {comment}").trim_end().to_owned()
    }

    /// The key's type and its last characters: enough for people to tell keys apart.
    pub fn short(&self) -> String {
        let (kind, key) = self.parts();
        let tail = key.get(key.len().saturating_sub(16)..).unwrap_or(key);
        format!("{kind} …{tail}")
    }

    /// Where it mostly is: the user's home is known on the node alone.
    fn file(&self) -> String {
        let home = if self.user == "root" { "/root".to_owned() } else { format!("/home/{}", self.user) };
        format!("{home}/.ssh/authorized_keys")
    }
}

impl Kind for AuthorizedKeySpec {
    fn claims(&self) -> Vec<Claim> {
        let key = format!("{} of user {}", self.short(), self.user);
        vec![Claim::new("authorized key", &self.name), Claim::new("the key", key)]
    }

    fn needs(&self) -> Vec<Need> {
        vec![Need::Named("user", self.user.clone()), Need::Above(self.file())]
    }

    fn owns(&self) -> Vec<Owned> {
        vec![Owned::one(self.file())]
    }

    fn presence(&self) -> Presence {
        Presence::absent_if(self.absent)
    }

    fn secrets(&self) -> Vec<SecretName<'_>> {
        Vec::new()
    }

    /// One that is elsewhere is looked at by the timer.
    fn signals(&self) -> Vec<Signal> {
        vec![Signal::Path(self.file())]
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(key_fault(&self.key));
        faults.extend(self.options.iter().filter_map(|option| option_fault(option)));
        if self.comment.as_ref().is_some_and(|comment| comment.contains(['\n', '\r'])) {
            faults.push(Fault::new("comment", "the comment of a key has several lines", "expected one line"));
        }
        faults
    }
}

fn key_fault(key: &str) -> Option<Fault> {
    let expected = "expected the text of a .pub file, as in \"ssh-ed25519 AAAA… alice@laptop\"";
    if key.contains("PRIVATE KEY") {
        let fault = Fault::new("key", "this is a private key, which belongs in no site", expected);
        return Some(fault.help("take it for stolen: make a new pair, and write the public half here"));
    }
    if key.trim().contains(['\n', '\r']) {
        let fault = Fault::new("key", "this holds more than one key", expected);
        return Some(fault.help("give each key an [[authorized_key]] of its own"));
    }
    if key.starts_with("ssh-dss ") {
        return Some(Fault::new("key", "OpenSSH takes no DSA keys any more", expected));
    }
    match PublicKey::from_openssh(key.trim()) {
        Ok(_) => None,
        Err(error) => {
            let fault = Fault::new("key", format!("this is no public key of OpenSSH: {error}"), expected);
            let first = key.split_whitespace().next().unwrap_or_default();
            let options = first.contains('=') || OPTIONS.iter().any(|(name, _)| first.eq_ignore_ascii_case(name));
            Some(if options { fault.help("write what stands before the type as `options`") } else { fault })
        }
    }
}

fn option_fault(option: &str) -> Option<Fault> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let fault = |label: &str| Some(Fault::new("options", format!("`{option}` is no option of a key"), label));
    let Some((_, takes)) = OPTIONS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
        let near = crate::shape::nearest(name, OPTIONS.iter().map(|(name, _)| *name));
        let fault = fault("expected an option of sshd, as in \"no-pty\": sshd leaves out lines with others");
        return match near {
            Some(near) => fault.map(|fault| fault.help(format!("did you mean `{near}`?"))),
            None => fault,
        };
    };
    match (takes, value) {
        (false, None) => None,
        (false, Some(_)) => fault("expected no value"),
        (true, Some(value)) if quoted(value) => None,
        (true, _) => fault("expected a value in double quotes, as in from=\"10.0.0.0/8\""),
    }
}

/// One text in double quotes; a quote inside stands after a backslash.
fn quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else { return false };
    !inner.contains(['\n', '\r']) && !inner.replace("\\\"", "").contains('"') && !inner.ends_with('\\')
}

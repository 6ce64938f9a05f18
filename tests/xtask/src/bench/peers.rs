//! Other systems' ways to keep files as written on the machine itself, each given the same files and contents.
//!
//! Each gets folders of its own for what it remembers, so that nothing of the machine's own settings takes part.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{Cmd, find};
use crate::packages::{self, Need, Probe};
use crate::progress::Progress;

/// One system, and how it is told.
pub struct Peer {
    pub name: &'static str,
    program: &'static str,
    /// It is given so many files at most and its time is scaled: it would take minutes.
    pub most: Option<usize>,
    prepare: fn(&Setting) -> Result<Vec<String>>,
}

/// What a peer is asked to keep.
pub struct Setting<'a> {
    /// The files are `files/0` and so on.
    pub files: &'a Path,
    pub count: usize,
    /// The peer's own.
    pub scratch: &'a Path,
}

impl Setting<'_> {
    fn each(&self, mut line: impl FnMut(&str, &str) -> String) -> String {
        (0..self.count).map(|n| line(&self.files.join(n.to_string()).display().to_string(), &content(n))).collect()
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.scratch.join(name);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path.display().to_string())
    }

    fn folder(&self, name: &str) -> Result<String> {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(path.display().to_string())
    }
}

/// A file's content: about as long as a short configuration file, and of characters that no language here must quote.
pub fn content(number: usize) -> String {
    format!("setting {number:05} = {}\\n", "value ".repeat(40).trim_end()).replace("\\n", "\n")
}

pub const PEERS: &[Peer] = &[
    Peer { name: "CFEngine", program: "cf-agent", most: None, prepare: cfengine },
    Peer { name: "Puppet", program: "puppet", most: None, prepare: puppet },
    Peer { name: "Salt", program: "salt-call", most: None, prepare: salt },
    Peer { name: "Ansible", program: "ansible-playbook", most: Some(100), prepare: ansible },
];

const DEBIAN: &[Need] = &[
    (Probe::Program("cf-agent"), "cfengine3"),
    (Probe::Program("puppet"), "puppet-agent"),
    (Probe::Program("ansible-playbook"), "ansible-core"),
    // For Salt.
    (Probe::Program("python3"), "python3"),
    (Probe::File("/usr/lib/python3.11/ensurepip/__init__.py"), "python3-venv"),
];

/// Installs those that Debian has, and Salt, which it has not, into a Python environment of its own.
pub fn install(progress: &Progress, cache: &Path) -> Result<()> {
    packages::install(DEBIAN, progress, &cache.join("logs/apt.log"))?;
    let environment = cache.join("salt");
    if !environment.join("bin/salt-call").is_file() {
        progress.stage("install Salt", || {
            Cmd::new("python3").args(["-m", "venv"]).arg(&environment).output()?;
            Cmd::new(environment.join("bin/pip")).args(["install", "--quiet", "salt==3007.*"]).output().map(drop)
        })?;
    }
    Ok(())
}

impl Peer {
    /// Where it is on this machine.
    pub fn program(&self, cache: &Path) -> Option<PathBuf> {
        let own = cache.join("salt/bin").join(self.program);
        find(self.program).or_else(|| own.is_file().then_some(own))
    }

    /// Writes what it reads; returns its arguments.
    pub fn prepare(&self, setting: &Setting) -> Result<Vec<String>> {
        (self.prepare)(setting).with_context(|| format!("preparing {}", self.name))
    }
}

fn cfengine(setting: &Setting) -> Result<Vec<String>> {
    // Unprivileged paths follow HOME only for users: as root its work folder is fixed, and wants a key.
    if !Path::new("/var/lib/cfengine3/ppkeys/localhost.priv").exists() {
        Cmd::new("cf-key").output()?;
    }
    let promises = setting
        .each(|path, content| format!("    \"{path}\" create => \"true\", content => \"{content}\", perms => m;\n"));
    let policy = setting.write(
        "policy.cf",
        &format!("body common control {{ bundlesequence => {{ \"main\" }}; }}\nbody perms m {{ mode => \"644\"; }}\nbundle agent main {{\n  files:\n{promises}}}\n"),
    )?;
    Ok(["--no-lock", "--file", &policy].map(str::to_owned).into())
}

fn puppet(setting: &Setting) -> Result<Vec<String>> {
    let resources = setting
        .each(|path, content| format!("file {{ '{path}': ensure => file, mode => '0644', content => '{content}' }}\n"));
    let manifest = setting.write("site.pp", &resources)?;
    let (configuration, state) = (setting.folder("confdir")?, setting.folder("vardir")?);
    Ok(["apply", "--confdir", &configuration, "--vardir", &state, "--log_level", "warning", &manifest]
        .map(str::to_owned)
        .into())
}

fn salt(setting: &Setting) -> Result<Vec<String>> {
    let states = setting.each(|path, content| {
        format!("{path}:\n  file.managed:\n    - mode: '0644'\n    - contents: \"{}\"\n", content.trim_end())
    });
    setting.write("states/files.sls", &states)?;
    let root = setting.scratch.display();
    setting.write(
        "config/minion",
        &format!("file_client: local\nroot_dir: {root}\npki_dir: {root}/pki\ncachedir: {root}/cache\nlog_file: {root}/log\nfile_roots: {{base: [{root}/states]}}\n"),
    )?;
    let configuration = setting.folder("config")?;
    Ok(["--local", "--config-dir", &configuration, "--out", "quiet", "--log-level", "error", "state.apply", "files"]
        .map(str::to_owned)
        .into())
}

fn ansible(setting: &Setting) -> Result<Vec<String>> {
    let items =
        setting.each(|path, content| format!("        - {{path: {path}, content: \"{}\\n\"}}\n", content.trim_end()));
    let play = setting.write(
        "play.yml",
        &format!("- hosts: all\n  gather_facts: false\n  tasks:\n    - name: files\n      ansible.builtin.copy: {{dest: \"{{{{ item.path }}}}\", content: \"{{{{ item.content }}}}\", mode: \"0644\"}}\n      loop:\n{items}"),
    )?;
    Ok(["--inventory", "localhost,", "--connection", "local", &play].map(str::to_owned).into())
}

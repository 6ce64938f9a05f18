//! Steps in the node, as many as can be in one `docker exec`: each costs as much as an apply.

use std::collections::BTreeMap;

use super::run::Why;
use crate::lab::Lab;

/// A script of named steps, which all run, whatever one before them said.
#[derive(Default)]
pub struct Session(String);

/// What a step said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// What no step says.
const MARK: &str = "\n@@@@ ";

impl Session {
    pub fn step(mut self, name: &str, script: &str) -> Self {
        self.0.push_str(&format!(
            "cat > /run/lab-step <<'LAB_STEP'\n{script}\nLAB_STEP\n\
             bash -e /run/lab-step > /run/lab-out 2> /run/lab-err < /dev/null; status=$?\n\
             printf '\\n@@@@ %s\\n' \"{name} $status\"; cat /run/lab-out; printf '\\n@@@@ {name}-err 0\\n'; cat /run/lab-err\n"
        ));
        self
    }

    pub fn put(mut self, path: &str, content: &str) -> Self {
        self.0.push_str(&format!("cat > {path} <<'LAB_FILE'\n{content}\nLAB_FILE\n"));
        self
    }

    pub fn run(self, lab: &Lab) -> Result<Steps, Why> {
        let (_, out, err) = lab.script(&self.0);
        let mut steps: BTreeMap<String, Said> = BTreeMap::new();
        for part in out.split(MARK).skip(1) {
            let (head, text) = part.split_once('\n').unwrap_or((part, ""));
            let (name, status) = head.rsplit_once(' ').ok_or_else(|| format!("no step: {head}"))?;
            match name.strip_suffix("-err") {
                Some(name) => steps.entry(name.to_owned()).or_default().err = text.to_owned(),
                None => {
                    let status = status.parse().map_err(|_| format!("no step: {head}"))?;
                    let said = Said { status, out: text.to_owned(), err: String::new() };
                    steps.insert(name.to_owned(), said);
                }
            }
        }
        Ok(Steps { steps, err })
    }
}

/// What all of them said.
pub struct Steps {
    steps: BTreeMap<String, Said>,
    err: String,
}

impl Steps {
    pub fn said(&self, name: &str) -> Result<&Said, Why> {
        self.steps.get(name).ok_or_else(|| format!("{name} never ran: {}", self.err))
    }
}

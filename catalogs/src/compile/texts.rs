//! The files of the site that `source` and `template` name.

use super::Compiler;
use crate::{
    diagnostic::Diagnostic,
    kinds::{Spec, Texts},
    role::Role,
    shape::nearest,
    tree::{At, Node},
};

impl Compiler<'_> {
    /// Puts the content of `source` and `template` in the place of their names.
    pub(super) fn resolve(&mut self, role: &Role, node: &Node, spec: &mut Spec) -> Option<()> {
        let Some(Texts { content, source, template, binary }) = spec.texts() else { return Some(()) };
        let mut nothing = None;
        let template = template.unwrap_or(&mut nothing);
        if usize::from(content.is_some()) + usize::from(source.is_some()) + usize::from(template.is_some()) > 1 {
            return Some(());
        }
        if let Some(name) = source.take() {
            let path = self.existing(role, &name, node.at(&["source"]))?;
            match (self.site.sources.text(&path), self.site.sources.binary(&path), binary) {
                (Some(text), ..) => *content = Some(text.to_owned()),
                (None, Some(bytes), Some(binary)) => *binary = Some(bytes.clone()),
                (None, ..) => {
                    return self.is_no_text(&path, node.at(&["source"]), "only a file's `source` may be binary");
                }
            }
        }
        if let Some(name) = template.take() {
            let path = self.existing(role, &name, node.at(&["template"]))?;
            if self.site.sources.text(&path).is_none() {
                let help = "save it as UTF-8, or name it with `source`, which is copied as it is";
                return self.is_no_text(&path, node.at(&["template"]), help);
            }
            *content = Some(self.engine.file(&path, self.errors)?);
        }
        spec.resolved();
        Some(())
    }

    /// Says where a file is no text that must be one.
    fn is_no_text(&mut self, path: &str, named: At, help: &str) -> Option<()> {
        let mut error = Diagnostic::new(format!("{path} is not UTF-8 text"));
        error.places.push(self.site.sources.place(named, "expected a text"));
        error.places.extend(self.site.sources.where_no_text(path, "no UTF-8 from here on"));
        self.errors.push(error.help(help));
        None
    }

    /// A file of the site, relative to the role's folder.
    fn existing(&mut self, role: &Role, name: &str, at: At) -> Option<String> {
        let folder = role.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = join(folder, name);
        let sources = &self.site.sources;
        if sources.file(&path).is_some() || sources.binary(&path).is_some() {
            return Some(path);
        }
        let files = sources.paths().filter_map(|p| p.strip_prefix(&format!("{folder}/"))).filter(|p| p.contains('/'));
        let help = nearest(name, files).map(|n| format!("did you mean `{n}`?"));
        let (message, label) = match self.site.alone {
            false => (format!("the site has no file {path}"), format!("expected a file {path}")),
            true => (format!("there is no file {path}"), "expected a file, relative to this one's folder".to_owned()),
        };
        let place = sources.place(at, label);
        self.errors.push(Diagnostic::new(message).at(place).help_if(help));
        None
    }
}

/// A path below a folder; the folder may be none.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

//! `validate`: a site in all of its environments, or in the one that is named.

use std::collections::BTreeMap;

use muster_catalog::{Diagnostic, Site, SiteFiles};
use muster_ids::EnvName;
use serde::Serialize;
use serde_json::json;

use super::{Ended, args::Global, render, site};

/// The command.
pub fn validate(global: &Global) -> anyhow::Result<Ended> {
    if global.environment.is_some() {
        let Some((files, site)) = site::load(global)? else { return Ok(Ended::Error) };
        if global.json {
            let mut value = said(&site);
            value["valid"] = true.into();
            value["site"] = json!(files.digest());
            render::print_json(&value)?;
        } else {
            render::warnings(&site.warnings);
            render::say(line(&files, &site));
        }
        return Ok(Ended::Good);
    }
    let files = site::read(&global.site)?;
    let sites = match muster_catalog::load_all(&files) {
        Ok(sites) => sites,
        Err(errors) => {
            render::diagnostics(&errors, global.json)?;
            return Ok(Ended::Error);
        }
    };
    let all: Vec<&EnvName> = sites.keys().collect();
    let errors = once_each(sites.iter().filter_map(|(name, site)| Some((name, site.as_ref().err()?.0.as_slice()))));
    let warnings =
        once_each(sites.iter().filter_map(|(name, site)| Some((name, site.as_ref().ok()?.warnings.as_slice()))));
    let good: Vec<&Site> = sites.values().filter_map(|site| site.as_ref().ok()).collect();
    if !global.json {
        // Before the errors too: a file that nothing reads may be why something is not there.
        for Found { diagnostic, environments } in &warnings {
            eprintln!("warning{}: {diagnostic}\n", of(environments, &all));
        }
    }
    if !errors.is_empty() {
        wrong(global, &errors, &all, &good)?;
        return Ok(Ended::Error);
    }
    if global.json {
        let environments: Vec<_> = good.iter().map(|site| said(site)).collect();
        render::print_json(&json!({ "valid": true, "site": files.digest(), "environments": environments }))?;
    } else {
        good.iter().for_each(|site| render::say(line(&files, site)));
    }
    Ok(Ended::Good)
}

/// An error or warning, and the environments that have it.
#[derive(Debug, Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    diagnostic: &'a Diagnostic,
    environments: Vec<&'a EnvName>,
}

/// What several environments say, each once, sorted as for one.
fn once_each<'a>(all: impl Iterator<Item = (&'a EnvName, &'a [Diagnostic])>) -> Vec<Found<'a>> {
    let mut found: BTreeMap<(&[_], &Diagnostic), Vec<&EnvName>> = BTreeMap::new();
    for (environment, diagnostics) in all {
        for diagnostic in diagnostics {
            found.entry((diagnostic.places.as_slice(), diagnostic)).or_default().push(environment);
        }
    }
    found.into_iter().map(|((_, diagnostic), environments)| Found { diagnostic, environments }).collect()
}

fn wrong(global: &Global, errors: &[Found<'_>], all: &[&EnvName], good: &[&Site]) -> anyhow::Result<()> {
    let count = match errors.len() {
        1 => "one error in the site".to_owned(),
        many => format!("{many} errors in the site"),
    };
    if global.json {
        let valid: Vec<&EnvName> = good.iter().map(|site| &site.environment).collect();
        return render::print_json(&json!({ "error": count, "help": [], "diagnostics": errors, "valid": valid }));
    }
    for Found { diagnostic, environments } in errors {
        eprintln!("error{}: {diagnostic}\n", of(environments, all));
    }
    for site in good {
        eprintln!("{}/{} is valid.", site.cluster, site.environment);
    }
    match errors.len() {
        1 => eprintln!("1 error. Nothing was changed."),
        many => eprintln!("{many} errors. Nothing was changed."),
    }
    Ok(())
}

/// Whose it is, where it is not everyone's.
fn of(environments: &[&EnvName], all: &[&EnvName]) -> String {
    if environments.len() == all.len() {
        return String::new();
    }
    let names: Vec<&str> = environments.iter().map(|name| name.as_str()).collect();
    format!(" in {}", names.join(", "))
}

fn said(site: &Site) -> serde_json::Value {
    json!({ "cluster": site.cluster, "environment": site.environment, "warnings": site.warnings })
}

fn line(files: &SiteFiles, site: &Site) -> String {
    let (nodes, roles) = (site.pools.values().map(|pool| pool.min).sum::<u32>(), site.roles.len());
    let (cluster, environment) = (&site.cluster, &site.environment);
    format!("{cluster}/{environment} is valid: {} files, {roles} roles, {nodes} nodes.", files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_several_environments_is_said_once() {
        let [dev, local, prod]: [EnvName; 3] = ["dev", "local", "prod"].map(|name| name.parse().unwrap());
        let (both, one) = ([Diagnostic::new("both")], [Diagnostic::new("both"), Diagnostic::new("one")]);
        let sites = [(&dev, both.as_slice()), (&prod, one.as_slice())];
        let found = once_each(sites.into_iter());
        let all = [&dev, &local, &prod];
        let said: Vec<_> =
            found.iter().map(|found| (found.diagnostic.message.as_str(), of(&found.environments, &all))).collect();
        assert_eq!(said, [("both", " in dev, prod".to_owned()), ("one", " in prod".to_owned())]);
        assert_eq!(of(&all, &all), "");
    }
}

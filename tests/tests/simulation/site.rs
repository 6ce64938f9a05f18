//! The site, in variants: what an admin changes between two applies.

use std::collections::BTreeMap;

use muster_catalog::SiteFiles;

/// What differs between the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// A file that disturbs nobody.
    pub motd: u32,
    /// A file whose change restarts a service, which disrupts the node.
    pub engine: u32,
    pub workers: u32,
    /// It asks for a service that is nowhere: nothing but another site mends that.
    pub bad: bool,
}

impl Site {
    pub fn files(self) -> SiteFiles {
        let Self { motd, engine, workers, bad } = self;
        let bad = if bad { "[[service]]\nname = \"nowhere\"\n" } else { "" };
        let muster = format!(
            "[cluster]\nname = \"easypay\"\nkubernetes = \"1.34.4\"\npods = \"10.244.0.0/16\"\nservices = \"10.96.0.0/12\"\n\
             [pool.control-plane]\nrole = \"control-plane\"\ncount = 3\n\
             [pool.workers]\nrole = \"worker\"\ncount = {workers}\n\
             [endpoint.api]\nto = \"control-plane\"\n\
             [endpoint.web]\nto = \"workers\"\nlisten = 80\nport = 30080\ncheck = \"/ready\"\n\
             [disk.data]\npool = \"workers\"\nsize = \"1Gi\"\n\
             [secret.database]\ngenerate = true\n"
        );
        let base = format!(
            "[[file]]\npath = \"/etc/motd\"\ncontent = \"{motd} {{{{ facts.kernel }}}}\\n\"\n\
             [[file]]\npath = \"/etc/engine.conf\"\ncontent = \"{engine}\\n\"\nnotify = [\"service.engine\"]\n\
             [[service]]\nname = \"engine\"\ndisrupts = \"node\"\n\
             {bad}[[pod_network]]\n[[cluster_member]]\nimage_repository = \"registry.example\"\n"
        );
        let worker = "member = \"worker\"\ninclude = [\"base\"]\n\
                      [[file]]\npath = \"/etc/database.key\"\nsecret = \"database\"\nmode = \"0600\"\n";
        let files = [
            ("muster.toml", muster),
            (
                "environments/local.toml",
                "[provider.docker]\nsubnet = \"10.89.0.0/16\"\n[endpoint.web]\naddress = \"10.89.0.11\"\n".to_owned(),
            ),
            ("roles/control-plane.toml", "member = \"control-plane\"\ninclude = [\"base\"]\n".to_owned()),
            ("roles/worker.toml", worker.to_owned()),
            ("roles/base.toml", base),
        ];
        files.into_iter().map(|(path, text)| (path.to_owned(), text)).collect::<BTreeMap<_, _>>().into()
    }
}

//! Generates messages and services with a compiler that is a library: no protoc needed. Beside them it writes
//! `methods.rs`: every method of the contract as one enum, so that a table over methods is checked by the compiler.

use std::{env, fmt::Write as _, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=muster/v1/muster.proto");
    let files = protox::compile(["muster/v1/muster.proto"], ["."])?;

    let mut methods = Vec::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                methods.push((
                    format!("{}{}", service.name(), method.name()),
                    format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    method.client_streaming() || method.server_streaming(),
                ));
            }
        }
    }
    let mut text = String::from(
        "/// Every method of the contract, generated from it.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\npub enum Method {\n",
    );
    for (name, path, _) in &methods {
        writeln!(text, "    /// `{path}`\n    {name},")?;
    }
    text.push_str("}\n\nimpl Method {\n    /// All of them.\n    pub const ALL: &[Method] = &[\n");
    for (name, ..) in &methods {
        writeln!(text, "        Method::{name},")?;
    }
    text.push_str(
        "    ];\n\n    /// The path of its requests.\n    pub const fn path(self) -> &'static str {\n        match self {\n",
    );
    for (name, path, _) in &methods {
        writeln!(text, "            Method::{name} => \"{path}\",")?;
    }
    text.push_str(
        "        }\n    }\n\n    /// The method of a request's path.\n    \
         pub fn from_path(path: &str) -> Option<Self> {\n        match path {\n",
    );
    for (name, path, _) in &methods {
        writeln!(text, "            \"{path}\" => Some(Method::{name}),")?;
    }
    text.push_str(
        "            _ => None,\n        }\n    }\n\n    /// Whether its answer is a stream.\n    \
         pub const fn streams(self) -> bool {\n        match self {\n",
    );
    for (name, _, streams) in &methods {
        writeln!(text, "            Method::{name} => {streams},")?;
    }
    text.push_str("        }\n    }\n}\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("methods.rs"), text)?;

    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

//! Generates messages and services with a compiler that is a library: no protoc needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=muster/v1/muster.proto");
    let files = protox::compile(["muster/v1/muster.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

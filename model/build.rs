//! Compiles the contracts, in Rust alone: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/discovery.proto", "proto/identity.proto"];
    protos.iter().for_each(|proto| println!("cargo::rerun-if-changed={proto}"));
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    Ok(())
}

//! The contract: generated messages and services, identity from certificates, TLS that rotates.

/// Generated from `muster/v1/muster.proto`.
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

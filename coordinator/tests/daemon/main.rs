//! The daemon from outside: a real coordinator over mTLS on loopback, a fake provider, agents that are bare clients.

mod answers;
mod cluster;
mod crash;
mod disks;
mod lab;
mod life;
mod operators;
mod plans;
mod services;
mod trust;

//! EasyPay from outside, against a real PostgreSQL that each test starts for itself.
//!
//! Needs Debian's postgresql-15 and says so when it is not there; nothing is skipped.

mod balancer;
mod client;
mod faults;
mod gate;
mod http;
mod leaving;
mod payments;
mod postgres;
mod readiness;
mod replica;
mod starting;

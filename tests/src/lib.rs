//! What the tests share: the lab, in which the shipped site runs on real containers.

pub mod lab;

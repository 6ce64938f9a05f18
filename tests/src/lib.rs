//! What the tests share: the lab, in which the shipped site runs on real containers, and the choice of its steps.

pub mod lab;
pub mod names;
pub mod steps;
pub mod watched;

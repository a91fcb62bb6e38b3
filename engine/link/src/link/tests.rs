//! Two machines over connections that fail.

mod evacuation;
mod faults;
mod misbehaviour;
mod pair;
mod stripes;
mod traffic;

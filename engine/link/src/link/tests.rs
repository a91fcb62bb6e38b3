//! Two machines over connections that fail.

mod faults;
mod misbehaviour;
mod pair;
mod stripe_faults;
mod stripes;
mod traffic;

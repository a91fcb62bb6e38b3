//! Two machines over connections that fail.

mod collapsed;
mod control;
mod crossings;
mod evacuation;
mod faults;
mod misbehaviour;
mod moves;
mod pair;
mod priority;
mod sequences;
mod stripe_faults;
mod stripe_gaps;
mod stripes;
mod traffic;
mod windows;

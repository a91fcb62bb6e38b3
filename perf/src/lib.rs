//! Micro-benchmarks of one component in process.

//! The link between two nodes: egress queues by class, lane choice, health.

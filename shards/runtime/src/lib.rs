//! The shard loop: lanes on io_uring, forwarder, stream hosts.

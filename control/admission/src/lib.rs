//! Dialling, accepting, handshakes, Hello, join, hand-over to shards.

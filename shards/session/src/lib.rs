//! TLS 1.3 and WebSocket of one lane, without I/O.

//! Load, latency and peer comparison of whole daemons, from outside.

//! gRPC services over the control plane and the shards.

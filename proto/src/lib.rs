//! The gRPC interface of Hawser, generated from hawser/v1.

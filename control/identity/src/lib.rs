//! Node identity, mesh CA, join tokens, certificates.

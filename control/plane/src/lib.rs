//! The control thread: links, flooding, path computation, streams, mesh lifecycle.

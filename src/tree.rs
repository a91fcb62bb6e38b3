//! Directory trees as messages of a stream: one record a message, files cut into pieces.
//!
//! A tree is sent as `Directory` and `Begin Data* End` records in path order and closed by
//! `EndOfTree`. Every `Data` says where it belongs in its file, so that a receiver that was
//! interrupted goes on where it had confirmed.

mod path;
mod record;
mod sink;
mod source;

pub(crate) use path::SafePath;
pub(crate) use sink::{Arrived, SinkError, TreeSink};
pub(crate) use source::{Entry, TreeSource, Walk, list};

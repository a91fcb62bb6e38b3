//! What kept a node from starting, as an exit code.

use hawser_api::BindError;
use hawser_plane::PlaneError;
use hawser_runtime::ShardError;
use hawser_store::StoreError;

use crate::cli::failure::{Exit, Failure};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(store_exit(&error), error.to_string())
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        let exit = match &error {
            BindError::PathTooLong { .. } => Exit::Config,
            _ => Exit::Failure,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ShardError> for Failure {
    fn from(error: ShardError) -> Self {
        let exit = match &error {
            ShardError::Core { .. } => Exit::Config,
            _ => Exit::Failure,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<PlaneError> for Failure {
    fn from(error: PlaneError) -> Self {
        let exit = match &error {
            PlaneError::NameFixed { .. } => Exit::Refused,
            PlaneError::Store(error) => store_exit(error),
            _ => Exit::Failure,
        };
        Self::new(exit, error.to_string())
    }
}

const fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::Permission { .. } => Exit::Refused,
        _ => Exit::Failure,
    }
}

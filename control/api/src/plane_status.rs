use hawser_plane::PlaneError;
use hawser_store::StoreError;
use tonic::{Code, Status};

/// What a client is told when the control plane cannot do what it asked. The error's own words say
/// what, where and what to do.
pub(crate) fn plane_status(error: &PlaneError) -> Status {
    let code = match error {
        PlaneError::NoMesh
        | PlaneError::MeshStopped
        | PlaneError::Leaving
        | PlaneError::Evicted { .. }
        | PlaneError::EvictionRefused { .. }
        | PlaneError::NoAuthority { .. }
        | PlaneError::StreamClosing { .. }
        | PlaneError::NotSource { .. }
        | PlaneError::RouteOfOther { .. }
        | PlaneError::NotLinkEnd { .. }
        | PlaneError::DrillRefused { .. }
        | PlaneError::LinkModeBusy { .. }
        | PlaneError::NoAddress
        | PlaneError::Listen { .. }
        | PlaneError::NameFixed { .. } => Code::FailedPrecondition,
        PlaneError::AlreadyInMesh { .. }
        | PlaneError::StreamDiffers { .. }
        | PlaneError::RouteExists { .. }
        | PlaneError::LinkModeSame { .. } => Code::AlreadyExists,
        PlaneError::UnknownNode { .. }
        | PlaneError::UnknownStream { .. }
        | PlaneError::NoRoute { .. }
        | PlaneError::NoMessage { .. }
        | PlaneError::NoLink { .. } => Code::NotFound,
        PlaneError::MessageForgotten { .. } => Code::OutOfRange,
        PlaneError::AmbiguousName { .. }
        | PlaneError::AmbiguousStream { .. }
        | PlaneError::NameInvalid { .. } => Code::InvalidArgument,
        PlaneError::TokenInvalid { .. } | PlaneError::Refused { .. } => Code::PermissionDenied,
        PlaneError::Unreachable { .. }
        | PlaneError::LinkModeNotAgreed { .. }
        | PlaneError::Stopping
        | PlaneError::Store(StoreError::Stopped) => Code::Unavailable,
        PlaneError::Unsupported { .. } => Code::Unimplemented,
        PlaneError::TooMany { .. } | PlaneError::Store(StoreError::Full { .. }) => {
            Code::ResourceExhausted
        }
        PlaneError::Store(_) | PlaneError::Identity(_) | PlaneError::Thread(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &PlaneError, code: Code, words: &str) {
        let status = plane_status(error);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }

    #[test]
    fn the_code_says_who_must_act() {
        let name = "c".to_owned();
        let nearest = Some("node-c".to_owned());
        check(&PlaneError::UnknownNode { name, nearest }, Code::NotFound, "node-c");
        check(&PlaneError::NoMesh, Code::FailedPrecondition, "hawser mesh join");
        let (name, what) = ("orders".to_owned(), "destinations");
        check(&PlaneError::StreamDiffers { name, what }, Code::AlreadyExists, "destinations");
        let detail = "expired".to_owned();
        check(&PlaneError::TokenInvalid { detail }, Code::PermissionDenied, "expired");
        check(&PlaneError::Unsupported { what: "quorum" }, Code::Unimplemented, "quorum");
        check(&PlaneError::Stopping, Code::Unavailable, "stopping");
    }
}

//! What callers are told: one mapping of errors to gRPC codes, and from these to HTTP's.

use axum::http::StatusCode;
use tonic::{Code, Status};

use crate::error::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl Error {
    /// The gRPC code that callers decide by.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Key(error) if matches!(**error, catalog::KeyError::NoGroup { .. }) => Code::NotFound,
            Self::Key(_) | Self::KeyTooLong { .. } | Self::TooManyKeys { .. } | Self::NotPlain { .. } => {
                Code::InvalidArgument
            }
            Self::LeftOut { .. } | Self::ReplyMemory { .. } => Code::ResourceExhausted,
            Self::UnknownGroup { .. } | Self::UnknownTag { .. } => Code::NotFound,
            Self::Fill(error) => match error {
                loader::Error::Deadline { .. } => Code::DeadlineExceeded,
                loader::Error::Overloaded { .. } => Code::ResourceExhausted,
                loader::Error::Unavailable(_) | loader::Error::BreakerOpen { .. } => Code::Unavailable,
                loader::Error::TooLarge { .. } => Code::OutOfRange,
                loader::Error::Query { .. } => Code::Internal,
                loader::Error::NoQuery { .. } => Code::FailedPrecondition,
            },
            Self::Starting
            | Self::Abandoned
            | Self::Fenced
            | Self::Behind { .. }
            | Self::OtherMembers { .. }
            | Self::Pull(_)
            | Self::NoOwner
            | Self::InTurn { .. }
            | Self::Unacknowledged { .. } => Code::Unavailable,
            Self::Peer { error, .. } => match **error {
                client::Error::InvalidKey { .. } => Code::InvalidArgument,
                client::Error::Unavailable { .. } | client::Error::NoNodes { .. } => Code::Unavailable,
                client::Error::Deadline { .. } => Code::DeadlineExceeded,
                client::Error::Overloaded { .. } | client::Error::LeftOut { .. } => Code::ResourceExhausted,
                client::Error::Internal { .. } => Code::Internal,
                client::Error::LookAside { .. } => Code::FailedPrecondition,
            },
        }
    }
}

/// The HTTP status of a gRPC code.
pub(crate) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        // A look-aside group's key that is not in memory: there is nothing, and nothing to be had.
        Code::NotFound | Code::FailedPrecondition => StatusCode::NOT_FOUND,
        Code::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::ResourceExhausted | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

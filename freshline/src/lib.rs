//! freshline

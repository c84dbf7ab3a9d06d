//! Compares a catalog with a live schema.

use super::Schema;
use crate::catalog::Catalog;
use crate::report::Report;

/// What of the live schema the catalog can't live with: errors, and warnings.
pub fn check(catalog: &Catalog, schema: &Schema) -> Report {
    let _ = (catalog, schema);
    unimplemented!()
}

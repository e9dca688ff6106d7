//! The room `record` of the data plane.

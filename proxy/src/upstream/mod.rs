//! The room `upstream` of the data plane.

//! The room `http` of the data plane.

//! The room `listen` of the data plane.

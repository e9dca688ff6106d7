//! The room `inbound` of the data plane.

//! The room `outbound` of the data plane.

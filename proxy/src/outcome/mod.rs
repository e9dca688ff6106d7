//! The room `outcome` of the data plane.

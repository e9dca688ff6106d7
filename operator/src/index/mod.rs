//! What the cluster holds, as small values kept up to date by watches.

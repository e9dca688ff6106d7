//! Wiring: flags, logging, start, readiness and shutdown. Nothing is decided here.

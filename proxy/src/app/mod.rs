//! Wires the rooms together: settings, threads, signals, logging, the admin server.

pub mod settings;

//! What a workload's proxy is told, as a function of the objects alone. No I/O, no clock.

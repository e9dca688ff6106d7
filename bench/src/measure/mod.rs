//! Instruments: a clock, counts of durations, and what processes use. They know nothing of what is measured with them.

mod clock;
mod histogram;
mod usage;

pub(crate) use clock::{Timer, nanoseconds, now};
pub(crate) use histogram::Histogram;
pub(crate) use usage::{Usage, Window};

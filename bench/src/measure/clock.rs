//! The clock that all measurements use, and a timer that keeps it: the kernel's, in nanoseconds, where the runtime's own
//! counts milliseconds. Must not know what is timed.

use anyhow::Result;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds on the monotonic clock, which all processes of the machine share.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * SECOND + time.tv_nsec.cast_unsigned()
}

/// Seconds as nanoseconds.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * SECOND as f64) as u64
}

/// Wakes a task at a time.
///
/// A timer's descriptor is read as a pipe is, and so the runtime's type for pipes serves.
#[derive(Debug)]
pub(crate) struct Timer(Receiver);

impl Timer {
    /// One that waits for nothing yet.
    pub(crate) fn new() -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(timer)?))
    }

    /// Waits until a time on [`now`]'s clock.
    pub(crate) async fn until(&self, time: u64) -> Result<()> {
        if now() >= time {
            return Ok(());
        }
        let value = Timespec { tv_sec: (time / SECOND).cast_signed(), tv_nsec: (time % SECOND).cast_signed() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once)?;
        while now() < time {
            self.0.readable().await?;
            // Clears what was ready, which may have been for an earlier time.
            let _ = self.0.try_read(&mut [0; 8]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_wakes_no_earlier_than_it_was_told_and_may_be_used_again() {
        let timer = Timer::new().unwrap();
        for wait in [0, 1, 1_000_000, 0, 300_000] {
            let time = now() + wait;
            timer.until(time).await.unwrap();
            assert!(now() >= time);
        }
    }
}

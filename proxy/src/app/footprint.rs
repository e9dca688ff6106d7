//! Keeps small what an idle proxy holds of memory: the pages of the program itself.
//!
//! Most of what a proxy that does nothing has resident is its own program: the code and the tables that its start, its last
//! burst and its last scrape have touched, for the kernel maps sixteen pages where one is touched and never takes one back
//! while there is memory. Those pages are copies of nothing: they are the page cache of the file, which all proxies of a
//! node share, and to let them go costs a fault of about a microsecond for every 64 KiB that are touched again.
//!
//! So the control thread looks now and then, and where the proxy has done next to nothing since the last look, and more of its
//! program is mapped than an idle one needs, it drops the mapping of all of it. What is still needed comes back by itself:
//! - What only the start needed goes as soon as the start pauses: the first looks are close together.
//! - A little traffic does not show in the CPU time that the proxy uses: its first request after each drop would wait for
//!   some hundred faults. So the more often the pages came back without the proxy having been busy, the longer they are left,
//!   up to three minutes; a burst ends that, for what it leaves behind is to go soon. A proxy with traffic is left alone.
//!
//! Only segments that are never written are touched. Those that are (data, and what relocation has written and the loader
//! then protects) would come back as they are in the file.
//!
//! Must not know what the process does.
#![allow(unsafe_code)]

use super::process::Usage;
use std::{
    convert::Infallible,
    ffi::{c_int, c_void},
    io,
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// How often it is looked at until then.
const LOOK_AT_START: Duration = Duration::from_millis(200);
/// CPU time between two looks up to which a process is idle, in seconds: one tick of the kernel's count.
const IDLE: f64 = 0.01;
/// How much of the program may stay mapped while idle, in bytes. What an idle proxy wakes up for needs 1.2 to 2.6 MiB.
const ENOUGH: f64 = 3.0 * 1024.0 * 1024.0;
/// At most so many looks are passed over between two drops.
const PASSED_OVER: u32 = 63;

/// Gives the program's pages back whenever the process is idle, for as long as it is polled.
pub(super) async fn keep_small() -> Infallible {
    // Whatever came of it.
    let _ = timeout(LOOK, look_every(LOOK_AT_START)).await;
    look_every(LOOK).await
}

async fn look_every(period: Duration) -> Infallible {
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut habit) = (None, Habit::default());
    loop {
        looks.tick().await;
        let now = Usage::read();
        if let (Some(last), Some(now)) = (&last, &now)
            && habit.is_due(last, now)
            && let Err(error) = unmap_program()
        {
            tracing::debug!(%error, "pages of the program stay mapped");
        }
        last = now;
    }
}

/// How often the program's pages were let go without effect.
#[derive(Debug, Default)]
struct Habit {
    /// Looks that are still to be passed over.
    pass_over: u32,
    /// Looks to pass over after the next drop.
    then: u32,
}

impl Habit {
    /// Whether to let the program's pages go, by what the process had used at the last look and has now.
    fn is_due(&mut self, last: &Usage, now: &Usage) -> bool {
        // Half a tick more than the limit, because the difference of two decimal fractions is not exact.
        if now.cpu_seconds - last.cpu_seconds > IDLE * 1.5 {
            *self = Self::default();
            return false;
        }
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return false;
        }
        if now.file_bytes <= ENOUGH {
            return false;
        }
        self.pass_over = self.then;
        self.then = (self.then * 2 + 1).min(PASSED_OVER);
        true
    }
}

/// Unmaps every page of the running program that lies in a segment that nobody can write to.
fn unmap_program() -> io::Result<()> {
    let mut result: io::Result<()> = Ok(());
    // SAFETY: `visit` has the type that dl_iterate_phdr(3) calls, and `data` points to `result`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut result).cast()) };
    result
}

/// Called by the C library with the first object, which is the program itself, and then ends the walk.
///
/// # Safety
/// `info` points to a valid description, and `data` to an `io::Result<()>` that nobody else refers to.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the caller says so; the headers are as many as it says, and stay as long as the program is loaded.
    let (info, result) = unsafe { (&*info, &mut *data.cast::<io::Result<()>>()) };
    // SAFETY: as above.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        // The kernel maps whole pages, of the size that the segment is aligned to or of a part of it.
        let aligned = header.p_vaddr & !(header.p_align.max(1) - 1);
        let (start, length) = (info.dlpi_addr + aligned, header.p_vaddr - aligned + header.p_memsz);
        // SAFETY: the range is a mapping of the program's file that was never writable, so that no page of it differs from
        // the file: each is read from there again, unchanged, when it is next touched, also while another thread runs it.
        if unsafe { libc::madvise(start as *mut c_void, length as usize, libc::MADV_DONTNEED) } != 0 {
            *result = Err(io::Error::last_os_error());
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::unix::fs::FileExt};

    /// Read by nobody else, and large, so that no neighbour's fault maps its middle.
    static TABLE: [u8; 1 << 20] = [7; 1 << 20];

    fn middle() -> &'static u8 {
        std::hint::black_box(&TABLE[TABLE.len() / 2])
    }

    /// Bit 63 of an entry of `/proc/<pid>/pagemap` (proc(5)); pages are of 4 KiB at least.
    fn is_mapped(address: *const u8) -> bool {
        // SAFETY: sysconf(3) only answers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let mut entry = [0; 8];
        File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entry, address as u64 / page * 8).unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn what_is_not_in_use_of_the_program_is_unmapped_and_comes_back_as_it_was() {
        assert_eq!(*middle(), 7);
        assert!(is_mapped(middle()));
        unmap_program().unwrap();
        assert!(!is_mapped(middle()));
        assert_eq!(*middle(), 7);
        assert!(is_mapped(middle()));
    }

    const LITTLE: f64 = 1024.0 * 1024.0;
    const MUCH: f64 = 7.0 * 1024.0 * 1024.0;

    /// Whether it is due where so much CPU time was used since the last look, and so much is mapped.
    fn look(habit: &mut Habit, used: f64, mapped: f64) -> bool {
        let usage = |cpu_seconds, file_bytes| Usage { cpu_seconds, file_bytes };
        habit.is_due(&usage(5.0, MUCH), &usage(5.0 + used, mapped))
    }

    #[test]
    fn only_an_idle_process_with_much_of_its_program_mapped_lets_it_go() {
        for (used, mapped, due) in [(0.0, MUCH, true), (0.01, MUCH, true), (0.02, MUCH, false), (0.0, LITTLE, false)] {
            assert_eq!(look(&mut Habit::default(), used, mapped), due, "{used} s, {mapped} bytes");
        }
    }

    #[test]
    fn pages_that_a_little_traffic_brings_back_are_left_longer_each_time_until_a_burst() {
        let mut habit = Habit::default();
        let due: Vec<usize> = (0..200).filter(|_| look(&mut habit, 0.0, MUCH)).collect();
        assert_eq!(due, [0, 1, 3, 7, 15, 31, 63, 127, 191]);
        assert!(!look(&mut habit, 0.5, MUCH));
        assert!(look(&mut habit, 0.0, MUCH));
    }
}

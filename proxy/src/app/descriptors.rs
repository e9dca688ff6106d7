//! How many files the process may have open, which bounds how many connections it can serve.
//!
//! The kernel's soft limit is low for the sake of programs that use `select`; this one does not, and takes what the hard
//! limit gives. Each connection that is served takes two descriptors: the client's, and the server's that it leads to, or a
//! second look at the client's first bytes.
#![allow(unsafe_code)]

use std::io;

/// Descriptors that are not for connections of traffic: the admin server's, the operator's, files, and what the kernel's
/// queues take.
const OWN: usize = 256;

/// Raises the limit of this process as far as it may, and gives it.
///
/// # Errors
/// The kernel's.
pub fn raise() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` to where the pointer points.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel only reads one `rlimit` there.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // A limit that is more than this machine can count is none.
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// As much of `wanted`, connections of each kind, as `limit` descriptors are enough for: all, or of each the same part.
pub(super) fn enough_for<const KINDS: usize>(wanted: [usize; KINDS], limit: usize) -> [usize; KINDS] {
    let possible = limit.saturating_sub(OWN) / 2;
    let all = wanted.iter().fold(0, |sum: usize, connections| sum.saturating_add(*connections));
    if all <= possible {
        return wanted;
    }
    wanted.map(|connections| ((connections as u128 * possible as u128 / all as u128) as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_descriptors_are_enough_for_is_served_and_of_more_the_same_part_of_each_kind() {
        assert_eq!(enough_for([10_000, 10_000], usize::MAX), [10_000, 10_000]);
        assert_eq!(enough_for([10_000, 10_000], 40_256), [10_000, 10_000]);
        assert_eq!(enough_for([10_000, 10_000], 20_256), [5_000, 5_000]);
        assert_eq!(enough_for([3_000, 1_000], 1024), [288, 96]);
        assert_eq!(enough_for([10_000, 10_000], 64), [1, 1], "a proxy that cannot serve says so by trying");
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let limit = raise().unwrap();
        assert_eq!(raise().unwrap(), limit);
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let [soft, hard] = [3, 4].map(|word| line.split_whitespace().nth(word).unwrap());
        assert_eq!(soft, hard);
        assert!(hard == "unlimited" || hard == limit.to_string(), "{limit}, {line}");
    }
}

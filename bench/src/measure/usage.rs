//! What processes use, as the kernel counts it. Must not know what they do.

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs};

/// What a process has used since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Time on a CPU, in microseconds: as the scheduler counts it, to the nanosecond.
    pub(crate) cpu: f64,
    /// Time in the program itself, in microseconds: in whole ticks, of which there are usually 100 a second.
    pub(crate) user: f64,
    /// Time in the kernel, likewise.
    pub(crate) system: f64,
    /// Times that a CPU was given to another.
    pub(crate) switches: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
    /// The part of it that no other process shares, in KiB.
    pub(crate) private: u64,
}

impl Usage {
    /// What a process used until now.
    ///
    /// # Errors
    ///
    /// It is not there any more, or is not ours to look at.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let mut usage = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("no process {pid}"))? {
            let path = task?.path();
            // A thread may end while it is looked at.
            let scheduled = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            let nanoseconds = scheduled.split(' ').next().and_then(|first| first.parse::<f64>().ok());
            usage.cpu += nanoseconds.unwrap_or_default() / 1e3;
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let status = fields(&status);
            usage.switches += status.get("voluntary_ctxt_switches").unwrap_or(&0);
            usage.switches += status.get("nonvoluntary_ctxt_switches").unwrap_or(&0);
        }
        let tick = 1e6 / clock_ticks_per_second() as f64;
        (usage.user, usage.system) = ticks(&read("stat")?).map(|(user, system)| (user * tick, system * tick))?;
        usage.descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        let memory = read("smaps_rollup")?;
        let memory = fields(&memory);
        let kib = |name: &str| memory.get(name).copied().unwrap_or_default();
        usage.resident = kib("Rss");
        usage.private = kib("Private_Clean") + kib("Private_Dirty");
        Ok(usage)
    }

    /// What was used from `earlier` to now; what is held is as it is now.
    #[must_use]
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu - earlier.cpu,
            user: self.user - earlier.user,
            system: self.system - earlier.system,
            switches: self.switches.saturating_sub(earlier.switches),
            ..self
        }
    }
}

/// What several processes use over some time.
#[derive(Debug)]
pub(crate) struct Window(Vec<(u32, Usage)>);

impl Window {
    /// Begins now.
    pub(crate) fn open(pids: &[u32]) -> Result<Self> {
        Ok(Self(pids.iter().map(|pid| Ok((*pid, Usage::of(*pid)?))).collect::<Result<_>>()?))
    }

    /// What each has used until now, in their order.
    pub(crate) fn read(&self) -> Result<Vec<Usage>> {
        self.0.iter().map(|(pid, earlier)| Ok(Usage::of(*pid)?.since(*earlier))).collect()
    }
}

/// `name: number ...` lines.
fn fields(text: &str) -> BTreeMap<&str, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter_map(|(name, value)| Some((name, value.split_whitespace().next()?.parse().ok()?))).collect()
}

/// User and system time of `/proc/PID/stat`. The name before them may hold anything, also blanks and parentheses.
fn ticks(stat: &str) -> Result<(f64, f64)> {
    let after_name = stat.rsplit_once(") ").map_or(stat, |(_, rest)| rest);
    let mut fields = after_name.split(' ').skip(11);
    let mut next = || fields.next().and_then(|field| field.parse().ok()).context("/proc/PID/stat is short");
    Ok((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 42 7 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(stat).unwrap(), (42.0, 7.0));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.cpu > 0.0 && usage.resident > usage.private && usage.private > 0 && usage.descriptors > 2);
    }

    #[test]
    fn a_window_counts_time_from_its_beginning_and_memory_as_it_is() {
        let earlier = Usage { cpu: 100.0, switches: 5, resident: 10, ..Usage::default() };
        let later = Usage { cpu: 150.0, switches: 9, resident: 12, ..Usage::default() };
        let between = later.since(earlier);
        assert_eq!((between.cpu, between.switches, between.resident), (50.0, 4, 12));
    }
}

//! What the kernel says of this process, under the names that Prometheus' client libraries agree on.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Ticks a second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on every architecture of Linux that Rust has a tier for.
const USER_HZ: f64 = 100.0;

/// Exports the process' metrics, and which build it is.
pub(super) fn register(registry: &mut Registry, started: SystemTime) {
    registry.register("proxy_build", "Which build runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    registry.register_collector(Box::new(Process { started }));
}

#[derive(Debug)]
struct Process {
    started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = self.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        gauge("process_start_time_seconds", "When the process started, since the Unix epoch.", started)?;
        // Without /proc, what it would say is left out.
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (field, name, help) in [
                ("VmRSS:", "process_resident_memory_bytes", "Memory that the process has in use."),
                ("VmSize:", "process_virtual_memory_bytes", "Address space that the process has reserved."),
                ("Threads:", "process_threads", "Threads of the process."),
            ] {
                if let Some(value) = status_field(&status, field) {
                    gauge(name, help, value)?;
                }
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is this look itself.
            let count = open.count().saturating_sub(1);
            gauge("process_open_fds", "Open file descriptors.", count as f64)?;
        }
        if let Some(seconds) = used_seconds() {
            let metric = ConstCounter::new(seconds);
            let help = "CPU time that the process has used, in user and kernel mode.";
            metric.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the process has used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// CPU time, to the hundredth.
    pub(super) cpu_seconds: f64,
    /// Resident pages of files: in practice, of the program.
    pub(super) file_bytes: f64,
}

impl Usage {
    /// Reads it; nothing without /proc.
    pub(super) fn read() -> Option<Self> {
        let file_bytes = status_field(&fs::read_to_string("/proc/self/status").ok()?, "RssFile:")?;
        Some(Self { cpu_seconds: used_seconds()?, file_bytes })
    }
}

/// CPU time of the process so far.
fn used_seconds() -> Option<f64> {
    cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// A number of `/proc/<pid>/status`, in bytes where it is in kB (proc(5)).
fn status_field(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let mut words = line.split_ascii_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") { number * 1024.0 } else { number })
}

/// `utime` and `stime` of `/proc/<pid>/stat` (proc(5)), fields 14 and 15. The name in field 2 may hold anything, and
/// ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_pages_are_read_by_field() {
        let status = "Name:\tconduit\nVmRSS:\t    7424 kB\nThreads:\t2\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(7_602_176.0));
        assert_eq!(status_field(status, "Threads:"), Some(2.0));
        assert_eq!(status_field(status, "VmSwap:"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 2 0 5 9 9";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn a_scrape_has_every_metric_of_the_process() {
        let mut registry = Registry::default();
        register(&mut registry, SystemTime::now());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "proxy_build_info{version=\"",
            "process_start_time_seconds 1",
            "process_resident_memory_bytes ",
            "process_virtual_memory_bytes ",
            "process_threads ",
            "process_open_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in {text}");
        }
    }
}

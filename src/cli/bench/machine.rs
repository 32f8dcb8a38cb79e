//! What a figure was measured on, and how much of it this process has used.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What a figure was measured on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    os: String,
    version: &'static str,
    /// Whether the program was built to be fast.
    optimized: bool,
    /// How many processes wanted a core on average, when it began: figures of a busy machine are rumours.
    load: Option<f64>,
}

impl Machine {
    /// Looks at this one.
    pub(super) fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cpu: model(&info).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            os: format!("{} {}", text(system.sysname()), text(system.release())),
            version: env!("CARGO_PKG_VERSION"),
            optimized: !cfg!(debug_assertions),
            load: load.split(' ').next().and_then(|text| text.parse().ok()),
        }
    }

    /// Returns it on one line.
    pub(super) fn line(&self) -> String {
        let load = self
            .load
            .map_or_else(String::new, |load| format!(", load {load} when it began"));
        let build = if self.optimized { "" } else { " (debug build)" };
        format!(
            "{}, {} cores, {}{load}; celeriac {}{build}",
            self.cpu, self.cores, self.os, self.version
        )
    }
}

fn model(info: &str) -> Option<&str> {
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

/// Returns how long this process has been on a core, in the program and in the system.
pub(super) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::model;

    #[test]
    fn a_processor_has_a_name() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2GHz\n";
        assert_eq!(model(info), Some("Some CPU @ 2GHz"));
        assert_eq!(model(""), None);
    }
}

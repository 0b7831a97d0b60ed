//! What the machine has.

use std::time::Duration;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Decoding is bound by memory bandwidth, which more threads than these no longer raise.
const MOST_THREADS: usize = 8;

/// The threads to use: one for each physical core, at most eight. Two on one core share its arithmetic.
pub fn threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    System::physical_core_count().unwrap_or(logical).min(logical).clamp(1, MOST_THREADS)
}

/// Memory of the machine and of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    pub total: u64,
    pub available: u64,
    /// Resident memory of this process now.
    pub resident: u64,
    /// The most that it ever was, where the system keeps it.
    pub peak_resident: u64,
}

impl Memory {
    /// Asks the system; what it does not tell is 0.
    pub fn now() -> Self {
        let Ok(mut system) = System::new() else {
            return Self { total: 0, available: 0, resident: 0, peak_resident: peak_resident().unwrap_or(0) };
        };
        system.refresh_memory();
        let resident = sysinfo::get_current_pid().ok().map_or(0, |process| {
            let only = [process];
            let kind = ProcessRefreshKind::nothing().with_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&only), false, kind);
            system.process(process).map_or(0, sysinfo::Process::memory)
        });
        Self {
            total: system.total_memory(),
            available: system.available_memory(),
            resident,
            peak_resident: peak_resident().unwrap_or(resident).max(resident),
        }
    }
}

/// The CPU time that this process has used so far, all its threads together; zero where the system does not
/// tell.
pub fn cpu_time() -> Duration {
    let (Ok(mut system), Ok(process)) = (System::new(), sysinfo::get_current_pid()) else {
        return Duration::ZERO;
    };
    let kind = ProcessRefreshKind::nothing().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, kind);
    let milliseconds = system.process(process).map_or(0, sysinfo::Process::accumulated_cpu_time);
    Duration::from_millis(milliseconds)
}

/// `VmHWM` of `/proc/self/status` (proc(5)), in bytes. Other systems do not tell by a file.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

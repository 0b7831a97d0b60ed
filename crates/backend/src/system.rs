//! What the machine has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Decoding is bound by memory bandwidth, which more threads than these no longer raise.
const MOST_THREADS: usize = 8;

/// The threads that a model can use: one for each performance core, at most eight. Two on one core share its
/// arithmetic, and a slow core makes the fast ones wait at the end of every operator.
pub fn threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = performance_cores(Path::new("/sys/devices")).or_else(|| System::physical_core_count().ok());
    cores.unwrap_or(logical).min(logical).clamp(1, MOST_THREADS)
}

/// The performance cores of a machine that has slower ones too, from Linux' files under `devices`: the cores
/// whose events `cpu_core` counts (Intel), or those with most of the largest `cpu_capacity` (Arm).
fn performance_cores(devices: &Path) -> Option<usize> {
    let processors = devices.join("system/cpu");
    let number = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<usize>().ok();
    if let Ok(list) = std::fs::read_to_string(devices.join("cpu_core/cpus")) {
        let cores: BTreeSet<usize> = ranges(list.trim())?
            .into_iter()
            .map(|cpu| number(processors.join(format!("cpu{cpu}/topology/core_id"))).unwrap_or(cpu))
            .collect();
        return Some(cores.len()).filter(|&cores| cores > 0);
    }
    let capacities: Vec<usize> =
        (0..).map_while(|cpu| number(processors.join(format!("cpu{cpu}/cpu_capacity")))).collect();
    let largest = *capacities.iter().max()?;
    // A "prime" core is one of the fast ones with a higher clock.
    Some(capacities.iter().filter(|&&capacity| capacity * 4 >= largest * 3).count())
}

/// The numbers of a list such as `0-7,12`.
fn ranges(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(numbers)
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

/// The memory that warm KV caches may take: a quarter of what is free, at most 4 GiB.
pub(crate) fn kv_memory() -> u64 {
    (Memory::now().available / 4).min(4 << 30)
}

/// The bytes that the KV rows of one conversation may take beside a model of `model_bytes`: half of what is
/// left, and never less than what a few thousand tokens need. `None` where the system does not tell.
pub(crate) fn conversation_memory(model_bytes: u64) -> Option<usize> {
    const LEAST: u64 = 512 << 20;
    let memory = Memory::now();
    // What this process holds is mostly the model in whose place this one comes.
    let left = memory.available.saturating_add(memory.resident).saturating_sub(model_bytes);
    (memory.available > 0).then(|| usize::try_from((left / 2).max(LEAST)).unwrap_or(usize::MAX))
}

/// `VmHWM` of `/proc/self/status` (proc(5)), in bytes. Other systems do not tell by a file.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn slow_cores_do_not_count_and_two_threads_of_one_core_count_once() {
        let intel = machine(&[
            ("cpu_core/cpus", "0-3\n"),
            ("cpu_atom/cpus", "4-7\n"),
            ("system/cpu/cpu0/topology/core_id", "0\n"),
            ("system/cpu/cpu1/topology/core_id", "0\n"),
            ("system/cpu/cpu2/topology/core_id", "4\n"),
            ("system/cpu/cpu3/topology/core_id", "4\n"),
        ]);
        assert_eq!(performance_cores(intel.path()), Some(2));
        let arm = machine(&[
            ("system/cpu/cpu0/cpu_capacity", "400\n"),
            ("system/cpu/cpu1/cpu_capacity", "400\n"),
            ("system/cpu/cpu2/cpu_capacity", "870\n"),
            ("system/cpu/cpu3/cpu_capacity", "1024\n"),
        ]);
        assert_eq!(performance_cores(arm.path()), Some(2));
        assert_eq!(performance_cores(machine(&[]).path()), None, "the cores are alike");
        assert_eq!(performance_cores(machine(&[("cpu_core/cpus", "none")]).path()), None);
    }

    #[test]
    fn lists_of_processors_are_numbers_and_ranges() {
        assert_eq!(ranges("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(ranges("7"), Some(vec![7]));
        assert_eq!(ranges(""), None);
        assert_eq!(ranges("0-x"), None);
    }
}

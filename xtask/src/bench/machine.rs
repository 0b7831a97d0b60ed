//! What the figures were measured on.

use crate::command::Program;
use crate::workspace::Workspace;

/// One sentence on processor, memory, system and commit, as far as they are known.
pub(super) fn describe(workspace: &Workspace) -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processor = field(&file("/proc/cpuinfo"), "model name").unwrap_or_else(|| "processor unknown".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(&file("/proc/meminfo"), "MemTotal")
        .and_then(|total| total.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(String::new, |kilobytes| {
            format!(", {:.0} GiB of memory", kilobytes / f64::from(1 << 20))
        });
    let (system, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let flags = field(&file("/proc/cpuinfo"), "flags").unwrap_or_default();
    let units: Vec<&str> =
        ["avx2", "avx512f", "avx512_vnni", "amx_int8"].into_iter().filter(|unit| has(&flags, unit)).collect();
    let units = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
    let commit = Program::new("git")
        .arguments(["describe", "--always", "--dirty"])
        .folder(workspace.root())
        .output()
        .map_or_else(|_| String::new(), |commit| format!(", Hearth at {}", commit.trim()));
    format!("{processor}{units}, {cores} logical cores{memory}, {system} {architecture}{commit}.\n")
}

/// The value of a line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn has(flags: &str, unit: &str) -> bool {
    flags.split_whitespace().any(|flag| flag == unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: A processor\nflags\t\t: avx2 avx512f";
        assert_eq!(field(text, "model name").as_deref(), Some("A processor"));
        assert_eq!(field(text, "name"), None);
        assert!(has("avx2 avx512f", "avx2"));
        assert!(!has("avx512f", "avx2"));
    }
}

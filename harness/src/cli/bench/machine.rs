//! What the machine can and what processes take of it: memory by PSS, and an fsync-per-message loop.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Of the times in /proc: USER_HZ, which is the same on all machines that Linux runs on today.
const TICKS_PER_SECOND: u64 = 100;

/// One line about the machine, and the file system at `folder`.
pub(super) fn described(folder: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = value(&cpu, "model name").unwrap_or("a processor");
    let memory = read("/proc/meminfo");
    let memory = kib(&memory, "MemTotal").unwrap_or_default() / (1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    let mounts = read("/proc/mounts");
    // The longest mount point that leads to the folder is the one it is on.
    let file_system = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
            folder.starts_with(point).then_some((point.len(), kind))
        })
        .max()
        .map_or("?", |(_, kind)| kind);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{cores} cores ({cpu}), {memory} GiB, Linux {}, {file_system} at {}, load average {load} before",
        kernel.trim(),
        folder.display()
    )
}

/// `name : value` of a file in /proc.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    value(text, name)?.split(' ').next()?.parse().ok()
}

/// A process and all below it: how many they are, and their memory in KiB, the sum of PSS.
///
/// A process of this very program shares its text with the harness, which would halve that part:
/// for it all that is resident counts.
pub(super) fn memory(root: u32) -> Result<(usize, u64), String> {
    let family = family(root)?;
    let own = fs::read_link("/proc/self/exe").ok();
    let mut sum = 0;
    for process in &family {
        let folder = format!("/proc/{process}");
        let ours = fs::read_link(format!("{folder}/exe")).ok() == own;
        // One that ended meanwhile takes nothing.
        let Ok(maps) = fs::read_to_string(format!("{folder}/smaps_rollup")) else {
            continue;
        };
        sum += kib(&maps, if ours { "Rss:" } else { "Pss:" }).unwrap_or_default();
    }
    if sum == 0 {
        return Err(format!("/proc/{root}/smaps_rollup: nothing to be read"));
    }
    Ok((family.len(), sum))
}

/// What a process and all below it, those that ended too, have had of the processors.
pub(super) fn processor_time(root: u32) -> Result<Duration, String> {
    let mut ticks = 0;
    for process in family(root)? {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // proc(5): utime, stime, cutime and cstime are the fields 14 to 17; the name is the second.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let times = fields.split(' ').skip(11).take(4);
        ticks += times
            .filter_map(|time| time.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// A process and all below it.
fn family(root: u32) -> Result<Vec<u32>, String> {
    let parents = parents()?;
    let mut family = vec![root];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        let children = parents.iter().filter(|(_, above)| *above == parent);
        family.extend(children.map(|(child, _)| *child));
        at += 1;
    }
    Ok(family)
}

/// All processes with their parents.
fn parents() -> Result<Vec<(u32, u32)>, String> {
    let processes = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    Ok(processes
        .filter_map(|entry| {
            let process = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            // The name in brackets may hold anything.
            let (_, rest) = stat.rsplit_once(") ")?;
            Some((process, rest.split(' ').nth(1)?.parse().ok()?))
        })
        .collect())
}

/// How many messages of `octets` a second can be made durable, each as a file of its own in
/// `folder`, flushed with its folder, by `writers` side by side: no server that does it so is faster.
pub(super) fn fsync_loop(
    folder: &Path,
    octets: usize,
    writers: usize,
    lasting: Duration,
) -> io::Result<f64> {
    let content = vec![b'x'; octets];
    let began = Instant::now();
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let content = &content;
                scope.spawn(move || {
                    let entries = File::open(folder)?;
                    let mut count = 0_u32;
                    loop {
                        let path = folder.join(format!("{writer}.{count}"));
                        let mut file = File::create_new(&path)?;
                        file.write_all(content)?;
                        file.sync_all()?;
                        entries.sync_all()?;
                        count += 1;
                        // One at least, however busy the machine is.
                        if began.elapsed() >= lasting {
                            break;
                        }
                    }
                    Ok::<_, io::Error>(count)
                })
            })
            .collect();
        writers.into_iter().try_fold(0, |sum, writer| {
            let count = writer
                .join()
                .map_err(|_| io::Error::other("a writer ended"))??;
            Ok::<_, io::Error>(sum + count)
        })
    })?;
    let taken = began.elapsed().as_secs_f64();
    for entry in fs::read_dir(folder)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(f64::from(written) / taken)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn the_memory_of_a_process_counts_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let (alone, of_child) = super::memory(child.id()).unwrap();
        let (family, of_all) = super::memory(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(alone, 1);
        assert!(family >= 2 && of_all > of_child);
    }

    #[test]
    fn the_fsync_loop_writes_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let rate = super::fsync_loop(folder.path(), 10, 2, Duration::ZERO).unwrap();
        assert!(rate > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

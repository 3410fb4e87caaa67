//! Child processes and what they cost.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// User and system time of a process so far.
pub(crate) fn cpu_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a running process");
    // After the name in parentheses; utime and stime are fields 14 and 15 of proc(5), in hundredths of a second.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name")..].split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

/// A child that is killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// This program again, in another part.
    pub(crate) fn again(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        Self(Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("a process"))
    }

    /// `plu-onboard`, its output thrown away, working in `folder`.
    pub(crate) fn onboard(folder: &Path, arguments: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plu-onboard"));
        command
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .env("PLU_API_KEY", "sk_staging_sandbox")
            .envs(settings.iter().copied())
            .stdout(Stdio::null());
        if std::env::var_os("SHOW").is_none() {
            command.stderr(Stdio::null());
        }
        Self(command.spawn().expect("a process"))
    }

    /// The first line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let output = self.0.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    /// User and system time so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu_s(self.0.id())
    }

    /// Highest and present resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        // A process that has just ended has none.
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        let kib = |name: &str| kib(name).unwrap_or(0.0);
        (kib("VmHWM:") / 1024.0, kib("VmRSS:") / 1024.0)
    }

    /// The same, looked at every few milliseconds; `None` once it has ended.
    pub(crate) fn memory_while_running(&mut self) -> Option<(f64, f64)> {
        std::thread::park_timeout(Duration::from_millis(20));
        let is_running = self.0.try_wait().is_ok_and(|status| status.is_none());
        is_running.then(|| self.memory_mib())
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

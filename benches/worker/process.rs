//! Child processes, and their CPU time and memory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// User and system time of a process, in seconds.
pub(crate) fn cpu_s(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a running process");
    // Fields after the name in parentheses. utime and stime are fields 14 and 15 of proc(5), in 1/100 s.
    let fields: Vec<&str> = stat[stat.rfind(')').expect("a name")..].split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

/// A child process that is killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// This program, with other arguments.
    pub(crate) fn this_program(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        Self(Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().expect("a process"))
    }

    /// `plu-onboard` in `folder`, without its output.
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

    /// User and system time, in seconds.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu_s(self.0.id())
    }

    /// Peak and current resident memory, in MiB.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        // A process that has just exited has none.
        let kib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        let kib = |name: &str| kib(name).unwrap_or(0.0);
        (kib("VmHWM:") / 1024.0, kib("VmRSS:") / 1024.0)
    }

    /// [`Self::memory_mib`] after 20 ms; `None` if the process has exited.
    pub(crate) fn memory_while_running(&mut self) -> Option<(f64, f64)> {
        std::thread::park_timeout(Duration::from_millis(20));
        let is_running = self.0.try_wait().is_ok_and(|status| status.is_none());
        is_running.then(|| self.memory_mib())
    }

    /// Waits until it exits.
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

//! The program as a process. Each wait has a deadline, after which the process is killed and its output is shown.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait. Far more than any step takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Interval between checks of a condition while the program prints nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(3);

/// A command line of the program and its environment, not yet started.
pub(crate) struct Program(Command);

impl Program {
    pub(super) fn new(folder: &Path, arguments: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plu-onboard"));
        command
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .env_clear()
            .env("PLU_API_KEY", "sk_staging_sandbox")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command)
    }

    pub(crate) fn env(mut self, variable: &str, value: &str) -> Self {
        self.0.env(variable, value);
        self
    }

    /// Sets the setting `section.key` by its environment variable.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.env(&format!("PLU_ONBOARD__{}", key.replace('.', "__").to_uppercase()), value)
    }

    /// Appends arguments, separated by white space.
    pub(crate) fn with(mut self, arguments: &str) -> Self {
        self.0.args(arguments.split_whitespace());
        self
    }

    /// Lets the program open this many files at most.
    pub(crate) fn with_open_files(self, limit: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(self.0.get_program());
        command.args(self.0.get_args()).current_dir(self.0.get_current_dir().unwrap()).env_clear();
        command.envs(self.0.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    pub(crate) fn without_key(mut self) -> Self {
        self.0.env_remove("PLU_API_KEY");
        self
    }

    /// Redirects standard input from a file.
    pub(crate) fn stdin(mut self, file: &Path) -> Self {
        self.0.stdin(File::open(file).unwrap());
        self
    }

    pub(crate) fn start(mut self) -> RunningProgram {
        let mut child = self.0.spawn().unwrap();
        let (lines, received) = channel();
        follow(child.stdout.take().unwrap(), Pipe::Stdout, lines.clone());
        follow(child.stderr.take().unwrap(), Pipe::Stderr, lines);
        RunningProgram { child, lines: received, output: ProgramOutput::default() }
    }

    /// Starts the program with its standard output redirected to a file or device.
    pub(crate) fn start_with_stdout(mut self, file: &str) -> RunningProgram {
        self.0.stdout(OpenOptions::new().write(true).open(file).unwrap());
        let mut child = self.0.spawn().unwrap();
        let (lines, received) = channel();
        follow(child.stderr.take().unwrap(), Pipe::Stderr, lines);
        RunningProgram { child, lines: received, output: ProgramOutput::default() }
    }

    /// Starts the program with its standard error closed by the reader, as in `2>&1 | head`.
    pub(crate) fn start_with_closed_stderr(self) -> RunningProgram {
        self.start_with_unread_stderr().0
    }

    /// Starts the program and returns its standard error unread. An unread pipe holds 64 KiB.
    pub(crate) fn start_with_unread_stderr(mut self) -> (RunningProgram, ChildStderr) {
        let mut child = self.0.spawn().unwrap();
        let unread = child.stderr.take().unwrap();
        let (lines, received) = channel();
        follow(child.stdout.take().unwrap(), Pipe::Stdout, lines);
        (RunningProgram { child, lines: received, output: ProgramOutput::default() }, unread)
    }

    /// Starts the program, waits for its exit and checks the exit status.
    pub(crate) fn expect_exit(self, code: i32) -> ProgramOutput {
        self.start().expect_exit(code)
    }
}

#[derive(Clone, Copy)]
enum Pipe {
    Stdout,
    Stderr,
}

/// Sends each line of a pipe to `lines`, on a thread of its own, until the program closes the pipe.
fn follow(pipe: impl Read + Send + 'static, which: Pipe, lines: Sender<(Pipe, String)>) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let _ = lines.send((which, String::from_utf8_lossy(&line).into_owned()));
            line.clear();
        }
    });
}

/// A started program. Dropping it kills the process.
pub(crate) struct RunningProgram {
    child: Child,
    lines: Receiver<(Pipe, String)>,
    output: ProgramOutput,
}

/// Output of the program, and its exit status once it has exited.
#[derive(Debug, Default, Clone)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl RunningProgram {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name without `SIG`: `INT`, `TERM`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success(), "SIG{name} can't be sent, perhaps the program has exited: {}", self.output);
    }

    /// Sends a signal every 50 ms until the program exits, which must be with this status.
    pub(crate) fn signal_until_exit(mut self, name: &str, code: i32) -> ProgramOutput {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => self.output.add(line),
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < deadline, "the program doesn't exit. {}", self.output);
                    let _ = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
                }
                Err(RecvTimeoutError::Disconnected) => return self.expect_exit(code),
            }
        }
    }

    /// Kills the program with SIGKILL.
    pub(crate) fn kill(mut self) -> ProgramOutput {
        assert!(self.child.try_wait().unwrap().is_none(), "the program exited before it was killed: {}", self.wait());
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits until the program is killed by a signal, here by its own fail point.
    #[cfg(feature = "failpoints")]
    pub(crate) fn expect_kill(mut self) -> ProgramOutput {
        let finished = self.wait();
        assert_eq!(finished.code, None, "the program wasn't killed. {finished}");
        finished
    }

    /// Waits until `condition` holds, while the program runs. `what` names it in the failure message.
    pub(crate) fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        self.wait_for(what, |_| condition());
    }

    /// Waits until the output contains `text`.
    pub(crate) fn wait_for_output(&mut self, text: &str) {
        self.wait_for(text, |output| output.contains(text));
    }

    /// Waits until the output contains `text` at least this many times.
    pub(crate) fn wait_for_output_times(&mut self, text: &str, times: usize) {
        self.wait_for(&format!("{text} ({times} times)"), |output| output.times(text) >= times);
    }

    /// Returns the output up to now.
    pub(crate) fn output_so_far(&self) -> &ProgramOutput {
        &self.output
    }

    /// Waits for the log line with the status page's URL. Returns its address and port.
    pub(crate) fn status_page_address(&mut self) -> String {
        self.wait_for_address("status page")
    }

    /// Waits for a log line that contains `what` and then an HTTP URL. Returns the URL's address and port.
    pub(crate) fn wait_for_address(&mut self, what: &str) -> String {
        let address = |output: &ProgramOutput| {
            let url = output.stderr.split(what).nth(1)?.split_once("http://")?.1;
            url.split_once(['/', '\n']).map(|(address, _)| address.to_owned())
        };
        self.wait_for(&format!("address of {what}"), |output| address(output).is_some());
        address(&self.output).unwrap()
    }

    fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&ProgramOutput) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(&self.output) {
            match self.lines.recv_timeout(CHECK_INTERVAL) {
                Ok(line) => self.output.add(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    panic!("timeout while waiting for: {what}. {}", self.wait());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the program exited before: {what}. {}", self.wait()),
            }
        }
    }

    /// Waits for the program's exit and checks its status.
    pub(crate) fn expect_exit(mut self, code: i32) -> ProgramOutput {
        let finished = self.wait();
        assert_eq!(finished.code, Some(code), "{finished}");
        finished
    }

    /// Waits for the program's exit, which closes both pipes.
    fn wait(&mut self) -> ProgramOutput {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.output.add(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("the program doesn't exit. {}", self.output);
                }
            }
        }
        self.output.code = self.child.wait().unwrap().code();
        self.output.clone()
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ProgramOutput {
    fn add(&mut self, (pipe, line): (Pipe, String)) {
        match pipe {
            Pipe::Stdout => self.stdout.push_str(&line),
            Pipe::Stderr => self.stderr.push_str(&line),
        }
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }

    /// Returns how many times the output contains `text`.
    pub(crate) fn times(&self, text: &str) -> usize {
        self.stdout.matches(text).count() + self.stderr.matches(text).count()
    }

    /// Checks that the output contains each of these texts.
    #[track_caller]
    pub(crate) fn assert_output(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.contains(text), "{text:?} is missing in the output. {self}");
        }
    }

    /// Checks that the output contains none of these texts.
    #[track_caller]
    pub(crate) fn assert_no_output(&self, texts: &[&str]) {
        for text in texts {
            assert!(!self.contains(text), "{text:?} is in the output. {self}");
        }
    }
}

impl std::fmt::Display for ProgramOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "Status {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

//! The program as a process. Waiting always has a deadline, after which the process is killed and what it said is
//! shown.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// Far more than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// How often a condition is looked at while the program says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// The program, not yet started.
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

    /// Sets `section.key`.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.env(&format!("PLU_ONBOARD__{}", key.replace('.', "__").to_uppercase()), value)
    }

    /// More words for its command line.
    pub(crate) fn with(mut self, arguments: &str) -> Self {
        self.0.args(arguments.split_whitespace());
        self
    }

    pub(crate) fn without_key(mut self) -> Self {
        self.0.env_remove("PLU_API_KEY");
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self.0.spawn().unwrap();
        let (lines, received) = channel();
        follow(child.stdout.take().unwrap(), Pipe::Stdout, lines.clone());
        follow(child.stderr.take().unwrap(), Pipe::Stderr, lines);
        Running { child, lines: received, seen: Finished::default() }
    }

    /// Starts it with its standard output in a file or device.
    pub(crate) fn start_into(mut self, file: &str) -> Running {
        self.0.stdout(OpenOptions::new().write(true).open(file).unwrap());
        let mut child = self.0.spawn().unwrap();
        let (lines, received) = channel();
        follow(child.stderr.take().unwrap(), Pipe::Stderr, lines);
        Running { child, lines: received, seen: Finished::default() }
    }

    /// Starts it with nobody at the other end of its standard error, as behind `2>&1 | head`.
    pub(crate) fn start_unheard(self) -> Running {
        self.start_unread().0
    }

    /// Starts it, and leaves its standard error to the caller. As long as nobody reads it, a pipe takes 64 KiB.
    pub(crate) fn start_unread(mut self) -> (Running, ChildStderr) {
        let mut child = self.0.spawn().unwrap();
        let unread = child.stderr.take().unwrap();
        let (lines, received) = channel();
        follow(child.stdout.take().unwrap(), Pipe::Stdout, lines);
        (Running { child, lines: received, seen: Finished::default() }, unread)
    }

    /// Starts it and waits for its end, which must have this status.
    pub(crate) fn ends_with(self, code: i32) -> Finished {
        self.start().ends_with(code)
    }
}

#[derive(Clone, Copy)]
enum Pipe {
    Stdout,
    Stderr,
}

/// Hands on line by line what comes out of a pipe, until the other end closes it.
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

/// The program while it runs. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<(Pipe, String)>,
    seen: Finished,
}

/// What the program said, and how it ended.
#[derive(Debug, Default, Clone)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGINT, SIGTERM ("INT", "TERM").
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success(), "SIG{name} could not be sent: has it ended? {}", self.seen);
    }

    /// Sends a signal again and again, as an impatient person does, until it ends.
    pub(crate) fn signal_until_it_ends(mut self, name: &str, code: i32) -> Finished {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => self.seen.add(line),
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < deadline, "it doesn't end. {}", self.seen);
                    let _ = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
                }
                Err(RecvTimeoutError::Disconnected) => return self.ends_with(code),
            }
        }
    }

    /// SIGKILL: no chance to do anything about it.
    pub(crate) fn kill(mut self) -> Finished {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended before it was killed: {}", self.wait());
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits for its end, which must be a sudden one.
    #[cfg(feature = "failpoints")]
    pub(crate) fn dies(mut self) -> Finished {
        let finished = self.wait();
        assert_eq!(finished.code, None, "it was to be killed. {finished}");
        finished
    }

    /// Waits until something has come true, while the program runs.
    pub(crate) fn until(&mut self, what: &str, mut has_come: impl FnMut() -> bool) {
        self.wait_for(what, |_| has_come());
    }

    /// Waits until the program has said this, on either pipe.
    pub(crate) fn says(&mut self, text: &str) {
        self.wait_for(text, |seen| seen.contains(text));
    }

    /// Waits until the program has said this so often.
    pub(crate) fn says_times(&mut self, text: &str, times: usize) {
        self.wait_for(&format!("{text} ({times} times)"), |seen| seen.times(text) >= times);
    }

    /// What it has said so far.
    pub(crate) fn said_so_far(&self) -> &Finished {
        &self.seen
    }

    /// Waits until it says where its status page is. Returns address and port.
    pub(crate) fn serves(&mut self) -> String {
        self.says_where("status page")
    }

    /// Waits until it says at which address and port something is, which it says in one line with this.
    pub(crate) fn says_where(&mut self, what: &str) -> String {
        let place = |seen: &Finished| {
            let said = seen.stderr.split(what).nth(1)?.split_once("http://")?.1;
            said.split_once(['/', '\n']).map(|(address, _)| address.to_owned())
        };
        self.wait_for(&format!("where is: {what}"), |seen| place(seen).is_some());
        place(&self.seen).unwrap()
    }

    fn wait_for(&mut self, what: &str, mut has_come: impl FnMut(&Finished) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !has_come(&self.seen) {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => self.seen.add(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    let _ = self.child.kill();
                    panic!("waited in vain for: {what}. {}", self.wait());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before: {what}. {}", self.wait()),
            }
        }
    }

    /// Waits for its end, which must have this status.
    pub(crate) fn ends_with(mut self, code: i32) -> Finished {
        let finished = self.wait();
        assert_eq!(finished.code, Some(code), "{finished}");
        finished
    }

    /// Waits for its end: both pipes are closed then.
    fn wait(&mut self) -> Finished {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.add(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("it doesn't end. {}", self.seen);
                }
            }
        }
        self.seen.code = self.child.wait().unwrap().code();
        self.seen.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    fn add(&mut self, (pipe, line): (Pipe, String)) {
        match pipe {
            Pipe::Stdout => self.stdout.push_str(&line),
            Pipe::Stderr => self.stderr.push_str(&line),
        }
    }

    pub(crate) fn contains(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }

    /// How often this was said.
    pub(crate) fn times(&self, text: &str) -> usize {
        self.stdout.matches(text).count() + self.stderr.matches(text).count()
    }

    /// Every one of these must have been said.
    #[track_caller]
    pub(crate) fn said(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.contains(text), "it didn't say {text:?}. {self}");
        }
    }

    /// None of these may have been said.
    #[track_caller]
    pub(crate) fn did_not_say(&self, texts: &[&str]) {
        for text in texts {
            assert!(!self.contains(text), "it said {text:?}. {self}");
        }
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(f, "Status {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

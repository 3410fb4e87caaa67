//! Limits of this machine that an operation met: no problem of the network or the other side.

use std::io;

/// A limit of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "local_")]
pub enum LocalLimit {
    /// This process, or the machine, has too many open files and connections.
    Files,
    /// There is no memory for another connection.
    Memory,
    /// There is no free local port or address for another connection.
    Ports,
}

/// POSIX: too many open files in the machine, in this process; not enough memory. The same on Linux, BSD and macOS.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ENOMEM: i32 = 12;

impl LocalLimit {
    /// Returns the limit that caused an error, if one did.
    pub fn of(error: &io::Error) -> Option<Self> {
        match (error.kind(), error.raw_os_error()) {
            (_, Some(ENFILE | EMFILE)) => Some(Self::Files),
            (io::ErrorKind::OutOfMemory, _) | (_, Some(ENOMEM)) => Some(Self::Memory),
            (io::ErrorKind::AddrNotAvailable, _) => Some(Self::Ports),
            _ => None,
        }
    }

    /// Its name in logs.
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// What happened, a colon, and what the operator can do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Files => {
                "this machine allows no more open files and connections: raise the limit (ulimit -n, or LimitNOFILE of \
                 the service), or lower worker.concurrency"
            }
            Self::Memory => {
                "this machine has no memory for another connection: free memory, or lower worker.concurrency"
            }
            Self::Ports => {
                "this machine has no free port for another connection: widen net.ipv4.ip_local_port_range, or look for a \
                 program that opens many connections"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_this_machines_limits_are_recognised() {
        for (os_error, limit) in [(24, LocalLimit::Files), (23, LocalLimit::Files), (12, LocalLimit::Memory)] {
            assert_eq!(LocalLimit::of(&io::Error::from_raw_os_error(os_error)), Some(limit));
        }
        let error = |kind| LocalLimit::of(&io::Error::from(kind));
        assert_eq!(error(io::ErrorKind::AddrNotAvailable), Some(LocalLimit::Ports));
        assert_eq!(error(io::ErrorKind::ConnectionRefused), None);
    }
}

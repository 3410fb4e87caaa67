//! Limit of open files: connections count as files, so it limits the requests in flight.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::app::error::AppError;

/// Files that are open beside the connections to the API: queue and log files, standard streams, the connections to the
/// broker, and those of readers of the status page.
const OTHER_FILES: u64 = 100;

/// Raises the soft limit to the hard one, which any process may. Many systems have a soft limit of 1,024, kept low for
/// programs that use `select`.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // macOS refuses an unlimited one. The old limit stays then.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Checks that each request in flight can have a connection.
///
/// # Errors
/// [`AppError::Usage`] where the limit is too low.
pub(crate) fn check_open_files(concurrency: usize) -> Result<(), AppError> {
    check(concurrency, getrlimit(Resource::Nofile).current)
}

/// `limit`: most open files; `None`: any number.
fn check(concurrency: usize, limit: Option<u64>) -> Result<(), AppError> {
    let wanted = u64::try_from(concurrency).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    match limit {
        Some(limit) if limit < wanted => Err(AppError::Usage(format!(
            "worker.concurrency is {concurrency}, which needs {wanted} open files and connections, but this process may \
             have {limit}: lower worker.concurrency to {}, or raise the limit (ulimit -n {wanted}, or \
             LimitNOFILE={wanted} of the service)",
            limit.saturating_sub(OTHER_FILES).max(1)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_requests_in_flight_are_refused_with_both_numbers() {
        assert!(check(64, Some(164)).is_ok() && check(64, None).is_ok());
        let error = check(1_000, Some(1_024)).unwrap_err().to_string();
        assert!(error.contains("worker.concurrency is 1000") && error.contains("may have 1024"), "{error}");
        assert!(error.contains("lower worker.concurrency to 924"), "{error}");
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}

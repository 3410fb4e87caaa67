//! The simulated partner API, run by the test: it outlives the program, and the test can observe and change it.

use std::num::NonZeroU32;

use plu_onboard::sandbox::{AccountState, Sandbox, SandboxConfig, SandboxControl, SandboxStats};
use tokio::runtime::Runtime;

pub(crate) struct Partner {
    // Fields are dropped in this order: the sandbox needs the runtime while it stops.
    sandbox: Sandbox,
    _runtime: Runtime,
}

impl Partner {
    pub(crate) fn start(config: SandboxConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sandbox = runtime.block_on(Sandbox::start(config)).unwrap();
        Self { sandbox, _runtime: runtime }
    }

    /// Returns the base URL for `--api-url`.
    pub(crate) fn url(&self) -> String {
        self.sandbox.base_url()
    }

    pub(crate) fn stats(&self) -> SandboxStats {
        self.sandbox.stats()
    }

    pub(crate) fn control(&self, control: &SandboxControl) {
        self.sandbox.control(control);
    }

    pub(crate) fn set_account(&self, account: AccountState) {
        self.control(&SandboxControl { account: Some(account), ..SandboxControl::default() });
    }

    /// Returns the number of requests received so far, creations and look-ups together.
    pub(crate) fn requests(&self) -> u64 {
        let counts = self.stats().model.requests;
        counts.create + counts.list
    }
}

/// Returns a fault setting of the sandbox that hits every n-th request.
pub(crate) fn nth(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

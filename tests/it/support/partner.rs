//! The simulated partner inside the test, so that it outlives the program and can be looked at and changed.

use std::num::NonZeroU32;

use plu_onboard::sandbox::{AccountState, Control, Sandbox, SandboxConfig, SandboxStats};
use tokio::runtime::Runtime;

pub(crate) struct Partner {
    // Stopped before the runtime that carries it.
    sandbox: Sandbox,
    _runtime: Runtime,
}

impl Partner {
    pub(crate) fn start(config: SandboxConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sandbox = runtime.block_on(Sandbox::start(config)).unwrap();
        Self { sandbox, _runtime: runtime }
    }

    /// Its base URL, for `--api-url`.
    pub(crate) fn url(&self) -> String {
        self.sandbox.base_url()
    }

    pub(crate) fn stats(&self) -> SandboxStats {
        self.sandbox.stats()
    }

    pub(crate) fn control(&self, control: &Control) {
        self.sandbox.control(control);
    }

    pub(crate) fn set_account(&self, account: AccountState) {
        self.control(&Control { account: Some(account), ..Control::default() });
    }

    /// Requests of any kind so far.
    pub(crate) fn requests(&self) -> u64 {
        let counts = self.stats().model.requests;
        counts.create + counts.list
    }
}

/// "Every n-th", for the faults of the sandbox.
pub(crate) fn nth(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

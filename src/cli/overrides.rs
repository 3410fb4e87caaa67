//! Which flag stands for which setting.

use crate::cli::{
    ApiArgs, CheckArgs, Command, CommonArgs, ConcurrencyArgs, ConfigArgs, ConfigCommand, HealthArgs, ImportArgs,
    LaneArgs, PurgeArgs, QueueArgs, RateArgs, RunArgs, SandboxArgs, ServiceArgs, TopologyArgs, WebhooksArgs,
    WorkerArgs,
};
use crate::config::Overrides;

/// The settings that a command's flags give.
impl From<&Command> for Overrides {
    fn from(command: &Command) -> Self {
        let dead;
        let groups: &[&dyn SettingFlags] = match command {
            Command::Run(RunArgs { common, queue, api, rate_limit, service, lane, .. }) => {
                &[common, queue, api, rate_limit, service, lane]
            }
            Command::Check(CheckArgs { common, rate_limit, .. }) => &[common, rate_limit],
            Command::Import(ImportArgs { common, queue, lane, .. }) => &[common, queue, lane],
            Command::Worker(WorkerArgs { common, queue, api, rate_limit, service, .. }) => {
                &[common, queue, api, rate_limit, service]
            }
            Command::Webhooks(WebhooksArgs { common, queue, .. }) => &[common, queue],
            Command::Dead(command) => {
                dead = command.setting_flags();
                &[dead.0, dead.1]
            }
            Command::Sandbox(args) => &[&args.common, args],
            Command::Purge(PurgeArgs { common, queue, .. }) => &[common, queue],
            Command::Health(HealthArgs { common, .. }) => &[common],
            Command::Topology(TopologyArgs { common, queue }) => &[common, queue],
            Command::Config(ConfigCommand::Check(args) | ConfigCommand::Show(args)) => {
                let ConfigArgs { common, queue, api, rate_limit, concurrency, lane } = args;
                &[common, queue, api, rate_limit, concurrency, lane]
            }
        };
        let mut overrides = Self::default();
        groups.iter().for_each(|group| group.add_to(&mut overrides));
        overrides
    }
}

/// A group of flags of which some stand for settings.
trait SettingFlags {
    fn add_to(&self, overrides: &mut Overrides);
}

impl SettingFlags for CommonArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--log-format", "log.format", self.log_format.clone());
    }
}

impl SettingFlags for QueueArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--queue", "queue.url", self.queue.clone());
    }
}

impl SettingFlags for ApiArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--api-url", "api.url", self.api_url.clone());
        overrides.set("--api-key-file", "api.key_file", self.api_key_file.clone());
    }
}

impl SettingFlags for RateArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--rate", "rate_limit.rate", self.rate.clone());
    }
}

impl SettingFlags for ConcurrencyArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--concurrency", "worker.concurrency", self.concurrency.clone());
    }
}

impl SettingFlags for ServiceArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        self.concurrency.add_to(overrides);
        overrides.set("--fault", "sandbox.faults", faults(&self.fault));
    }
}

/// The list as one text, as a variable would hold it; nothing where no fault was given.
fn faults(given: &[String]) -> Option<String> {
    (!given.is_empty()).then(|| given.join(","))
}

impl SettingFlags for LaneArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--lane", "import.lane", self.lane.clone());
    }
}

impl SettingFlags for SandboxArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        overrides.set("--key-ttl", "sandbox.key_ttl_s", self.key_ttl.clone());
        overrides.set("--latency-ms", "sandbox.latency_ms", self.latency_ms.clone());
        overrides.set("--rate-limit", "sandbox.rate_limit", self.rate_limit.clone());
        overrides.set("--fault", "sandbox.faults", faults(&self.fault));
        overrides.set("--seed", "sandbox.seed", self.seed.clone());
    }
}

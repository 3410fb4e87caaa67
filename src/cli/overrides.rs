//! Maps flags to the settings that they set.

use crate::cli::{
    ApiArgs, CheckArgs, Cli, CliCommand, ConcurrencyArgs, ConfigArgs, ConfigCommand, FaultArgs, GeneralArgs,
    ImportArgs, LaneArgs, PurgeArgs, QueueArgs, RateArgs, RunArgs, SandboxArgs, ServiceArgs, TopologyArgs,
    WebhooksArgs, WorkerArgs,
};
use crate::config::Overrides;

/// The settings that the flags of a command line set.
impl From<&Cli> for Overrides {
    fn from(cli: &Cli) -> Self {
        let groups: &[&dyn SettingFlags] = match &cli.command {
            CliCommand::Run(RunArgs { queue, api, rate_limit, service, lane, .. }) => {
                &[queue, api, rate_limit, service, lane]
            }
            CliCommand::Check(CheckArgs { rate_limit, .. }) => &[rate_limit],
            CliCommand::Import(ImportArgs { queue, lane, .. }) => &[queue, lane],
            CliCommand::Worker(WorkerArgs { queue, api, rate_limit, service, .. }) => {
                &[queue, api, rate_limit, service]
            }
            CliCommand::Webhooks(WebhooksArgs { queue, .. })
            | CliCommand::Purge(PurgeArgs { queue, .. })
            | CliCommand::Topology(TopologyArgs { queue }) => &[queue],
            CliCommand::Dead(command) => &[command.queue()],
            CliCommand::Sandbox(args) => &[args],
            CliCommand::Health(_) => &[],
            CliCommand::Config(ConfigCommand::Check(args) | ConfigCommand::Show(args)) => {
                let ConfigArgs { queue, api, rate_limit, concurrency, lane } = args;
                &[queue, api, rate_limit, concurrency, lane]
            }
        };
        let mut overrides = Self::default();
        cli.general.add_to(&mut overrides);
        groups.iter().for_each(|group| group.add_to(&mut overrides));
        overrides
    }
}

/// A group of flags, some of which set settings.
trait SettingFlags {
    fn add_to(&self, overrides: &mut Overrides);
}

impl SettingFlags for GeneralArgs {
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
        self.faults.add_to(overrides);
    }
}

impl SettingFlags for FaultArgs {
    fn add_to(&self, overrides: &mut Overrides) {
        // One text, as in an environment variable. Without the flag the setting isn't overridden.
        let list = (!self.fault.is_empty()).then(|| self.fault.join(","));
        overrides.set("--fault", "sandbox.faults", list);
    }
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
        overrides.set("--seed", "sandbox.seed", self.seed.clone());
        self.faults.add_to(overrides);
    }
}

//! Plasma in the local cluster: charts installed by helm, a development chain, a rental, a queue.

use std::{path::PathBuf, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cluster::{self, Cluster},
    command, contracts, paths,
    programs::{self, Image},
    progress, tools,
};

/// Plasma's namespace.
pub(crate) const SYSTEM: &str = "plasma-system";
/// Where the chain is reached from this machine.
pub(crate) const RPC_ON_HOST: &str = "127.0.0.1:18545";
/// The Rental contract's address on a fresh development chain.
pub(crate) const CONTRACT: &str = "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512";
/// The Providers contract's.
const PROVIDERS: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
/// What the queue charges.
const PRICE_PER_GPU_HOUR: &str = "3.6";
/// The rental's ceiling, end, lateness, notice, claim window, window and period. A tenth of an XPL a second is what a hundred
/// GPUs cost, so all is paid at once, though the bucket begins empty; a minute to contest lets one see a release.
const TERMS: &str = "100000000000000000,4000000000,86400,60,3600,60,86400";
/// anvil's second and third accounts; the whole world knows their keys.
const PROVIDER: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const PAYER: &str = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc";
const PAYER_KEY: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";

/// A cluster with Plasma in it.
pub(crate) struct Stack {
    pub(crate) cluster: Cluster,
}

impl Stack {
    /// Brings everything up: cluster, images, charts, rental and queue.
    pub(crate) fn up(extra: &[Image]) -> Result<Self> {
        let cluster = cluster::up()?;
        let images = programs::images()?;
        progress::step("give the images to the node", None, || {
            images.iter().chain(extra).try_for_each(|image| {
                progress::say(&image.name);
                cluster.import_image(&image.archive)
            })
        })?;
        let stack = Self { cluster };
        stack.install(&images)?;
        let kept: Vec<&str> = images.iter().chain(extra).map(|image| image.name.as_str()).collect();
        stack.cluster.forget_older_images(&kept)?;
        progress::step("open a rental and make its queue", None, || stack.open_rental())?;
        Ok(stack)
    }

    /// The one that is up.
    pub(crate) fn running() -> Result<Self> {
        Ok(Self { cluster: Cluster::running()? })
    }

    /// An interrupted helm leaves a record behind that says it is still at work, and refuses to go on for ever.
    fn forget_interrupted(&self) -> Result<()> {
        let pending = "owner=helm,status in (pending-install,pending-upgrade,pending-rollback)";
        let mut delete = self.cluster.kubectl()?;
        command::output(delete.args(["delete", "secrets", "--all-namespaces", "--selector", pending]))
            .map(drop)
    }

    fn install(&self, images: &[Image]) -> Result<()> {
        self.forget_interrupted()?;
        let log = self.cluster.logs().join("helm.log");
        let charts = paths::repository().join("charts");
        progress::step("install the charts", Some(&log), || {
            command::logged(
                self.helm()?.args(["upgrade", "--install", "plasma-crds"]).arg(charts.join("plasma-crds")),
                &log,
            )?;
            let mut helm = self.helm()?;
            helm.args(["upgrade", "--install", "plasma"]).arg(charts.join("plasma"));
            helm.args(["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m"]);
            for setting in [
                "chain.id=31337",
                "chain.dev.enabled=true",
                "chain.confirmations=2",
                "devicePlugin.simulated.enabled=true",
                // Divided or whole: whichever a simulated GPU is.
                "devicePlugin.migStrategy=mixed",
                "settlement.batchSeconds=3",
                "settlement.releaseSeconds=20",
                "image.pullPolicy=Never",
                "log.format=text",
            ] {
                helm.args(["--set", setting]);
            }
            for image in images {
                let (name, tag) = image.name.split_once(':').unwrap_or((&image.name, "latest"));
                let key = match name.trim_start_matches("plasma.dev/") {
                    "device-plugin" => "devicePlugin.tag",
                    "dev-chain" => "chain.dev.tag",
                    "operator" => "operator.tag",
                    "scheduler" => "scheduler.tag",
                    _ => "settlement.tag",
                };
                helm.args(["--set-string", &format!("{key}={tag}")]);
            }
            command::logged(&mut helm, &log)
        })
    }

    /// helm, talking to this cluster.
    pub(crate) fn helm(&self) -> Result<Command> {
        let mut helm = Command::new(tools::build(&tools::HELM)?.join("helm"));
        helm.env("KUBECONFIG", self.cluster.kubeconfig())
            .env("HELM_CACHE_HOME", paths::cache()?.join("helm"));
        Ok(helm)
    }

    /// The payer opens a rental with 100 XPL, and the administrator a queue that names it.
    fn open_rental(&self) -> Result<()> {
        let address =
            ["-n", SYSTEM, "get", "service", "plasma-dev-chain", "-o", "jsonpath={.spec.clusterIP}"];
        let address = command::output(self.cluster.kubectl()?.args(address))?;
        if !command::succeeds(&mut cast(&["block-number"])?) {
            self.cluster.forward(RPC_ON_HOST, &format!("{address}:8545"))?;
        }
        cluster::retry(Duration::from_secs(60), || {
            let open = cast_line(&["call", PROVIDERS, "isOpen(address)(bool)", PROVIDER])?;
            ensure!(open == "true", "{PROVIDER} offers no device yet");
            Ok(())
        })
        .context("the contracts aren't there, or their provider isn't")?;
        let salt = format!("0x{}", "00".repeat(32));
        let encoded = cast_line(&[
            "abi-encode",
            "f(uint256,address,address,bytes32)",
            "31337",
            CONTRACT,
            PAYER,
            &salt,
        ])?;
        let rental = cast_line(&["keccak", &encoded])?;
        if !command::succeeds(&mut cast(&["call", CONTRACT, "rentalOf(bytes32)", &rental])?) {
            self.open(&salt)?;
        }
        let queue = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "team-a" } },
            { "apiVersion": "compute.plasma.dev/v1alpha1", "kind": "ComputeQueue", "metadata": { "name": "research" }, "spec": {
                "namespaces": ["team-a"],
                "billing": { "payer": PAYER, "rental": rental, "prices": [{ "pricePerGpuHour": PRICE_PER_GPU_HOUR }] },
            } },
        ] });
        self.apply("queue", &queue.to_string())
    }

    fn open(&self, salt: &str) -> Result<()> {
        let price: plasma_types::PricePerGpuHour = PRICE_PER_GPU_HOUR.parse().context("the queue's price")?;
        let prices = format!("[{}]", price.per_second().0);
        let price_hash = cast_line(&["keccak", &cast_line(&["abi-encode", "f(uint256[])", &prices])?])?;
        let none = "0x0000000000000000000000000000000000000000";
        let terms = format!("({PROVIDER},{none},{TERMS},{price_hash},0x{})", "00".repeat(32));
        let signature = "open((address,address,uint96,uint64,uint32,uint32,uint32,uint32,uint32,bytes32,bytes32),bytes32)";
        let key = ["--private-key", PAYER_KEY, "--value", "100ether"];
        command::output(cast(&["send"])?.args(key).args([CONTRACT, signature, &terms, salt])).map(drop)
    }

    /// Applies an object as the administrator.
    pub(crate) fn apply(&self, name: &str, object: &str) -> Result<()> {
        let file = self.cluster.state().join(format!("{name}.json"));
        std::fs::write(&file, object).with_context(|| format!("write {}", file.display()))?;
        self.apply_file(&file)
    }

    /// Applies a file as the administrator.
    pub(crate) fn apply_file(&self, file: &std::path::Path) -> Result<()> {
        command::output(self.cluster.kubectl()?.args(["apply", "-f"]).arg(file)).map(drop)
    }

    /// An object, or a list of them, as JSON.
    pub(crate) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = command::output(self.cluster.kubectl()?.arg("get").args(arguments).args(["-o", "json"]))?;
        serde_json::from_str(&text).with_context(|| format!("understand kubectl get {arguments:?}"))
    }

    /// Asks until the answer is there.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut ask: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = std::time::Instant::now();
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            anyhow::ensure!(begun.elapsed() < timeout, "{what}: not after {timeout:?}");
            thread::sleep(Duration::from_millis(500));
        }
    }
}

/// cast, talking to the development chain.
pub(crate) fn cast(arguments: &[&str]) -> Result<Command> {
    let program: PathBuf = contracts::program("cast")?;
    let mut cast = Command::new(program);
    cast.env("ETH_RPC_URL", format!("http://{RPC_ON_HOST}")).args(arguments);
    Ok(cast)
}

fn cast_line(arguments: &[&str]) -> Result<String> {
    Ok(command::output(&mut cast(arguments)?)?.trim().to_owned())
}

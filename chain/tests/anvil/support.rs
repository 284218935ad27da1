//! anvil on loopback with the three contracts, a registered provider and an open rental. Settlement's tests have it, too.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use plasma_chain::{
    Chain, Deployed, Deployment, Endpoint, Fees, Key, Opening, Parameters, ProviderCall, Sent, Unsigned,
};
use plasma_types::{Address, Hash, RentalId, UnixSeconds, Xpl};

pub(crate) const CHAIN_ID: u64 = 31337;
/// Accounts that every anvil has: known to everyone. The first deploys, governs and pays.
pub(crate) const PAYER: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
pub(crate) const PROVIDER: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
/// The provider's key that signs, and sends: another account than the provider's own.
pub(crate) const KEY: &str = "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
pub(crate) const PAYEE: Address = Address([0xca; 20]);
/// A rental's longest receipt, and how long a batch may be contested, in seconds.
pub(crate) const PERIOD: u32 = 3600;
pub(crate) const WINDOW: u32 = 300;

/// A running anvil; killed when it goes out of scope.
pub(crate) struct Anvil {
    process: Child,
    pub(crate) url: String,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Anvil {
    /// Starts one on a free port; `None` where the binary isn't there.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        if !binary.exists() {
            assert!(std::env::var("CI").is_err(), "no anvil: run npm ci in contracts/");
            eprintln!("left out: no anvil, run npm ci in contracts/");
            return None;
        }
        let mut process = Command::new(binary)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("anvil starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = lines
            .by_ref()
            .find_map(|line| line.expect("a line").trim().strip_prefix("Listening on ").map(str::to_owned));
        // Its output must go on being read, or it stops at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { process, url: format!("http://{}", address.expect("anvil says where it listens")) })
    }

    pub(crate) fn chain(&self, chain_id: u64, contract: Address) -> Chain {
        Chain::new(Endpoint { url: self.url.clone(), chain_id, contract }).expect("an address")
    }

    /// Asks for something that only anvil does.
    pub(crate) fn cast_rpc(&self, arguments: &[&str]) {
        self.cast("rpc", arguments);
    }

    /// Sends a transaction that no program of ours sends, and waits for its block.
    pub(crate) fn cast_send(&self, key: &str, arguments: &[&str]) {
        self.cast("send", &[&["--private-key", key], arguments].concat());
    }

    pub(crate) fn cast(&self, verb: &str, arguments: &[&str]) {
        let cast = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast");
        let done = Command::new(cast).args([verb, "--rpc-url", &self.url]).args(arguments).output();
        let done = done.expect("cast runs");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The three contracts, with a provider who has a stake, a payee, a key and a node.
    pub(crate) async fn deploy(&self) -> Deployed {
        let (payer, provider) = (key(PAYER), key(PROVIDER));
        let nowhere = self.chain(CHAIN_ID, Address([0; 20]));
        let deployment = Deployment {
            deployer: payer.address(),
            nonce: 0,
            owner: payer.address(),
            parameters: Parameters {
                stake_per_device: Xpl::from_wei(10_u128.pow(18)),
                unbonding_period: 30 * 86_400,
                payee_delay: 2 * 86_400,
                contest_period: 7 * 86_400,
                contest_bond: Xpl::from_wei(10_u128.pow(16)),
            },
        };
        for (nonce, creation) in (0..).zip(deployment.creations()) {
            send(&nowhere, &payer, (None, Xpl::ZERO, nonce), creation).await;
            mined(&nowhere, &payer, nonce).await;
        }
        let deployed = deployment.addresses();
        let stake = Xpl::from_wei(8 * 10_u128.pow(18));
        let calls = [
            (stake, ProviderCall::Register { payee: PAYEE }),
            (Xpl::ZERO, ProviderCall::SetSigner { key: key(KEY).address(), allowed: true }),
            (Xpl::ZERO, ProviderCall::SetNode { index: 0, devices: 8 }),
        ];
        for (nonce, (value, call)) in (0..).zip(calls) {
            send(&nowhere, &provider, (Some(deployed.providers), value, nonce), call.encode()).await;
            mined(&nowhere, &provider, nonce).await;
        }
        deployed
    }

    /// A rental between payer and provider, of the payer's fourth transaction.
    pub(crate) async fn open(&self, deployed: &Deployed, deposit: Xpl, price_hash: Hash) -> RentalId {
        let payer = key(PAYER);
        let chain = self.chain(CHAIN_ID, deployed.rental);
        let opening = Opening {
            provider: key(PROVIDER).address(),
            acknowledger: Address([0; 20]),
            ceiling: Xpl::from_wei(10_u128.pow(18)),
            end: UnixSeconds(4_000_000_000),
            max_lateness: 2 * PERIOD,
            notice: 60,
            claim_window: 600,
            window: WINDOW,
            period: PERIOD,
            price_hash,
            terms_hash: Hash([0; 32]),
            salt: Hash([7; 32]),
        };
        send(&chain, &payer, (Some(deployed.rental), deposit, 3), opening.encode()).await;
        mined(&chain, &payer, 3).await;
        opening.rental(CHAIN_ID, deployed.rental, payer.address())
    }
}

pub(crate) fn key(digits: &str) -> Key {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), digits).expect("written");
    Key::from_file(file.path(), None).expect("a key")
}

pub(crate) fn unsigned(
    (to, value, nonce): (Option<Address>, Xpl, u64),
    data: Vec<u8>,
    fees: Fees,
) -> Unsigned {
    Unsigned { chain_id: CHAIN_ID, nonce, to, value, data, gas: 8_000_000, fees }
}

pub(crate) async fn send(
    chain: &Chain,
    key: &Key,
    what: (Option<Address>, Xpl, u64),
    data: Vec<u8>,
) -> Vec<u8> {
    let fees = chain.fees().await.expect("fees");
    let signed = key.sign(&unsigned(what, data, fees)).expect("signs");
    assert_eq!(chain.send(&signed.raw).await, Ok(Sent::Taken));
    signed.raw
}

/// Waits until a block holds the transaction with the nonce: anvil answers before it has made one.
pub(crate) async fn mined(chain: &Chain, key: &Key, nonce: u64) {
    for _ in 0..200 {
        let newest = chain.newest_block().await.expect("a block").number;
        if chain.nonce(key.address(), newest).await.expect("a nonce") > nonce {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no block took nonce {nonce}");
}

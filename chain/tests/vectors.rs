//! Calls, signatures and signed transactions are, byte for byte, those that Foundry's `cast` makes. `vectors/make.sh` made the file.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

use std::str::FromStr;

use plasma_chain::{
    Deployed, Deployment, Fees, Key, Opening, Parameters, ProviderCall, Release, Settlement, Signature,
    Unsigned,
};
use plasma_types::{Address, Hash, UnixSeconds, WeiPerGpuSecond, Xpl, keccak256};
use serde_json::Value;

/// The first account that every anvil has: known to everyone.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

const PROVIDER: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
const OTHER: &str = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc";

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/cast.json")).expect("the committed vectors are JSON")
}

fn text<T: FromStr<Err: std::fmt::Debug>>(name: &str) -> T {
    vectors()[name].as_str().expect("text").parse().expect(name)
}

fn bytes(name: &str) -> Vec<u8> {
    let vectors = vectors();
    hex::decode(vectors[name].as_str().and_then(|text| text.strip_prefix("0x")).expect("0x…")).expect("hex")
}

fn settlement() -> Settlement {
    Settlement {
        rental: text("rental"),
        prev_head: text("genesis"),
        to: UnixSeconds(2000),
        prices: vec![WeiPerGpuSecond(1000), WeiPerGpuSecond(7)],
        leaves: bytes("leaves"),
        total: Xpl::from_wei(13),
    }
}

fn signature() -> Signature {
    Signature(bytes("signature").try_into().expect("65 bytes"))
}

fn key() -> Key {
    key_of(&format!("0x{KEY}\n"))
}

fn key_of(text: &str) -> Key {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    Key::from_file(file.path(), None).expect("a key")
}

#[test]
fn calls_are_encoded_as_cast_encodes_them() {
    assert_eq!(settlement().encode(&signature()), bytes("settle"));
    let last = |byte| Hash(std::array::from_fn(|at| if at == 31 { byte } else { 0 }));
    let (provider, other) = (text_of(PROVIDER), text_of(OTHER));
    let opening = Opening {
        provider,
        acknowledger: other,
        ceiling: Xpl::from_wei(10_u128.pow(18)),
        end: UnixSeconds(4_000_000_000),
        max_lateness: 7200,
        notice: 3600,
        claim_window: 86_400,
        window: 300,
        period: 5400,
        price_hash: text("priceHash"),
        terms_hash: last(0xbb),
        salt: last(0xaa),
    };
    assert_eq!(opening.encode(), bytes("open"));
    let release = Release { rental: text("rental"), heads: vec![text("genesis"), text("priceHash")] };
    assert_eq!(release.encode(), bytes("release"));
    assert_eq!(ProviderCall::Register { payee: other }.encode(), bytes("register"));
    assert_eq!(ProviderCall::SetSigner { key: other, allowed: true }.encode(), bytes("setSigner"));
    assert_eq!(ProviderCall::SetNode { index: 3, devices: 8 }.encode(), bytes("setNode"));
}

#[test]
fn a_batch_is_signed_as_cast_signs_its_typed_data() {
    let digest = settlement().digest(31337, text("contract"));
    assert_eq!(digest, text("digest"));
    assert_eq!(key().sign_hash(digest).expect("signs"), signature());
    // Nothing of the batch, nor the place where it counts, is left out.
    let whole = settlement();
    let others = [
        Settlement { rental: plasma_types::RentalId([1; 32]), ..whole.clone() },
        Settlement { prev_head: Hash([1; 32]), ..whole.clone() },
        Settlement { to: UnixSeconds(2001), ..whole.clone() },
        Settlement { prices: vec![WeiPerGpuSecond(1000)], ..whole.clone() },
        Settlement { leaves: vec![0; 64], ..whole.clone() },
        Settlement { leaves: [whole.leaves.clone(), vec![0; 64]].concat(), ..whole.clone() },
        Settlement { total: Xpl::from_wei(14), ..whole.clone() },
    ];
    assert!(others.iter().all(|other| other.digest(31337, text("contract")) != digest));
    assert_ne!(whole.digest(1, text("contract")), digest);
    assert_ne!(whole.digest(31337, text_of(OTHER)), digest);
}

#[test]
fn every_batch_of_the_contracts_own_vectors_is_signed_as_there() {
    let vectors: Value = serde_json::from_str(include_str!("../../contracts/test/vectors/settlement.json"))
        .expect("the contracts' vectors are JSON");
    let of = |value: &Value| value.as_str().expect("text").to_owned();
    let raw = |value: &Value| hex::decode(of(value).trim_start_matches("0x")).expect("hex");
    let key = key_of(&of(&vectors["signerKey"]));
    assert_eq!(key.address(), text_of(&of(&vectors["signer"])));
    let prices = vectors["prices"].as_array().expect("prices").iter();
    let prices: Vec<_> = prices.map(|price| WeiPerGpuSecond(text_of(&of(price)))).collect();
    let batches = vectors["batches"].as_array().expect("batches");
    assert!(batches.len() > 2);
    for batch in batches {
        let settlement = Settlement {
            rental: text_of(&of(&vectors["rental"])),
            prev_head: text_of(&of(&batch["prevHead"])),
            to: UnixSeconds(batch["to"].as_u64().expect("a number")),
            prices: prices.clone(),
            leaves: raw(&batch["leaves"]),
            total: Xpl::from_wei(text_of(&of(&batch["total"]))),
        };
        let chain_id = vectors["chainId"].as_u64().expect("a number");
        let digest = settlement.digest(chain_id, text_of(&of(&vectors["contract"])));
        assert_eq!(digest, text_of(&of(&batch["digest"])));
        assert_eq!(key.sign_hash(digest).expect("signs").0.to_vec(), raw(&batch["signature"]));
    }
}

#[test]
fn the_three_contracts_are_created_where_and_with_what_cast_says() {
    let deployment = Deployment {
        deployer: text_of(PROVIDER),
        nonce: 7,
        owner: text_of(OTHER),
        parameters: Parameters {
            stake_per_device: Xpl::from_wei(10_u128.pow(18)),
            unbonding_period: 2_592_000,
            payee_delay: 172_800,
            contest_period: 604_800,
            contest_bond: Xpl::from_wei(10_u128.pow(16)),
        },
    };
    let expected =
        Deployed { providers: text("providersAt"), rental: text("rentalAt"), faults: text("faultsAt") };
    assert_eq!(deployment.addresses(), expected);
    let names = ["providersArguments", "rentalArguments", "faultsArguments"];
    for (creation, name) in deployment.creations().iter().zip(names) {
        let arguments = bytes(name);
        assert!(creation.len() > arguments.len() + 1000 && creation.ends_with(&arguments), "{name}");
    }
}

fn text_of<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a value")
}

#[test]
fn a_call_is_signed_as_cast_signs_it() {
    let signed = key().sign(&Unsigned {
        chain_id: 31337,
        nonce: 5,
        to: Some(text("contract")),
        value: Xpl::ZERO,
        data: settlement().encode(&signature()),
        gas: 300_000,
        fees: Fees { max: 30_000_000_001, tip: 1_500_000_000 },
    });
    let signed = signed.expect("signs");
    assert_eq!(signed.raw, bytes("signed"));
    assert_eq!(signed.hash, text("signedHash"));
}

#[test]
fn a_creation_with_coins_on_a_large_chain_id_is_signed_as_cast_signs_it() {
    let signed = key().sign(&Unsigned {
        chain_id: 9745,
        nonce: 0,
        to: None,
        value: Xpl::from_wei(7),
        data: vec![0x60, 0x01, 0x60, 0x00, 0x81],
        gas: 100_000,
        fees: Fees { max: 2, tip: 1 },
    });
    let signed = signed.expect("signs");
    assert_eq!(signed.raw, bytes("creation"));
    assert_eq!(signed.hash, keccak256(&bytes("creation")));
}

#[test]
fn the_keys_account_is_the_published_one() {
    let expected: Address = text_of("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    assert_eq!(key().address(), expected);
}

#[test]
fn a_keystore_that_cast_encrypted_opens_with_its_password_alone() {
    let keystore = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keystore.json");
    let password = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(password.path(), "correct horse\n").expect("written");
    let opened = Key::from_file(&keystore, Some(password.path())).expect("opens");
    assert_eq!(opened.address(), key().address());
    std::fs::write(password.path(), "wrong horse").expect("written");
    let fault = Key::from_file(&keystore, Some(password.path())).err().expect("refused").to_string();
    assert!(fault.contains("can't be opened"), "{fault}");
    assert!(Key::from_file(&keystore, None).is_err(), "a keystore without a password is no key");
}

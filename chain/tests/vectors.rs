//! Calls and signed transactions are, byte for byte, those that Foundry's `cast` makes. `vectors/make.sh` made the file.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // A test that can't go on says so and ends.

use std::str::FromStr;

use plasma_chain::{Fees, Key, Opening, Settlement, Unsigned};
use plasma_types::{Address, Hash, UnixSeconds, WeiPerGpuSecond, Xpl, keccak256};
use serde_json::Value;

/// The first account that every anvil has: known to everyone.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

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
    }
}

fn key() -> Key {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("0x{KEY}\n")).expect("written");
    Key::from_file(file.path(), None).expect("a key")
}

#[test]
fn calls_are_encoded_as_cast_encodes_them() {
    assert_eq!(settlement().encode(), bytes("settle"));
    let opening = Opening {
        provider: text_of("0x70997970c51812dc3a010c7d01b50e0d17dc79c8"),
        end: UnixSeconds(4_000_000_000),
        notice: 3600,
        claim_window: 86_400,
        price_hash: text("priceHash"),
        terms_hash: Hash(std::array::from_fn(|at| if at == 31 { 0xbb } else { 0 })),
        salt: Hash(std::array::from_fn(|at| if at == 31 { 0xaa } else { 0 })),
    };
    assert_eq!(opening.encode(), bytes("open"));
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
        data: settlement().encode(),
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

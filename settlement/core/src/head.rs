//! The hash chain of a rental's batches, as the contract computes it.

use plasma_types::{Address, Hash, RentalId, UnixSeconds, WeiPerGpuSecond, Xpl, keccak256};

/// One word of the contract ABI.
const WORD: usize = 32;

fn word(value: u128) -> [u8; WORD] {
    let mut bytes = [0; WORD];
    bytes[16..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// The head of a rental before its first batch:
/// `keccak256(abi.encode("PLASMA_RENTAL_V1", chainId, contract, rental))`.
pub fn genesis(chain_id: u64, contract: Address, rental: RentalId) -> Hash {
    const DOMAIN: &[u8] = b"PLASMA_RENTAL_V1";
    let mut address = [0; WORD];
    address[12..].copy_from_slice(&contract.0);
    let mut text = [0; WORD];
    text[..DOMAIN.len()].copy_from_slice(DOMAIN);
    // A string stands behind the fixed part, which names its offset: four words.
    let words = [
        word(4 * WORD as u128),
        word(u128::from(chain_id)),
        address,
        rental.0,
        word(DOMAIN.len() as u128),
        text,
    ];
    keccak256(&words.concat())
}

/// The head after a batch: `keccak256(abi.encode(head, keccak256(leaves), count, total, to))`.
pub fn next_head(head: Hash, leaves: &[u8], count: u64, total: Xpl, to: UnixSeconds) -> Hash {
    let words =
        [head.0, keccak256(leaves).0, word(u128::from(count)), word(total.wei()), word(u128::from(to.0))];
    keccak256(&words.concat())
}

/// What a rental holds of its prices: `keccak256(abi.encode(uint256[]))`.
pub fn price_hash(prices: &[WeiPerGpuSecond]) -> Hash {
    let mut words = vec![word(WORD as u128), word(prices.len() as u128)];
    words.extend(prices.iter().map(|price| word(price.0)));
    keccak256(&words.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        let text = include_str!("../../../contracts/test/vectors/settlement.json");
        serde_json::from_str(text).expect("the shared vectors are JSON")
    }

    fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value) -> T {
        value.as_str().expect("text").parse().expect("a value")
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let digits = value.as_str().and_then(|text| text.strip_prefix("0x")).expect("hex");
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn rust_and_the_contract_compute_the_same_hashes() {
        let vectors = vectors();
        let chain_id = vectors["chainId"].as_u64().expect("a number");
        let first = genesis(chain_id, text(&vectors["contract"]), text(&vectors["rental"]));
        assert_eq!(first, text(&vectors["genesis"]));
        let prices: Vec<_> = vectors["prices"]
            .as_array()
            .expect("prices")
            .iter()
            .map(|price| WeiPerGpuSecond(text(price)))
            .collect();
        assert_eq!(price_hash(&prices), text(&vectors["priceHash"]));
        let mut head = first;
        for batch in vectors["batches"].as_array().expect("batches") {
            assert_eq!(head, text(&batch["prevHead"]));
            let leaves = bytes(&batch["leaves"]);
            let total = Xpl::from_wei(text(&batch["total"]));
            let to = UnixSeconds(batch["to"].as_u64().expect("a number"));
            head = next_head(head, &leaves, leaves.len() as u64 / 64, total, to);
            assert_eq!(head, text(&batch["head"]));
        }
    }

    #[test]
    fn rust_packs_and_prices_a_leaf_as_the_contract_reads_it() {
        use plasma_types::{Duration, JobUid, PodUid, UnixMillis};
        let batch = &vectors()["batches"][0];
        let leaf = crate::Leaf {
            pod_uid: PodUid(std::array::from_fn(|at| at as u8)),
            job_uid: JobUid(std::array::from_fn(|at| at as u8 + 16)),
            end: UnixMillis(2_000_000),
            duration: Duration(1500),
            device_ms: 1999,
            price_class: 1,
            node_index: 0xa0a1_a2a3,
            device_mask: 0xb0b1_b2b3_b4b5_b6b7,
            flags: 2,
        };
        assert_eq!(leaf.pack().expect("fits").to_vec(), bytes(&batch["leaves"]));
        let amount = leaf.amount(&[WeiPerGpuSecond(1000), WeiPerGpuSecond(7)]).expect("a price");
        assert_eq!(amount, Xpl::from_wei(text(&batch["total"])));
    }
}

#!/bin/sh
# Prints cast.json: calls, a batch's signature and a signed transaction as Foundry's `cast` makes them. Needs no chain.
# keystore.json is that key, by `cast wallet import --unsafe-password "correct horse"`.
# Run in the repository's root: sh chain/tests/vectors/make.sh > chain/tests/vectors/cast.json
set -eu
cast=contracts/node_modules/@foundry-rs/cast-linux-amd64/bin/cast
# The first account that every anvil has: known to everyone.
key=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",*\$/\1/p" contracts/test/vectors/settlement.json | head -n 1; }
rental=$(field rental) contract=$(field contract) genesis=$(field genesis) price_hash=$(field priceHash)
leaves=$(sed -n 's/.*"leaves": "\(0x[0-9a-f]*\)".*/\1/p' contracts/test/vectors/settlement.json | head -n 1)
salt=0x00000000000000000000000000000000000000000000000000000000000000aa
terms=0x00000000000000000000000000000000000000000000000000000000000000bb
provider=0x70997970c51812dc3a010c7d01b50e0d17dc79c8
acknowledger=0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc

# What a provider's key signs: once as typed data, which cast hashes itself, and once put together by hand.
batch_type='Batch(bytes32 rental,bytes32 prevHead,uint64 to,bytes32 pricesHash,bytes32 leavesHash,uint256 count,uint256 total)'
domain_type='EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)'
typed=$(cat <<JSON
{ "types": {
    "EIP712Domain": [ {"name":"name","type":"string"}, {"name":"version","type":"string"},
      {"name":"chainId","type":"uint256"}, {"name":"verifyingContract","type":"address"} ],
    "Batch": [ {"name":"rental","type":"bytes32"}, {"name":"prevHead","type":"bytes32"}, {"name":"to","type":"uint64"},
      {"name":"pricesHash","type":"bytes32"}, {"name":"leavesHash","type":"bytes32"}, {"name":"count","type":"uint256"},
      {"name":"total","type":"uint256"} ] },
  "primaryType": "Batch",
  "domain": { "name": "Plasma Rental", "version": "1", "chainId": 31337, "verifyingContract": "$contract" },
  "message": { "rental": "$rental", "prevHead": "$genesis", "to": 2000, "pricesHash": "$price_hash",
    "leavesHash": "$($cast keccak "$leaves")", "count": 1, "total": 13 } }
JSON
)
hash_of() { $cast keccak "$($cast abi-encode "$@")"; }
domain=$(hash_of 'f(bytes32,bytes32,bytes32,uint256,address)' "$($cast keccak "$domain_type")" \
  "$($cast keccak 'Plasma Rental')" "$($cast keccak 1)" 31337 "$contract")
struct=$(hash_of 'f(bytes32,bytes32,bytes32,uint64,bytes32,bytes32,uint256,uint256)' "$($cast keccak "$batch_type")" \
  "$rental" "$genesis" 2000 "$price_hash" "$($cast keccak "$leaves")" 1 13)
digest=$($cast keccak "$($cast concat-hex 0x1901 "$domain" "$struct")")
signature=$($cast wallet sign --private-key $key --data "$typed")
by_hand=$($cast wallet sign --private-key $key --no-hash "$digest")
[ "$signature" = "$by_hand" ] || { echo "two signatures of one batch: $signature $by_hand" >&2; exit 1; }

settle=$($cast calldata 'settle(bytes32,bytes32,uint64,uint256[],bytes,bytes)' "$rental" "$genesis" 2000 '[1000,7]' \
  "$leaves" "$signature")
open=$($cast calldata 'open((address,address,uint96,uint64,uint32,uint32,uint32,uint32,uint32,bytes32,bytes32),bytes32)' \
  "($provider,$acknowledger,1000000000000000000,4000000000,7200,3600,86400,300,5400,$price_hash,$terms)" $salt)
signed=$($cast mktx --rpc-url http://127.0.0.1:1 --private-key $key --nonce 5 --gas-limit 300000 \
  --gas-price 30000000001 --priority-gas-price 1500000000 --chain 31337 "$contract" "$settle")
creation=$($cast mktx --rpc-url http://127.0.0.1:1 --private-key $key --nonce 0 --gas-limit 100000 --value 7 \
  --gas-price 2 --priority-gas-price 1 --chain 9745 --create 0x6001600081)
at() { $cast compute-address "$provider" --nonce "$1" | sed 's/.* //' | tr 'A-F' 'a-f'; }
constructed() { $cast abi-encode "$@" | sed 's/^0x//'; }
cat <<JSON
{
  "rental": "$rental",
  "contract": "$contract",
  "genesis": "$genesis",
  "priceHash": "$price_hash",
  "leaves": "$leaves",
  "digest": "$digest",
  "signature": "$signature",
  "settle": "$settle",
  "open": "$open",
  "rentalOf": "$($cast calldata 'rentalOf(bytes32)' "$rental")",
  "release": "$($cast calldata 'release(bytes32,bytes32[])' "$rental" "[$genesis,$price_hash]")",
  "register": "$($cast calldata 'register(address)' "$acknowledger")",
  "setSigner": "$($cast calldata 'setSigner(address,bool)' "$acknowledger" true)",
  "setNode": "$($cast calldata 'setNode(uint32,uint8)' 3 8)",
  "providersAt": "$(at 7)",
  "rentalAt": "$(at 8)",
  "faultsAt": "$(at 9)",
  "providersArguments": "0x$(constructed 'f(address,address,(uint128,uint40,uint40,uint40,uint128))' "$acknowledger" \
    "$(at 9)" '(1000000000000000000,2592000,172800,604800,10000000000000000)')",
  "rentalArguments": "0x$(constructed 'f(address)' "$(at 7)")",
  "faultsArguments": "0x$(constructed 'f(address,address)' "$(at 7)" "$(at 8)")",
  "signed": "$signed",
  "signedHash": "$($cast keccak "$signed")",
  "creation": "$creation",
  "headMismatch": "$($cast calldata 'HeadMismatch(bytes32,bytes32,bytes32)' "$rental" "$genesis" "$price_hash")"
}
JSON

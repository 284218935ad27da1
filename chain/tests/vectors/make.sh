#!/bin/sh
# Prints cast.json: calls and a signed transaction as Foundry's `cast` makes them. Needs no chain.
# keystore.json is that key, by `cast wallet import --unsafe-password "correct horse"`.
# Run in the repository's root: sh chain/tests/vectors/make.sh > chain/tests/vectors/cast.json
set -eu
cast=contracts/node_modules/.bin/cast
# The first account that every anvil has: known to everyone.
key=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",*\$/\1/p" contracts/test/vectors/settlement.json | head -n 1; }
rental=$(field rental) contract=$(field contract) genesis=$(field genesis) price_hash=$(field priceHash)
leaves=$(sed -n 's/.*"leaves": "\(0x[0-9a-f]*\)".*/\1/p' contracts/test/vectors/settlement.json | head -n 1)
salt=0x00000000000000000000000000000000000000000000000000000000000000aa
terms=0x00000000000000000000000000000000000000000000000000000000000000bb
provider=0x70997970c51812dc3a010c7d01b50e0d17dc79c8
settle=$($cast calldata 'settle(bytes32,bytes32,uint64,uint256[],bytes)' "$rental" "$genesis" 2000 '[1000,7]' "$leaves")
open=$($cast calldata 'open((address,uint64,uint64,uint64,bytes32,bytes32),bytes32)' \
  "($provider,4000000000,3600,86400,$price_hash,$terms)" $salt)
rental_of=$($cast calldata 'rentalOf(bytes32)' "$rental")
signed=$($cast mktx --rpc-url http://127.0.0.1:1 --private-key $key --nonce 5 --gas-limit 300000 \
  --gas-price 30000000001 --priority-gas-price 1500000000 --chain 31337 "$contract" "$settle")
creation=$($cast mktx --rpc-url http://127.0.0.1:1 --private-key $key --nonce 0 --gas-limit 100000 --value 7 \
  --gas-price 2 --priority-gas-price 1 --chain 9745 --create 0x6001600081)
cat <<JSON
{
  "rental": "$rental",
  "contract": "$contract",
  "genesis": "$genesis",
  "priceHash": "$price_hash",
  "leaves": "$leaves",
  "settle": "$settle",
  "open": "$open",
  "rentalOf": "$rental_of",
  "signed": "$signed",
  "signedHash": "$($cast keccak "$signed")",
  "creation": "$creation",
  "headMismatch": "$($cast calldata 'HeadMismatch(bytes32,bytes32,bytes32)' "$rental" "$genesis" "$price_hash")"
}
JSON

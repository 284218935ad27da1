// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev The same answers in Solidity and in Rust: settlement/core and chain read the file that this test writes.
contract VectorsTest is World {
    string private constant FILE = "test/vectors/settlement.json";

    /// @dev With VECTORS=true in the environment the file is written, otherwise it must be what would be written.
    function test_vectors_are_not_stale() public {
        string memory vectors = string.concat(
            '{\n  "rental": "',
            vm.toString(rental),
            '",\n  "contract": "',
            vm.toString(abi.encodePacked(address(rentals))),
            '",\n  "chainId": ',
            vm.toString(block.chainid),
            ',\n  "signerKey": "',
            vm.toString(bytes32(KEY)),
            '",\n  "signer": "',
            vm.toString(abi.encodePacked(vm.addr(KEY))),
            '",\n  "period": ',
            vm.toString(uint256(PERIOD)),
            ',\n  "prices": ["1000", "7"],\n  "priceHash": "',
            vm.toString(state().priceHash),
            '",\n  "genesis": "',
            vm.toString(state().head),
            '",\n  "batches": [\n',
            batches(),
            "\n  ]\n}\n"
        );
        if (vm.envOr("VECTORS", false)) vm.writeFile(FILE, vectors);
        assertEq(
            keccak256(bytes(vm.readFile(FILE))), keccak256(bytes(vectors)), "stale: run forge test with VECTORS=true"
        );
    }

    function batches() private returns (string memory) {
        bytes memory first = Leaves.pack(
            LeafFacts({
                podUid: 0x000102030405060708090a0b0c0d0e0f,
                jobUid: 0x101112131415161718191a1b1c1d1e1f,
                end: 2_000_000,
                duration: 1500,
                deviceMs: 1999,
                priceClass: 1,
                nodeIndex: 0xa0a1a2a3,
                deviceMask: 0xb0b1b2b3b4b5b6b7,
                flags: 2
            })
        );
        bytes memory second = bytes.concat(
            Leaves.pack(LeafFacts(1, 9, 2_000_001, 60_000, 120_000, 0, 0, 3, 1)),
            Leaves.pack(LeafFacts(2, 9, 2_500_000, 60_000, 60_000, 0, 0, 1, 4)),
            Leaves.pack(LeafFacts(type(uint128).max, 9, 3_000_000, 7, 7, 1, 0, 1, 18))
        );
        // At each bound: all of a node's devices without a mask, a whole period, and a void leaf that is bad in everything.
        bytes memory third = bytes.concat(
            Leaves.pack(LeafFacts(1, 9, 4_000_000, 1000, 64_000, 0, 0, 0, 2)),
            Leaves.pack(LeafFacts(2, 9, 3_000_001, uint40(PERIOD) * 1000, 7_200_000, 1, 5, 0x8000000000000001, 1)),
            Leaves.pack(LeafFacts(3, 9, 3_500_000, type(uint40).max, type(uint48).max, 65_535, 5, 1, 5))
        );
        return string.concat(batch(2000, first), ",\n", batch(3000, second), ",\n", batch(4000, third));
    }

    function batch(uint64 to, bytes memory leaves) private returns (string memory) {
        Settled memory settled = settle(to, leaves);
        assertEq(state().head, settled.head, "head");
        return string.concat(
            '    { "prevHead": "',
            vm.toString(settled.prevHead),
            '", "to": ',
            vm.toString(uint256(to)),
            ', "total": "',
            vm.toString(settled.total),
            '", "head": "',
            vm.toString(settled.head),
            '",\n      "leaves": "',
            vm.toString(leaves),
            signed(settled)
        );
    }

    function signed(Settled memory settled) private view returns (string memory) {
        Batches.Header memory header = Batches.Header(
            settled.prevHead, keccak256(settled.leaves), settled.leaves.length / 64, settled.total, settled.to
        );
        return string.concat(
            '",\n      "digest": "',
            vm.toString(rentals.digestOf(rental, header, state().priceHash)),
            '", "signature": "',
            vm.toString(sign(KEY, header)),
            '" }'
        );
    }
}

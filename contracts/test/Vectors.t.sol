// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {LeafFacts, Leaves} from "./Leaves.sol";
import {RentalFixture} from "./Rental.t.sol";

/// @dev The same answers in Solidity and in Rust: settlement/core reads the file that this test writes.
contract VectorsTest is RentalFixture {
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
        return string.concat(batch(2000, first), ",\n", batch(3000, second));
    }

    function batch(uint64 to, bytes memory leaves) private returns (string memory) {
        bytes32 prevHead = state().head;
        uint256 before = rentals.credit(PROVIDER);
        settle(prevHead, to, leaves);
        return string.concat(
            '    { "prevHead": "',
            vm.toString(prevHead),
            '", "to": ',
            vm.toString(uint256(to)),
            ', "total": "',
            vm.toString(rentals.credit(PROVIDER) - before),
            '", "head": "',
            vm.toString(state().head),
            '",\n      "leaves": "',
            vm.toString(leaves),
            '" }'
        );
    }
}

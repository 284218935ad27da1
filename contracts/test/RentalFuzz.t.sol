// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaves} from "./Leaves.sol";
import {RentalFixture} from "./Rental.t.sol";

/// @dev What holds for any receipts.
contract RentalFuzzTest is RentalFixture {
    /// @dev Splitting the same receipts into two batches, or sending them again, changes no total.
    function testFuzz_splitting_and_replaying_change_no_total(uint40[8] calldata durations, uint8 cut) public {
        uint256 cutAt = uint256(cut) % 7 + 1;
        (bytes memory first, bytes memory second, bytes memory whole) = ("", "", "");
        for (uint128 pod = 0; pod < 8; ++pod) {
            uint48 end = pod < cutAt ? 2_000_000 : 3_000_000;
            bytes memory leaf = Leaves.simple(pod + 1, end, durations[pod] % 1e9);
            whole = bytes.concat(whole, leaf);
            if (pod < cutAt) first = bytes.concat(first, leaf);
            else second = bytes.concat(second, leaf);
        }
        settle(state().head, 3000, whole);
        uint256 inOne = rentals.credit(PROVIDER);

        rental = open(100 ether, "split");
        vm.warp(6000);
        uint256 offset = 6_000_000;
        bytes32 genesis = state().head;
        settle(genesis, 6000, shift(first, offset));
        settle(genesis, 6000, shift(first, offset));
        vm.warp(7000);
        bytes32 head = state().head;
        settle(head, 7000, shift(second, offset + 1));
        settle(head, 7000, shift(second, offset + 1));
        assertEq(rentals.credit(PROVIDER) - inOne, inOne, "same total");
    }

    /// @dev Every wei of the deposit is the payer's balance or the provider's credit, whatever the receipt.
    function testFuzz_every_wei_is_somebodys(uint96 deposit, uint40 duration) public {
        vm.assume(deposit != 0);
        rental = open(deposit, "any");
        vm.warp(6000);
        uint256 before = rentals.credit(PROVIDER);
        settle(state().head, 6000, Leaves.simple(1, 6_000_000, duration));
        uint256 paid = rentals.credit(PROVIDER) - before;
        assertEq(state().balance + paid, deposit, "deposit");
        assertEq(paid + state().owed, duration, "a wei a millisecond");
    }

    /// @dev Bytes that are no leaves never pay and never move the head.
    function testFuzz_garbage_pays_only_what_its_leaves_say(bytes calldata garbage) public {
        bytes32 head = state().head;
        vm.prank(PROVIDER);
        try rentals.settle(rental, head, 5000, prices, garbage) {
            assertTrue(garbage.length != 0 && garbage.length % 64 == 0, "accepted leaves are whole");
        } catch {
            assertEq(state().head, head, "head");
            assertEq(rentals.credit(PROVIDER), 0, "credit");
        }
    }

    /// @dev The same leaves with another end, in milliseconds.
    function shift(bytes memory leaves, uint256 end) private pure returns (bytes memory shifted) {
        shifted = bytes.concat(leaves);
        for (uint256 leaf = 0; leaf < leaves.length; leaf += 64) {
            for (uint256 place = 0; place < 6; ++place) {
                shifted[leaf + 32 + place] = bytes1(uint8(end >> (8 * (5 - place))));
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaf} from "../src/Leaf.sol";
import {IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev What holds for any receipts, at any times.
contract RentalFuzzTest is World {
    uint96 private constant SLOW = 1000;

    /// @dev Splitting the same receipts into two batches, or sending them again, changes no total.
    function testFuzz_splitting_and_replaying_change_no_total(uint40[8] calldata durations, uint8 cut) public {
        uint256 cutAt = uint256(cut) % 7 + 1;
        (bytes memory first, bytes memory second, bytes memory whole) = ("", "", "");
        for (uint128 pod = 0; pod < 8; ++pod) {
            uint48 end = pod < cutAt ? 2_000_000 : 3_000_000;
            bytes memory leaf = Leaves.simple(pod + 1, end, durations[pod] % (PERIOD * 1000 + 1));
            whole = bytes.concat(whole, leaf);
            if (pod < cutAt) first = bytes.concat(first, leaf);
            else second = bytes.concat(second, leaf);
        }
        settle(3000, whole);
        uint256 inOne = state().earned;

        vm.warp(OPENED);
        rental = open(100 ether, "split");
        vm.warp(5000);
        bytes32 genesis = state().head;
        settle(2000, first);
        bytes32 head = state().head;
        settleAfter(genesis, 2000, first);
        settle(3000, second);
        settleAfter(head, 3000, second);
        settleAfter(genesis, 2000, first);
        assertEq(state().earned, inOne, "same total");
        assertEq(state().nextSequence, 8, "same receipts");
    }

    /// @dev Every wei of the deposit is there or drawn, every wei that was earned is drawn or owed.
    function testFuzz_every_wei_is_somebodys(uint96 deposit, uint40 duration, uint32 elapsed) public {
        vm.assume(deposit != 0);
        duration %= PERIOD * 1000 + 1;
        rental = slow(deposit);
        pass(uint256(elapsed) % 100_000 + 1);
        settle(uint64(block.timestamp), Leaves.simple(1, uint48(block.timestamp) * 1000, duration));
        IRentalTypes.RentalView memory now_ = state();
        assertEq(now_.balance + now_.drawn, deposit, "deposit");
        assertEq(now_.drawn + now_.owed, duration, "a wei a millisecond");
    }

    /// @dev Bytes that are no leaves never pay and never move the head.
    function testFuzz_garbage_pays_only_what_its_leaves_say(bytes calldata garbage) public {
        bytes32 head = state().head;
        bytes memory signature = hex"00";
        try rentals.settle(rental, head, 5000, prices, garbage, signature) {
            assertTrue(false, "unsigned");
        } catch {
            assertEq(state().head, head, "head");
            assertEq(state().earned, 0, "earned");
        }
    }

    /// @dev Whatever is billed and whenever, and whoever tops up or releases in between.
    function testFuzz_what_is_drawn_in_any_interval_is_bounded(uint32[6] calldata gaps, uint40[6] calldata bills)
        public
    {
        rental = slow(1 ether);
        uint256[7] memory times;
        uint256[7] memory drawn;
        times[0] = 5000;
        for (uint256 step = 0; step < 6; ++step) {
            times[step + 1] = times[step] + gaps[step] % 20_000 + 1;
            vm.warp(times[step + 1]);
            if (bills[step] % 3 == 0) releaseOwed();
            else if (bills[step] % 3 == 1) topUp(1);
            bill(times[step + 1], bills[step] % (PERIOD * 1000 + 1));
            drawn[step + 1] = state().drawn;
        }
        for (uint256 from = 0; from < 7; ++from) {
            for (uint256 to = from; to < 7; ++to) {
                uint256 most = SLOW * (times[to] - times[from] + MAX_LATENESS);
                // What was drawn at `from` itself belongs to the interval too.
                uint256 before = from == 0 ? 0 : drawn[from - 1];
                assertTrue(drawn[to] - before <= most, "interval");
            }
        }
    }

    /// @dev A provider that bills no faster than the ceiling, and is never away for longer than the bucket holds, is
    /// never owed anything, though the payer takes back all that he can whenever he can.
    function testFuzz_an_honest_provider_of_a_funded_rental_is_fully_paid(
        uint32[6] calldata gaps,
        uint40[6] calldata bills
    ) public {
        rental = slow(1 ether);
        uint256 time = 5000;
        for (uint256 step = 0; step < 6; ++step) {
            // As many leaves as it takes are as good as one of any length: one period is the most that one bills.
            uint256 gap = gaps[step] % PERIOD + 1;
            time += gap;
            vm.warp(time);
            uint256 most = state().balance - state().allowance;
            vm.prank(PAYER);
            rentals.withdraw(rental, most);
            bill(time, bills[step] % (gap * SLOW + 1));
            assertEq(state().owed, 0, "owed");
            topUp(most);
        }
    }

    function testFuzz_devices_are_the_bits_of_the_mask(uint64 mask) public pure {
        uint256 bits;
        for (uint256 bit = 0; bit < 64; ++bit) {
            bits += mask >> bit & 1;
        }
        assertEq(Leaf.devices(uint256(mask) << 8 | type(uint8).max), mask == 0 ? 64 : bits, "devices");
    }

    function slow(uint256 deposit) private returns (bytes32) {
        IRentalTypes.Terms memory agreed = terms();
        agreed.ceiling = SLOW;
        return openWith(agreed, deposit, "slow");
    }

    /// @dev Receipts of one device that ran for so many milliseconds; more than fit into one leaf's period never come.
    function bill(uint256 time, uint256 duration) private {
        LeafFacts memory leaf = Leaves.facts(uint128(time), uint48(time) * 1000, uint40(duration));
        settle(uint64(time), Leaves.pack(leaf));
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {IRentalErrors, IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {Vm} from "./Test.sol";
import {World} from "./World.sol";

/// @dev How rentals open. Where the money goes is in RentalMoney.t.sol, how they end in RentalEnd.t.sol.
contract RentalOpenTest is World, IRentalErrors {
    function test_open_keeps_terms_deposit_and_a_head_of_its_own() public view {
        IRentalTypes.RentalView memory opened = state();
        assertEq(opened.payer, PAYER, "payer");
        assertEq(opened.provider, PROVIDER, "provider");
        assertEq(opened.acknowledger, ACKNOWLEDGER, "acknowledger");
        assertEq(opened.balance, 100 ether, "balance");
        assertEq(opened.through, OPENED - 1, "watermark");
        assertEq(opened.opened, OPENED, "opened");
        assertEq(opened.notice, NOTICE, "notice");
        assertEq(opened.window, WINDOW, "window");
        assertEq(opened.period, PERIOD, "period");
        assertEq(opened.ceiling, CEILING, "ceiling");
        assertEq(opened.maxLateness, MAX_LATENESS, "lateness");
        assertEq(opened.claimWindow, CLAIM_WINDOW, "claim window");
        assertEq(opened.termsHash, bytes32("terms"), "terms");
        assertEq(opened.claimDeadline, END + CLAIM_WINDOW, "claim deadline");
        bytes32 genesis = keccak256(abi.encode("PLASMA_RENTAL_V1", block.chainid, address(rentals), rental));
        assertEq(opened.head, genesis, "genesis");
        assertEq(rental, keccak256(abi.encode(block.chainid, address(rentals), PAYER, bytes32(0))), "id");
    }

    function test_open_refuses_a_salt_twice() public {
        vm.deal(PAYER, 1);
        vm.expectRevert(abi.encodeWithSelector(RentalExists.selector, rental));
        vm.prank(PAYER);
        rentals.open{value: 1}(terms(), bytes32(0));
    }

    function test_open_refuses_no_deposit() public {
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.open(terms(), "a");
    }

    function test_open_refuses_a_provider_that_is_unknown_or_without_stake() public {
        IRentalTypes.Terms memory bad = terms();
        bad.provider = STRANGER;
        refusedTerms(bad, abi.encodeWithSelector(ProviderNotOpen.selector, STRANGER));
        vm.prank(address(faults));
        providers.slash(PROVIDER, 9 ether, 0);
        refusedTerms(terms(), abi.encodeWithSelector(ProviderNotOpen.selector, PROVIDER));
    }

    function test_open_refuses_terms_that_cant_be_kept() public {
        IRentalTypes.Terms memory bad = terms();
        bad.end = uint64(block.timestamp);
        refusedTerms(bad, rule("end is after now, and in Unix seconds"));
        bad.end = type(uint40).max;
        refusedTerms(bad, rule("end is after now, and in Unix seconds"));
        bad = terms();
        bad.ceiling = 0;
        refusedTerms(bad, rule("ceiling is above 0"));
        bad.ceiling = type(uint96).max / MAX_LATENESS + 1;
        refusedTerms(bad, rule("ceiling * maxLateness is below 2^96"));
        bad = terms();
        bad.period = 0;
        refusedTerms(bad, rule("period is above 0"));
        bad.period = MAX_LATENESS + 1;
        refusedTerms(bad, rule("maxLateness is at least period"));
    }

    /// @dev Each of the three terms counts, and the arbiter's time.
    function test_open_refuses_terms_that_outlast_the_stake() public {
        bytes memory reason = rule("notice + claimWindow + window + contest is shorter than unbonding");
        uint32 free = uint32(UNBONDING - CONTEST_PERIOD);
        IRentalTypes.Terms memory bad = terms();
        bad.notice = free - CLAIM_WINDOW - WINDOW;
        refusedTerms(bad, reason);
        bad = terms();
        bad.claimWindow = free - NOTICE - WINDOW;
        refusedTerms(bad, reason);
        bad = terms();
        bad.window = free - NOTICE - CLAIM_WINDOW;
        refusedTerms(bad, reason);
        bad.window -= 1;
        openWith(bad, 1, "just short enough");
    }

    function test_an_unknown_rental_is_named_by_everything() public {
        bytes memory reason = abi.encodeWithSelector(UnknownRental.selector, bytes32("none"));
        vm.expectRevert(reason);
        rentals.rentalOf("none");
        vm.expectRevert(reason);
        rentals.topUp{value: 1}("none");
        vm.expectRevert(reason);
        rentals.ack("none", "");
        vm.expectRevert(reason);
        rentals.release("none", new bytes32[](0));
        vm.expectRevert(reason);
        rentals.withdraw("none", 1);
        vm.expectRevert(reason);
        rentals.close("none");
        vm.expectRevert(reason);
        rentals.refund("none");
        vm.expectRevert(reason);
        rentals.settle("none", "", 1, prices, "", "");
    }

    function rule(string memory broken) private pure returns (bytes memory) {
        return abi.encodeWithSelector(InvalidTerms.selector, broken);
    }

    function refusedTerms(IRentalTypes.Terms memory bad, bytes memory reason) private {
        vm.expectRevert(reason);
        rentals.open{value: 1}(bad, "bad");
    }
}

/// @dev What a batch must be, and what it does.
contract RentalSettleTest is World, IRentalErrors {
    function test_settle_prices_each_leaf_rounded_down_and_moves_head_and_watermark() public {
        bytes memory leaves = bytes.concat(
            Leaves.pack(LeafFacts(1, 9, 2_000_000, 1500, 1999, 1, 0, 3, 2)), Leaves.simple(2, 1_000_500, 10_000)
        );
        bytes32 before = state().head;
        settle(2000, leaves);
        uint256 total = 13 + 10_000; // 1999 ms at 7 wei a second, rounded down
        assertEq(state().earned, total, "earned");
        assertEq(state().drawn, total, "drawn");
        assertEq(state().balance, 100 ether - total, "balance");
        assertEq(state().through, 2000, "watermark");
        assertEq(state().nextSequence, 2, "sequence");
        assertEq(state().settledBatch, 1, "batch");
        bytes32 head = keccak256(abi.encode(before, keccak256(leaves), uint256(2), total, uint256(2000)));
        assertEq(state().head, head, "head");
        Batches.Batch memory kept = rentals.batchOf(rental, head);
        assertEq(kept.total, total, "kept total");
        assertEq(kept.number, 1, "kept number");
        assertEq(kept.maturesAt, 5000 + WINDOW, "matures");
    }

    function test_settle_says_one_event_a_pod_in_order_and_one_a_batch() public {
        settle(1100, Leaves.simple(1, 1_100_000, 1000));
        bytes32 before = state().head;
        vm.recordLogs();
        settle(1200, bytes.concat(Leaves.simple(3, 1_200_000, 2000), Leaves.simple(4, 1_200_000, 3000)));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 3, "events");
        for (uint256 pod = 0; pod < 2; ++pod) {
            assertEq(logs[pod].topics[0], keccak256("PodSettled(bytes32,bytes16,bytes16,uint256)"), "event");
            assertEq(logs[pod].topics[1], rental, "rental");
            assertEq(logs[pod].topics[2], bytes32((pod + 3) << 128), "pod");
            assertEq(logs[pod].topics[3], bytes32(uint256(7) << 128), "job");
            assertEq(abi.decode(logs[pod].data, (uint256)), 2000 + pod * 1000, "amount");
        }
        bytes memory said = abi.encode(before, uint64(1), uint32(2), uint256(5000), uint64(1200));
        assertEq(keccak256(logs[2].data), keccak256(said), "batch: first sequence, count, total, watermark");
        assertEq(logs[2].topics[2], state().head, "head");
    }

    function test_a_void_leaf_is_worth_nothing_whatever_it_says_and_keeps_its_place() public {
        settle(2000, Leaves.pack(LeafFacts(1, 9, 2_000_000, type(uint40).max, type(uint48).max, 99, 0, 1, 4)));
        assertEq(state().earned, 0, "earned");
        assertEq(state().nextSequence, 1, "sequence");
    }

    function test_a_settled_batch_again_changes_nothing_now_later_or_in_a_pause() public {
        bytes32 before = state().head;
        bytes memory leaves = Leaves.simple(1, 2_000_000, 5000);
        settle(2000, leaves);
        unchanged(before, 2000, leaves);
        settle(2500, Leaves.simple(1, 2_500_000, 5000));
        unchanged(before, 2000, leaves);
        pause(100);
        unchanged(before, 2000, leaves);
        vm.warp(2 * END);
        unchanged(before, 2000, leaves);
    }

    function test_another_batch_after_a_head_that_was_followed_reverts() public {
        bytes32 before = state().head;
        settle(2000, Leaves.simple(1, 2_000_000, 5000));
        bytes memory reason = abi.encodeWithSelector(HeadMismatch.selector, rental, state().head, before);
        send(reason, before, 2000, Leaves.simple(1, 2_000_000, 5001));
        send(reason, before, 2001, Leaves.simple(1, 2_000_000, 5000));
    }

    function test_other_prices_than_committed_revert() public {
        bytes32 committed = keccak256(abi.encode(prices));
        prices[0] = 1001;
        bytes32 given = keccak256(abi.encode(prices));
        refused(
            abi.encodeWithSelector(PricesMismatch.selector, rental, committed, given),
            2000,
            Leaves.simple(1, 2_000_000, 1)
        );
    }

    function test_absurd_prices_settle_nothing_and_absurd_totals_are_refused() public {
        prices[0] = uint256(type(uint128).max) + 1;
        rental = open(1, "above");
        bytes memory leaf = Leaves.simple(1, 5_000_000, 1_000_000);
        vm.warp(6000);
        refused(abi.encodeWithSelector(PriceTooHigh.selector, 0, prices[0]), 6000, leaf);
        prices[0] = type(uint128).max;
        rental = open(1, "below");
        vm.warp(7000);
        uint256 total = uint256(type(uint128).max) * 1000;
        leaf = Leaves.simple(1, 7_000_000, 1_000_000);
        refused(abi.encodeWithSelector(BatchTooDear.selector, rental, total), 7000, leaf);
    }

    function test_leaves_must_be_whole_and_not_none() public {
        refused(abi.encodeWithSelector(MalformedLeaves.selector, 0), 2000, "");
        bytes memory cut = bytes.concat(Leaves.simple(1, 2_000_000, 1), "x");
        refused(abi.encodeWithSelector(MalformedLeaves.selector, 65), 2000, cut);
    }

    function test_leaves_out_of_order_or_twice_or_without_a_pod_revert() public {
        bytes memory twice = bytes.concat(Leaves.simple(2, 2_000_000, 1), Leaves.simple(2, 2_000_000, 1));
        refused(abi.encodeWithSelector(LeafOutOfOrder.selector, 1, bytes16(uint128(2))), 2000, twice);
        bytes memory down = bytes.concat(Leaves.simple(2, 2_000_000, 1), Leaves.simple(1, 2_000_000, 1));
        refused(abi.encodeWithSelector(LeafOutOfOrder.selector, 1, bytes16(uint128(1))), 2000, down);
        refused(abi.encodeWithSelector(LeafOutOfOrder.selector, 0, bytes16(0)), 2000, Leaves.simple(0, 2_000_000, 1));
    }

    function test_a_leaf_ends_after_the_watermark_and_by_to() public {
        uint256 through = uint256(OPENED - 1) * 1000;
        bytes4 selector = LeafEndOutside.selector;
        bytes memory early = Leaves.simple(1, uint48(through), 1);
        refused(abi.encodeWithSelector(selector, 0, through, through, 2_000_000), 2000, early);
        bytes memory late = Leaves.simple(1, 2_000_001, 1);
        refused(abi.encodeWithSelector(selector, 0, 2_000_001, through, 2_000_000), 2000, late);
        refused(abi.encodeWithSelector(selector, 0, 0, through, 2_000_000), 2000, Leaves.simple(1, 0, 1));
        settle(2000, bytes.concat(Leaves.simple(1, uint48(through) + 1, 1), Leaves.simple(2, 2_000_000, 1)));
    }

    function test_a_leaf_is_at_most_one_period_long() public {
        uint40 most = uint40(PERIOD) * 1000;
        bytes memory reason = abi.encodeWithSelector(LeafTooOld.selector, 0, most + 1, most);
        refused(reason, 5000, Leaves.simple(1, 5_000_000, most + 1));
        settle(5000, Leaves.simple(1, 5_000_000, most));
    }

    /// @dev Also at the ends of the mask, and with all its bits.
    function test_device_time_is_bounded_by_the_devices_of_the_mask() public {
        bounded(0, 64);
        bounded(1, 1);
        bounded(1 << 63, 1);
        bounded(0x8000000000000001, 2);
        bounded(0x00ff00000000f00f, 16);
        bounded(type(uint64).max, 64);
        bounded(type(uint64).max - 1, 63);
    }

    function test_an_unknown_price_class_reverts() public {
        bytes memory leaf = Leaves.pack(LeafFacts(1, 9, 2_000_000, 10, 10, 2, 0, 0, 2));
        refused(abi.encodeWithSelector(UnknownPriceClass.selector, 0, 2, 2), 2000, leaf);
    }

    function test_to_lies_after_the_watermark_and_not_after_now_or_the_end() public {
        bytes memory leaf = Leaves.simple(1, 1_500_000, 1);
        refused(abi.encodeWithSelector(WatermarkOutside.selector, 5001, OPENED - 1, 5000), 5001, leaf);
        refused(abi.encodeWithSelector(WatermarkOutside.selector, OPENED - 1, OPENED - 1, 5000), OPENED - 1, leaf);
        vm.warp(END + 10);
        refused(abi.encodeWithSelector(WatermarkOutside.selector, END + 1, OPENED - 1, END), END + 1, leaf);
        settle(END, leaf);
    }

    function bounded(uint64 mask, uint48 devices) private {
        uint64 to = state().through + 100;
        uint48 end = uint48(to) * 1000;
        bytes memory reason = abi.encodeWithSelector(LeafTooLong.selector, 0, 10 * devices + 1, 10 * devices);
        refused(reason, to, Leaves.pack(LeafFacts(1, 9, end, 10, 10 * devices + 1, 0, 0, mask, 2)));
        settle(to, Leaves.pack(LeafFacts(1, 9, end, 10, 10 * devices, 0, 0, mask, 2)));
    }

    function unchanged(bytes32 prevHead, uint64 to, bytes memory leaves) private {
        bytes32 before = keccak256(abi.encode(state()));
        settleAfter(prevHead, to, leaves);
        assertEq(keccak256(abi.encode(state())), before, "rental");
    }
}

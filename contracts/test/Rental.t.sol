// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Rental} from "../src/Rental.sol";
import {IRentalErrors, IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {Test, Vm} from "./Test.sol";

/// @dev A rental of 100 ether at 1000 wei a device-second (class 0) and 7 (class 1), opened at second 1000.
abstract contract RentalFixture is Test, IRentalErrors {
    Rental internal rentals;
    address internal constant PAYER = address(0xA11CE);
    address internal constant PROVIDER = address(0xB0B);
    uint64 internal constant OPENED = 1000;
    uint64 internal constant END = 1_000_000;
    uint64 internal constant NOTICE = 100;
    uint64 internal constant CLAIM_WINDOW = 500;
    uint256[] internal prices;
    bytes32 internal rental;

    function setUp() public virtual {
        rentals = new Rental();
        prices.push(1000);
        prices.push(7);
        vm.warp(OPENED);
        rental = open(100 ether, bytes32(0));
        vm.warp(5000);
    }

    function terms() internal view returns (IRentalTypes.Terms memory) {
        return IRentalTypes.Terms(PROVIDER, END, NOTICE, CLAIM_WINDOW, keccak256(abi.encode(prices)), bytes32("terms"));
    }

    function open(uint256 deposit, bytes32 salt) internal returns (bytes32) {
        vm.deal(PAYER, deposit);
        vm.prank(PAYER);
        return rentals.open{value: deposit}(terms(), salt);
    }

    function state() internal view returns (IRentalTypes.RentalView memory) {
        return rentals.rentalOf(rental);
    }

    function settle(bytes32 prevHead, uint64 to, bytes memory leaves) internal {
        vm.prank(PROVIDER);
        rentals.settle(rental, prevHead, to, prices, leaves);
    }
}

contract RentalOpenTest is RentalFixture {
    function test_open_keeps_terms_deposit_and_a_head_of_its_own() public view {
        IRentalTypes.RentalView memory opened = state();
        assertEq(opened.balance, 100 ether, "balance");
        assertEq(opened.through, OPENED - 1, "watermark");
        assertEq(opened.opened, OPENED, "opened");
        assertEq(opened.notice, NOTICE, "notice");
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

    function test_open_refuses_no_deposit_no_provider_and_an_end_in_the_past() public {
        IRentalTypes.Terms memory bad = terms();
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.open(bad, "a");
        bad.end = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(InvalidTerms.selector, PROVIDER, bad.end));
        rentals.open{value: 1}(bad, "a");
        bad = terms();
        bad.provider = address(0);
        vm.expectRevert(abi.encodeWithSelector(InvalidTerms.selector, address(0), END));
        rentals.open{value: 1}(bad, "a");
        bad = terms();
        bad.claimWindow = type(uint64).max;
        vm.expectRevert(abi.encodeWithSelector(InvalidTerms.selector, PROVIDER, END));
        rentals.open{value: 1}(bad, "a");
    }

    function test_an_unknown_rental_is_named() public {
        vm.expectRevert(abi.encodeWithSelector(UnknownRental.selector, bytes32("none")));
        rentals.rentalOf("none");
    }
}

contract RentalSettleTest is RentalFixture {
    function test_settle_pays_each_leaf_rounded_down_and_moves_head_and_watermark() public {
        bytes memory leaves = bytes.concat(
            Leaves.pack(LeafFacts(1, 9, 2_000_000, 1500, 1999, 1, 0, 3, 2)), Leaves.simple(2, 1_000_500, 10_000)
        );
        bytes32 before = state().head;
        settle(before, 2000, leaves);
        uint256 total = 13 + 10_000; // 1999 ms at 7 wei a second, rounded down
        assertEq(rentals.credit(PROVIDER), total, "credit");
        assertEq(state().balance, 100 ether - total, "balance");
        assertEq(state().through, 2000, "watermark");
        assertEq(state().nextSequence, 2, "sequence");
        bytes32 head = keccak256(abi.encode(before, keccak256(leaves), uint256(2), total, uint256(2000)));
        assertEq(state().head, head, "head");
    }

    function test_settle_says_one_event_a_pod_with_its_sequence() public {
        settle(state().head, 1100, Leaves.simple(1, 1_100_000, 1000));
        vm.recordLogs();
        settle(state().head, 1200, bytes.concat(Leaves.simple(3, 1_200_000, 2000), Leaves.simple(4, 1_200_000, 3000)));
        TestLog[] memory logs = pods();
        assertEq(logs.length, 2, "one event a pod");
        assertEq(logs[0].podUid, bytes32(uint256(3) << 128), "first pod");
        assertEq(logs[0].sequence, 1, "sequence goes on");
        assertEq(logs[1].amount, 3000, "amount");
    }

    function test_a_void_leaf_is_worth_nothing_and_keeps_its_place() public {
        bytes memory leaves = Leaves.pack(LeafFacts(1, 9, 2_000_000, 1500, 1500, 0, 0, 1, 4));
        settle(state().head, 2000, leaves);
        assertEq(rentals.credit(PROVIDER), 0, "credit");
        assertEq(state().nextSequence, 1, "sequence");
    }

    function test_the_same_batch_again_changes_nothing() public {
        bytes32 before = state().head;
        bytes memory leaves = Leaves.simple(1, 2_000_000, 5000);
        settle(before, 2000, leaves);
        IRentalTypes.RentalView memory settled = state();
        settle(before, 2000, leaves);
        assertEq(keccak256(abi.encode(state())), keccak256(abi.encode(settled)), "rental");
        assertEq(rentals.credit(PROVIDER), 5000, "credit");
    }

    function test_another_batch_after_the_same_head_reverts() public {
        bytes32 before = state().head;
        settle(before, 2000, Leaves.simple(1, 2_000_000, 5000));
        bytes32 head = state().head;
        vm.expectRevert(abi.encodeWithSelector(HeadMismatch.selector, rental, head, before));
        settle(before, 2000, Leaves.simple(1, 2_000_000, 5001));
        vm.expectRevert(abi.encodeWithSelector(HeadMismatch.selector, rental, head, before));
        settle(before, 2001, Leaves.simple(1, 2_000_000, 5000));
    }

    function test_only_the_provider_settles() public {
        bytes32 head = state().head;
        vm.expectRevert(abi.encodeWithSelector(NotAllowed.selector, PAYER, PROVIDER));
        vm.prank(PAYER);
        rentals.settle(rental, head, 2000, prices, Leaves.simple(1, 2_000_000, 1));
    }

    function test_other_prices_than_committed_revert() public {
        bytes32 head = state().head;
        bytes32 committed = keccak256(abi.encode(prices));
        prices[0] = 1001;
        vm.expectRevert(
            abi.encodeWithSelector(PricesMismatch.selector, rental, committed, keccak256(abi.encode(prices)))
        );
        settle(head, 2000, Leaves.simple(1, 2_000_000, 1));
    }

    function test_leaves_must_be_whole_and_not_none() public {
        bytes32 head = state().head;
        vm.expectRevert(abi.encodeWithSelector(MalformedLeaves.selector, 0));
        settle(head, 2000, "");
        vm.expectRevert(abi.encodeWithSelector(MalformedLeaves.selector, 65));
        settle(head, 2000, bytes.concat(Leaves.simple(1, 2_000_000, 1), "x"));
    }

    function test_leaves_out_of_order_or_twice_revert() public {
        bytes32 head = state().head;
        bytes memory twice = bytes.concat(Leaves.simple(2, 2_000_000, 1), Leaves.simple(2, 2_000_000, 1));
        vm.expectRevert(abi.encodeWithSelector(LeafOutOfOrder.selector, 1, bytes16(uint128(2))));
        settle(head, 2000, twice);
        bytes memory down = bytes.concat(Leaves.simple(2, 2_000_000, 1), Leaves.simple(1, 2_000_000, 1));
        vm.expectRevert(abi.encodeWithSelector(LeafOutOfOrder.selector, 1, bytes16(uint128(1))));
        settle(head, 2000, down);
    }

    function test_a_leaf_ends_after_the_watermark_and_by_to() public {
        bytes32 head = state().head;
        uint256 through = uint256(OPENED - 1) * 1000;
        vm.expectRevert(abi.encodeWithSelector(LeafEndOutside.selector, 0, through, through, 2_000_000));
        settle(head, 2000, Leaves.simple(1, uint48(through), 1));
        vm.expectRevert(abi.encodeWithSelector(LeafEndOutside.selector, 0, 2_000_001, through, 2_000_000));
        settle(head, 2000, Leaves.simple(1, 2_000_001, 1));
    }

    function test_device_time_is_bounded_by_64_devices() public {
        bytes32 head = state().head;
        settle(head, 2000, Leaves.pack(LeafFacts(1, 9, 2_000_000, 10, 640, 0, 0, 0, 2)));
        head = state().head;
        vm.expectRevert(abi.encodeWithSelector(LeafTooLong.selector, 0, 641, 10));
        settle(head, 3000, Leaves.pack(LeafFacts(1, 9, 3_000_000, 10, 641, 0, 0, 0, 2)));
    }

    function test_an_unknown_price_class_reverts() public {
        bytes32 head = state().head;
        vm.expectRevert(abi.encodeWithSelector(UnknownPriceClass.selector, 0, 2, 2));
        settle(head, 2000, Leaves.pack(LeafFacts(1, 9, 2_000_000, 10, 10, 2, 0, 0, 2)));
    }

    function test_to_lies_after_the_watermark_and_not_after_now_or_the_end() public {
        bytes32 head = state().head;
        bytes memory leaf = Leaves.simple(1, 1_500_000, 1);
        vm.expectRevert(abi.encodeWithSelector(WatermarkOutside.selector, 5001, OPENED - 1, 5000));
        settle(head, 5001, leaf);
        vm.expectRevert(abi.encodeWithSelector(WatermarkOutside.selector, OPENED - 1, OPENED - 1, 5000));
        settle(head, OPENED - 1, leaf);
        vm.warp(END + 10);
        vm.expectRevert(abi.encodeWithSelector(WatermarkOutside.selector, END + 1, OPENED - 1, END));
        settle(head, END + 1, leaf);
        settle(head, END, leaf);
    }

    function test_two_hundred_pods_settle_well_below_a_block() public {
        bytes memory leaves;
        for (uint128 pod = 1; pod <= 200; ++pod) {
            leaves = bytes.concat(leaves, Leaves.simple(pod, 2_000_000, 60_000));
        }
        bytes32 head = state().head;
        uint256 gas = gasleft();
        settle(head, 2000, leaves);
        assertTrue(gas - gasleft() < 2_000_000, "gas of 200 pods");
    }

    struct TestLog {
        bytes32 podUid;
        uint64 sequence;
        uint256 amount;
    }

    function pods() private returns (TestLog[] memory found) {
        bytes32 topic = keccak256("PodSettled(bytes32,bytes16,bytes16,uint64,uint256)");
        TestLog[] memory all = new TestLog[](16);
        uint256 count;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 index = 0; index < logs.length; ++index) {
            if (logs[index].topics[0] != topic) continue;
            (uint64 sequence, uint256 amount) = abi.decode(logs[index].data, (uint64, uint256));
            all[count++] = TestLog(logs[index].topics[2], sequence, amount);
        }
        found = new TestLog[](count);
        for (uint256 index = 0; index < count; ++index) {
            found[index] = all[index];
        }
    }
}

contract RentalMoneyTest is RentalFixture {
    function test_what_the_balance_lacks_is_owed_and_paid_by_the_next_top_up() public {
        rental = open(1500, "small");
        vm.warp(6000);
        settle(state().head, 6000, Leaves.simple(1, 6_000_000, 2000));
        assertEq(rentals.credit(PROVIDER), 1500, "credit");
        assertEq(state().owed, 500, "owed");
        vm.deal(address(this), 700);
        rentals.topUp{value: 700}(rental);
        assertEq(rentals.credit(PROVIDER), 2000, "credit after top-up");
        assertEq(state().owed, 0, "owed after top-up");
        assertEq(state().balance, 200, "balance after top-up");
    }

    function test_a_top_up_of_nothing_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.topUp(rental);
    }

    function test_claim_sends_the_credit_once() public {
        settle(state().head, 2000, Leaves.simple(1, 2_000_000, 2000));
        vm.prank(PROVIDER);
        rentals.claim();
        assertEq(PROVIDER.balance, 2000, "received");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        vm.prank(PROVIDER);
        rentals.claim();
    }

    function test_a_receiver_that_refuses_keeps_its_credit() public {
        Refuser refuser = new Refuser();
        IRentalTypes.Terms memory agreed = terms();
        agreed.provider = address(refuser);
        vm.deal(PAYER, 1 ether);
        vm.prank(PAYER);
        rental = rentals.open{value: 1 ether}(agreed, "refuser");
        vm.warp(6000);
        refuser.settle(rentals, rental, prices, Leaves.simple(1, 6_000_000, 2000));
        vm.expectRevert(abi.encodeWithSelector(TransferFailed.selector, address(refuser), 2000));
        refuser.claim(rentals);
        assertEq(rentals.credit(address(refuser)), 2000, "credit");
    }

    function test_claiming_again_from_within_a_claim_gains_nothing() public {
        Greedy greedy = new Greedy();
        IRentalTypes.Terms memory agreed = terms();
        agreed.provider = address(greedy);
        vm.deal(PAYER, 1 ether);
        vm.prank(PAYER);
        rental = rentals.open{value: 1 ether}(agreed, "greedy");
        vm.warp(6000);
        greedy.settle(rentals, rental, prices, Leaves.simple(1, 6_000_000, 2000));
        greedy.claim(rentals);
        assertEq(address(greedy).balance, 2000, "received once");
    }
}

contract RentalEndTest is RentalFixture {
    function test_the_payer_closes_after_the_notice_the_provider_at_once() public {
        vm.prank(PAYER);
        rentals.close(rental);
        assertEq(state().end, 5000 + NOTICE, "end by payer");
        assertEq(state().claimDeadline, 5000 + NOTICE + CLAIM_WINDOW, "deadline by payer");
        vm.prank(PROVIDER);
        rentals.close(rental);
        assertEq(state().end, 5000, "end by provider");
        vm.warp(5050);
        vm.prank(PAYER);
        rentals.close(rental);
        assertEq(state().end, 5000, "never later");
    }

    function test_a_stranger_closes_nothing() public {
        vm.expectRevert(abi.encodeWithSelector(NotAllowed.selector, address(this), PAYER));
        rentals.close(rental);
    }

    function test_after_the_end_settling_goes_on_until_the_claim_deadline() public {
        vm.prank(PROVIDER);
        rentals.close(rental);
        vm.warp(5000 + CLAIM_WINDOW);
        settle(state().head, 5000, Leaves.simple(1, 5_000_000, 2000));
        assertEq(rentals.credit(PROVIDER), 2000, "credit");
        vm.warp(5001 + CLAIM_WINDOW);
        bytes32 head = state().head;
        vm.expectRevert(abi.encodeWithSelector(ClaimDeadlinePassed.selector, rental, 5000 + CLAIM_WINDOW));
        settle(head, 5000, Leaves.simple(2, 5_000_000, 2000));
    }

    function test_the_rest_is_the_payers_after_the_claim_deadline_once() public {
        vm.prank(PROVIDER);
        rentals.close(rental);
        vm.warp(5000 + CLAIM_WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ClaimDeadlineNotReached.selector, rental, 5000 + CLAIM_WINDOW));
        rentals.refund(rental);
        vm.warp(5001 + CLAIM_WINDOW);
        rentals.refund(rental);
        assertEq(rentals.credit(PAYER), 100 ether, "payer's credit");
        vm.expectRevert(abi.encodeWithSelector(RentalRefunded.selector, rental));
        rentals.refund(rental);
        vm.expectRevert(abi.encodeWithSelector(RentalRefunded.selector, rental));
        rentals.topUp{value: 1}(rental);
        vm.expectRevert(abi.encodeWithSelector(RentalRefunded.selector, rental));
        rentals.close(rental);
    }
}

contract Refuser {
    function settle(Rental rentals, bytes32 rental, uint256[] calldata prices, bytes calldata leaves) external {
        rentals.settle(rental, rentals.rentalOf(rental).head, 6000, prices, leaves);
    }

    function claim(Rental rentals) external virtual {
        rentals.claim();
    }
}

contract Greedy is Refuser {
    bool private _again;

    receive() external payable {
        if (_again) return;
        _again = true;
        try Rental(msg.sender).claim() {} catch {}
    }
}

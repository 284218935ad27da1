// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Rental} from "../src/Rental.sol";
import {IRentalErrors, IRentalTypes} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev Where the money goes, up to the provider's credit: bucket, what is owed, maturity, release, withdrawal.
contract RentalMoneyTest is World, IRentalErrors {
    uint96 private constant SLOW = 10;

    /// @dev 10 wei a second, and 7200 seconds of it at most.
    function slow(uint256 deposit) private {
        IRentalTypes.Terms memory agreed = terms();
        agreed.ceiling = SLOW;
        rental = openWith(agreed, deposit, bytes32(deposit));
    }

    function test_the_bucket_begins_empty_and_fills_with_time_up_to_its_capacity() public {
        slow(1 ether);
        assertEq(state().allowance, 0, "at the opening");
        pass(100);
        assertEq(state().allowance, 100 * SLOW, "after 100 s");
        pass(1_000_000 - 5100);
        assertEq(state().allowance, MAX_LATENESS * SLOW, "after months");
    }

    function test_what_the_bucket_lacks_is_owed_and_drawn_as_it_fills() public {
        slow(1 ether);
        vm.warp(5100);
        Settled memory batch = settle(5100, Leaves.simple(1, 5_100_000, 3000));
        assertEq(state().drawn, 1000, "drawn");
        assertEq(state().owed, 2000, "owed");
        ack(batch);
        release(batch);
        assertEq(rentals.credit(PROVIDER), 1000, "credit");
        vm.warp(5150);
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), 1500, "credit after 50 s");
        vm.warp(5400);
        topUp(1);
        assertEq(state().owed, 0, "owed");
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), 3000, "credit in the end");
        assertEq(state().allowance, 1000, "what the bucket holds still");
    }

    function test_what_the_balance_lacks_is_owed_and_drawn_by_the_next_top_up() public {
        rental = open(1500, "small");
        vm.warp(6000);
        Settled memory batch = settle(6000, Leaves.simple(1, 6_000_000, 2000));
        assertEq(state().drawn, 1500, "drawn");
        assertEq(state().owed, 500, "owed");
        topUp(700);
        assertEq(state().owed, 0, "owed after top-up");
        assertEq(state().balance, 200, "balance after top-up");
        ack(batch);
        release(batch);
        assertEq(rentals.credit(PROVIDER), 2000, "credit");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.topUp(rental);
    }

    function test_a_batch_is_released_after_its_window_and_not_before() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = batch.head;
        vm.warp(4999 + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(BatchNotMature.selector, rental, batch.head, 5000 + WINDOW));
        rentals.release(rental, heads);
        vm.warp(5000 + WINDOW);
        vm.prank(STRANGER);
        rentals.release(rental, heads);
        assertEq(rentals.credit(PROVIDER), 2000, "credit");
        assertEq(state().releasedBatch, 1, "passed");
    }

    function test_an_acknowledged_batch_and_all_before_it_are_released_at_once() public {
        Settled memory first = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        Settled memory second = settle(3000, Leaves.simple(1, 3_000_000, 300));
        Settled memory third = settle(4000, Leaves.simple(1, 4_000_000, 50));
        vm.prank(ACKNOWLEDGER);
        rentals.ack(rental, second.head);
        release(first);
        release(second);
        assertEq(rentals.credit(PROVIDER), 2300, "credit");
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = third.head;
        vm.expectRevert(abi.encodeWithSelector(BatchNotMature.selector, rental, third.head, 5000 + WINDOW));
        rentals.release(rental, heads);
        ack(first);
        assertEq(state().acknowledgedBatch, 2, "an older one changes nothing");
    }

    function test_only_payer_and_acknowledger_acknowledge_and_only_what_is_there() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        vm.expectRevert(abi.encodeWithSelector(NotAllowed.selector, PROVIDER, PAYER));
        vm.prank(PROVIDER);
        rentals.ack(rental, batch.head);
        vm.expectRevert(abi.encodeWithSelector(UnknownBatch.selector, rental, bytes32("none")));
        vm.prank(PAYER);
        rentals.ack(rental, "none");
    }

    function test_batches_are_released_in_order_each_once() public {
        Settled memory first = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        Settled memory second = settle(3000, Leaves.simple(1, 3_000_000, 300));
        ack(second);
        bytes32[] memory heads = new bytes32[](2);
        (heads[0], heads[1]) = (second.head, first.head);
        vm.expectRevert(abi.encodeWithSelector(BatchOutOfOrder.selector, rental, second.head, 1));
        rentals.release(rental, heads);
        (heads[0], heads[1]) = (first.head, second.head);
        rentals.release(rental, heads);
        assertEq(rentals.credit(PROVIDER), 2300, "credit");
        vm.expectRevert(abi.encodeWithSelector(BatchOutOfOrder.selector, rental, first.head, 3));
        rentals.release(rental, heads);
        heads[0] = "none";
        vm.expectRevert(abi.encodeWithSelector(UnknownBatch.selector, rental, bytes32("none")));
        rentals.release(rental, heads);
    }

    function test_another_rentals_batch_releases_nothing() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        ack(batch);
        bytes32 other = open(1 ether, "other");
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = batch.head;
        vm.expectRevert(abi.encodeWithSelector(UnknownBatch.selector, other, batch.head));
        rentals.release(other, heads);
    }

    function test_the_payer_takes_back_all_but_the_buckets_content() public {
        slow(1 ether);
        pass(100);
        uint256 most = 1 ether - 100 * SLOW;
        vm.expectRevert(abi.encodeWithSelector(AmountLocked.selector, rental, most + 1, most));
        vm.prank(PAYER);
        rentals.withdraw(rental, most + 1);
        vm.prank(PAYER);
        rentals.withdraw(rental, most);
        assertEq(rentals.credit(PAYER), most, "credit");
        assertEq(state().balance, 100 * SLOW, "what stays");
        settle(5100, Leaves.simple(1, 5_100_000, 100 * uint40(SLOW)));
        assertEq(state().owed, 0, "all that was earned is there");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        vm.prank(PAYER);
        rentals.withdraw(rental, 0);
        vm.expectRevert(abi.encodeWithSelector(NotAllowed.selector, STRANGER, PAYER));
        vm.prank(STRANGER);
        rentals.withdraw(rental, 1);
    }

    function test_a_withdrawal_draws_what_is_owed_first() public {
        slow(1 ether);
        vm.warp(5100);
        settle(5100, Leaves.simple(1, 5_100_000, 3000));
        vm.warp(5200);
        vm.prank(PAYER);
        rentals.withdraw(rental, 1 ether - 2000);
        assertEq(state().drawn, 2000, "drawn");
        assertEq(state().balance, 0, "balance");
    }

    function test_nothing_is_drawn_after_the_claim_deadline() public {
        slow(1 ether);
        vm.warp(5100);
        Settled memory batch = settle(5100, Leaves.simple(1, 5_100_000, 100_000));
        ack(batch);
        vm.prank(PROVIDER);
        rentals.close(rental);
        vm.warp(5100 + CLAIM_WINDOW);
        release(batch);
        uint256 drawn = (100 + CLAIM_WINDOW) * SLOW;
        assertEq(rentals.credit(PROVIDER), drawn, "up to the deadline");
        vm.warp(5200 + CLAIM_WINDOW);
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), drawn, "after it");
        vm.prank(PAYER);
        rentals.withdraw(rental, 1);
        assertEq(state().drawn, drawn, "nor by a withdrawal");
        rentals.refund(rental);
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), drawn, "after the refund");
        assertEq(rentals.credit(PAYER), 1 ether - drawn, "the payer's rest");
    }

    function test_claim_sends_the_credit_to_the_payee_once() public {
        earn(2000);
        vm.prank(STRANGER);
        rentals.claim(PROVIDER);
        assertEq(PAYEE.balance, 2000, "received");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.claim(PROVIDER);
    }

    function test_a_payee_that_refuses_keeps_its_credit_and_holds_up_nobody() public {
        earn(2000);
        Refuser refuser = new Refuser();
        vm.prank(PROVIDER);
        providers.changePayee(address(refuser));
        pass(PAYEE_DELAY);
        vm.expectRevert(abi.encodeWithSelector(TransferFailed.selector, address(refuser), 2000));
        rentals.claim(PROVIDER);
        assertEq(rentals.credit(PROVIDER), 2000, "credit");
        vm.prank(PAYER);
        rentals.withdraw(rental, 1 ether);
        rentals.claim(PAYER);
        assertEq(PAYER.balance, 1 ether, "the payer's claim");
    }

    function test_claiming_again_from_within_a_claim_gains_nothing() public {
        earn(2000);
        Greedy greedy = new Greedy(PROVIDER);
        vm.prank(PROVIDER);
        providers.changePayee(address(greedy));
        pass(PAYEE_DELAY);
        rentals.claim(PROVIDER);
        assertEq(address(greedy).balance, 2000, "received once");
        assertTrue(greedy.tried(), "it tried");
    }

    function test_forced_coins_are_nobodys() public {
        vm.deal(address(rentals), address(rentals).balance + 1 ether);
        uint256 before = address(rentals).balance;
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        rentals.claim(STRANGER);
        earn(2000);
        rentals.claim(PROVIDER);
        vm.warp(2 * END);
        rentals.refund(rental);
        rentals.claim(PAYER);
        assertEq(address(rentals).balance, 1 ether, "stay where they are");
        assertEq(before, 101 ether, "all there was");
    }

    function test_only_the_fault_contract_freezes_thaws_and_strikes() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        bytes memory reason = abi.encodeWithSelector(NotAllowed.selector, OWNER, address(faults));
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rentals.freeze(rental, batch.head, 1);
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rentals.thaw(rental, batch.head, 1);
        vm.expectRevert(reason);
        vm.prank(OWNER);
        rentals.strike(rental, batch.head, 1, false);
    }

    function earn(uint40 amount) private {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, amount));
        ack(batch);
        release(batch);
    }
}

contract Refuser {
    receive() external payable {
        revert("no");
    }
}

contract Greedy {
    address private immutable ACCOUNT;
    bool public tried;

    constructor(address account) {
        ACCOUNT = account;
    }

    receive() external payable {
        if (tried) return;
        tried = true;
        try Rental(msg.sender).claim(ACCOUNT) {} catch {}
    }
}

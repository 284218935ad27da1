// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRentalErrors} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev How a rental ends, and what a pause does to it.
contract RentalEndTest is World, IRentalErrors {
    function test_the_payer_closes_after_the_notice_the_provider_at_once() public {
        closeBy(PAYER);
        assertEq(state().end, 5000 + NOTICE, "end by payer");
        assertEq(state().claimDeadline, 5000 + NOTICE + CLAIM_WINDOW, "deadline by payer");
        closeBy(PROVIDER);
        assertEq(state().end, 5000, "end by provider");
        assertEq(state().claimDeadline, 5000 + CLAIM_WINDOW, "deadline by provider");
        vm.warp(5050);
        closeBy(PAYER);
        assertEq(state().end, 5000, "never later");
    }

    function test_a_stranger_closes_nothing() public {
        vm.expectRevert(abi.encodeWithSelector(NotAllowed.selector, address(this), PAYER));
        rentals.close(rental);
    }

    function test_after_the_end_settling_goes_on_until_the_claim_deadline() public {
        closeBy(PROVIDER);
        vm.warp(5000 + CLAIM_WINDOW);
        settle(4999, Leaves.simple(1, 4_999_000, 2000));
        vm.warp(5001 + CLAIM_WINDOW);
        bytes memory reason = abi.encodeWithSelector(ClaimDeadlinePassed.selector, rental, 5000 + CLAIM_WINDOW);
        refused(reason, 5000, Leaves.simple(2, 5_000_000, 2000));
        vm.expectRevert(reason);
        rentals.topUp{value: 1}(rental);
    }

    function test_the_rest_is_the_payers_after_the_claim_deadline_once() public {
        closeBy(PROVIDER);
        vm.warp(5000 + CLAIM_WINDOW);
        vm.expectRevert(abi.encodeWithSelector(ClaimDeadlineNotReached.selector, rental, 5000 + CLAIM_WINDOW));
        rentals.refund(rental);
        vm.warp(5001 + CLAIM_WINDOW);
        rentals.refund(rental);
        assertEq(rentals.credit(PAYER), 100 ether, "payer's credit");
        assertEq(state().balance, 0, "balance");
        vm.expectRevert(abi.encodeWithSelector(RentalRefunded.selector, rental));
        rentals.refund(rental);
        vm.expectRevert(abi.encodeWithSelector(RentalRefunded.selector, rental));
        rentals.close(rental);
    }

    function test_a_pause_stops_opening_topping_up_and_settling_alone() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        ack(batch);
        pause(1000);
        bytes memory reason = abi.encodeWithSelector(RentalsPaused.selector);
        refused(reason, 3000, Leaves.simple(2, 3_000_000, 2000));
        vm.expectRevert(reason);
        rentals.topUp{value: 1}(rental);
        vm.expectRevert(reason);
        rentals.open{value: 1}(terms(), "paused");
        release(batch);
        rentals.claim(PROVIDER);
        assertEq(PAYEE.balance, 2000, "claimed in a pause");
        vm.prank(PAYER);
        rentals.withdraw(rental, 1 ether);
        rentals.claim(PAYER);
        assertEq(PAYER.balance, 1 ether, "withdrawn in a pause");
        closeBy(PAYER);
        assertEq(state().end, 5000 + NOTICE, "closed in a pause");
        pass(1000);
        settle(3000, Leaves.simple(2, 3_000_000, 2000));
    }

    function test_a_pause_moves_the_claim_deadline_and_maturity_on() public {
        Settled memory batch = settle(2000, Leaves.simple(1, 2_000_000, 2000));
        closeBy(PROVIDER);
        pause(1000);
        pass(1000);
        assertEq(state().claimDeadline, 6000 + CLAIM_WINDOW, "deadline");
        vm.warp(5999 + WINDOW);
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = batch.head;
        vm.expectRevert(abi.encodeWithSelector(BatchNotMature.selector, rental, batch.head, 6000 + WINDOW));
        rentals.release(rental, heads);
        pass(1);
        rentals.release(rental, heads);
        vm.warp(6000 + CLAIM_WINDOW);
        settle(4000, Leaves.simple(2, 4_000_000, 2000));
        pass(1);
        rentals.refund(rental);
    }

    function test_a_pause_that_is_over_moves_nothing_that_begins_after_it() public {
        pause(1000);
        pass(2000);
        bytes32 opened = open(1 ether, "after the pause");
        assertEq(rentals.rentalOf(opened).claimDeadline, END + CLAIM_WINDOW, "of a new rental");
        Settled memory batch = settle(6000, Leaves.simple(1, 6_000_000, 2000));
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = batch.head;
        vm.warp(6999 + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(BatchNotMature.selector, rental, batch.head, 7000 + WINDOW));
        rentals.release(rental, heads);
        pass(1);
        rentals.release(rental, heads);
        closeBy(PROVIDER);
        assertEq(state().claimDeadline, 7000 + WINDOW + CLAIM_WINDOW, "of one that is closed");
    }

    function closeBy(address caller) private {
        vm.prank(caller);
        rentals.close(rental);
    }
}

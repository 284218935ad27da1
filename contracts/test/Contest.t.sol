// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFaultsErrors, IFaultsTypes} from "../src/interfaces/IFaults.sol";
import {IRentalErrors} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev What an arbiter judges: three receipts of 1000, 200 and 30 wei in one batch.
contract ContestTest is World, IFaultsErrors {
    Settled internal _batch;

    function setUp() public override {
        super.setUp();
        _batch = settle(
            4000,
            bytes.concat(
                Leaves.simple(1, 4_000_000, 1000), Leaves.simple(2, 3_000_000, 200), Leaves.simple(3, 2_000_000, 30)
            )
        );
        vm.deal(PAYER, 10 ether);
    }

    function contest(uint256 index) private returns (bytes32 receipt) {
        uint256[] memory indexes = new uint256[](1);
        indexes[0] = index;
        vm.prank(PAYER);
        faults.contest{value: CONTEST_BOND}(evidence(_batch, 0), indexes, "why");
        return receiptOf(_batch, index);
    }

    function rule(bytes32 receipt, bool struck) private {
        vm.prank(ARBITER);
        faults.rule(receipt, struck);
    }

    function mature() private {
        pass(WINDOW);
    }

    function test_a_contest_freezes_its_receipt_and_nothing_else() public {
        bytes32 receipt = contest(1);
        assertEq(faults.bonds(), CONTEST_BOND, "bonds");
        assertEq(faults.contestOf(receipt).amount, 200, "amount");
        assertEq(faults.contestOf(receipt).arbiter, ARBITER, "arbiter");
        assertEq(faults.contestOf(receipt).deadline, 5000 + CONTEST_PERIOD, "deadline");
        Settled memory next = settle(5000, Leaves.simple(1, 5_000_000, 4));
        mature();
        release(_batch);
        release(next);
        assertEq(rentals.credit(PROVIDER), 1034, "all the rest");
        assertEq(state().withheld, 200, "withheld");
    }

    function test_a_receipt_that_stands_is_released_and_the_bond_is_the_providers() public {
        bytes32 receipt = contest(1);
        mature();
        release(_batch);
        rule(receipt, false);
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), 1230, "credit");
        assertEq(faults.credit(PROVIDER), CONTEST_BOND, "bond");
        assertEq(faults.bonds(), 0, "bonds");
        assertEq(uint256(faults.standingOf(receipt)), uint256(IFaultsTypes.Standing.Upheld), "standing");
        assertEq(stakeOf(PROVIDER), 40 ether, "stake");
        faults.claim(PROVIDER);
        assertEq(PAYEE.balance, CONTEST_BOND, "to the payee");
    }

    function test_a_receipt_that_falls_goes_back_with_the_bond_and_costs_stake() public {
        bytes32 receipt = contest(1);
        mature();
        release(_batch);
        rule(receipt, true);
        releaseOwed();
        assertEq(rentals.credit(PROVIDER), 1030, "provider");
        assertEq(rentals.credit(PAYER), 200, "payer");
        assertEq(faults.credit(PAYER), CONTEST_BOND + 0.1 ether, "bond and reward");
        assertEq(stakeOf(PROVIDER), 39 ether, "stake");
        assertEq(BURNED.balance, 0.9 ether, "burned");
        assertEq(state().earned, 1030, "earned");
        assertEq(state().withheld, 0, "withheld");
    }

    function test_the_same_before_the_batch_is_released() public {
        bytes32 first = contest(0);
        bytes32 second = contest(1);
        rule(first, true);
        rule(second, false);
        assertEq(rentals.batchOf(rental, _batch.head).total, 230, "what is left of it");
        assertEq(rentals.batchOf(rental, _batch.head).contested, 0, "contested");
        assertEq(rentals.credit(PAYER), 1000, "payer");
        mature();
        release(_batch);
        assertEq(rentals.credit(PROVIDER), 230, "provider");
    }

    function test_several_receipts_share_a_bond_and_what_doesnt_divide_goes_back() public {
        uint256[] memory indexes = new uint256[](2);
        indexes[1] = 2;
        vm.prank(PAYER);
        faults.contest{value: 2 * CONTEST_BOND + 1}(evidence(_batch, 0), indexes, "why");
        assertEq(faults.bonds(), 2 * CONTEST_BOND, "bonds");
        assertEq(faults.credit(PAYER), 1, "rest");
        assertEq(rentals.batchOf(rental, _batch.head).contested, 1030, "contested");
    }

    function test_a_bond_is_a_tenth_of_what_is_contested_where_that_is_more() public {
        prices[0] = 1 ether;
        rental = open(100 ether, "dear");
        pass(100);
        _batch = settle(5100, Leaves.simple(1, 5_100_000, 2000));
        vm.deal(PAYER, 10 ether);
        uint256[] memory indexes = new uint256[](1);
        IFaultsTypes.Evidence memory shown = evidence(_batch, 0);
        vm.expectRevert(abi.encodeWithSelector(BondTooSmall.selector, 0.2 ether - 1, 0.2 ether));
        vm.prank(PAYER);
        faults.contest{value: 0.2 ether - 1}(shown, indexes, "");
        vm.prank(PAYER);
        faults.contest{value: 0.2 ether}(shown, indexes, "");
    }

    function test_who_contests_what_and_when() public {
        uint256[] memory indexes = new uint256[](1);
        IFaultsTypes.Evidence memory shown = evidence(_batch, 0);
        vm.deal(STRANGER, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(CallerNotAllowed.selector, STRANGER, PAYER));
        vm.prank(STRANGER);
        faults.contest{value: CONTEST_BOND}(shown, indexes, "");
        refusedContest(abi.encodeWithSelector(BondTooSmall.selector, CONTEST_BOND - 1, CONTEST_BOND), CONTEST_BOND - 1);
        bytes32 receipt = contest(0);
        refusedContest(abi.encodeWithSelector(NotContestable.selector, receipt), CONTEST_BOND);
        rule(receipt, false);
        refusedContest(abi.encodeWithSelector(NotContestable.selector, receipt), CONTEST_BOND);
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        vm.prank(PAYER);
        faults.contest{value: CONTEST_BOND}(shown, new uint256[](0), "");
    }

    function test_it_is_too_late_once_the_window_is_over_or_the_batch_acknowledged() public {
        bytes memory reason = abi.encodeWithSelector(IRentalErrors.TooLateToContest.selector, rental, _batch.head);
        pass(WINDOW - 1);
        contest(1);
        pass(1);
        refusedContest(reason, CONTEST_BOND);
        _batch = settle(5000, Leaves.simple(1, 5_000_000, 4));
        contest(0);
        _batch = settle(5100, Leaves.simple(1, 5_100_000, 4));
        ack(_batch);
        reason = abi.encodeWithSelector(IRentalErrors.TooLateToContest.selector, rental, _batch.head);
        refusedContest(reason, CONTEST_BOND);
    }

    function test_a_void_receipt_isnt_contestable_and_without_arbiter_nothing_is() public {
        _batch = settle(5000, Leaves.pack(LeafFacts(1, 9, 5_000_000, 1, 1, 0, 0, 1, 4)));
        refusedContest(abi.encodeWithSelector(NotContestable.selector, receiptOf(_batch, 0)), CONTEST_BOND);
        vm.prank(OWNER);
        providers.setArbiter(address(0));
        refusedContest(abi.encodeWithSelector(NoArbiter.selector), CONTEST_BOND);
    }

    function test_only_the_arbiter_of_the_contest_rules_and_in_his_time() public {
        bytes32 receipt = contest(0);
        vm.prank(OWNER);
        providers.setArbiter(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(CallerNotAllowed.selector, STRANGER, ARBITER));
        vm.prank(STRANGER);
        faults.rule(receipt, true);
        vm.warp(5000 + CONTEST_PERIOD);
        vm.expectRevert(abi.encodeWithSelector(ContestRunning.selector, receipt, 5000 + CONTEST_PERIOD));
        faults.lapse(receipt);
        vm.warp(5001 + CONTEST_PERIOD);
        vm.expectRevert(abi.encodeWithSelector(ContestOver.selector, receipt, 5000 + CONTEST_PERIOD));
        rule(receipt, true);
        faults.lapse(receipt);
        assertEq(faults.credit(PAYER), CONTEST_BOND, "bond");
        assertEq(rentals.batchOf(rental, _batch.head).contested, 0, "contested");
        vm.expectRevert(abi.encodeWithSelector(NoContest.selector, receipt));
        faults.lapse(receipt);
        vm.expectRevert(abi.encodeWithSelector(NoContest.selector, receipt));
        rule(receipt, true);
    }

    function test_a_pause_gives_the_arbiter_more_time() public {
        bytes32 receipt = contest(0);
        pause(1000);
        vm.warp(6000 + CONTEST_PERIOD);
        rule(receipt, true);
    }

    function test_a_proof_ends_a_contest_in_the_contestants_favour() public {
        bytes32 receipt = contest(0);
        rental = open(1 ether, "other");
        vm.warp(5001);
        Settled memory other = settle(5001, Leaves.pack(LeafFacts(1, 7, 5_000_500, 2_000_000, 50, 0, 9, 1, 2)));
        faults.proveFault(evidence(_batch, 0), evidence(other, 0));
        assertEq(rentals.credit(PAYER), 1050, "both back");
        assertEq(faults.credit(PAYER), CONTEST_BOND, "bond");
        assertEq(faults.bonds(), 0, "bonds");
        vm.expectRevert(abi.encodeWithSelector(NoContest.selector, receipt));
        rule(receipt, false);
    }

    function test_a_matured_batch_is_released_whatever_is_contested_elsewhere() public {
        rental = open(1 ether, "other");
        vm.deal(PAYER, 1 ether);
        vm.warp(5100);
        Settled memory other = settle(5100, Leaves.simple(1, 5_100_000, 70));
        contest(0);
        pass(WINDOW);
        release(other);
        assertEq(rentals.credit(PROVIDER), 70, "credit");
    }

    function refusedContest(bytes memory reason, uint256 bond) private {
        uint256[] memory indexes = new uint256[](1);
        IFaultsTypes.Evidence memory shown = evidence(_batch, 0);
        vm.expectRevert(reason);
        vm.prank(PAYER);
        faults.contest{value: bond}(shown, indexes, "");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Faults} from "../src/Faults.sol";
import {Rental} from "../src/Rental.sol";
import {IFaultsErrors, IFaultsTypes} from "../src/interfaces/IFaults.sol";
import {IRentalErrors, IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev What two receipts prove. Amounts are far below the stake for one device, so a slash is that: 1 ether.
contract ProveFaultTest is World, IFaultsErrors {
    address private constant OTHER_PAYER = address(0xA11CF);
    bytes32 private _other;

    function setUp() public override {
        super.setUp();
        vm.deal(OTHER_PAYER, 1 ether);
        vm.prank(OTHER_PAYER);
        _other = rentals.open{value: 1 ether}(terms(), "other");
        vm.warp(9000);
    }

    /// @dev One leaf in this test's rental, and one in another payer's; both end in second 8000 if `end` is 0.
    function two(LeafFacts memory one, LeafFacts memory other)
        private
        returns (Settled memory first, Settled memory second)
    {
        first = settle(8000, Leaves.pack(one));
        (rental, _other) = (_other, rental);
        second = settle(8000, Leaves.pack(other));
        (rental, _other) = (_other, rental);
    }

    function prove(Settled memory one, Settled memory other) private {
        vm.prank(STRANGER);
        faults.proveFault(evidence(one, 0), evidence(other, 0));
    }

    function unproved(bytes memory reason, Settled memory one, Settled memory other) private {
        IFaultsTypes.Evidence memory first = evidence(one, 0);
        IFaultsTypes.Evidence memory second = evidence(other, 0);
        vm.expectRevert(reason);
        faults.proveFault(first, second);
    }

    /// @dev In whichever order they are shown.
    function noFault(Settled memory one, Settled memory other) private {
        (bytes32 first, bytes32 second) = (receiptOf(one, 0), receiptOf(other, 0));
        unproved(abi.encodeWithSelector(NoFault.selector, first, second), one, other);
        unproved(abi.encodeWithSelector(NoFault.selector, second, first), other, one);
    }

    function leaf(uint128 pod, uint48 end, uint32 node, uint64 mask) private pure returns (LeafFacts memory) {
        return LeafFacts(pod, 7, end, 10_000, 10_000, 0, node, mask, 1);
    }

    function test_one_pod_in_two_rentals_at_once_gives_both_payers_their_wei_back() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 1, 1), leaf(1, 7_990_001, 2, 2));
        prove(one, other);
        assertEq(rentals.credit(PAYER), 10_000, "payer");
        assertEq(rentals.credit(OTHER_PAYER), 10_000, "other payer");
        assertEq(state().earned, 0, "earned");
        assertEq(state().drawn, 0, "drawn");
        assertEq(stakeOf(PROVIDER), 39 ether, "slashed for one device");
        assertEq(BURNED.balance, 0.9 ether, "burned");
        assertEq(faults.credit(STRANGER), 0.1 ether, "whoever showed it");
        assertEq(uint256(faults.standingOf(receiptOf(one, 0))), uint256(IFaultsTypes.Standing.Struck), "standing");
        faults.claim(STRANGER);
        assertEq(STRANGER.balance, 0.1 ether, "claimed");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        faults.claim(STRANGER);
    }

    function test_one_device_twice_at_once_is_a_fault() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 6), leaf(2, 8_000_000, 3, 12));
        prove(one, other);
        assertEq(stakeOf(PROVIDER), 39 ether, "slashed");
    }

    function test_also_two_receipts_of_one_batch() public {
        Settled memory batch =
            settle(8000, bytes.concat(Leaves.pack(leaf(1, 8_000_000, 3, 1)), Leaves.pack(leaf(2, 8_000_000, 3, 1))));
        faults.proveFault(evidence(batch, 0), evidence(batch, 1));
        assertEq(rentals.credit(PAYER), 20_000, "payer");
    }

    function test_times_that_only_touch_are_no_fault() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 7_990_000, 3, 1));
        noFault(one, other);
    }

    function test_other_pods_on_other_devices_other_nodes_or_without_a_mask_are_no_fault() public {
        LeafFacts memory one = leaf(1, 8_000_000, 3, 1);
        Settled memory first = settle(8000, Leaves.pack(one));
        Settled[3] memory others;
        LeafFacts[3] memory facts = [leaf(2, 8_000_001, 3, 2), leaf(3, 8_000_001, 4, 1), leaf(4, 8_000_001, 3, 0)];
        for (uint256 other = 0; other < 3; ++other) {
            rental = _other;
            others[other] = settle(uint64(8001 + other), Leaves.pack(shifted(facts[other], other)));
            noFault(first, others[other]);
        }
    }

    /// @dev Each a second later: they overlap the first one's ten seconds all the same.
    function shifted(LeafFacts memory facts, uint256 later) private pure returns (LeafFacts memory) {
        facts.end += uint48(later) * 1000;
        return facts;
    }

    function test_void_free_and_late_receipts_prove_nothing() public {
        LeafFacts memory bad = leaf(1, 8_000_000, 3, 1);
        bad.flags = 4;
        provesNothing(bad);
        bad.flags = 17;
        provesNothing(bad);
        bad.flags = 1;
        bad.deviceMs = 0;
        provesNothing(bad);
    }

    function provesNothing(LeafFacts memory bad) private {
        rental = open(1 ether, keccak256(abi.encode(bad)));
        bytes32 second = open(1 ether, keccak256(abi.encode(bad, "second")));
        vm.warp(block.timestamp + 8000);
        uint48 end = uint48(block.timestamp) * 1000;
        bad.end = end;
        Settled memory one = settle(uint64(block.timestamp), Leaves.pack(leaf(1, end, 3, 1)));
        rental = second;
        Settled memory other = settle(uint64(block.timestamp), Leaves.pack(bad));
        unproved(abi.encodeWithSelector(LeafProvesNothing.selector, receiptOf(other, 0)), one, other);
    }

    function test_a_receipt_proves_nothing_against_itself_or_another_provider() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        unproved(abi.encodeWithSelector(SameLeaf.selector, receiptOf(one, 0)), one, one);
        registerProvider(STRANGER, STRANGER, KEY);
        IRentalTypes.Terms memory agreed = terms();
        agreed.provider = STRANGER;
        rental = openWith(agreed, 1 ether, "stranger's");
        vm.warp(9500);
        Settled memory strangers = settle(9500, Leaves.pack(leaf(1, 9_000_001, 3, 1)));
        unproved(abi.encodeWithSelector(DifferentProviders.selector, PROVIDER, STRANGER), other, strangers);
    }

    function test_a_pair_is_slashed_once_and_each_receipt_undone_once() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        prove(one, other);
        unproved(abi.encodeWithSelector(AlreadyStruck.selector, receiptOf(one, 0), receiptOf(other, 0)), one, other);
        rental = open(1 ether, "third");
        vm.warp(9500);
        Settled memory third = settle(9500, Leaves.pack(leaf(1, 9_005_000, 3, 1)));
        noFault(one, third);
        assertEq(rentals.credit(PAYER), 10_000, "once");
        assertEq(stakeOf(PROVIDER), 39 ether, "once");
    }

    function test_a_third_receipt_that_meets_a_struck_one_falls_alone() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        prove(one, other);
        Settled memory third = settle(8002, Leaves.pack(leaf(1, 8_001_000, 3, 1)));
        prove(one, third);
        assertEq(rentals.credit(PAYER), 20_000, "the third one's wei, and the first one's once");
        assertEq(rentals.credit(OTHER_PAYER), 10_000, "the other one's once");
        assertEq(stakeOf(PROVIDER), 38 ether, "slashed for each pair");
    }

    function test_evidence_must_be_what_was_settled() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        IFaultsTypes.Evidence memory good = evidence(other, 0);
        for (uint256 field = 0; field < 5; ++field) {
            IFaultsTypes.Evidence memory bad = evidence(one, 0);
            if (field == 0) bad.leaves = Leaves.pack(leaf(1, 8_000_000, 3, 2));
            if (field == 1) bad.total += 1;
            if (field == 2) bad.to += 1;
            if (field == 3) bad.prevHead = "other";
            if (field == 4) bad.rental = other.rental;
            expectSelector(EvidenceMismatch.selector, bad, good);
        }
        IFaultsTypes.Evidence memory priced = evidence(one, 0);
        priced.prices = new uint256[](1);
        expectSelector(EvidencePricesMismatch.selector, priced, good);
        expectSelector(NoSuchLeaf.selector, evidence(one, 1), good);
        IFaultsTypes.Evidence memory far = evidence(one, 2);
        vm.expectRevert(abi.encodeWithSelector(NoSuchLeaf.selector, 2, 1));
        faults.proveFault(far, good);
    }

    function expectSelector(bytes4 selector, IFaultsTypes.Evidence memory bad, IFaultsTypes.Evidence memory good)
        private
    {
        try faults.proveFault(bad, good) {
            assertTrue(false, "proved");
        } catch (bytes memory reason) {
            assertEq(bytes32(bytes4(reason)), bytes32(selector), "reason");
        }
    }

    function test_what_was_released_comes_out_of_the_stake() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        ack(one);
        release(one);
        prove(one, other);
        assertEq(rentals.credit(PROVIDER), 10_000, "the provider keeps what was released");
        assertEq(rentals.credit(PAYER), 0, "not from the rental");
        assertEq(faults.credit(PAYER), 10_000, "from the stake");
        assertEq(rentals.credit(OTHER_PAYER), 10_000, "the other one from his rental");
        assertEq(faults.credit(STRANGER), 0.1 ether, "whoever showed it");
        assertEq(BURNED.balance, 0.9 ether - 10_000, "burned");
    }

    function test_where_the_stake_doesnt_reach_payers_share_it() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        ack(one);
        release(one);
        vm.prank(OTHER_PAYER);
        rentals.ack(other.rental, other.head);
        release(other);
        vm.prank(address(faults));
        providers.slash(PROVIDER, 40 ether - 20_002, 0);
        prove(one, other);
        assertEq(faults.credit(PAYER), 5000, "payer");
        assertEq(faults.credit(OTHER_PAYER), 5001, "other payer");
        assertEq(faults.credit(STRANGER), 0, "nothing left");
        assertEq(stakeOf(PROVIDER), 0, "stake");
    }

    function test_a_fault_of_more_than_a_device_is_worth_costs_twice_as_much() public {
        IRentalTypes.Terms memory agreed = terms();
        prices[0] = 1 ether;
        agreed.priceHash = keccak256(abi.encode(prices));
        agreed.ceiling = 64 ether;
        rental = openWith(agreed, 100 ether, "dear");
        vm.warp(9500);
        Settled memory batch = settle(
            9500,
            bytes.concat(
                Leaves.pack(LeafFacts(1, 7, 9_500_000, 3000, 3000, 0, 3, 1, 1)),
                Leaves.pack(LeafFacts(2, 7, 9_500_000, 1000, 1000, 0, 3, 1, 1))
            )
        );
        faults.proveFault(evidence(batch, 0), evidence(batch, 1));
        assertEq(rentals.credit(PAYER), 4 ether, "back");
        assertEq(stakeOf(PROVIDER), 32 ether, "twice four");
    }

    function test_stake_that_unbonds_answers_too() public {
        (Settled memory one, Settled memory other) = two(leaf(1, 8_000_000, 3, 1), leaf(1, 8_000_000, 3, 1));
        vm.prank(PROVIDER);
        providers.unbond(8 ether);
        vm.warp(8999 + UNBONDING);
        prove(one, other);
        assertEq(providers.providerOf(PROVIDER).unbonding, 7 ether, "unbonding");
    }

    function test_the_three_contracts_name_one_another() public {
        Rental stray = new Rental(providers);
        vm.expectRevert(abi.encodeWithSelector(WrongContracts.selector));
        new Faults(providers, stray);
        vm.expectRevert(abi.encodeWithSelector(CallerNotAllowed.selector, address(this), address(providers)));
        (bool sent,) = address(faults).call{value: 1}("");
        assertTrue(sent, "expectRevert makes it so");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {IFaultsEvents} from "../src/interfaces/IFaults.sol";
import {IPause} from "../src/interfaces/IPause.sol";
import {IProvidersEvents} from "../src/interfaces/IProviders.sol";
import {IRentalEvents} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev Every event with all that it says: auditors have nothing else.
contract EventsTest is World {
    address private constant NEW = address(0x9E3);

    function test_providers_say_who_comes_and_what_is_offered() public {
        vm.deal(NEW, 2 ether);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.ProviderRegistered(NEW, STRANGER);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.StakeAdded(NEW, 2 ether);
        vm.prank(NEW);
        providers.register{value: 2 ether}(STRANGER);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.SignerSet(NEW, PAYEE, true);
        vm.prank(NEW);
        providers.setSigner(PAYEE, true);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.NodeSet(NEW, 7, 2);
        vm.prank(NEW);
        providers.setNode(7, 2);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.PayeeChanged(NEW, PAYER, 5000 + PAYEE_DELAY);
        vm.prank(NEW);
        providers.changePayee(PAYER);
    }

    function test_providers_say_what_stake_comes_and_goes() public {
        vm.deal(STRANGER, 1 ether);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.StakeAdded(PROVIDER, 1 ether);
        vm.prank(STRANGER);
        providers.addStake{value: 1 ether}(PROVIDER);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.UnbondingStarted(PROVIDER, 3 ether, 5000 + UNBONDING);
        vm.prank(PROVIDER);
        providers.unbond(3 ether);
        pass(UNBONDING);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.StakeWithdrawn(PROVIDER, PAYEE, 3 ether);
        providers.withdrawStake(PROVIDER);
        vm.expectEmit(address(providers));
        emit IProvidersEvents.StakeSlashed(PROVIDER, 2 ether - 5, 5);
        vm.prank(address(faults));
        providers.slash(PROVIDER, 2 ether, 5);
    }

    function test_governance_says_what_it_sets() public {
        vm.expectEmit(address(providers));
        emit IProvidersEvents.ArbiterSet(NEW);
        vm.prank(OWNER);
        providers.setArbiter(NEW);
        vm.expectEmit(address(providers));
        emit IPause.Paused(PAUSER, 5100);
        pause(100);
        vm.expectEmit(address(providers));
        emit IPause.Unpaused(OWNER);
        vm.prank(OWNER);
        providers.unpause();
        vm.expectEmit(address(providers));
        emit IProvidersEvents.PauserSet(NEW);
        vm.prank(OWNER);
        providers.setPauser(NEW);
    }

    function test_a_rental_says_how_it_begins_and_ends() public {
        bytes32 opened = keccak256(abi.encode(block.chainid, address(rentals), PAYER, bytes32("salt")));
        bytes32 head = keccak256(abi.encode("PLASMA_RENTAL_V1", block.chainid, address(rentals), opened));
        vm.deal(PAYER, 5 ether);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalOpened(
            opened, PAYER, PROVIDER, 5 ether, keccak256(abi.encode(prices)), bytes32("terms"), head
        );
        vm.prank(PAYER);
        rentals.open{value: 5 ether}(terms(), "salt");
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalWithdrawn(opened, 3);
        vm.prank(PAYER);
        rentals.withdraw(opened, 3);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalClosed(opened, 5000 + NOTICE, 5000 + NOTICE + CLAIM_WINDOW);
        vm.prank(PAYER);
        rentals.close(opened);
        pass(NOTICE + CLAIM_WINDOW + 1);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalRefundPaid(opened, 5 ether - 3);
        rentals.refund(opened);
    }

    function test_a_rental_says_what_is_settled_and_released() public {
        Settled memory first = settle(4000, Leaves.simple(1, 4_000_000, 1000));
        bytes memory leaves = bytes.concat(Leaves.simple(2, 5_000_000, 200), Leaves.simple(3, 5_000_000, 30));
        bytes memory signature = sign(KEY, Batches.Header(first.head, keccak256(leaves), 2, 230, 5000));
        bytes32 head = keccak256(abi.encode(first.head, keccak256(leaves), 2, 230, 5000));
        vm.expectEmit(address(rentals));
        emit IRentalEvents.PodSettled(rental, bytes16(uint128(2)), bytes16(uint128(7)), 200);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.PodSettled(rental, bytes16(uint128(3)), bytes16(uint128(7)), 30);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.BatchSettled(rental, head, first.head, 1, 2, 230, 5000);
        rentals.settle(rental, first.head, 5000, prices, leaves, signature);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.BatchesAcknowledged(rental, head, 2);
        vm.prank(PAYER);
        rentals.ack(rental, head);
        vm.recordLogs();
        vm.prank(PAYER);
        rentals.ack(rental, head);
        assertEq(vm.getRecordedLogs().length, 0, "acknowledged once");
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalReleased(rental, 1, 1000);
        release(first);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.Claimed(PROVIDER, PAYEE, 1000);
        rentals.claim(PROVIDER);
    }

    function test_topping_up_says_what_of_the_owed_is_paid() public {
        rental = openWith(terms(), 1 ether, "poor");
        vm.prank(PAYER);
        rentals.withdraw(rental, 1 ether - 10);
        pass(1000);
        settle(6000, Leaves.simple(1, 6_000_000, 1000));
        vm.deal(STRANGER, 2000);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.RentalToppedUp(rental, 2000, 990);
        vm.prank(STRANGER);
        rentals.topUp{value: 2000}(rental);
    }

    function test_a_contest_is_told_by_both_contracts() public {
        Settled memory batch = settle(4000, Leaves.simple(1, 4_000_000, 1000));
        bytes32 receipt = contest(batch);
        vm.expectEmit(address(faults));
        emit IFaultsEvents.ContestEnded(receipt, rental, true);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.ReceiptStruck(rental, batch.head, 1000, 1000, 0);
        vm.prank(ARBITER);
        faults.rule(receipt, true);
        vm.expectEmit(address(faults));
        emit IFaultsEvents.Claimed(PAYER, PAYER, CONTEST_BOND + 0.1 ether);
        faults.claim(PAYER);
        batch = settle(5000, Leaves.simple(2, 5_000_000, 20));
        receipt = contest(batch);
        pass(CONTEST_PERIOD + 1);
        vm.expectEmit(address(faults));
        emit IFaultsEvents.ContestEnded(receipt, rental, false);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.ReceiptThawed(rental, batch.head, 20);
        faults.lapse(receipt);
    }

    function contest(Settled memory batch) private returns (bytes32 receipt) {
        uint256[] memory indexes = new uint256[](1);
        receipt = receiptOf(batch, 0);
        vm.deal(PAYER, CONTEST_BOND);
        vm.expectEmit(address(rentals));
        emit IRentalEvents.ReceiptFrozen(rental, batch.head, batch.total);
        vm.expectEmit(address(faults));
        emit IFaultsEvents.ContestOpened(receipt, rental, ARBITER, batch.total, "why");
        vm.prank(PAYER);
        faults.contest{value: CONTEST_BOND}(evidence(batch, 0), indexes, "why");
    }

    function test_a_proof_says_what_it_proves() public {
        bytes memory leaves = bytes.concat(Leaves.simple(1, 4_000_000, 1000), Leaves.simple(2, 4_000_000, 1000));
        Settled memory batch = settle(4000, leaves);
        vm.expectEmit(address(faults));
        emit IFaultsEvents.FaultProved(PROVIDER, receiptOf(batch, 1), receiptOf(batch, 0), false, 1 ether);
        faults.proveFault(evidence(batch, 1), evidence(batch, 0));
    }
}

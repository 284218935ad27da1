// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Providers} from "../src/Providers.sol";
import {IPauseErrors} from "../src/interfaces/IPause.sol";
import {IProvidersErrors, IProvidersTypes} from "../src/interfaces/IProviders.sol";
import {World} from "./World.sol";

/// @dev Registration, keys, nodes and stake.
contract ProvidersTest is World, IProvidersErrors {
    address private constant NEW = address(0x9E3);

    function known() private view returns (IProvidersTypes.Provider memory) {
        return providers.providerOf(PROVIDER);
    }

    function test_register_keeps_payee_and_stake_once() public {
        assertEq(known().payee, PAYEE, "payee");
        assertEq(known().bonded, 40 ether, "bonded");
        assertEq(known().devices, 32, "devices");
        vm.expectRevert(abi.encodeWithSelector(ProviderExists.selector, PROVIDER));
        vm.prank(PROVIDER);
        providers.register(NEW);
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        providers.register(address(0));
    }

    function test_who_isnt_registered_does_nothing() public {
        bytes memory reason = abi.encodeWithSelector(UnknownProvider.selector, address(this));
        vm.expectRevert(reason);
        providers.changePayee(NEW);
        vm.expectRevert(reason);
        providers.setSigner(NEW, true);
        vm.expectRevert(reason);
        providers.setNode(0, 1);
        vm.expectRevert(reason);
        providers.unbond(1);
        vm.expectRevert(reason);
        providers.withdrawStake(address(this));
        vm.expectRevert(reason);
        providers.addStake{value: 1}(address(this));
        vm.expectRevert(reason);
        providers.providerOf(address(this));
        assertTrue(!providers.isOpen(address(this)), "nor is it open");
    }

    function test_a_payee_changes_after_the_delay_and_can_be_revoked_meanwhile() public {
        changePayee(NEW);
        vm.warp(4999 + PAYEE_DELAY);
        assertEq(providers.payeeOf(PROVIDER), PAYEE, "before");
        vm.warp(5000 + PAYEE_DELAY);
        assertEq(providers.payeeOf(PROVIDER), NEW, "after");
        changePayee(STRANGER);
        assertEq(providers.payeeOf(PROVIDER), NEW, "the one that counted stays");
        changePayee(NEW);
        pass(PAYEE_DELAY);
        assertEq(providers.payeeOf(PROVIDER), NEW, "revoked");
        assertEq(providers.payeeOf(STRANGER), STRANGER, "others are paid themselves");
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        changePayee(address(0));
    }

    function test_a_pause_moves_the_payees_delay_on() public {
        changePayee(NEW);
        pause(1000);
        vm.warp(5999 + PAYEE_DELAY);
        assertEq(providers.payeeOf(PROVIDER), PAYEE, "before");
        pass(1);
        assertEq(providers.payeeOf(PROVIDER), NEW, "after");
    }

    function test_keys_are_each_providers_own() public {
        assertTrue(providers.isSigner(PROVIDER, vm.addr(KEY)), "registered");
        assertTrue(!providers.isSigner(STRANGER, vm.addr(KEY)), "another's");
        vm.prank(PROVIDER);
        providers.setSigner(vm.addr(KEY), false);
        assertTrue(!providers.isSigner(PROVIDER, vm.addr(KEY)), "taken back");
        vm.expectRevert(abi.encodeWithSelector(ZeroAddress.selector));
        vm.prank(PROVIDER);
        providers.setSigner(address(0), true);
    }

    function test_devices_need_stake_and_a_node_has_at_most_64() public {
        setNode(4, 8);
        vm.expectRevert(abi.encodeWithSelector(StakeTooLow.selector, PROVIDER, 40 ether, 41 ether));
        setNode(5, 1);
        vm.expectRevert(abi.encodeWithSelector(TooManyDevices.selector, 0, 65));
        setNode(0, 65);
        setNode(0, 3);
        assertEq(known().devices, 35, "devices");
        assertEq(providers.devicesOf(PROVIDER, 0), 3, "of the node");
        providers.addStake{value: 1 ether}(PROVIDER);
        setNode(5, 6);
        assertEq(known().devices, 41, "devices");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        providers.addStake(PROVIDER);
    }

    function test_a_slashed_provider_isnt_open_but_can_retire_devices() public {
        assertTrue(providers.isOpen(PROVIDER), "open");
        slash(9 ether, 0);
        assertTrue(!providers.isOpen(PROVIDER), "31 ether for 32 devices");
        setNode(0, 7);
        assertTrue(providers.isOpen(PROVIDER), "31 ether for 31 devices");
        for (uint32 node = 0; node < 4; ++node) {
            setNode(node, 0);
        }
        assertTrue(!providers.isOpen(PROVIDER), "nothing on offer");
    }

    function test_stake_that_devices_need_stays_the_rest_leaves_after_the_period() public {
        vm.expectRevert(abi.encodeWithSelector(StakeTooLow.selector, PROVIDER, 40 ether, 32 ether + 9 ether));
        unbond(9 ether);
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        unbond(0);
        unbond(8 ether);
        assertEq(stakeOf(PROVIDER), 40 ether, "slashable still");
        vm.warp(4999 + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(StillUnbonding.selector, PROVIDER, 5000 + UNBONDING));
        providers.withdrawStake(PROVIDER);
        vm.warp(5000 + UNBONDING);
        providers.withdrawStake(PROVIDER);
        assertEq(PAYEE.balance, 8 ether, "to the payee");
        vm.expectRevert(abi.encodeWithSelector(NothingToMove.selector));
        providers.withdrawStake(PROVIDER);
    }

    function test_asking_for_more_stake_or_a_pause_makes_all_of_it_wait_longer() public {
        unbond(4 ether);
        vm.warp(6000);
        unbond(4 ether);
        pause(100);
        vm.warp(6099 + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(StillUnbonding.selector, PROVIDER, 6000 + UNBONDING));
        providers.withdrawStake(PROVIDER);
        pass(1);
        providers.withdrawStake(PROVIDER);
        assertEq(PAYEE.balance, 8 ether, "all of it");
    }

    function test_a_slash_takes_what_unbonds_first_and_burns_at_least_half() public {
        unbond(8 ether);
        slash(10 ether, 7 ether);
        assertEq(known().unbonding, 0, "unbonding");
        assertEq(known().bonded, 30 ether, "bonded");
        assertEq(BURNED.balance, 5 ether, "burned");
        assertEq(address(faults).balance, 5 ether, "paid");
        slash(10 ether, 1 ether);
        assertEq(BURNED.balance, 14 ether, "all that nobody wants");
        slash(100 ether, 100 ether);
        assertEq(stakeOf(PROVIDER), 0, "no more than there is");
        assertEq(BURNED.balance, 24 ether, "half of the rest");
        slash(1, 1);
    }

    function test_only_the_fault_contract_slashes() public {
        vm.expectRevert(abi.encodeWithSelector(CallerNotAllowed.selector, OWNER, address(faults)));
        vm.prank(OWNER);
        providers.slash(PROVIDER, 1, 0);
    }

    function test_the_numbers_must_make_sense() public {
        IProvidersTypes.Parameters memory bad = parameters();
        bad.stakePerDevice = 0;
        refusedParameters(bad, NEW);
        bad = parameters();
        bad.contestBond = 0;
        refusedParameters(bad, NEW);
        bad = parameters();
        bad.contestPeriod = bad.unbondingPeriod;
        refusedParameters(bad, NEW);
        bad = parameters();
        bad.unbondingPeriod = 2 ** 32;
        refusedParameters(bad, NEW);
        refusedParameters(parameters(), address(0));
    }

    function refusedParameters(IProvidersTypes.Parameters memory bad, address faults_) private {
        vm.expectRevert(abi.encodeWithSelector(InvalidParameters.selector));
        new Providers(OWNER, faults_, bad);
    }

    function changePayee(address payee) private {
        vm.prank(PROVIDER);
        providers.changePayee(payee);
    }

    function setNode(uint32 node, uint8 devices) private {
        vm.prank(PROVIDER);
        providers.setNode(node, devices);
    }

    function unbond(uint128 amount) private {
        vm.prank(PROVIDER);
        providers.unbond(amount);
    }

    function slash(uint256 amount, uint256 wanted) private {
        vm.prank(address(faults));
        providers.slash(PROVIDER, amount, wanted);
    }

    receive() external payable {}
}

/// @dev What governance can do, and the pause.
contract GovernanceTest is World, IProvidersErrors, IPauseErrors {
    function test_the_owner_names_arbiter_and_pauser_and_nobody_else_does() public {
        bytes memory reason = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, STRANGER);
        vm.expectRevert(reason);
        vm.prank(STRANGER);
        providers.setArbiter(STRANGER);
        vm.expectRevert(reason);
        vm.prank(STRANGER);
        providers.setPauser(STRANGER);
        assertEq(providers.arbiter(), ARBITER, "arbiter");
        assertEq(providers.pauser(), PAUSER, "pauser");
    }

    function test_ownership_passes_in_two_steps() public {
        vm.prank(OWNER);
        providers.transferOwnership(STRANGER);
        assertEq(providers.owner(), OWNER, "not yet");
        vm.prank(STRANGER);
        providers.acceptOwnership();
        assertEq(providers.owner(), STRANGER, "accepted");
    }

    function test_only_the_pauser_pauses_and_the_owner_too_ends_it() public {
        bytes memory reason = abi.encodeWithSelector(CallerNotAllowed.selector, OWNER, PAUSER);
        vm.expectRevert(reason);
        vm.prank(OWNER);
        providers.pause(1);
        pause(1000);
        vm.expectRevert(abi.encodeWithSelector(CallerNotAllowed.selector, STRANGER, PAUSER));
        vm.prank(STRANGER);
        providers.unpause();
        vm.warp(5400);
        vm.prank(OWNER);
        providers.unpause();
        assertTrue(!providers.paused(), "ended");
        assertEq(providers.pausedSeconds(), 400, "as long as it was");
        vm.expectRevert(abi.encodeWithSelector(NotPaused.selector));
        vm.prank(PAUSER);
        providers.unpause();
    }

    function test_a_pause_ends_by_itself_and_the_next_one_waits() public {
        vm.expectRevert(abi.encodeWithSelector(PauseTooLong.selector, 3 days + 1, 3 days));
        pause(3 days + 1);
        vm.expectRevert(abi.encodeWithSelector(PauseTooLong.selector, 0, 3 days));
        pause(0);
        pause(3 days);
        assertTrue(providers.paused(), "paused");
        vm.warp(5000 + 3 days);
        assertTrue(!providers.paused(), "over");
        vm.warp(4999 + 10 days);
        vm.expectRevert(abi.encodeWithSelector(PauseTooSoon.selector, 5000 + 10 days));
        pause(1);
        vm.warp(5000 + 10 days);
        pause(100);
        pass(50);
        assertEq(providers.pausedSeconds(), 3 days + 50, "both");
        assertEq(providers.clock(), 5000 + 7 days, "the clock stands still");
    }
}

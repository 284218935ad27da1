// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {Faults} from "../src/Faults.sol";
import {Providers} from "../src/Providers.sol";
import {Rental} from "../src/Rental.sol";
import {IFaultsTypes} from "../src/interfaces/IFaults.sol";
import {IProviders, IProvidersTypes} from "../src/interfaces/IProviders.sol";
import {IRental, IRentalTypes} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {Test} from "./Test.sol";

/// @dev The three contracts as they are deployed, a provider with 4 nodes of 8 GPUs, and a rental of 100 ether at 1000 wei
/// a device-second (class 0) and 7 (class 1), opened at second 1000; it is second 5000.
abstract contract World is Test {
    Providers internal providers;
    Rental internal rentals;
    Faults internal faults;

    address internal constant OWNER = address(0x0117);
    address internal constant ARBITER = address(0xA6B);
    address internal constant PAUSER = address(0x5705);
    address internal constant PAYER = address(0xA11CE);
    address internal constant ACKNOWLEDGER = address(0xACC);
    address internal constant PROVIDER = address(0xB0B);
    address internal constant PAYEE = address(0xCA5);
    address internal constant STRANGER = address(0x5A7);
    address internal constant BURNED = 0x000000000000000000000000000000000000dEaD;
    uint256 internal constant KEY = uint256(keccak256("a provider's key"));

    uint64 internal constant OPENED = 1000;
    uint64 internal constant END = 1_000_000;
    uint32 internal constant NOTICE = 100;
    uint32 internal constant CLAIM_WINDOW = 500;
    uint32 internal constant WINDOW = 300;
    uint32 internal constant PERIOD = 3600;
    uint32 internal constant MAX_LATENESS = 7200;
    uint96 internal constant CEILING = 64_000;
    uint128 internal constant STAKE_PER_DEVICE = 1 ether;
    uint128 internal constant CONTEST_BOND = 0.01 ether;
    uint40 internal constant UNBONDING = 30 days;
    uint40 internal constant PAYEE_DELAY = 2 days;
    uint40 internal constant CONTEST_PERIOD = 7 days;

    uint256[] internal prices;
    bytes32 internal rental;

    /// @dev A batch that was settled.
    struct Settled {
        bytes32 rental;
        bytes32 prevHead;
        uint64 to;
        uint256 total;
        bytes leaves;
        bytes32 head;
    }

    function setUp() public virtual {
        deploy();
        prices.push(1000);
        prices.push(7);
        vm.warp(OPENED);
        registerProvider(PROVIDER, PAYEE, KEY);
        rental = open(100 ether, bytes32(0));
        vm.warp(5000);
    }

    function deploy() internal {
        address faults_ = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 2);
        providers = new Providers(OWNER, faults_, parameters());
        rentals = new Rental(providers);
        faults = new Faults(providers, rentals);
        vm.prank(OWNER);
        providers.setArbiter(ARBITER);
        vm.prank(OWNER);
        providers.setPauser(PAUSER);
    }

    function parameters() internal pure returns (IProvidersTypes.Parameters memory) {
        return IProvidersTypes.Parameters(STAKE_PER_DEVICE, UNBONDING, PAYEE_DELAY, CONTEST_PERIOD, CONTEST_BOND);
    }

    function registerProvider(address provider, address payee, uint256 key) internal {
        vm.deal(provider, 40 ether);
        vm.prank(provider);
        providers.register{value: 40 ether}(payee);
        vm.prank(provider);
        providers.setSigner(vm.addr(key), true);
        for (uint32 node = 0; node < 4; ++node) {
            vm.prank(provider);
            providers.setNode(node, 8);
        }
    }

    function terms() internal view returns (IRentalTypes.Terms memory) {
        return IRentalTypes.Terms({
            provider: PROVIDER,
            acknowledger: ACKNOWLEDGER,
            ceiling: CEILING,
            end: END,
            maxLateness: MAX_LATENESS,
            notice: NOTICE,
            claimWindow: CLAIM_WINDOW,
            window: WINDOW,
            period: PERIOD,
            priceHash: keccak256(abi.encode(prices)),
            termsHash: bytes32("terms")
        });
    }

    function open(uint256 deposit, bytes32 salt) internal returns (bytes32) {
        return openWith(terms(), deposit, salt);
    }

    function openWith(IRentalTypes.Terms memory agreed, uint256 deposit, bytes32 salt) internal returns (bytes32) {
        vm.deal(PAYER, deposit);
        vm.prank(PAYER);
        return rentals.open{value: deposit}(agreed, salt);
    }

    function state() internal view returns (IRentalTypes.RentalView memory) {
        return rentals.rentalOf(rental);
    }

    /// @dev Of the rental that is current, after its head.
    function settle(uint64 to, bytes memory leaves) internal returns (Settled memory) {
        return settleAfter(state().head, to, leaves);
    }

    function settleAfter(bytes32 prevHead, uint64 to, bytes memory leaves) internal returns (Settled memory) {
        return send("", prevHead, to, leaves);
    }

    /// @dev The batch after the head is refused, with these words.
    function refused(bytes memory reason, uint64 to, bytes memory leaves) internal {
        send(reason, state().head, to, leaves);
    }

    /// @dev Signed by the provider's key, sent by a stranger; a reason: it must be refused with that.
    function send(bytes memory reason, bytes32 prevHead, uint64 to, bytes memory leaves)
        internal
        returns (Settled memory settled)
    {
        settled = Settled(rental, prevHead, to, Leaves.worth(leaves, prices), leaves, 0);
        Batches.Header memory header =
            Batches.Header(prevHead, keccak256(leaves), leaves.length / 64, settled.total, to);
        settled.head = keccak256(abi.encode(prevHead, header.leavesHash, header.count, header.total, uint256(to)));
        bytes memory signature = sign(KEY, header);
        if (reason.length != 0) vm.expectRevert(reason);
        vm.prank(STRANGER);
        rentals.settle(rental, prevHead, to, prices, leaves, signature);
    }

    function sign(uint256 key, Batches.Header memory header) internal view returns (bytes memory) {
        bytes32 digest = rentals.digestOf(rental, header, keccak256(abi.encode(prices)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function evidence(Settled memory batch, uint256 index) internal view returns (IFaultsTypes.Evidence memory) {
        return IFaultsTypes.Evidence(batch.rental, batch.prevHead, batch.to, batch.total, index, prices, batch.leaves);
    }

    function receiptOf(Settled memory batch, uint256 index) internal pure returns (bytes32) {
        return keccak256(abi.encode(batch.rental, batch.head, index));
    }

    function release(Settled memory batch) internal {
        bytes32[] memory heads = new bytes32[](1);
        heads[0] = batch.head;
        rentals.release(batch.rental, heads);
    }

    function releaseOwed() internal {
        rentals.release(rental, new bytes32[](0));
    }

    function ack(Settled memory batch) internal {
        vm.prank(PAYER);
        rentals.ack(batch.rental, batch.head);
    }

    function topUp(uint256 amount) internal {
        vm.deal(STRANGER, amount);
        vm.prank(STRANGER);
        rentals.topUp{value: amount}(rental);
    }

    function pause(uint256 duration) internal {
        vm.prank(PAUSER);
        providers.pause(duration);
    }

    /// @dev Seconds pass.
    function pass(uint256 duration) internal {
        vm.warp(block.timestamp + duration);
    }

    /// @dev What a provider can lose.
    function stakeOf(address provider) internal view returns (uint256) {
        IProvidersTypes.Provider memory known = providers.providerOf(provider);
        return uint256(known.bonded) + known.unbonding;
    }
}

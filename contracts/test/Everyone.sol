// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFaultsTypes} from "../src/interfaces/IFaults.sol";
import {IProvidersTypes} from "../src/interfaces/IProviders.sol";
import {IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev Does everything that anyone may do, in any order, and keeps its own books: what must never happen is a flag here.
contract Everyone is World {
    bytes32[] public known;
    Settled[] private _batches;
    bytes32[] private _contested;
    uint256 public forced;
    uint256 public staked;

    /// @dev What must never happen.
    string public broken;

    mapping(bytes32 rental => uint256) private _next;
    mapping(bytes32 rentalPodAndEnd => bool) private _credited;

    constructor() {
        deploy();
        prices.push(1000);
        prices.push(7);
        vm.warp(OPENED);
        registerProvider(PROVIDER, PAYEE, KEY);
        staked = 40 ether;
        open(1 ether, 3, 50);
        open(500, 40_000, 7000);
    }

    function setUp() public override {}

    /// @dev Whatever is done, nothing is drawn after the claim deadline, and nothing goes back that only goes on.
    modifier watched(uint8 which) {
        bytes32 seen = known[which % known.length];
        rental = seen;
        IRentalTypes.RentalView memory before = rentals.rentalOf(seen);
        _;
        IRentalTypes.RentalView memory after_ = rentals.rentalOf(seen);
        bool over = block.timestamp > before.claimDeadline;
        if (over && after_.drawn > before.drawn) flag("drawn after the claim deadline");
        if (after_.through < before.through) flag("a watermark went back");
        if (after_.nextSequence < before.nextSequence) flag("a sequence went back");
        if (after_.released < before.released) flag("a release was taken back");
    }

    function open(uint64 deposit, uint32 ceiling, uint16 lateness) public {
        if (known.length == 6) return;
        IRentalTypes.Terms memory agreed = terms();
        agreed.ceiling = uint96(ceiling) + 1;
        agreed.period = 1000;
        agreed.maxLateness = uint32(lateness) + 1000;
        agreed.end = uint64(block.timestamp) + 10 days;
        vm.deal(PAYER, uint256(deposit) + 1);
        vm.prank(PAYER);
        try rentals.open{value: uint256(deposit) + 1}(agreed, bytes32(known.length)) returns (bytes32 opened) {
            known.push(opened);
        } catch {}
    }

    /// @dev Pods are few, so that one comes again, in the same rental or another; masks meet as well.
    function bill(uint8 which, uint8 pod, uint32 duration, uint16 later) external watched(which) {
        pass(uint256(later) % 250 + 1);
        IRentalTypes.RentalView memory before = state();
        uint64 to = uint64(block.timestamp) < before.end ? uint64(block.timestamp) : uint64(before.end);
        LeafFacts memory leaf = Leaves.facts(pod % 3 + 1, uint48(to) * 1000, uint40(duration) % 1_100_000);
        bytes memory packed = Leaves.pack(leaf);
        try this.attempt(rental, before.head, to, packed) returns (Settled memory batch) {
            _batches.push(batch);
            bytes32 credited = keccak256(abi.encode(rental, leaf.podUid, leaf.end));
            if (_credited[credited]) flag("a pod was paid twice for one time");
            _credited[credited] = true;
            if (state().earned != before.earned + batch.total) flag("a batch earned something else");
        } catch {}
    }

    /// @dev Settles for `bill`, which can't catch what it does itself.
    function attempt(bytes32 which, bytes32 head, uint64 to, bytes memory packed) external returns (Settled memory) {
        rental = which;
        return settleAfter(head, to, packed);
    }

    /// @dev Any batch again, and its receipts once more after the new head.
    function replay(uint8 which) external watched(which) {
        if (_batches.length == 0) return;
        Settled memory batch = _batches[which % _batches.length];
        uint256 before = rentals.rentalOf(batch.rental).earned;
        try this.attempt(batch.rental, batch.prevHead, batch.to, batch.leaves) {}
        catch {
            flag("a settled batch was refused");
        }
        bytes32 head = rentals.rentalOf(batch.rental).head;
        try this.attempt(batch.rental, head, uint64(block.timestamp), batch.leaves) {
            flag("receipts were settled twice");
        } catch {}
        if (rentals.rentalOf(batch.rental).earned != before) flag("a replay earned");
    }

    function addCoins(uint8 which, uint32 amount) external watched(which) {
        vm.deal(STRANGER, amount);
        vm.prank(STRANGER);
        try rentals.topUp{value: amount}(rental) {} catch {}
    }

    /// @dev Also all there is, which the bucket must refuse.
    function takeBack(uint8 which, uint64 amount, bool all) external watched(which) {
        uint256 had = state().balance;
        uint256 asked = all ? had : amount % (had + 1);
        vm.prank(PAYER);
        try rentals.withdraw(rental, asked) {
            uint256 left = state().balance;
            // What it drew on the way left bucket and balance alike; nothing is locked in an empty one.
            if (left < state().allowance && asked != 0 && left + asked != 0) flag("less than the bucket locks");
        } catch {}
    }

    function close(uint8 which, bool byPayer) external watched(which) {
        vm.prank(byPayer ? PAYER : PROVIDER);
        try rentals.close(rental) {} catch {}
    }

    function refund(uint8 which, uint8 late) external watched(which) {
        if (late % 16 == 0) pass(11 days);
        try rentals.refund(rental) {} catch {}
    }

    function acknowledge(uint8 which) external {
        if (_batches.length == 0) return;
        ack(_batches[which % _batches.length]);
    }

    /// @dev All batches of a rental that can be: what is mature is released whatever else is going on.
    function releaseAll(uint8 which, bool later) external watched(which) {
        if (later) pass(WINDOW);
        for (uint256 place = _next[rental]; place < _batches.length; ++place) {
            Settled memory batch = _batches[place];
            if (batch.rental != rental) continue;
            bool ripe = rentals.batchOf(rental, batch.head).maturesAt <= providers.clock();
            bytes32[] memory heads = new bytes32[](1);
            heads[0] = batch.head;
            try rentals.release(rental, heads) {
                _next[rental] = place + 1;
            } catch {
                if (ripe) flag("a mature batch was held up");
                return;
            }
        }
        releaseOwed();
    }

    function claim(bool byPayer) external {
        address account = byPayer ? PAYER : PROVIDER;
        if (rentals.credit(account) == 0) return;
        try rentals.claim(account) {}
        catch {
            flag("a claim was held up");
        }
    }

    function claimFromFaults(uint8 who) external {
        address account = who % 3 == 0 ? PAYER : who % 3 == 1 ? PROVIDER : address(this);
        if (faults.credit(account) == 0) return;
        try faults.claim(account) {}
        catch {
            flag("a claim was held up");
        }
    }

    /// @dev One of the last two batches, since older ones are mature.
    function contest(uint8 which, uint64 bond) external {
        if (_batches.length < 2) return;
        uint256 amount = CONTEST_BOND - 1 + bond;
        vm.deal(PAYER, amount);
        Settled memory batch = _batches[_batches.length - 1 - which % 2];
        IFaultsTypes.Evidence memory shown = evidence(batch, 0);
        vm.prank(PAYER);
        try faults.contest{value: amount}(shown, new uint256[](1), "") {
            _contested.push(receiptOf(batch, 0));
        } catch {}
    }

    function judge(uint8 which, bool struck) external {
        if (_contested.length == 0) return;
        vm.prank(ARBITER);
        try faults.rule(_contested[which % _contested.length], struck) {} catch {}
    }

    function lapse(uint8 which, uint8 late) external {
        if (_contested.length == 0) return;
        if (late % 8 == 0) pass(CONTEST_PERIOD);
        try faults.lapse(_contested[which % _contested.length]) {} catch {}
    }

    function prove(uint8 one, uint8 further) external {
        if (_batches.length == 0) return;
        uint256 place = one % _batches.length;
        IFaultsTypes.Evidence memory first = evidence(_batches[place], 0);
        IFaultsTypes.Evidence memory second = evidence(_batches[(place + 1 + further % 3) % _batches.length], 0);
        try faults.proveFault(first, second) {} catch {}
    }

    function pauseFor(uint16 duration, bool end) external {
        vm.prank(PAUSER);
        if (end) try providers.unpause() {} catch {} else try providers.pause(duration) {} catch {}
    }

    function addStake(uint64 amount) external {
        vm.deal(STRANGER, amount);
        vm.prank(STRANGER);
        try providers.addStake{value: amount}(PROVIDER) {
            staked += amount;
        } catch {}
    }

    function unbond(uint64 amount) external {
        vm.prank(PROVIDER);
        try providers.unbond(amount) {} catch {}
    }

    function withdrawStake() external {
        uint256 before = stakeOf(PROVIDER);
        try providers.withdrawStake(PROVIDER) {
            staked -= before - stakeOf(PROVIDER);
        } catch {}
    }

    /// @dev As a contract that destroys itself would.
    function forceCoins(uint32 amount) external {
        vm.deal(address(rentals), address(rentals).balance + amount);
        forced += amount;
    }

    function flag(string memory what) private {
        broken = what;
    }

    receive() external payable {}

    // What the invariants read.

    function count() external view returns (uint256) {
        return known.length;
    }

    function viewOf(uint256 index) external view returns (IRentalTypes.RentalView memory) {
        return rentals.rentalOf(known[index]);
    }

    function coins() external view returns (uint256 inRental, uint256 inFaults, uint256 inProviders) {
        return (address(rentals).balance, address(faults).balance, address(providers).balance);
    }

    function rentalCredits() external view returns (uint256) {
        return rentals.credit(PAYER) + rentals.credit(PROVIDER);
    }

    function faultClaims() external view returns (uint256) {
        return faults.bonds() + faults.credit(PAYER) + faults.credit(PROVIDER) + faults.credit(address(this));
    }

    function stake() external view returns (uint256 left, uint256 burned) {
        return (stakeOf(PROVIDER), BURNED.balance);
    }

    function provider() external view returns (IProvidersTypes.Provider memory) {
        return providers.providerOf(PROVIDER);
    }
}

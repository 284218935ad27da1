// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Rental} from "../src/Rental.sol";
import {IRentalTypes} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {Test} from "./Test.sol";

/// @dev Does everything that anyone may do, in any order, and keeps its own books.
contract Everyone is Test {
    Rental public immutable rentals = new Rental();
    address public constant PAYER = address(0xA11CE);
    address public constant PROVIDER = address(0xB0B);
    bytes32[] public known;
    uint256[] private _prices;

    uint256 public deposited;
    uint256 public claimed;
    uint256 public worth;
    mapping(bytes32 rental => uint64) public lastThrough;
    bool public wentBack;
    bool public paidTwice;

    bytes32 private _lastRental;
    bytes32 private _lastHead;
    uint64 private _lastTo;
    bytes private _lastLeaves;

    constructor() {
        _prices.push(1000);
        vm.warp(1000);
        open(1 ether);
    }

    function open(uint64 deposit) public {
        if (known.length == 4) return;
        uint256 amount = uint256(deposit) + 1;
        vm.deal(PAYER, amount);
        IRentalTypes.Terms memory terms = IRentalTypes.Terms(
            PROVIDER, uint64(block.timestamp) + 10_000, 10, 1000, keccak256(abi.encode(_prices)), ""
        );
        vm.prank(PAYER);
        known.push(rentals.open{value: amount}(terms, bytes32(known.length)));
        deposited += amount;
    }

    function settle(uint8 which, uint40 duration, uint16 later) external {
        bytes32 rental = known[which % known.length];
        vm.warp(block.timestamp + later + 1);
        IRentalTypes.RentalView memory before = rentals.rentalOf(rental);
        uint64 to = uint64(block.timestamp) < before.end ? uint64(block.timestamp) : before.end;
        bytes memory leaves = Leaves.simple(uint128(block.timestamp), uint48(uint256(to) * 1000), duration);
        vm.prank(PROVIDER);
        try rentals.settle(rental, before.head, to, _prices, leaves) {
            worth += duration;
            if (to <= lastThrough[rental]) wentBack = true;
            lastThrough[rental] = to;
            (_lastRental, _lastHead, _lastTo, _lastLeaves) = (rental, before.head, to, leaves);
        } catch {}
    }

    /// @dev The last batch again, and the same receipts once more after the new head.
    function replay() external {
        if (_lastLeaves.length == 0) return;
        uint256 before = rentals.credit(PROVIDER);
        vm.prank(PROVIDER);
        try rentals.settle(_lastRental, _lastHead, _lastTo, _prices, _lastLeaves) {} catch {}
        bytes32 head = rentals.rentalOf(_lastRental).head;
        vm.prank(PROVIDER);
        try rentals.settle(_lastRental, head, uint64(block.timestamp), _prices, _lastLeaves) {
            paidTwice = true;
        } catch {}
        if (rentals.credit(PROVIDER) != before) paidTwice = true;
    }

    function topUp(uint8 which, uint32 amount) external {
        vm.deal(address(this), amount);
        try rentals.topUp{value: amount}(known[which % known.length]) {
            deposited += amount;
        } catch {}
    }

    function close(uint8 which, bool byPayer) external {
        vm.prank(byPayer ? PAYER : PROVIDER);
        try rentals.close(known[which % known.length]) {} catch {}
    }

    function refund(uint8 which, bool late) external {
        if (late) vm.warp(block.timestamp + 12_000);
        try rentals.refund(known[which % known.length]) {} catch {}
    }

    function claim(bool byPayer) external {
        address account = byPayer ? PAYER : PROVIDER;
        uint256 amount = rentals.credit(account);
        vm.prank(account);
        try rentals.claim() {
            claimed += amount;
        } catch {}
    }

    function count() external view returns (uint256) {
        return known.length;
    }
}

/// @dev What holds after anything that anyone did.
contract RentalInvariantTest is Test {
    Everyone private _everyone;

    function setUp() public {
        _everyone = new Everyone();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_everyone);
    }

    function invariant_coins_cover_balances_and_credits_to_the_wei() external view {
        Rental rentals = _everyone.rentals();
        uint256 claims = rentals.credit(_everyone.PAYER()) + rentals.credit(_everyone.PROVIDER());
        for (uint256 index = 0; index < _everyone.count(); ++index) {
            claims += rentals.rentalOf(_everyone.known(index)).balance;
        }
        assertEq(address(rentals).balance, claims, "coins");
        assertEq(_everyone.deposited(), claims + _everyone.claimed(), "deposits");
    }

    function invariant_nothing_is_paid_twice_and_no_watermark_goes_back() external view {
        assertTrue(!_everyone.paidTwice(), "paid twice");
        assertTrue(!_everyone.wentBack(), "watermark went back");
    }

    function invariant_owed_and_balance_are_never_both_there() external view {
        for (uint256 index = 0; index < _everyone.count(); ++index) {
            IRentalTypes.RentalView memory state = _everyone.rentals().rentalOf(_everyone.known(index));
            assertTrue(state.owed == 0 || state.balance == 0, "owed beside a balance");
        }
    }
}

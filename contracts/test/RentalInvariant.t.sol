// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRentalTypes} from "../src/interfaces/IRental.sol";
import {Everyone} from "./Everyone.sol";
import {Test} from "./Test.sol";

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

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// @dev `attempt` and `setUp` aren't anybody's doings.
    function excludeSelectors() external view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        bytes4[] memory selectors = new bytes4[](2);
        selectors[0] = Everyone.attempt.selector;
        selectors[1] = Everyone.setUp.selector;
        excluded[0] = FuzzSelector(address(_everyone), selectors);
    }

    function invariant_coins_cover_balances_held_and_credits_to_the_wei() external view {
        uint256 claims = _everyone.rentalCredits() + _everyone.forced();
        for (uint256 index = 0; index < _everyone.count(); ++index) {
            IRentalTypes.RentalView memory state = _everyone.viewOf(index);
            claims += state.balance + state.drawn - state.released;
        }
        (uint256 inRental, uint256 inFaults, uint256 inProviders) = _everyone.coins();
        assertEq(inRental, claims, "rental");
        assertEq(inFaults, _everyone.faultClaims(), "faults");
        (uint256 left,) = _everyone.stake();
        assertEq(inProviders, left, "providers");
    }

    function invariant_the_sums_of_each_rental_hang_together() external view {
        for (uint256 index = 0; index < _everyone.count(); ++index) {
            IRentalTypes.RentalView memory state = _everyone.viewOf(index);
            assertTrue(state.released + state.withheld <= state.matured, "released + withheld <= matured");
            assertTrue(state.matured <= state.earned, "matured <= earned");
            assertTrue(state.released <= state.drawn, "released <= drawn");
            assertEq(state.drawn + state.owed, state.earned, "drawn + owed = earned");
            assertTrue(state.allowance <= uint256(state.ceiling) * state.maxLateness, "allowance <= capacity");
        }
    }

    /// @dev The bucket began empty. What a fault gives back was drawn before, and doesn't fall into it again.
    function invariant_no_more_is_drawn_than_the_ceiling_allows() external view {
        for (uint256 index = 0; index < _everyone.count(); ++index) {
            IRentalTypes.RentalView memory state = _everyone.viewOf(index);
            uint256 most = uint256(state.ceiling) * (block.timestamp - state.opened);
            assertTrue(state.drawn + state.allowance <= most, "drawn <= ceiling * time");
        }
    }

    function invariant_at_least_half_of_what_was_slashed_is_burned() external view {
        (uint256 left, uint256 burned) = _everyone.stake();
        assertTrue(burned * 2 >= _everyone.staked() - left, "burned");
    }

    function invariant_nothing_happened_that_must_not() external view {
        assertEq(keccak256(bytes(_everyone.broken())), keccak256(""), _everyone.broken());
    }
}

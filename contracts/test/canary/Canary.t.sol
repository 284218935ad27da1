// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "../Test.sol";

/// @dev Must fail: it proves that a failing assertion makes the test command fail.
contract CanaryTest is Test {
    function test_this_must_fail() public pure {
        assertEq(uint256(1), 2, "the canary");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @dev The part of forge's cheat codes that these tests use.
interface Vm {
    function prank(address sender) external;
    function deal(address account, uint256 wei_) external;
    function warp(uint256 timestamp) external;
    function expectRevert(bytes calldata reason) external;
    function assume(bool condition) external;
    function addr(uint256 privateKey) external pure returns (address);
    function sign(uint256 privateKey, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function getNonce(address account) external view returns (uint64);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function writeFile(string calldata path, string calldata text) external;
    function readFile(string calldata path) external view returns (string memory);
    function envOr(string calldata name, bool fallback_) external view returns (bool);
    function toString(bytes calldata value) external pure returns (string memory);
    function toString(bytes32 value) external pure returns (string memory);
    function toString(address value) external pure returns (string memory);
    function toString(uint256 value) external pure returns (string memory);
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function expectEmit(address emitter) external;
    function snapshotValue(string calldata name, uint256 value) external;

    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }
}

/// @dev Assertions whose failure forge reports.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error AssertionFailed(string what, bytes32 got, bytes32 expected);

    function assertEq(uint256 got, uint256 expected, string memory what) internal pure {
        assertEq(bytes32(got), bytes32(expected), what);
    }

    function assertEq(address got, address expected, string memory what) internal pure {
        assertEq(uint160(got), uint160(expected), what);
    }

    function assertEq(bytes32 got, bytes32 expected, string memory what) internal pure {
        require(got == expected, AssertionFailed(what, got, expected));
    }

    function assertTrue(bool holds, string memory what) internal pure {
        require(holds, AssertionFailed(what, 0, bytes32(uint256(1))));
    }
}

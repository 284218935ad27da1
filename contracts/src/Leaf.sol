// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title One receipt: 64 packed bytes.
/// @dev First word: pod UID (16 bytes), job UID (16). Second word, from its high end: end in Unix milliseconds (48 bits),
/// duration in milliseconds (40), healthy device-milliseconds (48), price class (16), node index (32), device mask (64),
/// flags (8).
library Leaf {
    /// @notice Bytes of one leaf.
    uint256 internal constant SIZE = 64;
    /// @notice Flag of a leaf that stands in for a bad one and is worth nothing.
    uint256 internal constant VOID = 4;
    /// @notice The device mask has a bit for each of 64 devices.
    uint256 internal constant MAX_DEVICES = 64;

    /// @notice The two words of a leaf.
    /// @param leaves Packed leaves, a multiple of 64 bytes.
    /// @param index Which leaf; the caller keeps it in range.
    function read(bytes calldata leaves, uint256 index) internal pure returns (uint256 ids, uint256 facts) {
        assembly ("memory-safe") {
            let offset := add(leaves.offset, shl(6, index))
            ids := calldataload(offset)
            facts := calldataload(add(offset, 32))
        }
    }

    function podUid(uint256 ids) internal pure returns (bytes16) {
        return bytes16(bytes32(ids));
    }

    function jobUid(uint256 ids) internal pure returns (bytes16) {
        return bytes16(bytes32(ids << 128));
    }

    /// @notice Unix milliseconds.
    function end(uint256 facts) internal pure returns (uint256) {
        return facts >> 208;
    }

    /// @notice Milliseconds.
    function duration(uint256 facts) internal pure returns (uint256) {
        return uint40(facts >> 168);
    }

    /// @notice Milliseconds, summed over devices.
    function deviceMs(uint256 facts) internal pure returns (uint256) {
        return uint48(facts >> 120);
    }

    function priceClass(uint256 facts) internal pure returns (uint256) {
        return uint16(facts >> 104);
    }

    function isVoid(uint256 facts) internal pure returns (bool) {
        return facts & VOID != 0;
    }
}

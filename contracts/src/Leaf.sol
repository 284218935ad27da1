// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IRentalErrors} from "./interfaces/IRental.sol";

/// @title One receipt: 64 packed bytes, how they are read, and what they are worth.
/// @dev First word: pod UID (16 bytes), job UID (16). Second word, from its high end: end in Unix milliseconds (48 bits),
/// duration in milliseconds (40), healthy device-milliseconds (48), price class (16), node index (32), device mask (64),
/// flags (8). Whether a receipt may be in a batch at its place is the rental's question, not this library's.
library Leaf {
    /// @notice Bytes of one leaf.
    uint256 internal constant SIZE = 64;
    /// @notice Flag of a leaf that stands in for a bad one and is worth nothing.
    uint256 internal constant VOID = 4;
    /// @notice Flag of a leaf that came after its time: its end was moved behind the watermark.
    uint256 internal constant LATE = 16;
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

    /// @notice Unix milliseconds; 0 where the duration is longer than the clock is old.
    function start(uint256 facts) internal pure returns (uint256) {
        (uint256 last, uint256 lasted) = (end(facts), duration(facts));
        return last > lasted ? last - lasted : 0;
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

    function nodeIndex(uint256 facts) internal pure returns (uint256) {
        return uint32(facts >> 72);
    }

    /// @notice A bit for each whole device; 0 where devices weren't metered or are parts of a board.
    function deviceMask(uint256 facts) internal pure returns (uint256) {
        return uint64(facts >> 8);
    }

    function isVoid(uint256 facts) internal pure returns (bool) {
        return facts & VOID != 0;
    }

    function isLate(uint256 facts) internal pure returns (bool) {
        return facts & LATE != 0;
    }

    /// @notice How many devices a leaf may bill: those of its mask, or all of a node's where it has none.
    function devices(uint256 facts) internal pure returns (uint256) {
        uint256 bits = deviceMask(facts);
        if (bits == 0) return MAX_DEVICES;
        // Counts pairs, then fours, then bytes, and sums the bytes: a loop over bits would cost more than the event.
        unchecked {
            bits -= (bits >> 1) & 0x5555555555555555;
            bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
            bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
            return uint64(bits * 0x0101010101010101) >> 56;
        }
    }

    /// @notice Wei, rounded down in the payer's favour; a void leaf is worth nothing, whatever else it says.
    /// @param index The leaf's place, for the errors.
    /// @param prices Wei per device-second, by price class; below 2^128 each, so that nothing here can overflow.
    function amount(uint256 index, uint256 facts, uint256[] calldata prices) internal pure returns (uint256) {
        if (isVoid(facts)) return 0;
        (uint256 billed, uint256 lasted) = (deviceMs(facts), duration(facts));
        unchecked {
            // One device is there in any case, so most leaves needn't have their bits counted.
            if (billed > lasted) {
                uint256 most = lasted * devices(facts);
                if (billed > most) revert IRentalErrors.LeafTooLong(index, billed, most);
            }
            uint256 class = priceClass(facts);
            if (class >= prices.length) revert IRentalErrors.UnknownPriceClass(index, class, prices.length);
            return billed * prices[class] / 1000;
        }
    }
}

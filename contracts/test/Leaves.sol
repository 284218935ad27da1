// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @dev A leaf in words, and its packing, written apart from the contract's reading of it.
struct LeafFacts {
    uint128 podUid;
    uint128 jobUid;
    uint48 end;
    uint40 duration;
    uint48 deviceMs;
    uint16 priceClass;
    uint32 nodeIndex;
    uint64 deviceMask;
    uint8 flags;
}

library Leaves {
    function pack(LeafFacts memory leaf) internal pure returns (bytes memory) {
        return abi.encodePacked(
            leaf.podUid,
            leaf.jobUid,
            leaf.end,
            leaf.duration,
            leaf.deviceMs,
            leaf.priceClass,
            leaf.nodeIndex,
            leaf.deviceMask,
            leaf.flags
        );
    }

    /// @dev One GPU for `duration` milliseconds.
    function simple(uint128 podUid, uint48 end, uint40 duration) internal pure returns (bytes memory) {
        return pack(LeafFacts(podUid, 7, end, duration, duration, 0, 0, 1, 2));
    }
}

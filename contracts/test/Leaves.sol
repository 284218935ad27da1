// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @dev A leaf in words; its packing and its worth, written apart from the contract's reading of it.
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

    /// @dev One GPU of class 0 for `duration` milliseconds, from the pod's status.
    function simple(uint128 podUid, uint48 end, uint40 duration) internal pure returns (bytes memory) {
        return pack(facts(podUid, end, duration));
    }

    function facts(uint128 podUid, uint48 end, uint40 duration) internal pure returns (LeafFacts memory) {
        return LeafFacts(podUid, 7, end, duration, duration, 0, 0, 1, 2);
    }

    /// @dev What whole leaves are worth; 0 where a price isn't there, for the contract refuses those.
    function worth(bytes memory leaves, uint256[] memory prices) internal pure returns (uint256 total) {
        for (uint256 place = 0; place + 64 <= leaves.length; place += 64) {
            if (number(leaves, place + 63, 1) & 4 != 0) continue;
            uint256 class = number(leaves, place + 49, 2);
            if (class < prices.length) total += number(leaves, place + 43, 6) * prices[class] / 1000;
        }
    }

    function number(bytes memory data, uint256 from, uint256 length) private pure returns (uint256 value) {
        for (uint256 place = from; place < from + length; ++place) {
            value = value << 8 | uint8(data[place]);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Heads: what a batch is bound to, and what is kept of each.
/// @dev A rental's batches form a chain of hashes. One slot a batch is kept, under the head that the batch leads to:
/// enough to know a batch again, to release in order, and to judge evidence.
library Batches {
    /// @notice What a head commits to, beside the rental that the first head names.
    struct Header {
        bytes32 prevHead;
        bytes32 leavesHash;
        uint256 count;
        uint256 total;
        uint64 to;
    }

    /// @notice What is kept of a settled batch.
    struct Batch {
        /// @notice What its leaves are worth, in wei, without those that were struck.
        uint96 total;
        /// @notice What of it is contested, while it isn't released.
        uint96 contested;
        /// @notice When its window is over, on the clock that stands still in a pause.
        uint40 maturesAt;
        /// @notice The rental's first batch has 1; 0 is none.
        uint24 number;
    }

    /// @notice The head of a rental without batches: bound to the chain, the contract and the rental.
    function genesis(bytes32 rental) internal view returns (bytes32) {
        return keccak256(abi.encode("PLASMA_RENTAL_V1", block.chainid, address(this), rental));
    }

    /// @notice The head after a batch.
    function headAfter(Header memory header) internal pure returns (bytes32) {
        return keccak256(abi.encode(header.prevHead, header.leavesHash, header.count, header.total, uint256(header.to)));
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPause} from "./interfaces/IPause.sol";

/// @title A pause that ends by itself, and the clock that stands still in it.
/// @dev Deadlines are kept on that clock, so each pause moves all of them on by its own length. Who may pause is the
/// inheriting contract's question; what stops is its users'.
abstract contract Pause is IPause {
    /// @inheritdoc IPause
    uint256 public constant MAX_PAUSE = 3 days;
    /// @inheritdoc IPause
    uint256 public constant PAUSE_REST = 7 days;

    /// @dev The last pause: from, until (Unix seconds), and how long all pauses before it were.
    uint40 private _from;
    uint40 private _until;
    uint64 private _before;

    /// @inheritdoc IPause
    function pauses() external view returns (bool, uint64) {
        return (paused(), pausedSeconds());
    }

    /// @inheritdoc IPause
    function paused() public view returns (bool) {
        return block.timestamp < _until;
    }

    /// @inheritdoc IPause
    function pausedSeconds() public view returns (uint64) {
        uint256 last = block.timestamp < _until ? block.timestamp : _until;
        return _before + uint64(last - _from);
    }

    /// @inheritdoc IPause
    function clock() public view returns (uint40) {
        return uint40(block.timestamp - pausedSeconds());
    }

    /// @dev A pause right after a pause would be one that doesn't end; hence the rest between them.
    function _pause(uint256 duration) internal {
        require(duration != 0 && duration <= MAX_PAUSE, PauseTooLong(duration, MAX_PAUSE));
        uint256 earliest = _until != 0 ? _until + PAUSE_REST : 0;
        require(block.timestamp >= earliest, PauseTooSoon(earliest));
        _before = pausedSeconds();
        _from = uint40(block.timestamp);
        _until = uint40(block.timestamp + duration);
        emit Paused(msg.sender, _until);
    }

    function _unpause() internal {
        require(paused(), NotPaused());
        _until = uint40(block.timestamp);
        emit Unpaused(msg.sender);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What can go wrong with a pause.
interface IPauseErrors {
    /// @notice A pause lasts between one second and `most`: ask for less, and again after the rest.
    error PauseTooLong(uint256 duration, uint256 most);
    /// @notice The last pause was too short a time ago: wait until `earliest`.
    error PauseTooSoon(uint256 earliest);
    /// @notice There is no pause to end.
    error NotPaused();
}

/// @title A pause that ends by itself.
interface IPause is IPauseErrors {
    /// @notice Opening, topping up and settling stand still until then, Unix seconds, or until the pause is ended.
    event Paused(address indexed by, uint40 until);
    event Unpaused(address indexed by);

    /// @notice The longest pause, in seconds.
    function MAX_PAUSE() external view returns (uint256);

    /// @notice The shortest time between two pauses, in seconds.
    function PAUSE_REST() external view returns (uint256);

    /// @notice Both of the next two at once.
    function pauses() external view returns (bool paused, uint64 seconds_);

    /// @notice Whether there is a pause now.
    function paused() external view returns (bool);

    /// @notice How long all pauses were, up to now.
    function pausedSeconds() external view returns (uint64);

    /// @notice Unix seconds without all pauses: the clock of every deadline.
    function clock() external view returns (uint40);
}

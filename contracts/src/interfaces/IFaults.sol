// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What can go wrong. Every error carries the object and the numbers that decide.
interface IFaultsErrors {
    /// @notice The three contracts don't name one another.
    error WrongContracts();
    /// @notice No settled batch of the rental has these leaves, total and watermark after this head.
    error EvidenceMismatch(bytes32 rental, bytes32 head);
    /// @notice These aren't the prices whose hash the rental holds.
    error EvidencePricesMismatch(bytes32 rental);
    /// @notice The batch has no leaf of that index.
    error NoSuchLeaf(uint256 index, uint256 count);
    /// @notice Both leaves are one and the same.
    error SameLeaf(bytes32 receipt);
    /// @notice A fault is between two receipts of one provider.
    error DifferentProviders(address one, address other);
    /// @notice The leaf bills nothing, or its times are said to be moved (late): it proves nothing. Contest it.
    error LeafProvesNothing(bytes32 receipt);
    /// @notice The leaves bill neither one pod nor one device for a common millisecond.
    error NoFault(bytes32 one, bytes32 other);
    /// @notice Both receipts were struck before: the provider was slashed for them.
    error AlreadyStruck(bytes32 one, bytes32 other);
    /// @notice A receipt is contested once, and not after it was struck.
    error NotContestable(bytes32 receipt);
    /// @notice There is no open contest of this receipt.
    error NoContest(bytes32 receipt);
    /// @notice Only `expected` may do this.
    error CallerNotAllowed(address caller, address expected);
    /// @notice The bond is too small: send `required` wei.
    error BondTooSmall(uint256 bond, uint256 required);
    /// @notice Governance has named no arbiter, so nobody could judge.
    error NoArbiter();
    /// @notice The arbiter's time is over: `lapse` ends the contest.
    error ContestOver(bytes32 receipt, uint40 deadline);
    /// @notice The arbiter still has time, on the clock that stands still in a pause.
    error ContestRunning(bytes32 receipt, uint40 deadline);
    /// @notice Nothing is there to be claimed.
    error NothingToMove();
    /// @notice The receiver didn't take the coins.
    error TransferFailed(address to, uint256 amount);
}

/// @title The values that the contract keeps and takes.
interface IFaultsTypes {
    /// @notice A batch as it was settled, and which of its leaves is meant.
    struct Evidence {
        bytes32 rental;
        bytes32 prevHead;
        uint64 to;
        /// @notice What the batch was worth, as its event says.
        uint256 total;
        uint256 index;
        uint256[] prices;
        bytes leaves;
    }

    /// @notice What became of a receipt: nothing; contested; the contest ended for the provider; never earned.
    enum Standing {
        Settled,
        Contested,
        Upheld,
        Struck
    }

    /// @notice An open contest.
    struct Contest {
        address contestant;
        /// @notice When the arbiter's time is over, on the clock that stands still in a pause.
        uint40 deadline;
        address arbiter;
        address provider;
        bytes32 rental;
        bytes32 head;
        /// @notice Wei that are frozen.
        uint128 amount;
        uint128 bond;
    }
}

/// @title What the contract says happened.
interface IFaultsEvents {
    /// @notice Both receipts bill one pod (`samePod`), or one device. `slashed` wei of stake were taken.
    event FaultProved(
        address indexed provider, bytes32 indexed one, bytes32 indexed other, bool samePod, uint256 slashed
    );
    /// @notice `reason` is the hash of what the contestant says.
    event ContestOpened(
        bytes32 indexed receipt, bytes32 indexed rental, address indexed arbiter, uint256 amount, bytes32 reason
    );
    /// @notice How a contest ended; `struck`: the receipt was never earned.
    event ContestEnded(bytes32 indexed receipt, bytes32 indexed rental, bool struck);
    event Claimed(address indexed account, address indexed to, uint256 amount);
}

/// @title Faults: what two receipts prove, and what an arbiter judges.
/// @notice A receipt's id is keccak256(abi.encode(rental, head after its batch, index)).
interface IFaults is IFaultsErrors, IFaultsTypes, IFaultsEvents {
    /// @notice Proves that two receipts of one provider bill one pod, or one device, for a common time. Both are struck,
    /// and stake is slashed. Anyone may, at any time.
    function proveFault(Evidence calldata one, Evidence calldata other) external;

    /// @notice Contests receipts of one batch that isn't mature; the bond is split among them. Only the payer may.
    /// @param evidence The batch; its index isn't looked at.
    /// @param indexes Which of its leaves.
    /// @param reason Hash of what is said against them.
    function contest(Evidence calldata evidence, uint256[] calldata indexes, bytes32 reason) external payable;

    /// @notice Ends a contest: strikes the receipt and slashes, or lets it be. Only the arbiter of the contest may.
    function rule(bytes32 receipt, bool struck) external;

    /// @notice Ends a contest that the arbiter didn't judge in time: the receipt stands, the bond goes back. Anyone may.
    function lapse(bytes32 receipt) external;

    /// @notice Sends an account's credit to its payee. Anyone may.
    function claim(address account) external;

    /// @notice What became of a receipt.
    function standingOf(bytes32 receipt) external view returns (Standing);

    /// @notice The open contest of a receipt; all zero when there is none.
    function contestOf(bytes32 receipt) external view returns (Contest memory);

    /// @notice Wei that an account can claim.
    function credit(address account) external view returns (uint256);

    /// @notice Bonds of open contests, in wei.
    function bonds() external view returns (uint256);
}

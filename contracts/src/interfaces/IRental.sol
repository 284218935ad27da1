// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What can go wrong. Every error carries the object and the numbers that decide.
interface IRentalErrors {
    /// @notice No rental has this id.
    error UnknownRental(bytes32 rental);
    /// @notice The payer used this salt before: the id is taken.
    error RentalExists(bytes32 rental);
    /// @notice Terms without a provider, or that end before they begin.
    error InvalidTerms(address provider, uint64 end);
    /// @notice Only `expected` may do this.
    error NotAllowed(address caller, address expected);
    /// @notice The batch doesn't follow from the rental's head.
    error HeadMismatch(bytes32 rental, bytes32 head, bytes32 prevHead);
    /// @notice These aren't the prices whose hash the rental holds.
    error PricesMismatch(bytes32 rental, bytes32 committed, bytes32 given);
    /// @notice `to` isn't after the watermark, or is later than now or than the rental's end.
    error WatermarkOutside(uint64 to, uint64 through, uint64 latest);
    /// @notice The leaves are none, or their bytes aren't a multiple of 64.
    error MalformedLeaves(uint256 length);
    /// @notice Leaves are in strictly ascending order of pod UID.
    error LeafOutOfOrder(uint256 index, bytes16 podUid);
    /// @notice A leaf ends after the watermark and not after `to`; milliseconds.
    error LeafEndOutside(uint256 index, uint256 end, uint256 through, uint256 to);
    /// @notice More device time than the duration allows for 64 devices; milliseconds.
    error LeafTooLong(uint256 index, uint256 deviceMs, uint256 duration);
    /// @notice The rental has no price of that class.
    error UnknownPriceClass(uint256 index, uint256 priceClass, uint256 classes);
    /// @notice The time for settling is over.
    error ClaimDeadlinePassed(bytes32 rental, uint64 deadline);
    /// @notice The provider may still settle until the deadline.
    error ClaimDeadlineNotReached(bytes32 rental, uint64 deadline);
    /// @notice The rental was refunded: nothing happens to it any more.
    error RentalRefunded(bytes32 rental);
    /// @notice Nothing was sent, or nothing is there to be claimed.
    error NothingToMove();
    /// @notice The receiver didn't take the coins.
    error TransferFailed(address to, uint256 amount);
}

/// @title The values that the contract keeps and takes.
interface IRentalTypes {
    /// @notice What payer and provider agree on when a rental opens.
    struct Terms {
        /// @notice Who supplies the GPUs, settles, and is paid.
        address provider;
        /// @notice When the rental ends by itself; Unix seconds.
        uint64 end;
        /// @notice How long after `close` by the payer the rental still runs; seconds.
        uint64 notice;
        /// @notice How long after its end the provider may settle; seconds.
        uint64 claimWindow;
        /// @notice keccak256(abi.encode(uint256[] weiPerDeviceSecond)).
        bytes32 priceHash;
        /// @notice Hash of everything else that was agreed; the contract only keeps it.
        bytes32 termsHash;
    }

    /// @notice A rental as the contract holds it.
    struct RentalView {
        address payer;
        address provider;
        /// @notice Wei that can still be drawn.
        uint256 balance;
        /// @notice Wei that were earned beyond the balance.
        uint256 owed;
        /// @notice Unix seconds.
        uint64 opened;
        uint64 end;
        uint64 notice;
        uint64 claimDeadline;
        /// @notice The watermark: everything up to this second is settled.
        uint64 through;
        /// @notice How many receipts were settled: the next one's sequence.
        uint64 nextSequence;
        bool refunded;
        bytes32 head;
        bytes32 priceHash;
        bytes32 termsHash;
    }
}

/// @title What the contract says happened.
interface IRentalEvents {
    event RentalOpened(
        bytes32 indexed rental,
        address indexed payer,
        address indexed provider,
        uint256 deposit,
        bytes32 priceHash,
        bytes32 termsHash,
        bytes32 head
    );
    event RentalToppedUp(bytes32 indexed rental, uint256 amount, uint256 paidOwed);
    /// @notice One for each receipt, worth `amount` wei.
    event PodSettled(
        bytes32 indexed rental, bytes16 indexed podUid, bytes16 indexed jobUid, uint64 sequence, uint256 amount
    );
    /// @notice One for each batch; `total` is what its receipts are worth, in wei, whether or not the balance held it.
    event BatchSettled(
        bytes32 indexed rental,
        bytes32 indexed head,
        bytes32 prevHead,
        uint64 firstSequence,
        uint32 count,
        uint256 total,
        uint64 to
    );
    event RentalClosed(bytes32 indexed rental, uint64 end, uint64 claimDeadline);
    event RentalRefundPaid(bytes32 indexed rental, uint256 amount);
    event Claimed(address indexed account, uint256 amount);
}

/// @title A rental: who pays whom, at which prices, and what has been settled. Formats: docs/design/0001-first-path.md.
interface IRental is IRentalErrors, IRentalTypes, IRentalEvents {
    /// @notice Opens a rental with the coins that are sent.
    /// @param salt The payer's choice; the same salt never opens twice.
    /// @return rental keccak256(abi.encode(chainid, this, payer, salt)).
    function open(Terms calldata terms, bytes32 salt) external payable returns (bytes32 rental);

    /// @notice Adds coins; what is owed is paid first. Anyone may.
    function topUp(bytes32 rental) external payable;

    /// @notice Settles a batch of receipts. The batch that led to the head may be sent again: nothing happens.
    /// @param prevHead The head that the batch follows.
    /// @param to The watermark after it; Unix seconds.
    /// @param prices Wei per device-second, by price class.
    /// @param leaves Receipts of 64 bytes each, in strictly ascending order of pod UID.
    function settle(bytes32 rental, bytes32 prevHead, uint64 to, uint256[] calldata prices, bytes calldata leaves)
        external;

    /// @notice Ends the rental: the payer's call after the notice, the provider's at once. Never later than it would end.
    function close(bytes32 rental) external;

    /// @notice After the claim deadline, credits the payer with what is left. Anyone may.
    function refund(bytes32 rental) external;

    /// @notice Sends the caller's credit to the caller.
    function claim() external;

    /// @notice The rental; reverts when there is none.
    function rentalOf(bytes32 rental) external view returns (RentalView memory);

    /// @notice Wei that an account can claim.
    function credit(address account) external view returns (uint256);
}

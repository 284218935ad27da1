// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../Batches.sol";

/// @title What can go wrong. Every error carries the object and the numbers that decide.
interface IRentalErrors {
    /// @notice No rental has this id.
    error UnknownRental(bytes32 rental);
    /// @notice The payer used this salt before: the id is taken. Choose another salt.
    error RentalExists(bytes32 rental);
    /// @notice Terms that can't be kept; `rule` says which rule they break.
    error InvalidTerms(string rule);
    /// @notice The provider isn't registered, offers nothing, or has too little stake for what it offers.
    error ProviderNotOpen(address provider);
    /// @notice Opening, topping up and settling stand still: the pause ends by itself.
    error RentalsPaused();
    /// @notice Only `expected` may do this.
    error NotAllowed(address caller, address expected);
    /// @notice The batch doesn't follow from the rental's head and isn't one that was settled: number it anew.
    error HeadMismatch(bytes32 rental, bytes32 head, bytes32 prevHead);
    /// @notice No settled batch of the rental led to this head.
    error UnknownBatch(bytes32 rental, bytes32 head);
    /// @notice `signer` isn't a key of the provider: register it, or sign exactly what is sent. Zero where the bytes
    /// are no signature.
    error UnknownSigner(bytes32 rental, address provider, address signer);
    /// @notice These aren't the prices whose hash the rental holds.
    error PricesMismatch(bytes32 rental, bytes32 committed, bytes32 given);
    /// @notice A price is below 2^128 wei a device-second: nothing is settled at this one.
    error PriceTooHigh(uint256 priceClass, uint256 price);
    /// @notice `to` isn't after the watermark, or is later than now or than the rental's end.
    error WatermarkOutside(uint64 to, uint64 through, uint64 latest);
    /// @notice The leaves are none, or their bytes aren't a multiple of 64.
    error MalformedLeaves(uint256 length);
    /// @notice Leaves are in strictly ascending order of pod UID, and none is zero.
    error LeafOutOfOrder(uint256 index, bytes16 podUid);
    /// @notice A leaf ends after the watermark and not after `to`; milliseconds. Make it void, or late.
    error LeafEndOutside(uint256 index, uint256 end, uint256 through, uint256 to);
    /// @notice A leaf is longer than the rental's period; milliseconds. Bill long pods by the period, or make it void.
    error LeafTooOld(uint256 index, uint256 duration, uint256 period);
    /// @notice More device time than the duration allows for the devices in the mask; milliseconds. Make it void.
    error LeafTooLong(uint256 index, uint256 deviceMs, uint256 most);
    /// @notice The rental has no price of that class: make the leaf void.
    error UnknownPriceClass(uint256 index, uint256 priceClass, uint256 classes);
    /// @notice The batch is worth more than 2^96 wei: make void what is priced absurdly.
    error BatchTooDear(bytes32 rental, uint256 total);
    /// @notice Batches are released in order: `next` is the number of the one that comes next.
    error BatchOutOfOrder(bytes32 rental, bytes32 head, uint24 next);
    /// @notice The batch isn't acknowledged and its window is open until then (Unix seconds, later if there is a pause).
    error BatchNotMature(bytes32 rental, bytes32 head, uint64 maturesAt);
    /// @notice A contest comes before the batch is acknowledged and before its window is over.
    error TooLateToContest(bytes32 rental, bytes32 head);
    /// @notice The time for settling and topping up is over.
    error ClaimDeadlinePassed(bytes32 rental, uint64 deadline);
    /// @notice The provider may still settle until the deadline: wait, or withdraw what isn't locked.
    error ClaimDeadlineNotReached(bytes32 rental, uint64 deadline);
    /// @notice The rental was refunded: nothing goes in any more.
    error RentalRefunded(bytes32 rental);
    /// @notice The bucket's content is the provider's to draw: at most `most` can be taken back now.
    error AmountLocked(bytes32 rental, uint256 amount, uint256 most);
    /// @notice Nothing was sent, or nothing is there to be claimed.
    error NothingToMove();
    /// @notice The receiver didn't take the coins.
    error TransferFailed(address to, uint256 amount);
}

/// @title The values that the contract keeps and takes.
interface IRentalTypes {
    /// @notice What payer and provider agree on when a rental opens.
    struct Terms {
        /// @notice Who supplies the GPUs and is paid; its registered keys sign.
        address provider;
        /// @notice A key that may acknowledge for the payer; zero: the payer alone.
        address acknowledger;
        /// @notice Wei a second: the rate at which the rental may be drawn.
        uint96 ceiling;
        /// @notice When the rental ends by itself; Unix seconds.
        uint64 end;
        /// @notice For how long what may be drawn adds up; seconds, at least `period`.
        uint32 maxLateness;
        /// @notice How long after `close` by the payer the rental still runs; seconds.
        uint32 notice;
        /// @notice How long after its end the provider may settle; seconds.
        uint32 claimWindow;
        /// @notice How long a batch may be contested before it matures; seconds.
        uint32 window;
        /// @notice The longest time that one receipt bills; seconds.
        uint32 period;
        /// @notice keccak256(abi.encode(uint256[] weiPerDeviceSecond)).
        bytes32 priceHash;
        /// @notice Hash of everything else that was agreed; the contract only keeps it.
        bytes32 termsHash;
    }

    /// @notice A rental as it is now. Times are Unix seconds, amounts are wei.
    struct RentalView {
        address payer;
        address provider;
        /// @notice What is there to be drawn, were it not for the bucket.
        uint256 balance;
        /// @notice What was earned and isn't drawn.
        uint256 owed;
        uint64 opened;
        uint64 end;
        uint64 notice;
        /// @notice With the pauses up to now; a later one moves it on.
        uint64 claimDeadline;
        /// @notice The watermark: everything up to this second is settled.
        uint64 through;
        /// @notice How many receipts were settled: the next one's sequence.
        uint64 nextSequence;
        bool refunded;
        bytes32 head;
        bytes32 priceHash;
        bytes32 termsHash;
        address acknowledger;
        uint96 ceiling;
        uint32 maxLateness;
        uint32 claimWindow;
        uint32 window;
        uint32 period;
        /// @notice The bucket's content now: what the payer can't take back.
        uint256 allowance;
        /// @notice Sums since the opening; Ledger.sol says how they hang together.
        uint256 earned;
        uint256 drawn;
        uint256 matured;
        uint256 withheld;
        uint256 released;
        /// @notice Numbers of the last batch that was settled, acknowledged, and passed by `release`.
        uint24 settledBatch;
        uint24 acknowledgedBatch;
        uint24 releasedBatch;
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
    /// @notice `paidOwed` is what of all that is owed could be drawn now.
    event RentalToppedUp(bytes32 indexed rental, uint256 amount, uint256 paidOwed);
    /// @notice One for each receipt, worth `amount` wei. Its sequence is the batch's first one plus its place: the events
    /// of a batch's receipts come in order, right before the batch's own.
    event PodSettled(bytes32 indexed rental, bytes16 indexed podUid, bytes16 indexed jobUid, uint256 amount);
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
    /// @notice All batches up to the one that led to `head`, whose number is `batch`.
    event BatchesAcknowledged(bytes32 indexed rental, bytes32 indexed head, uint24 batch);
    /// @notice `amount` went to the provider's credit; batches up to number `batch` were passed.
    event RentalReleased(bytes32 indexed rental, uint24 batch, uint256 amount);
    /// @notice The payer took back what wasn't locked.
    event RentalWithdrawn(bytes32 indexed rental, uint256 amount);
    event RentalClosed(bytes32 indexed rental, uint64 end, uint64 claimDeadline);
    event RentalRefundPaid(bytes32 indexed rental, uint256 amount);
    /// @notice A receipt of the batch is contested, or no longer.
    event ReceiptFrozen(bytes32 indexed rental, bytes32 indexed head, uint256 amount);
    event ReceiptThawed(bytes32 indexed rental, bytes32 indexed head, uint256 amount);
    /// @notice A receipt was never earned: `returned` went to the payer's credit, `shortfall` had been released before.
    event ReceiptStruck(
        bytes32 indexed rental, bytes32 indexed head, uint256 amount, uint256 returned, uint256 shortfall
    );
    /// @notice Credit of `account` was sent to `to`.
    event Claimed(address indexed account, address indexed to, uint256 amount);
}

/// @title A rental: who pays whom, at which prices, and what has been settled. Formats: docs/design/0001-first-path.md.
interface IRental is IRentalErrors, IRentalTypes, IRentalEvents {
    /// @notice Opens a rental with the coins that are sent. Not in a pause.
    /// @param salt The payer's choice; the same salt never opens twice.
    /// @return rental keccak256(abi.encode(chainid, this, payer, salt)).
    function open(Terms calldata terms, bytes32 salt) external payable returns (bytes32 rental);

    /// @notice Adds coins; what is owed is drawn first, as far as the bucket lets. Anyone may, but not in a pause.
    function topUp(bytes32 rental) external payable;

    /// @notice Settles a batch of receipts. Anyone may send it; a key of the provider signs it. A batch that was
    /// settled may be sent again: nothing happens. Not in a pause.
    /// @param prevHead The head that the batch follows.
    /// @param to The watermark after it; Unix seconds.
    /// @param prices Wei per device-second, by price class.
    /// @param leaves Receipts of 64 bytes each, in strictly ascending order of pod UID.
    /// @param signature EIP-712, domain "Plasma Rental" version "1", of Batch(bytes32 rental,bytes32 prevHead,uint64 to,
    /// bytes32 pricesHash,bytes32 leavesHash,uint256 count,uint256 total).
    function settle(
        bytes32 rental,
        bytes32 prevHead,
        uint64 to,
        uint256[] calldata prices,
        bytes calldata leaves,
        bytes calldata signature
    ) external;

    /// @notice Accepts all batches up to the one that led to `head`: they can be released at once and contested no
    /// more. Payer or acknowledger.
    function ack(bytes32 rental, bytes32 head) external;

    /// @notice Passes batches that are acknowledged or mature, and credits the provider with what is drawn of them.
    /// Anyone may, also in a pause.
    /// @param heads The heads that the next batches led to, in order; none: only what is owed is looked at again.
    function release(bytes32 rental, bytes32[] calldata heads) external;

    /// @notice Sends an account's credit to its payee. Anyone may, also in a pause.
    function claim(address account) external;

    /// @notice Credits the payer with coins that the bucket doesn't lock. Only the payer may, also in a pause.
    function withdraw(bytes32 rental, uint256 amount) external;

    /// @notice Ends the rental: the payer's call after the notice, the provider's at once. Never later than it would end.
    function close(bytes32 rental) external;

    /// @notice After the claim deadline, credits the payer with what is left. Anyone may.
    function refund(bytes32 rental) external;

    /// @notice Withholds a receipt of a batch that isn't mature. Only the fault contract may.
    function freeze(bytes32 rental, bytes32 head, uint256 amount) external;

    /// @notice Takes a freeze back. Only the fault contract may.
    function thaw(bytes32 rental, bytes32 head, uint256 amount) external;

    /// @notice Undoes a receipt: what isn't released goes back to the payer. Only the fault contract may.
    /// @param frozen Whether it is frozen.
    /// @return shortfall What was released already.
    function strike(bytes32 rental, bytes32 head, uint256 amount, bool frozen) external returns (uint256 shortfall);

    /// @notice The rental; reverts when there is none.
    function rentalOf(bytes32 rental) external view returns (RentalView memory);

    /// @notice The settled batch that led to a head; number 0 when there is none.
    function batchOf(bytes32 rental, bytes32 head) external view returns (Batches.Batch memory);

    /// @notice What a provider's key signs for a batch.
    function digestOf(bytes32 rental, Batches.Header calldata header, bytes32 pricesHash)
        external
        view
        returns (bytes32);

    /// @notice Wei that an account can claim.
    function credit(address account) external view returns (uint256);

    /// @notice The only contract that freezes and strikes.
    function faults() external view returns (address);
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Batches} from "./Batches.sol";
import {Ledger} from "./Ledger.sol";
import {IProviders} from "./interfaces/IProviders.sol";
import {IRental} from "./interfaces/IRental.sol";

/// @title What a rental is in storage: how it begins, how it is read, and what the fault contract does to it.
/// @dev `Rental` has all that payers and providers do.
abstract contract RentalState is IRental {
    using Ledger for Ledger.Account;

    /// @dev Packed so that settling touches eight slots: the account's four, terms and places, provider, head, prices.
    /// `claimDeadline` is on the clock that stands still in a pause.
    struct State {
        Ledger.Account account;
        uint40 end;
        uint40 claimDeadline;
        uint32 period;
        uint32 window;
        uint40 nextSequence;
        uint24 settledBatch;
        uint24 acknowledgedBatch;
        uint24 releasedBatch;
        address provider;
        uint32 notice;
        uint40 opened;
        bool refunded;
        bytes32 head;
        bytes32 priceHash;
        bytes32 termsHash;
        address payer;
        uint32 claimWindow;
        address acknowledger;
    }

    /// @dev Keys, stake, the clock and the pause.
    IProviders internal immutable PROVIDERS;

    /// @inheritdoc IRental
    address public immutable faults;

    mapping(bytes32 rental => State) internal _rentals;
    mapping(bytes32 rental => mapping(bytes32 head => Batches.Batch)) internal _batches;

    /// @inheritdoc IRental
    mapping(address account => uint256) public credit;

    constructor(IProviders providers) {
        PROVIDERS = providers;
        faults = providers.faults();
    }

    modifier onlyFaults() {
        require(msg.sender == faults, NotAllowed(msg.sender, faults));
        _;
    }

    /// @inheritdoc IRental
    function freeze(bytes32 rental, bytes32 head, uint256 amount) external onlyFaults {
        Batches.Batch storage batch = _batch(rental, head);
        bool open = PROVIDERS.clock() < batch.maturesAt && batch.number > _rentals[rental].acknowledgedBatch;
        require(open, TooLateToContest(rental, head));
        batch.contested += uint96(amount);
        emit ReceiptFrozen(rental, head, amount);
    }

    /// @inheritdoc IRental
    function thaw(bytes32 rental, bytes32 head, uint256 amount) external onlyFaults {
        State storage state = _rentals[rental];
        Batches.Batch storage batch = _batch(rental, head);
        if (batch.number > state.releasedBatch) {
            batch.contested -= uint96(amount);
        } else {
            Ledger.Account memory account = state.account;
            account.thaw(amount);
            state.account = account;
        }
        emit ReceiptThawed(rental, head, amount);
    }

    /// @inheritdoc IRental
    function strike(bytes32 rental, bytes32 head, uint256 amount, bool frozen)
        external
        onlyFaults
        returns (uint256 shortfall)
    {
        State storage state = _rentals[rental];
        Batches.Batch storage batch = _batch(rental, head);
        Ledger.Account memory account = state.account;
        uint256 returned;
        if (batch.number > state.releasedBatch) {
            batch.total -= uint96(amount);
            if (frozen) batch.contested -= uint96(amount);
            returned = account.strikePending(amount);
        } else if (frozen) {
            returned = account.strikeWithheld(amount);
        } else {
            (returned, shortfall) = account.strikeMatured(amount);
        }
        state.account = account;
        credit[state.payer] += returned;
        emit ReceiptStruck(rental, head, amount, returned, shortfall);
    }

    /// @inheritdoc IRental
    function rentalOf(bytes32 rental) external view returns (RentalView memory shown) {
        State storage state = _known(rental);
        shown.payer = state.payer;
        shown.provider = state.provider;
        shown.opened = state.opened;
        shown.end = state.end;
        shown.notice = state.notice;
        shown.claimDeadline = state.claimDeadline + PROVIDERS.pausedSeconds();
        shown.nextSequence = state.nextSequence;
        shown.refunded = state.refunded;
        shown.head = state.head;
        shown.priceHash = state.priceHash;
        shown.termsHash = state.termsHash;
        shown.acknowledger = state.acknowledger;
        shown.claimWindow = state.claimWindow;
        shown.window = state.window;
        shown.period = state.period;
        shown.settledBatch = state.settledBatch;
        shown.acknowledgedBatch = state.acknowledgedBatch;
        shown.releasedBatch = state.releasedBatch;
        _showAccount(state, shown);
    }

    /// @inheritdoc IRental
    function batchOf(bytes32 rental, bytes32 head) external view returns (Batches.Batch memory) {
        return _batches[rental][head];
    }

    function _showAccount(State storage state, RentalView memory shown) private view {
        Ledger.Account memory account = state.account;
        // The bucket falls full with time, but nothing is drawn after the claim deadline.
        if (PROVIDERS.clock() <= state.claimDeadline) account.refill(block.timestamp);
        shown.balance = account.balance;
        shown.owed = account.owed();
        shown.through = account.through;
        shown.ceiling = account.ceiling;
        shown.maxLateness = account.maxLateness;
        shown.allowance = account.allowance;
        shown.earned = account.earned;
        shown.drawn = account.drawn;
        shown.matured = account.matured;
        shown.withheld = account.withheld;
        shown.released = account.released;
    }

    /// @dev The bucket begins empty: nothing can have been earned yet.
    function _store(State storage state, Terms calldata terms, uint64 pauses) internal {
        // Memory is zero where nothing is written.
        // slither-disable-next-line uninitialized-local
        Ledger.Account memory account;
        account.balance = _wei(msg.value);
        account.ceiling = terms.ceiling;
        account.maxLateness = terms.maxLateness;
        account.countedAt = uint40(block.timestamp);
        account.through = uint40(block.timestamp) - 1;
        state.account = account;
        state.payer = msg.sender;
        state.provider = terms.provider;
        state.acknowledger = terms.acknowledger;
        state.opened = uint40(block.timestamp);
        state.end = uint40(terms.end);
        state.notice = terms.notice;
        state.claimWindow = terms.claimWindow;
        state.window = terms.window;
        state.period = terms.period;
        state.claimDeadline = uint40(terms.end + terms.claimWindow - pauses);
        state.priceHash = terms.priceHash;
        state.termsHash = terms.termsHash;
    }

    function _checkTerms(Terms calldata terms) internal view {
        require(PROVIDERS.isOpen(terms.provider), ProviderNotOpen(terms.provider));
        bool later = terms.end > block.timestamp && terms.end <= type(uint40).max - type(uint32).max;
        require(later, InvalidTerms("end is after now, and in Unix seconds"));
        require(terms.ceiling != 0, InvalidTerms("ceiling is above 0"));
        require(terms.period != 0, InvalidTerms("period is above 0"));
        // A pod that ran for a whole period is billed at once, so the bucket must hold that.
        require(terms.maxLateness >= terms.period, InvalidTerms("maxLateness is at least period"));
        bool bounded = uint256(terms.ceiling) * terms.maxLateness <= type(uint96).max;
        require(bounded, InvalidTerms("ceiling * maxLateness is below 2^96"));
        // Whoever sees stake leaving and closes has the stake behind him until the last contest is judged.
        uint256 exposed = uint256(terms.notice) + terms.claimWindow + terms.window + PROVIDERS.contestPeriod();
        bool covered = exposed < PROVIDERS.unbondingPeriod();
        require(covered, InvalidTerms("notice + claimWindow + window + contest is shorter than unbonding"));
    }

    /// @dev Also how long all pauses were.
    function _requireRunning() internal view returns (uint64 pauses) {
        bool paused;
        (paused, pauses) = PROVIDERS.pauses();
        require(!paused, RentalsPaused());
    }

    /// @dev A refund comes only after the claim deadline, so this keeps refunded rentals out too.
    function _requireBeforeDeadline(bytes32 rental, State storage state, uint64 pauses) internal view {
        uint64 deadline = state.claimDeadline + pauses;
        require(block.timestamp <= deadline, ClaimDeadlinePassed(rental, deadline));
    }

    function _wei(uint256 value) internal pure returns (uint96) {
        return SafeCast.toUint96(value);
    }

    function _known(bytes32 rental) internal view returns (State storage state) {
        state = _rentals[rental];
        require(state.provider != address(0), UnknownRental(rental));
    }

    function _batch(bytes32 rental, bytes32 head) internal view returns (Batches.Batch storage batch) {
        batch = _batches[rental][head];
        require(batch.number != 0, UnknownBatch(rental, head));
    }
}

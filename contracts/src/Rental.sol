// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Batches} from "./Batches.sol";
import {Leaf} from "./Leaf.sol";
import {Ledger} from "./Ledger.sol";
import {RentalState} from "./RentalState.sol";
import {IProviders} from "./interfaces/IProviders.sol";
import {IRental} from "./interfaces/IRental.sol";

/// @title Rentals of GPUs, paid in the chain's native coin.
/// @notice A payer deposits; the provider settles receipts against the deposit; both pull what is theirs.
/// The contract proves no work: receipts are the provider's signed word, bounded by balance and bucket, open to
/// everyone's eyes, and his stake stands behind them.
/// @dev No owner, no proxy. A rental's receipts form a chain of hashes, its head: one batch alone can follow a head,
/// so a batch that is sent twice is paid once. Coins that are forced upon the contract are nobody's. Calls into
/// `PROVIDERS` are views; coins leave in `claim` alone, as its last act.
contract Rental is RentalState, EIP712 {
    using Ledger for Ledger.Account;

    /// @dev What a key of the provider signs.
    bytes32 private constant BATCH_TYPE = keccak256(
        "Batch(bytes32 rental,bytes32 prevHead,uint64 to,bytes32 pricesHash,bytes32 leavesHash,uint256 count,uint256 total)"
    );

    /// @dev Leaves end after `throughMs` and at most `spanMs` later, and are at most `periodMs` long; milliseconds.
    struct Bounds {
        uint256 throughMs;
        uint256 spanMs;
        uint256 periodMs;
    }

    constructor(IProviders providers) RentalState(providers) EIP712("Plasma Rental", "1") {}

    /// @inheritdoc IRental
    function open(Terms calldata terms, bytes32 salt) external payable returns (bytes32 rental) {
        require(msg.value != 0, NothingToMove());
        uint64 pauses = _requireRunning();
        _checkTerms(terms);
        rental = keccak256(abi.encode(block.chainid, address(this), msg.sender, salt));
        State storage state = _rentals[rental];
        require(state.provider == address(0), RentalExists(rental));
        _store(state, terms, pauses);
        state.head = Batches.genesis(rental);
        emit RentalOpened(rental, msg.sender, terms.provider, msg.value, terms.priceHash, terms.termsHash, state.head);
    }

    /// @inheritdoc IRental
    function topUp(bytes32 rental) external payable {
        State storage state = _known(rental);
        require(msg.value != 0, NothingToMove());
        _requireBeforeDeadline(rental, state, _requireRunning());
        Ledger.Account memory account = state.account;
        account.balance += _wei(msg.value);
        account.refill(block.timestamp);
        uint256 before = account.drawn;
        account.draw();
        state.account = account;
        emit RentalToppedUp(rental, msg.value, account.drawn - before);
    }

    /// @inheritdoc IRental
    function settle(
        bytes32 rental,
        bytes32 prevHead,
        uint64 to,
        uint256[] calldata prices,
        bytes calldata leaves,
        bytes calldata signature
    ) external {
        State storage state = _known(rental);
        _checkPrices(rental, state.priceHash, prices);
        require(leaves.length != 0 && leaves.length % Leaf.SIZE == 0, MalformedLeaves(leaves.length));
        Batches.Header memory header = Batches.Header(prevHead, keccak256(leaves), leaves.length / Leaf.SIZE, 0, to);
        if (prevHead != state.head) {
            // Sent again after it was settled: the chain of heads has it already.
            header.total = _worth(prices, leaves);
            bool settled = _batches[rental][Batches.headAfter(header)].number != 0;
            require(settled, HeadMismatch(rental, state.head, prevHead));
            return;
        }
        uint64 pauses = _requireRunning();
        _requireBeforeDeadline(rental, state, pauses);
        header.total = _settleLeaves(rental, _bounds(state, to), prices, leaves);
        _checkSignature(rental, state, header, signature);
        _advance(rental, state, header, pauses);
    }

    /// @inheritdoc IRental
    function ack(bytes32 rental, bytes32 head) external {
        State storage state = _known(rental);
        bool allowed = msg.sender == state.payer || msg.sender == state.acknowledger;
        require(allowed, NotAllowed(msg.sender, state.payer));
        uint24 number = _batch(rental, head).number;
        // An older one than was acknowledged before changes nothing.
        if (number <= state.acknowledgedBatch) return;
        state.acknowledgedBatch = number;
        emit BatchesAcknowledged(rental, head, number);
    }

    /// @inheritdoc IRental
    function release(bytes32 rental, bytes32[] calldata heads) external {
        State storage state = _known(rental);
        Ledger.Account memory account = state.account;
        uint40 clock = PROVIDERS.clock();
        uint24 passed = state.releasedBatch;
        for (uint256 index = 0; index < heads.length; ++index) {
            Batches.Batch storage batch = _batch(rental, heads[index]);
            require(batch.number == ++passed, BatchOutOfOrder(rental, heads[index], passed));
            bool ripe = passed <= state.acknowledgedBatch || clock >= batch.maturesAt;
            require(ripe, BatchNotMature(rental, heads[index], batch.maturesAt + PROVIDERS.pausedSeconds()));
            account.mature(batch.total, batch.contested);
        }
        state.releasedBatch = passed;
        if (clock <= state.claimDeadline) {
            account.refill(block.timestamp);
            account.draw();
        }
        uint256 amount = account.release();
        state.account = account;
        credit[state.provider] += amount;
        emit RentalReleased(rental, passed, amount);
    }

    /// @inheritdoc IRental
    function withdraw(bytes32 rental, uint256 amount) external {
        State storage state = _known(rental);
        require(msg.sender == state.payer, NotAllowed(msg.sender, state.payer));
        require(amount != 0, NothingToMove());
        Ledger.Account memory account = state.account;
        if (PROVIDERS.clock() <= state.claimDeadline) {
            account.refill(block.timestamp);
            account.draw();
        }
        uint256 most = account.withdrawable();
        require(amount <= most, AmountLocked(rental, amount, most));
        account.balance -= uint96(amount);
        state.account = account;
        credit[msg.sender] += amount;
        emit RentalWithdrawn(rental, amount);
    }

    /// @inheritdoc IRental
    function close(bytes32 rental) external {
        State storage state = _known(rental);
        require(!state.refunded, RentalRefunded(rental));
        bool byPayer = msg.sender == state.payer;
        require(byPayer || msg.sender == state.provider, NotAllowed(msg.sender, state.payer));
        uint256 asked = block.timestamp + (byPayer ? state.notice : 0);
        uint64 pauses = PROVIDERS.pausedSeconds();
        if (asked < state.end) {
            state.end = uint40(asked);
            state.claimDeadline = uint40(asked + state.claimWindow - pauses);
        }
        emit RentalClosed(rental, state.end, state.claimDeadline + pauses);
    }

    /// @inheritdoc IRental
    function refund(bytes32 rental) external {
        State storage state = _known(rental);
        require(!state.refunded, RentalRefunded(rental));
        uint64 deadline = state.claimDeadline + PROVIDERS.pausedSeconds();
        require(block.timestamp > deadline, ClaimDeadlineNotReached(rental, deadline));
        uint256 rest = state.account.balance;
        state.account.balance = 0;
        state.refunded = true;
        credit[state.payer] += rest;
        emit RentalRefundPaid(rental, rest);
    }

    /// @inheritdoc IRental
    function claim(address account) external {
        uint256 amount = credit[account];
        require(amount != 0, NothingToMove());
        credit[account] = 0;
        address to = PROVIDERS.payeeOf(account);
        emit Claimed(account, to, amount);
        // Anyone may call, but the coins only go where the account's owner said.
        // slither-disable-next-line arbitrary-send-eth
        (bool taken,) = to.call{value: amount}("");
        require(taken, TransferFailed(to, amount));
    }

    /// @inheritdoc IRental
    function digestOf(bytes32 rental, Batches.Header calldata header, bytes32 pricesHash)
        external
        view
        returns (bytes32)
    {
        return _digest(rental, header, pricesHash);
    }

    /// @dev Moves head and watermark on, and draws what balance and bucket hold; the rest is owed.
    function _advance(bytes32 rental, State storage state, Batches.Header memory header, uint64 pauses) private {
        require(header.total <= type(uint96).max, BatchTooDear(rental, header.total));
        bytes32 head = Batches.headAfter(header);
        uint40 firstSequence = state.nextSequence;
        uint24 number = state.settledBatch + 1;
        state.head = head;
        state.nextSequence = firstSequence + uint40(header.count);
        state.settledBatch = number;
        _batches[rental][head] =
            Batches.Batch(uint96(header.total), 0, uint40(block.timestamp + state.window - pauses), number);

        Ledger.Account memory account = state.account;
        account.through = uint40(header.to);
        account.earn(header.total);
        account.refill(block.timestamp);
        account.draw();
        state.account = account;
        emit BatchSettled(rental, head, header.prevHead, firstSequence, uint32(header.count), header.total, header.to);
    }

    /// @dev Checks each leaf, says that it is settled, and sums what they are worth.
    function _settleLeaves(bytes32 rental, Bounds memory bounds, uint256[] calldata prices, bytes calldata leaves)
        private
        returns (uint256 total)
    {
        uint256 count = leaves.length / Leaf.SIZE;
        uint256 before = 0;
        // No sum here can overflow: prices are below 2^128, device time below 2^48, leaves as many as a block holds.
        unchecked {
            for (uint256 index = 0; index < count; ++index) {
                (uint256 ids, uint256 facts) = Leaf.read(leaves, index);
                uint256 pod = ids >> 128;
                if (pod <= before) revert LeafOutOfOrder(index, bytes16(uint128(pod)));
                before = pod;
                _checkTimes(index, facts, bounds);
                uint256 amount = Leaf.amount(index, facts, prices);
                total += amount;
                emit PodSettled(rental, Leaf.podUid(ids), Leaf.jobUid(ids), amount);
            }
        }
    }

    function _checkTimes(uint256 index, uint256 facts, Bounds memory bounds) private pure {
        unchecked {
            uint256 end = Leaf.end(facts);
            // One comparison for both sides: what isn't after the watermark wraps around to far beyond the span.
            if (end - bounds.throughMs - 1 >= bounds.spanMs) {
                revert LeafEndOutside(index, end, bounds.throughMs, bounds.throughMs + bounds.spanMs);
            }
            // A void leaf stands in for a bad one, which may be bad in this.
            uint256 duration = Leaf.duration(facts);
            if (duration > bounds.periodMs && !Leaf.isVoid(facts)) {
                revert LeafTooOld(index, duration, bounds.periodMs);
            }
        }
    }

    function _checkSignature(
        bytes32 rental,
        State storage state,
        Batches.Header memory header,
        bytes calldata signature
    ) private view {
        bytes32 digest = _digest(rental, header, state.priceHash);
        // What is left out is the error's argument, and any error is refused.
        // slither-disable-next-line unused-return
        (address signer, ECDSA.RecoverError wrong,) = ECDSA.tryRecoverCalldata(digest, signature);
        bool known = wrong == ECDSA.RecoverError.NoError && PROVIDERS.isSigner(state.provider, signer);
        require(known, UnknownSigner(rental, state.provider, signer));
    }

    function _digest(bytes32 rental, Batches.Header memory header, bytes32 pricesHash) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    BATCH_TYPE,
                    rental,
                    header.prevHead,
                    header.to,
                    pricesHash,
                    header.leavesHash,
                    header.count,
                    header.total
                )
            )
        );
    }

    function _worth(uint256[] calldata prices, bytes calldata leaves) private pure returns (uint256 total) {
        uint256 count = leaves.length / Leaf.SIZE;
        for (uint256 index = 0; index < count; ++index) {
            // slither-disable-next-line unused-return
            (, uint256 facts) = Leaf.read(leaves, index);
            total += Leaf.amount(index, facts, prices);
        }
    }

    function _checkPrices(bytes32 rental, bytes32 committed, uint256[] calldata prices) private pure {
        bytes32 given = keccak256(abi.encode(prices));
        require(given == committed, PricesMismatch(rental, committed, given));
        for (uint256 class = 0; class < prices.length; ++class) {
            require(prices[class] <= type(uint128).max, PriceTooHigh(class, prices[class]));
        }
    }

    function _bounds(State storage state, uint64 to) private view returns (Bounds memory) {
        uint64 through = state.account.through;
        uint64 latest = block.timestamp < state.end ? uint64(block.timestamp) : state.end;
        require(to > through && to <= latest, WatermarkOutside(to, through, latest));
        return Bounds(uint256(through) * 1000, uint256(to - through) * 1000, uint256(state.period) * 1000);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Leaf} from "./Leaf.sol";
import {IRental} from "./interfaces/IRental.sol";

/// @title Rentals of GPUs, paid in the chain's native coin.
/// @notice A payer deposits; the provider settles receipts against the deposit; both pull what is theirs.
/// The contract proves no work: receipts are the provider's word, bounded by the balance and open to everyone's eyes.
/// @dev No owner, no proxy. A rental's receipts form a chain of hashes, its head: one batch alone can follow a head,
/// so a batch that is sent twice is paid once. Coins that are forced upon the contract are nobody's.
contract Rental is IRental {
    /// @dev What a head commits to, beside the head before it.
    struct Batch {
        bytes32 prevHead;
        bytes32 leavesHash;
        uint256 count;
        uint256 total;
        uint64 to;
    }

    mapping(bytes32 rental => RentalView) private _rentals;

    /// @inheritdoc IRental
    mapping(address account => uint256) public credit;

    /// @inheritdoc IRental
    function open(Terms calldata terms, bytes32 salt) external payable returns (bytes32 rental) {
        require(msg.value != 0, NothingToMove());
        require(terms.provider != address(0) && terms.end > block.timestamp, InvalidTerms(terms.provider, terms.end));
        require(uint256(terms.end) + terms.claimWindow <= type(uint64).max, InvalidTerms(terms.provider, terms.end));
        rental = keccak256(abi.encode(block.chainid, address(this), msg.sender, salt));
        RentalView storage state = _rentals[rental];
        require(state.payer == address(0), RentalExists(rental));

        bytes32 head = keccak256(abi.encode("PLASMA_RENTAL_V1", block.chainid, address(this), rental));
        state.payer = msg.sender;
        state.provider = terms.provider;
        state.balance = msg.value;
        state.opened = uint64(block.timestamp);
        state.end = terms.end;
        state.notice = terms.notice;
        state.claimDeadline = terms.end + terms.claimWindow;
        state.through = uint64(block.timestamp) - 1;
        state.head = head;
        state.priceHash = terms.priceHash;
        state.termsHash = terms.termsHash;
        emit RentalOpened(rental, msg.sender, terms.provider, msg.value, terms.priceHash, terms.termsHash, head);
    }

    /// @inheritdoc IRental
    function topUp(bytes32 rental) external payable {
        RentalView storage state = _known(rental);
        require(msg.value != 0, NothingToMove());
        require(!state.refunded, RentalRefunded(rental));
        uint256 paid = msg.value < state.owed ? msg.value : state.owed;
        state.owed -= paid;
        state.balance += msg.value - paid;
        credit[state.provider] += paid;
        emit RentalToppedUp(rental, msg.value, paid);
    }

    /// @inheritdoc IRental
    function settle(bytes32 rental, bytes32 prevHead, uint64 to, uint256[] calldata prices, bytes calldata leaves)
        external
    {
        RentalView storage state = _known(rental);
        require(msg.sender == state.provider, NotAllowed(msg.sender, state.provider));
        _checkPrices(rental, state.priceHash, prices);
        require(leaves.length != 0 && leaves.length % Leaf.SIZE == 0, MalformedLeaves(leaves.length));

        Batch memory batch;
        batch.prevHead = prevHead;
        batch.leavesHash = keccak256(leaves);
        batch.count = leaves.length / Leaf.SIZE;
        batch.to = to;
        if (prevHead != state.head) {
            // Sent again after its first transaction was mined: the head already follows from it.
            batch.total = _worth(prices, leaves);
            require(_headAfter(batch) == state.head, HeadMismatch(rental, state.head, prevHead));
            return;
        }
        _checkTime(rental, state, to);
        batch.total = _settleLeaves(rental, state, to, prices, leaves);
        _advance(rental, state, batch);
    }

    /// @inheritdoc IRental
    function close(bytes32 rental) external {
        RentalView storage state = _known(rental);
        require(!state.refunded, RentalRefunded(rental));
        bool byPayer = msg.sender == state.payer;
        require(byPayer || msg.sender == state.provider, NotAllowed(msg.sender, state.payer));
        uint256 asked = block.timestamp + (byPayer ? state.notice : 0);
        if (asked < state.end) {
            state.claimDeadline -= state.end - uint64(asked);
            state.end = uint64(asked);
        }
        emit RentalClosed(rental, state.end, state.claimDeadline);
    }

    /// @inheritdoc IRental
    function refund(bytes32 rental) external {
        RentalView storage state = _known(rental);
        require(!state.refunded, RentalRefunded(rental));
        require(block.timestamp > state.claimDeadline, ClaimDeadlineNotReached(rental, state.claimDeadline));
        uint256 rest = state.balance;
        state.balance = 0;
        state.refunded = true;
        credit[state.payer] += rest;
        emit RentalRefundPaid(rental, rest);
    }

    /// @inheritdoc IRental
    function claim() external {
        uint256 amount = credit[msg.sender];
        require(amount != 0, NothingToMove());
        credit[msg.sender] = 0;
        emit Claimed(msg.sender, amount);
        (bool taken,) = msg.sender.call{value: amount}("");
        require(taken, TransferFailed(msg.sender, amount));
    }

    /// @inheritdoc IRental
    function rentalOf(bytes32 rental) external view returns (RentalView memory) {
        return _known(rental);
    }

    /// @dev Moves head and watermark on, and pays what the balance holds; the rest is owed.
    function _advance(bytes32 rental, RentalView storage state, Batch memory batch) private {
        uint64 firstSequence = state.nextSequence;
        bytes32 head = _headAfter(batch);
        state.head = head;
        state.through = batch.to;
        state.nextSequence = firstSequence + uint64(batch.count);
        uint256 paid = batch.total < state.balance ? batch.total : state.balance;
        state.balance -= paid;
        state.owed += batch.total - paid;
        credit[state.provider] += paid;
        emit BatchSettled(rental, head, batch.prevHead, firstSequence, uint32(batch.count), batch.total, batch.to);
    }

    function _headAfter(Batch memory batch) private pure returns (bytes32) {
        return keccak256(abi.encode(batch.prevHead, batch.leavesHash, batch.count, batch.total, uint256(batch.to)));
    }

    /// @dev Checks each leaf, says that it is settled, and sums what they are worth.
    function _settleLeaves(
        bytes32 rental,
        RentalView storage state,
        uint64 to,
        uint256[] calldata prices,
        bytes calldata leaves
    ) private returns (uint256 total) {
        uint128 before;
        for (uint256 index = 0; index < leaves.length / Leaf.SIZE; ++index) {
            (uint256 ids, uint256 facts) = Leaf.read(leaves, index);
            bytes16 podUid = Leaf.podUid(ids);
            require(index == 0 || uint128(podUid) > before, LeafOutOfOrder(index, podUid));
            before = uint128(podUid);
            _checkEnd(index, Leaf.end(facts), state.through, to);
            uint256 amount = _amount(index, facts, prices);
            total += amount;
            emit PodSettled(rental, podUid, Leaf.jobUid(ids), state.nextSequence + uint64(index), amount);
        }
    }

    /// @dev `end` in milliseconds, the watermarks in seconds.
    function _checkEnd(uint256 index, uint256 end, uint256 through, uint256 to) private pure {
        require(end > through * 1000 && end <= to * 1000, LeafEndOutside(index, end, through * 1000, to * 1000));
    }

    function _worth(uint256[] calldata prices, bytes calldata leaves) private pure returns (uint256 total) {
        uint256 count = leaves.length / Leaf.SIZE;
        for (uint256 index = 0; index < count; ++index) {
            (, uint256 facts) = Leaf.read(leaves, index);
            total += _amount(index, facts, prices);
        }
    }

    /// @dev Wei, rounded down in the payer's favour; a void leaf is worth nothing.
    function _amount(uint256 index, uint256 facts, uint256[] calldata prices) private pure returns (uint256) {
        uint256 deviceMs = Leaf.deviceMs(facts);
        uint256 duration = Leaf.duration(facts);
        require(deviceMs <= duration * Leaf.MAX_DEVICES, LeafTooLong(index, deviceMs, duration));
        uint256 priceClass = Leaf.priceClass(facts);
        require(priceClass < prices.length, UnknownPriceClass(index, priceClass, prices.length));
        return Leaf.isVoid(facts) ? 0 : deviceMs * prices[priceClass] / 1000;
    }

    function _checkPrices(bytes32 rental, bytes32 committed, uint256[] calldata prices) private pure {
        bytes32 given = keccak256(abi.encode(prices));
        require(given == committed, PricesMismatch(rental, committed, given));
    }

    function _checkTime(bytes32 rental, RentalView storage state, uint64 to) private view {
        // A refund comes only after the claim deadline, so this keeps refunded rentals out too.
        require(block.timestamp <= state.claimDeadline, ClaimDeadlinePassed(rental, state.claimDeadline));
        uint64 latest = block.timestamp < state.end ? uint64(block.timestamp) : state.end;
        require(to > state.through && to <= latest, WatermarkOutside(to, state.through, latest));
    }

    function _known(bytes32 rental) private view returns (RentalView storage state) {
        state = _rentals[rental];
        require(state.payer != address(0), UnknownRental(rental));
    }
}

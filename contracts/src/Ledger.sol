// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The money of one rental, as arithmetic and nothing else: no clock, no coins, no callers.
/// @dev Sums only grow, but for `strike…`, which undo what was never earned. What always holds, and is proved:
///   allowance <= ceiling * maxLateness
///   drawn <= earned                      (the difference is what is owed)
///   released + withheld <= matured <= earned
///   released <= drawn
/// 96 bits hold 79 billion coins of 18 decimals, several times what there is.
/// Each function takes an account in memory, and writes into it.
library Ledger {
    /// @notice An account, all in wei but for the times.
    struct Account {
        /// @notice What the payer put in and nobody drew.
        uint96 balance;
        /// @notice What could be drawn at `countedAt`: the bucket's content.
        uint96 allowance;
        /// @notice When the allowance was counted; Unix seconds.
        uint40 countedAt;
        /// @notice What all batches are worth.
        uint96 earned;
        /// @notice What of it was taken from the balance.
        uint96 drawn;
        /// @notice The watermark: everything up to this second is settled.
        uint40 through;
        /// @notice What the batches are worth that were acknowledged or whose window is over.
        uint96 matured;
        /// @notice What went to the provider's credit.
        uint96 released;
        /// @notice Seconds after which the bucket is full.
        uint32 maxLateness;
        /// @notice What of the matured is contested.
        uint96 withheld;
        /// @notice Wei a second that fall into the bucket.
        uint96 ceiling;
    }

    /// @notice What a full bucket holds; below 2^96 by the terms. 96 bits times 32 don't overflow.
    function capacity(Account memory account) internal pure returns (uint256) {
        unchecked {
            return uint256(account.ceiling) * account.maxLateness;
        }
    }

    /// @notice What was earned and isn't drawn yet.
    function owed(Account memory account) internal pure returns (uint256) {
        return account.earned - account.drawn;
    }

    /// @notice Lets fall into the bucket what has come since it was counted; a clock that goes back brings nothing.
    function refill(Account memory account, uint256 time) internal pure {
        if (time <= account.countedAt) return;
        uint256 full = capacity(account);
        uint256 content;
        // Neither 96 bits times a time, nor 96 bits more, overflow.
        unchecked {
            content = account.allowance + uint256(account.ceiling) * uint40(time - account.countedAt);
        }
        account.allowance = uint96(_least(content, full));
        account.countedAt = uint40(time);
    }

    /// @notice A batch was settled.
    function earn(Account memory account, uint256 total) internal pure {
        account.earned += uint96(total);
    }

    /// @notice Takes from the balance what is owed, as far as balance and bucket hold it.
    function draw(Account memory account) internal pure {
        uint256 amount = _least(_least(owed(account), account.balance), account.allowance);
        account.balance -= uint96(amount);
        account.allowance -= uint96(amount);
        account.drawn += uint96(amount);
    }

    /// @notice What the payer may take back: the bucket's content stays, since it is what the provider may have earned.
    function withdrawable(Account memory account) internal pure returns (uint256) {
        return account.balance - _least(account.balance, account.allowance);
    }

    /// @notice A batch was acknowledged or its window is over; what of it is contested stays behind.
    function mature(Account memory account, uint256 total, uint256 contested) internal pure {
        account.matured += uint96(total);
        account.withheld += uint96(contested);
    }

    /// @notice What goes to the provider now: matured, not contested, and drawn.
    function release(Account memory account) internal pure returns (uint256 amount) {
        amount = _least(account.matured - account.withheld, account.drawn) - account.released;
        account.released += uint96(amount);
    }

    /// @notice A contest of a matured leaf was turned down.
    function thaw(Account memory account, uint256 amount) internal pure {
        account.withheld -= uint96(amount);
    }

    /// @notice A leaf of a batch that isn't matured was never earned.
    /// @return returned What was drawn for it and is the payer's again.
    function strikePending(Account memory account, uint256 amount) internal pure returns (uint256 returned) {
        return _unearn(account, amount);
    }

    /// @notice A contested leaf of a matured batch was never earned.
    /// @return returned What was drawn for it and is the payer's again.
    function strikeWithheld(Account memory account, uint256 amount) internal pure returns (uint256 returned) {
        account.withheld -= uint96(amount);
        account.matured -= uint96(amount);
        return _unearn(account, amount);
    }

    /// @notice A leaf of a matured batch was never earned. What was released is gone: that is the stake's to make good.
    /// @return returned What was drawn for it and is the payer's again.
    /// @return shortfall What can't be undone here.
    function strikeMatured(Account memory account, uint256 amount)
        internal
        pure
        returns (uint256 returned, uint256 shortfall)
    {
        uint256 undone = _least(amount, account.matured - account.withheld - account.released);
        account.matured -= uint96(undone);
        return (_unearn(account, undone), amount - undone);
    }

    /// @dev What others earned is drawn first, so that only what is beyond all earnings goes back.
    function _unearn(Account memory account, uint256 amount) private pure returns (uint256 returned) {
        account.earned -= uint96(amount);
        if (account.drawn <= account.earned) return 0;
        returned = account.drawn - account.earned;
        account.drawn = account.earned;
    }

    function _least(uint256 one, uint256 other) private pure returns (uint256) {
        return one < other ? one : other;
    }
}

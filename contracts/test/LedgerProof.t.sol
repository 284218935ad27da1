// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ledger} from "../src/Ledger.sol";

/// @dev The money rules, proved by halmos for every account and every amount: each `check_` takes any account that
/// keeps the rules, does one thing, and the rules hold again. By induction they hold after anything.
/// `halmos --contract LedgerProof`; forge runs none of these.
contract LedgerProof {
    using Ledger for Ledger.Account;

    /// @dev What always holds of an account's sums.
    function sound(Ledger.Account memory account) private pure returns (bool) {
        bool drawn = account.drawn <= account.earned;
        bool matured = account.matured <= account.earned;
        bool apart = uint256(account.released) + account.withheld <= account.matured;
        return drawn && matured && apart && account.released <= account.drawn;
    }

    /// @dev An account that the contract can hold: sums far below 2^96, as all the coins there are.
    function assume(Ledger.Account memory account) private pure returns (bool) {
        return account.earned < 2 ** 94 && account.balance < 2 ** 94 && sound(account);
    }

    /// @dev The bucket's own rule; `refill` alone adds to it, and nothing touches ceiling and lateness.
    function inBucket(Ledger.Account memory account) private pure returns (bool) {
        return account.allowance <= account.capacity() && account.capacity() < 2 ** 96;
    }

    /// @dev The bucket takes in at most ceiling * time, and never holds more than its capacity.
    function check_refill_is_bounded(Ledger.Account memory account, uint40 time) external pure {
        if (!inBucket(account) || time <= account.countedAt) return;
        uint256 before = account.allowance;
        uint40 elapsed = time - account.countedAt;
        account.refill(time);
        unchecked {
            assert(account.allowance <= before + uint256(account.ceiling) * elapsed);
        }
        assert(account.allowance >= before || account.allowance == account.capacity());
        assert(inBucket(account));
        assert(account.countedAt == time);
    }

    function check_a_clock_that_goes_back_brings_nothing(Ledger.Account memory account, uint40 time) external pure {
        if (!assume(account) || time > account.countedAt) return;
        uint256 before = account.allowance;
        account.refill(time);
        assert(account.allowance == before);
    }

    /// @dev With `check_refill_is_bounded`: drawn in any interval <= ceiling * (interval + maxLateness). Each wei that
    /// is drawn leaves the bucket, which held at most its capacity, and took in at most ceiling * interval.
    function check_each_drawn_wei_leaves_bucket_and_balance(Ledger.Account memory account) external pure {
        if (!assume(account)) return;
        (uint256 balance, uint256 allowance, uint256 drawn) = (account.balance, account.allowance, account.drawn);
        account.draw();
        uint256 amount = account.drawn - drawn;
        assert(account.drawn >= drawn && amount <= balance && amount <= allowance);
        assert(account.balance == balance - amount && account.allowance == allowance - amount);
    }

    function check_drawing_takes_all_that_may_be_taken(Ledger.Account memory account) external pure {
        if (!assume(account)) return;
        account.draw();
        bool enough = account.drawn == account.earned || account.balance == 0 || account.allowance == 0;
        assert(enough && account.drawn <= account.earned);
    }

    /// @dev earned = drawn + owed, after anything.
    function check_what_is_earned_is_drawn_or_owed(Ledger.Account memory account, uint80 total) external pure {
        if (!assume(account)) return;
        uint256 owed = account.owed();
        account.earn(total);
        assert(account.earned == account.drawn + account.owed());
        assert(account.owed() == owed + total);
        assert(sound(account));
    }

    function check_the_payer_never_goes_below_what_the_bucket_locks(Ledger.Account memory account) external pure {
        if (!assume(account)) return;
        uint256 left = account.balance - account.withdrawable();
        assert(left == account.allowance || (left == account.balance && left < account.allowance));
    }

    function check_maturing_keeps_the_rules(Ledger.Account memory account, uint80 total, uint80 contested)
        external
        pure
    {
        // A batch is part of what is earned and not matured; what is contested is part of it.
        if (!assume(account) || contested > total || uint256(account.matured) + total > account.earned) return;
        account.mature(total, contested);
        assert(sound(account));
    }

    /// @dev Never more than is matured and uncontested, never more than is drawn, and as much as both allow.
    function check_release_gives_what_is_matured_and_drawn(Ledger.Account memory account) external pure {
        if (!assume(account)) return;
        uint256 before = account.released;
        uint256 amount = account.release();
        assert(account.released == before + amount);
        assert(uint256(account.released) + account.withheld <= account.matured);
        assert(account.released <= account.drawn);
        assert(account.released == account.drawn || uint256(account.released) + account.withheld == account.matured);
        assert(account.release() == 0);
        assert(sound(account));
    }

    function check_thawing_keeps_the_rules(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.withheld) return;
        account.thaw(amount);
        assert(sound(account));
    }

    /// @dev What goes back was drawn, and nothing else changes hands.
    function check_striking_pending_conserves(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.earned - account.matured) return;
        (uint96 earned, uint96 drawn) = (account.earned, account.drawn);
        uint256 returned = account.strikePending(amount);
        assert(account.earned == earned - amount && account.drawn == drawn - returned);
    }

    function check_striking_pending_keeps_the_rules(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.earned - account.matured) return;
        account.strikePending(amount);
        assert(sound(account));
    }

    function check_striking_withheld_conserves(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.withheld) return;
        (uint256 earned, uint256 drawn, uint256 released) = (account.earned, account.drawn, account.released);
        uint256 returned = account.strikeWithheld(amount);
        assert(account.earned + amount == earned);
        assert(account.drawn + returned == drawn);
        assert(account.released == released);
        assert(sound(account));
    }

    function check_striking_matured_conserves(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.matured) return;
        (uint96 earned, uint96 drawn, uint96 released) = (account.earned, account.drawn, account.released);
        (uint256 returned, uint256 shortfall) = account.strikeMatured(amount);
        assert(account.earned == earned - (amount - shortfall) && account.drawn == drawn - returned);
        assert(account.released == released && shortfall <= amount);
    }

    function check_striking_matured_keeps_the_rules(Ledger.Account memory account, uint96 amount) external pure {
        if (!assume(account) || amount > account.matured) return;
        account.strikeMatured(amount);
        assert(sound(account));
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Faults} from "../src/Faults.sol";
import {Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev Takes what it claimed, and calls back in the middle of that.
contract Comeback {
    bytes public call;
    bytes public answer;

    function prepare(bytes calldata call_) external {
        call = call_;
    }

    receive() external payable {
        (, answer) = msg.sender.call(call);
    }
}

/// @dev Nobody comes back into the fault contract while it sends coins.
contract FaultsReentryTest is World {
    function test_nothing_is_done_from_within_a_claim() public {
        Settled memory batch =
            settle(4000, bytes.concat(Leaves.simple(1, 4_000_000, 1000), Leaves.simple(2, 4_000_000, 1000)));
        uint256[] memory indexes = new uint256[](1);
        bytes[5] memory calls = [
            abi.encodeCall(Faults.claim, (PAYER)),
            abi.encodeCall(Faults.proveFault, (evidence(batch, 0), evidence(batch, 1))),
            abi.encodeCall(Faults.contest, (evidence(batch, 0), indexes, "why")),
            abi.encodeCall(Faults.rule, (receiptOf(batch, 0), true)),
            abi.encodeCall(Faults.lapse, (receiptOf(batch, 0)))
        ];
        Comeback comeback = new Comeback();
        vm.prank(address(comeback));
        faults.proveFault(evidence(batch, 0), evidence(batch, 1));
        uint256 credit = faults.credit(address(comeback));
        for (uint256 place = 0; place < calls.length; ++place) {
            uint256 before = address(comeback).balance;
            comeback.prepare(calls[place]);
            faults.claim(address(comeback));
            bytes4 reason = bytes4(comeback.answer());
            assertEq(
                bytes32(reason), bytes32(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector), "refused"
            );
            assertEq(address(comeback).balance - before, credit, "claimed all the same");
            again(address(comeback), uint64(4001 + place));
            credit = faults.credit(address(comeback));
        }
    }

    /// @dev Another fault of the provider, shown by the same account.
    function again(address accuser, uint64 to) private {
        uint48 end = uint48(to) * 1000;
        Settled memory batch = settle(to, bytes.concat(Leaves.simple(1, end, 1000), Leaves.simple(2, end, 1000)));
        vm.prank(accuser);
        faults.proveFault(evidence(batch, 0), evidence(batch, 1));
    }
}

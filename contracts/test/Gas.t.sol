// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {IRental, IRentalTypes} from "../src/interfaces/IRental.sol";
import {LeafFacts, Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev What a settled pod costs, everything included: a transaction's base, its call data, and the work.
contract GasTest is World {
    uint64 private constant NOW = 1_764_259_231;
    uint256 private constant PODS = 200;
    uint256 private constant MOST_A_POD = 4300;

    /// @dev Bytes that are zero are cheap, so times are of today.
    function setUp() public override {
        super.setUp();
        vm.warp(NOW);
        rental = openToday();
    }

    function test_two_hundred_pods_cost_at_most_4300_gas_each() public {
        vm.warp(NOW + 1000);
        settle(NOW + 1000, leaves(1, NOW + 1000));
        vm.warp(NOW + 2000);
        uint256 steady = cost(leaves(2, NOW + 2000), NOW + 2000);
        vm.snapshotValue("gas a pod, 200 pods a batch", steady / PODS);
        assertTrue(steady <= MOST_A_POD * PODS, "gas a pod");
    }

    function test_a_rentals_first_batch_costs_no_more() public {
        vm.warp(NOW + 1000);
        uint256 first = cost(leaves(1, NOW + 1000), NOW + 1000);
        vm.snapshotValue("gas a pod, 200 pods, first batch of a rental", first / PODS);
        assertTrue(first <= MOST_A_POD * PODS, "gas a pod");
    }

    function openToday() private returns (bytes32) {
        IRentalTypes.Terms memory agreed = terms();
        agreed.end = NOW + 1_000_000;
        agreed.ceiling = 1e9;
        return openWith(agreed, 100 ether, "today");
    }

    /// @dev Real UIDs have hardly a byte that is zero; each has 8 GPUs.
    function leaves(uint256 salt, uint64 to) private pure returns (bytes memory packed) {
        for (uint128 pod = 1; pod <= PODS; ++pod) {
            uint128 uid = pod << 120 | uint128(uint120(uint256(keccak256(abi.encode(pod, salt)))));
            uint128 job = uint128(uint256(keccak256(abi.encode(salt))));
            packed = bytes.concat(
                packed,
                Leaves.pack(
                    LeafFacts(uid, job, uint48(to) * 1000 - 7, 600_123, 8 * 600_123 - 11, 0, uint32(pod), 255, 1)
                )
            );
        }
    }

    function cost(bytes memory packed, uint64 to) private returns (uint256 gas) {
        bytes32 head = state().head;
        uint256 total = Leaves.worth(packed, prices);
        bytes memory signature = sign(KEY, Batches.Header(head, keccak256(packed), PODS, total, to));
        bytes memory data = abi.encodeCall(IRental.settle, (rental, head, to, prices, packed, signature));
        gas = 21_000;
        for (uint256 place = 0; place < data.length; ++place) {
            gas += data[place] == 0 ? 4 : 16;
        }
        coldAll();
        uint256 before = gasleft();
        (bool settled,) = address(rentals).call(data);
        gas += before - gasleft();
        assertTrue(settled, "settled");
    }

    /// @dev As in a transaction of its own, in which nothing has been touched.
    function coldAll() private {
        VmCool(address(vm)).cool(address(rentals));
        VmCool(address(vm)).cool(address(providers));
    }
}

interface VmCool {
    function cool(address target) external;
}

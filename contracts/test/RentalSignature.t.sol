// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Batches} from "../src/Batches.sol";
import {IRentalErrors} from "../src/interfaces/IRental.sol";
import {Leaves} from "./Leaves.sol";
import {World} from "./World.sol";

/// @dev Whose signature settles a batch, and what it covers.
contract RentalSignatureTest is World, IRentalErrors {
    Batches.Header private _header;
    bytes private _leaves;

    function setUp() public override {
        super.setUp();
        _leaves = Leaves.simple(1, 2_000_000, 1000);
        _header = Batches.Header(state().head, keccak256(_leaves), 1, 1000, 2000);
    }

    function test_the_digest_is_eip_712_over_every_field_of_the_header() public view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Plasma Rental"),
                keccak256("1"),
                block.chainid,
                address(rentals)
            )
        );
        bytes32 message = keccak256(
            abi.encode(
                keccak256(
                    "Batch(bytes32 rental,bytes32 prevHead,uint64 to,bytes32 pricesHash,bytes32 leavesHash,uint256 count,uint256 total)"
                ),
                rental,
                _header.prevHead,
                uint256(2000),
                keccak256(abi.encode(prices)),
                keccak256(_leaves),
                uint256(1),
                uint256(1000)
            )
        );
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domain, message));
        assertEq(rentals.digestOf(rental, _header, keccak256(abi.encode(prices))), expected, "digest");
    }

    function test_a_key_of_the_provider_signs_and_anyone_sends() public {
        bytes memory signature = sign(KEY, _header);
        vm.prank(STRANGER);
        rentals.settle(rental, _header.prevHead, 2000, prices, _leaves, signature);
        assertEq(state().settledBatch, 1, "settled");
    }

    function test_a_key_that_isnt_the_providers_settles_nothing() public {
        uint256 other = 7;
        refusedSignature(sign(other, _header), vm.addr(other));
        registerProvider(STRANGER, STRANGER, other);
        refusedSignature(sign(other, _header), vm.addr(other));
        vm.prank(PROVIDER);
        providers.setSigner(vm.addr(KEY), false);
        refusedSignature(sign(KEY, _header), vm.addr(KEY));
    }

    function test_bytes_that_are_no_signature_settle_nothing() public {
        refusedSignature("", address(0));
        refusedSignature(new bytes(65), address(0));
    }

    /// @dev Whichever field differs, the key that is recovered is nobody's.
    function test_each_field_of_the_header_is_signed() public {
        Batches.Header memory other = _header;
        other.to = 2001;
        differs(other);
        other = _header;
        other.total += 1;
        differs(other);
        other = _header;
        other.count = 2;
        differs(other);
        other = _header;
        other.leavesHash = "other";
        differs(other);
        other = _header;
        other.prevHead = "other";
        differs(other);
        other = _header;
        bytes32 before = rental;
        rental = "other";
        bytes memory signature = sign(KEY, other);
        rental = before;
        stranger(signature);
    }

    function differs(Batches.Header memory other) private {
        stranger(sign(KEY, other));
    }

    function stranger(bytes memory signature) private {
        try rentals.settle(rental, _header.prevHead, 2000, prices, _leaves, signature) {
            assertTrue(false, "another header's signature settled");
        } catch (bytes memory reason) {
            assertEq(bytes32(bytes4(reason)), bytes32(UnknownSigner.selector), "reason");
        }
    }

    function refusedSignature(bytes memory signature, address signer) private {
        vm.expectRevert(abi.encodeWithSelector(UnknownSigner.selector, rental, PROVIDER, signer));
        rentals.settle(rental, _header.prevHead, 2000, prices, _leaves, signature);
    }
}

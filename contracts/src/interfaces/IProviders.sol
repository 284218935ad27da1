// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IPause} from "./IPause.sol";

/// @title What can go wrong. Every error carries the object and the numbers that decide.
interface IProvidersErrors {
    /// @notice A number that the contract is created with makes no sense: stake and bond are above 0, the fault
    /// contract is a contract to be, unbonding is longer than the contest and below 2^32 seconds.
    error InvalidParameters();
    /// @notice Nobody registered as a provider under this address: `register` first.
    error UnknownProvider(address provider);
    /// @notice The address is registered: change what it has instead.
    error ProviderExists(address provider);
    /// @notice Payees and keys are not the zero address.
    error ZeroAddress();
    /// @notice Only `expected` may do this.
    error CallerNotAllowed(address caller, address expected);
    /// @notice A node has at most 64 devices: the mask of a receipt has no more bits. Register it as two nodes.
    error TooManyDevices(uint32 nodeIndex, uint256 devices);
    /// @notice So many devices need `required` wei bonded: add stake, or retire devices.
    error StakeTooLow(address provider, uint256 bonded, uint256 required);
    /// @notice Nothing was sent, or there is nothing to move.
    error NothingToMove();
    /// @notice The stake is bound until then, on the clock that stands still in a pause: wait.
    error StillUnbonding(address provider, uint40 unbondedAt);
    /// @notice The receiver didn't take the coins: change the payee, or let it take them.
    error TransferFailed(address to, uint256 amount);
}

/// @title The values that the contract keeps and takes.
interface IProvidersTypes {
    /// @notice Numbers that are fixed when the contract is created.
    struct Parameters {
        /// @notice Wei that must be bonded for each device on offer.
        uint128 stakePerDevice;
        /// @notice How long stake stays slashable after it was asked back; seconds.
        uint40 unbondingPeriod;
        /// @notice How long before a new payee counts; seconds.
        uint40 payeeDelay;
        /// @notice How long an arbiter has for a contest; seconds.
        uint40 contestPeriod;
        /// @notice The least bond for each contested receipt, in wei.
        uint128 contestBond;
    }

    /// @notice A provider as the contract holds it.
    struct Provider {
        /// @notice Who is paid until `payeeFrom`.
        address payee;
        /// @notice When `nextPayee` begins to be paid; 0 where none is named. On the clock that stands still in a pause.
        uint40 payeeFrom;
        /// @notice Devices on offer, over all nodes.
        uint32 devices;
        address nextPayee;
        /// @notice When what unbonds may be taken; on the clock that stands still in a pause.
        uint40 unbondedAt;
        /// @notice Wei that stand behind the devices.
        uint128 bonded;
        /// @notice Wei that were asked back and are slashable still.
        uint128 unbonding;
    }
}

/// @title What the contract says happened.
interface IProvidersEvents {
    event ProviderRegistered(address indexed provider, address indexed payee);
    /// @notice `from` is on the clock that stands still in a pause.
    event PayeeChanged(address indexed provider, address indexed payee, uint40 from);
    event SignerSet(address indexed provider, address indexed key, bool allowed);
    event NodeSet(address indexed provider, uint32 indexed nodeIndex, uint8 devices);
    event StakeAdded(address indexed provider, uint256 amount);
    event UnbondingStarted(address indexed provider, uint256 amount, uint40 unbondedAt);
    event StakeWithdrawn(address indexed provider, address indexed to, uint256 amount);
    event StakeSlashed(address indexed provider, uint256 burned, uint256 paid);
    event ArbiterSet(address indexed arbiter);
    event PauserSet(address indexed pauser);
}

/// @title Providers: who they are, which keys sign for them, what they offer, and what they lose when they lie.
/// It also holds what governance may set (the arbiter, the pauser) and the pause itself.
interface IProviders is IProvidersErrors, IProvidersTypes, IProvidersEvents, IPause {
    /// @notice Registers the caller; the coins that are sent are stake.
    /// @param payee Who gets what the provider earns and the stake that it takes back.
    function register(address payee) external payable;

    /// @notice Names another payee, which counts after the delay. The present one, named again, revokes that.
    function changePayee(address payee) external;

    /// @notice Lets a key sign the caller's batches, or no longer.
    function setSigner(address key, bool allowed) external;

    /// @notice Says how many devices a node of the caller has; 0 retires it.
    function setNode(uint32 nodeIndex, uint8 devices) external;

    /// @notice Adds stake to a provider. Anyone may.
    function addStake(address provider) external payable;

    /// @notice Asks back stake that no device needs. All that unbonds, also what was asked back before, waits anew.
    function unbond(uint128 amount) external;

    /// @notice Sends what has unbonded to the provider's payee. Anyone may.
    function withdrawStake(address provider) external;

    /// @notice Takes stake from a provider; what unbonds first. Only the fault contract may.
    /// @param amount Wei to be taken, or all there is.
    /// @param wanted Wei of it that the fault contract gets, at most half; all else is burned.
    /// @return taken What the stake lost.
    /// @return paid What of it the fault contract got.
    function slash(address provider, uint256 amount, uint256 wanted) external returns (uint256 taken, uint256 paid);

    /// @notice Names who judges contests that are opened from now on. Only the owner may.
    function setArbiter(address arbiter) external;

    /// @notice Names who may pause. Only the owner may.
    function setPauser(address pauser) external;

    /// @notice Pauses opening, topping up and settling for so many seconds. Only the pauser may.
    function pause(uint256 duration) external;

    /// @notice Ends the pause early. Pauser or owner may.
    function unpause() external;

    /// @notice The provider; reverts when there is none.
    function providerOf(address provider) external view returns (Provider memory);

    /// @notice Who gets the coins of an account: a provider's payee, anyone else itself.
    function payeeOf(address account) external view returns (address);

    /// @notice Whether rentals may be opened with a provider: it offers devices and its stake covers them.
    function isOpen(address provider) external view returns (bool);

    /// @notice Whether a key signs for a provider.
    function isSigner(address provider, address key) external view returns (bool);

    /// @notice How many devices a node of a provider has.
    function devicesOf(address provider, uint32 nodeIndex) external view returns (uint8);

    function arbiter() external view returns (address);

    function pauser() external view returns (address);

    /// @notice The only contract that slashes.
    function faults() external view returns (address);

    /// @notice Wei for each device on offer.
    function stakePerDevice() external view returns (uint128);

    /// @notice Seconds for which stake stays slashable after it was asked back.
    function unbondingPeriod() external view returns (uint40);

    /// @notice Seconds before a new payee counts.
    function payeeDelay() external view returns (uint40);

    /// @notice Seconds that an arbiter has for a contest.
    function contestPeriod() external view returns (uint40);

    /// @notice The least bond for each contested receipt, in wei.
    function contestBond() external view returns (uint128);
}

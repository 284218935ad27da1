// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Pause} from "./Pause.sol";
import {IProviders} from "./interfaces/IProviders.sol";

/// @title Providers and their stake.
/// @dev The owner names arbiter and pauser, and can do nothing else: no stake, no payee and no key is within its reach.
contract Providers is IProviders, Pause, Ownable2Step {
    /// @dev Nobody has its key: what is sent there is gone.
    address private constant BURNED = 0x000000000000000000000000000000000000dEaD;
    /// @dev Bits of a receipt's device mask.
    uint8 private constant MAX_DEVICES = 64;

    /// @inheritdoc IProviders
    address public immutable faults;
    /// @inheritdoc IProviders
    uint128 public immutable stakePerDevice;
    /// @inheritdoc IProviders
    uint40 public immutable unbondingPeriod;
    /// @inheritdoc IProviders
    uint40 public immutable payeeDelay;
    /// @inheritdoc IProviders
    uint40 public immutable contestPeriod;
    /// @inheritdoc IProviders
    uint128 public immutable contestBond;

    /// @inheritdoc IProviders
    address public arbiter;
    /// @inheritdoc IProviders
    address public pauser;

    mapping(address provider => Provider) private _providers;

    /// @inheritdoc IProviders
    mapping(address provider => mapping(address key => bool)) public isSigner;

    /// @inheritdoc IProviders
    mapping(address provider => mapping(uint32 nodeIndex => uint8)) public devicesOf;

    /// @param owner_ Who names arbiter and pauser.
    /// @param faults_ Where the fault contract will be: it is created after this one, and nothing can be set later.
    constructor(address owner_, address faults_, Parameters memory parameters) Ownable(owner_) {
        bool sound = faults_ != address(0) && parameters.stakePerDevice != 0 && parameters.contestBond != 0;
        bool ordered = parameters.unbondingPeriod > parameters.contestPeriod;
        require(sound && ordered && parameters.unbondingPeriod <= type(uint32).max, InvalidParameters());
        faults = faults_;
        stakePerDevice = parameters.stakePerDevice;
        unbondingPeriod = parameters.unbondingPeriod;
        payeeDelay = parameters.payeeDelay;
        contestPeriod = parameters.contestPeriod;
        contestBond = parameters.contestBond;
    }

    /// @inheritdoc IProviders
    function register(address payee) external payable {
        require(payee != address(0), ZeroAddress());
        Provider storage provider = _providers[msg.sender];
        require(provider.payee == address(0), ProviderExists(msg.sender));
        provider.payee = payee;
        emit ProviderRegistered(msg.sender, payee);
        if (msg.value != 0) _addStake(provider, msg.sender);
    }

    /// @inheritdoc IProviders
    function changePayee(address payee) external {
        require(payee != address(0), ZeroAddress());
        Provider storage provider = _known(msg.sender);
        // Whom the delay has let in by now is the present one, whoever comes next.
        provider.payee = payeeOf(msg.sender);
        provider.nextPayee = payee;
        provider.payeeFrom = clock() + payeeDelay;
        emit PayeeChanged(msg.sender, payee, provider.payeeFrom);
    }

    /// @inheritdoc IProviders
    function setSigner(address key, bool allowed) external {
        require(key != address(0), ZeroAddress());
        _known(msg.sender);
        isSigner[msg.sender][key] = allowed;
        emit SignerSet(msg.sender, key, allowed);
    }

    /// @inheritdoc IProviders
    function setNode(uint32 nodeIndex, uint8 devices) external {
        require(devices <= MAX_DEVICES, TooManyDevices(nodeIndex, devices));
        Provider storage provider = _known(msg.sender);
        uint8 before = devicesOf[msg.sender][nodeIndex];
        uint32 offered = provider.devices - before + devices;
        uint256 required = uint256(offered) * stakePerDevice;
        // Retiring devices is always possible, also for whom a slash has left with too little.
        require(devices <= before || provider.bonded >= required, StakeTooLow(msg.sender, provider.bonded, required));
        provider.devices = offered;
        devicesOf[msg.sender][nodeIndex] = devices;
        emit NodeSet(msg.sender, nodeIndex, devices);
    }

    /// @inheritdoc IProviders
    function addStake(address provider) external payable {
        require(msg.value != 0, NothingToMove());
        _addStake(_known(provider), provider);
    }

    /// @inheritdoc IProviders
    function unbond(uint128 amount) external {
        Provider storage provider = _known(msg.sender);
        require(amount != 0, NothingToMove());
        uint256 required = uint256(provider.devices) * stakePerDevice + amount;
        require(provider.bonded >= required, StakeTooLow(msg.sender, provider.bonded, required));
        provider.bonded -= amount;
        provider.unbonding += amount;
        provider.unbondedAt = clock() + unbondingPeriod;
        emit UnbondingStarted(msg.sender, amount, provider.unbondedAt);
    }

    /// @inheritdoc IProviders
    function withdrawStake(address account) external {
        Provider storage provider = _known(account);
        uint256 amount = provider.unbonding;
        require(amount != 0, NothingToMove());
        require(clock() >= provider.unbondedAt, StillUnbonding(account, provider.unbondedAt));
        provider.unbonding = 0;
        address to = payeeOf(account);
        emit StakeWithdrawn(account, to, amount);
        _send(to, amount);
    }

    /// @inheritdoc IProviders
    function slash(address account, uint256 amount, uint256 wanted) external returns (uint256 taken, uint256 paid) {
        require(msg.sender == faults, CallerNotAllowed(msg.sender, faults));
        Provider storage provider = _known(account);
        // What unbonds is about to leave, so it goes first: what is bonded stays for whoever was harmed besides.
        uint256 leaving = amount < provider.unbonding ? amount : provider.unbonding;
        uint256 staying = amount - leaving < provider.bonded ? amount - leaving : provider.bonded;
        provider.unbonding -= uint128(leaving);
        provider.bonded -= uint128(staying);
        taken = leaving + staying;
        paid = wanted < taken / 2 ? wanted : taken / 2;
        emit StakeSlashed(account, taken - paid, paid);
        if (taken != paid) _send(BURNED, taken - paid);
        if (paid != 0) _send(faults, paid);
    }

    /// @inheritdoc IProviders
    function setArbiter(address arbiter_) external onlyOwner {
        arbiter = arbiter_;
        emit ArbiterSet(arbiter_);
    }

    /// @inheritdoc IProviders
    function setPauser(address pauser_) external onlyOwner {
        pauser = pauser_;
        emit PauserSet(pauser_);
    }

    /// @inheritdoc IProviders
    function pause(uint256 duration) external {
        require(msg.sender == pauser, CallerNotAllowed(msg.sender, pauser));
        _pause(duration);
    }

    /// @inheritdoc IProviders
    function unpause() external {
        require(msg.sender == pauser || msg.sender == owner(), CallerNotAllowed(msg.sender, pauser));
        _unpause();
    }

    /// @inheritdoc IProviders
    function providerOf(address provider) external view returns (Provider memory) {
        return _known(provider);
    }

    /// @inheritdoc IProviders
    function payeeOf(address account) public view returns (address) {
        Provider storage provider = _providers[account];
        if (provider.payee == address(0)) return account;
        return provider.payeeFrom != 0 && clock() >= provider.payeeFrom ? provider.nextPayee : provider.payee;
    }

    /// @inheritdoc IProviders
    function isOpen(address account) external view returns (bool) {
        Provider storage provider = _providers[account];
        return provider.devices != 0 && provider.bonded >= uint256(provider.devices) * stakePerDevice;
    }

    function _addStake(Provider storage provider, address account) private {
        provider.bonded += SafeCast.toUint128(msg.value);
        emit StakeAdded(account, msg.value);
    }

    function _send(address to, uint256 amount) private {
        // A payee that its provider named, the fault contract, or nobody.
        // slither-disable-next-line arbitrary-send-eth
        (bool taken,) = to.call{value: amount}("");
        require(taken, TransferFailed(to, amount));
    }

    function _known(address account) private view returns (Provider storage provider) {
        provider = _providers[account];
        require(provider.payee != address(0), UnknownProvider(account));
    }
}

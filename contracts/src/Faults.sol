// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Batches} from "./Batches.sol";
import {Leaf} from "./Leaf.sol";
import {IFaults} from "./interfaces/IFaults.sol";
import {IProviders} from "./interfaces/IProviders.sol";
import {IRental, IRentalTypes} from "./interfaces/IRental.sol";

/// @title Faults of providers: proved by two receipts, or judged by an arbiter.
/// @dev Nothing is stored of a batch here: evidence is a batch's own bytes, which its head in the rental confirms.
/// No pause stops anything here. Coins leave in `claim` alone, as its last act; a guard keeps whoever is called there,
/// and in a slash, from coming back in the middle.
contract Faults is IFaults, ReentrancyGuardTransient {
    /// @dev A receipt that evidence has confirmed.
    struct Receipt {
        bytes32 id;
        bytes32 rental;
        bytes32 head;
        uint256 ids;
        uint256 facts;
        uint256 amount;
        address payer;
        address provider;
    }

    /// @dev Of a slash, the part that goes to whoever proved the fault.
    uint256 private constant REWARD_DIVISOR = 10;
    /// @dev Of what is contested, the least part that the bond is.
    uint256 private constant BOND_DIVISOR = 10;

    IProviders private immutable PROVIDERS;
    IRental private immutable RENTAL;
    uint256 private immutable CONTEST_BOND;
    uint256 private immutable STAKE_PER_DEVICE;

    /// @inheritdoc IFaults
    mapping(bytes32 receipt => Standing) public standingOf;
    mapping(bytes32 receipt => Contest) private _contests;

    /// @inheritdoc IFaults
    mapping(address account => uint256) public credit;
    /// @inheritdoc IFaults
    uint256 public bonds;

    constructor(IProviders providers, IRental rental) {
        require(providers.faults() == address(this) && rental.faults() == address(this), WrongContracts());
        PROVIDERS = providers;
        RENTAL = rental;
        CONTEST_BOND = providers.contestBond();
        STAKE_PER_DEVICE = providers.stakePerDevice();
    }

    /// @notice The part of a slash that isn't burned.
    receive() external payable {
        require(msg.sender == address(PROVIDERS), CallerNotAllowed(msg.sender, address(PROVIDERS)));
    }

    // Who is called between the writes are our own two contracts, and the guard is held.
    // slither-disable-start reentrancy-no-eth
    /// @inheritdoc IFaults
    function proveFault(Evidence calldata one, Evidence calldata other) external nonReentrant {
        Receipt memory first = _confirm(one, one.index);
        Receipt memory second = _confirm(other, other.index);
        require(first.id != second.id, SameLeaf(first.id));
        require(first.provider == second.provider, DifferentProviders(first.provider, second.provider));
        bool samePod = _requireFault(first, second);
        bool fresh = standingOf[first.id] != Standing.Struck || standingOf[second.id] != Standing.Struck;
        require(fresh, AlreadyStruck(first.id, second.id));

        uint256 firstShort = _strike(first);
        uint256 secondShort = _strike(second);
        uint256 harm = first.amount + second.amount;
        (uint256 slashed, uint256 paid) = _slash(first.provider, harm, firstShort + secondShort);
        _compensate(first, firstShort, second, secondShort, paid);
        emit FaultProved(first.provider, first.id, second.id, samePod, slashed);
    }

    // slither-disable-end reentrancy-no-eth

    /// @inheritdoc IFaults
    function contest(Evidence calldata evidence, uint256[] calldata indexes, bytes32 reason)
        external
        payable
        nonReentrant
    {
        require(indexes.length != 0, NothingToMove());
        address arbiter = PROVIDERS.arbiter();
        require(arbiter != address(0), NoArbiter());
        uint256 bond = msg.value / indexes.length;
        for (uint256 place = 0; place < indexes.length; ++place) {
            Receipt memory receipt = _confirm(evidence, indexes[place]);
            require(msg.sender == receipt.payer, CallerNotAllowed(msg.sender, receipt.payer));
            _contest(receipt, arbiter, bond);
            emit ContestOpened(receipt.id, receipt.rental, arbiter, receipt.amount, reason);
        }
        // What doesn't divide is the contestant's still.
        credit[msg.sender] += msg.value % indexes.length;
    }

    /// @inheritdoc IFaults
    function rule(bytes32 receipt, bool struck) external nonReentrant {
        Contest memory held = _open(receipt);
        require(msg.sender == held.arbiter, CallerNotAllowed(msg.sender, held.arbiter));
        require(PROVIDERS.clock() <= held.deadline, ContestOver(receipt, held.deadline));
        if (struck) {
            _endContest(receipt, held, Standing.Struck);
            uint256 shortfall = RENTAL.strike(held.rental, held.head, held.amount, true);
            // slither-disable-next-line unused-return
            (, uint256 paid) = _slash(held.provider, held.amount, shortfall);
            credit[held.contestant] += held.bond + paid;
        } else {
            _endContest(receipt, held, Standing.Upheld);
            RENTAL.thaw(held.rental, held.head, held.amount);
            // For the time that he waited.
            credit[held.provider] += held.bond;
        }
    }

    /// @inheritdoc IFaults
    function lapse(bytes32 receipt) external nonReentrant {
        Contest memory held = _open(receipt);
        require(PROVIDERS.clock() > held.deadline, ContestRunning(receipt, held.deadline));
        _endContest(receipt, held, Standing.Upheld);
        RENTAL.thaw(held.rental, held.head, held.amount);
        credit[held.contestant] += held.bond;
    }

    /// @inheritdoc IFaults
    function claim(address account) external nonReentrant {
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

    /// @inheritdoc IFaults
    function contestOf(bytes32 receipt) external view returns (Contest memory) {
        return _contests[receipt];
    }

    /// @dev The receipt that evidence shows, once the rental has confirmed its batch.
    function _confirm(Evidence calldata evidence, uint256 index) private view returns (Receipt memory receipt) {
        IRentalTypes.RentalView memory rental = RENTAL.rentalOf(evidence.rental);
        bool priced = keccak256(abi.encode(evidence.prices)) == rental.priceHash;
        require(priced, EvidencePricesMismatch(evidence.rental));
        uint256 count = evidence.leaves.length / Leaf.SIZE;
        bytes32 leavesHash = keccak256(evidence.leaves);
        bytes32 head =
            Batches.headAfter(Batches.Header(evidence.prevHead, leavesHash, count, evidence.total, evidence.to));
        require(RENTAL.batchOf(evidence.rental, head).number != 0, EvidenceMismatch(evidence.rental, head));
        require(index < count, NoSuchLeaf(index, count));
        receipt.id = keccak256(abi.encode(evidence.rental, head, index));
        receipt.rental = evidence.rental;
        receipt.head = head;
        (receipt.ids, receipt.facts) = Leaf.read(evidence.leaves, index);
        receipt.amount = Leaf.amount(index, receipt.facts, evidence.prices);
        receipt.payer = rental.payer;
        receipt.provider = rental.provider;
    }

    /// @dev Whether it is the pod; else it is the device. Reverts where it is neither.
    function _requireFault(Receipt memory one, Receipt memory other) private pure returns (bool samePod) {
        _requireTelling(one);
        _requireTelling(other);
        bool meet = Leaf.end(one.facts) > Leaf.start(other.facts) && Leaf.end(other.facts) > Leaf.start(one.facts);
        samePod = Leaf.podUid(one.ids) == Leaf.podUid(other.ids);
        bool sameNode = Leaf.nodeIndex(one.facts) == Leaf.nodeIndex(other.facts);
        bool sameDevice = sameNode && Leaf.deviceMask(one.facts) & Leaf.deviceMask(other.facts) != 0;
        require(meet && (samePod || sameDevice), NoFault(one.id, other.id));
    }

    /// @dev A late leaf's end was moved behind the watermark, so its time is no evidence.
    function _requireTelling(Receipt memory receipt) private pure {
        bool telling = receipt.amount != 0 && !Leaf.isLate(receipt.facts);
        require(telling, LeafProvesNothing(receipt.id));
    }

    /// @dev Undoes a receipt, once, and ends its contest, whose contestant was right.
    /// @return shortfall What its payer lost and the rental can't give back.
    function _strike(Receipt memory receipt) private returns (uint256 shortfall) {
        Standing before = standingOf[receipt.id];
        if (before == Standing.Struck) return 0;
        if (before == Standing.Contested) {
            Contest memory held = _contests[receipt.id];
            _endContest(receipt.id, held, Standing.Struck);
            credit[held.contestant] += held.bond;
        }
        standingOf[receipt.id] = Standing.Struck;
        return RENTAL.strike(receipt.rental, receipt.head, receipt.amount, before == Standing.Contested);
    }

    /// @dev Twice what was billed wrongly, or what stands behind one device where that is more. A tenth of it is for
    /// whoever showed the fault, at most half of it altogether leaves the stake for anybody: the rest is burned.
    function _slash(address provider, uint256 harm, uint256 shortfall) private returns (uint256 slashed, uint256 paid) {
        uint256 fine = harm * 2 > STAKE_PER_DEVICE ? harm * 2 : STAKE_PER_DEVICE;
        (slashed, paid) = PROVIDERS.slash(provider, fine, shortfall + fine / REWARD_DIVISOR);
    }

    /// @dev Payers first, in proportion where the stake didn't reach; what is left is the accuser's.
    function _compensate(
        Receipt memory first,
        uint256 firstShort,
        Receipt memory second,
        uint256 secondShort,
        uint256 paid
    ) private {
        uint256 short = firstShort + secondShort;
        uint256 covered = paid < short ? paid : short;
        uint256 firstPart = short == 0 ? 0 : covered * firstShort / short;
        credit[first.payer] += firstPart;
        credit[second.payer] += covered - firstPart;
        credit[msg.sender] += paid - covered;
    }

    function _contest(Receipt memory receipt, address arbiter, uint256 bond) private {
        uint256 part = receipt.amount / BOND_DIVISOR;
        uint256 required = part > CONTEST_BOND ? part : CONTEST_BOND;
        require(bond >= required, BondTooSmall(bond, required));
        require(standingOf[receipt.id] == Standing.Settled && receipt.amount != 0, NotContestable(receipt.id));
        standingOf[receipt.id] = Standing.Contested;
        bonds += bond;
        _contests[receipt.id] = Contest({
            contestant: msg.sender,
            deadline: PROVIDERS.clock() + PROVIDERS.contestPeriod(),
            arbiter: arbiter,
            provider: receipt.provider,
            rental: receipt.rental,
            head: receipt.head,
            amount: SafeCast.toUint128(receipt.amount),
            bond: SafeCast.toUint128(bond)
        });
        RENTAL.freeze(receipt.rental, receipt.head, receipt.amount);
    }

    function _endContest(bytes32 receipt, Contest memory held, Standing standing) private {
        delete _contests[receipt];
        standingOf[receipt] = standing;
        bonds -= held.bond;
        emit ContestEnded(receipt, held.rental, standing == Standing.Struck);
    }

    function _open(bytes32 receipt) private view returns (Contest memory held) {
        held = _contests[receipt];
        require(held.contestant != address(0), NoContest(receipt));
    }
}

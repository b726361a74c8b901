"""Blends of two signals by a gate, in the ways in which they are written."""

from dataclasses import dataclass

from thruway.dissecting.finding.branches import Operand
from thruway.dissecting.tracing.functions import COMPLEMENTS, TRANSPARENT, MAGNITUDES, PIECES, PRODUCTS, SQUASHES
from thruway.dissecting.tracing.lineage import Lineage
from thruway.dissecting.tracing.tape import Call, Read, Tape

__all__ = ["Blend", "blend_of", "is_only_weighed", "only_opens_gates"]


@dataclass(frozen=True, slots=True)
class Blend:
    """y = (1 - g)·first + g·second, or c·first + g·second.

    `gate` is g, the share of `second`, None where it is a plain number (1 where c has a gate); `other_gate` is c,
    None where it is 1 - g.
    """

    first: Operand
    second: Operand
    gate: Operand | None
    other_gate: Operand | None


def blend_of(tape: Tape, call: Call) -> Blend | None:
    """The blend that a call computes, if it is the last step of one."""
    if call.name == "lerp":
        return _lerp(call)
    if call.name == "addcmul":
        return _moved_fused(tape, call)
    if call.name != "add":
        return None
    operands = [read for read in call.reads if tape.values[read.value].origin == "data"]
    if len(operands) != 2 or "alpha" in call.constants[1]:
        return None
    return _moved(tape, call, *operands) or _weighed(tape, *operands) or _carried(tape, call, *operands)


def is_only_weighed(lineage: Lineage, value: int) -> bool:
    """Whether all that reads a value weighs it, as x - h in h + t·(x - h), or asks how large it is."""
    readers = {lineage.tape.calls[number].name for number in lineage.readers.get(value, [])}
    return len(readers) > 0 and readers <= PRODUCTS | MAGNITUDES | {"addcmul"}


def only_opens_gates(lineage: Lineage, value: int) -> bool:
    """Whether a value does nothing but to open gates: all that comes of it is squashed, and then a factor."""
    tape = lineage.tape
    # Whether it was squashed on the way here
    waiting, seen = [(value, False)], {(value, False)}
    while waiting:
        at, is_share = waiting.pop()
        readers = lineage.readers.get(at, [])
        if tape.uses[at] > len(readers) or not readers:
            return False  # it leaves the model, or is looked at
        for number in readers:
            call = tape.calls[number]
            if is_share and call.name in PRODUCTS | {"lerp", "addcmul"}:
                continue
            if is_share and call.name not in TRANSPARENT | PIECES | COMPLEMENTS | {"sub", "subtract"}:
                return False
            for made in call.values:
                onward = made, is_share or call.name in SQUASHES
                if tape.uses[made] > 0 and onward not in seen:
                    seen.add(onward)
                    waiting.append(onward)
    return True


def _lerp(call: Call) -> Blend | None:
    reads = {_argument(read, ("input", "end", "weight")): read for read in call.reads}
    if "input" not in reads or "end" not in reads:
        return None
    gate = _operand(call, reads["weight"]) if "weight" in reads else None
    return Blend(_operand(call, reads["input"]), _operand(call, reads["end"]), gate, None)


def _argument(read: Read, names: tuple[str, ...]) -> str:
    place = read.path[0]
    return names[place] if isinstance(place, int) else place


def _moved(tape: Tape, call: Call, a: Read, b: Read) -> Blend | None:
    """u + g·(v - u)"""
    for base, step in ((a, b), (b, a)):
        product = _maker(tape, step.value, PRODUCTS)
        if product is not None:
            found = _towards(tape, product, list(product.reads), base.value, _operand(call, base))
            if found is not None:
                return found
    return None


def _moved_fused(tape: Tape, call: Call) -> Blend | None:
    """addcmul(u, g, v - u)"""
    base = next((read for read in call.reads if _argument(read, ("input", "tensor1", "tensor2")) == "input"), None)
    if base is None or call.constants[1].get("value", 1) != 1:
        return None
    return _towards(tape, call, [read for read in call.reads if read is not base], base.value, _operand(call, base))


def _towards(tape: Tape, product: Call, factors: list[Read], start: int, first: Operand) -> Blend | None:
    if len(factors) > 2:
        return None
    for factor in factors:
        step = _maker(tape, factor.value, frozenset({"sub", "subtract"}))
        if step is None or len(step.reads) != 2 or "alpha" in step.constants[1]:
            continue
        end, back = step.reads
        if back.value == start:
            gate = next((_operand(product, read) for read in factors if read is not factor), None)
            return Blend(first, _operand(step, end), gate, None)
    return None


def _weighed(tape: Tape, a: Read, b: Read) -> Blend | None:
    """g·v + (1 - g)·u, or g·v + c·u with two gates that were squashed each for itself"""
    products = [_maker(tape, read.value, PRODUCTS) for read in (a, b)]
    if products[0] is None or products[1] is None:
        return None
    ours, theirs = products[0], products[1]
    if not len(ours.reads) == len(theirs.reads) == 2:
        return None
    for (u, v), (w, z) in ((_factors(ours, i), _factors(theirs, j)) for i in (0, 1) for j in (0, 1)):
        # u is the gate of v, w that of z
        if _is_complement(tape, u.value, w.value):
            return Blend(_operand(ours, v), _operand(theirs, z), _operand(theirs, w), None)
        if _is_complement(tape, w.value, u.value):
            return Blend(_operand(theirs, z), _operand(ours, v), _operand(ours, u), None)
    gates = [sorted(call.reads, key=lambda read: _gate_likeness(tape, read.value)) for call in (ours, theirs)]
    if any(_gate_likeness(tape, pair[1].value) == 0 for pair in gates):
        return None
    (v, u), (z, w) = gates
    return Blend(_operand(ours, v), _operand(theirs, z), _operand(theirs, w), _operand(ours, u))


def _carried(tape: Tape, call: Call, a: Read, b: Read) -> Blend | None:
    """v + c·u, where c alone is a gate: squashed, or 1 less what was squashed"""
    for weighed, added in ((a, b), (b, a)):
        product = _maker(tape, weighed.value, PRODUCTS)
        if product is None or len(product.reads) != 2:
            continue
        signal, gate = sorted(product.reads, key=lambda read: _share_likeness(tape, read.value))
        if _share_likeness(tape, gate.value) > _share_likeness(tape, signal.value):
            return Blend(_operand(product, signal), _operand(call, added), None, _operand(product, gate))
    return None


def _share_likeness(tape: Tape, value: int) -> int:
    """As _gate_likeness, also of 1 less a gate."""
    call = _maker(tape, value, COMPLEMENTS | {"sub", "subtract"})
    if call is not None and any(_is_complement(tape, value, read.value) for read in call.reads):
        return max(_gate_likeness(tape, read.value) for read in call.reads)
    return _gate_likeness(tape, value)


def _factors(product: Call, gate: int) -> tuple[Read, Read]:
    return product.reads[gate], product.reads[1 - gate]


def _is_complement(tape: Tape, a: int, b: int) -> bool:
    """a = 1 - b"""
    call = _maker(tape, a, COMPLEMENTS | {"sub", "subtract"})
    if call is None or "alpha" in call.constants[1]:
        return False
    args, kwargs = call.constants
    if call.name in COMPLEMENTS:
        numbers = [value for value in (*args, *kwargs.values()) if isinstance(value, (int, float))]
        return numbers == [1] and _bare(tape, call.reads[0].value) == _bare(tape, b)
    minuend, *others = args
    is_one = minuend == 1 if isinstance(minuend, (int, float)) else _is_ones(tape, minuend)
    return is_one and bool(others) and _bare(tape, call.reads[-1].value) == _bare(tape, b)


def _is_ones(tape: Tape, read: object) -> bool:
    call = tape.values[read.value].call if isinstance(read, Read) else None
    return call is not None and tape.calls[call].name in ("ones", "ones_like", "new_ones")


def _gate_likeness(tape: Tape, value: int) -> int:
    """2: squashed by a module named for it; 1: squashed; 0: no gate."""
    # A piece of a squashed tensor is squashed as well.
    call = _maker(tape, value, SQUASHES, TRANSPARENT | PIECES)
    if call is None:
        return 0
    return 2 if "Gate" in tape.frames[call.frame].kind else 1


def _maker(tape: Tape, value: int, names: frozenset[str], through: frozenset[str] = TRANSPARENT) -> Call | None:
    """The call of one of these names that made the value, but for another view of it."""
    number = tape.values[_bare(tape, value, through)].call
    call = None if number is None else tape.calls[number]
    return call if call is not None and call.name in names else None


def _bare(tape: Tape, value: int, through: frozenset[str] = TRANSPARENT) -> int:
    """What a value is another view or cast of."""
    while (number := tape.values[value].call) is not None:
        call = tape.calls[number]
        if call.name not in through or len(call.reads) != 1:
            return value
        value = call.reads[0].value
    return value


def _operand(call: Call, read: Read) -> Operand:
    return Operand(read.value, call.number, read.path)

"""Recognition of gated blends, in the forms in which code writes them."""

from dataclasses import dataclass

from thruway.dissecting.finding.branches import Operand
from thruway.dissecting.tracing.functions import COMPLEMENTS, MAGNITUDES, PIECES, PRODUCTS, SQUASHES, TRANSPARENT
from thruway.dissecting.tracing.lineage import Lineage
from thruway.dissecting.tracing.tape import Call, Read, Tape

__all__ = ["Blend", "blend_of", "is_only_weighted", "only_opens_gates"]


@dataclass(frozen=True, slots=True)
class Blend:
    """y = (1 - g)·first + g·second, or c·first + g·second.

    Attributes:
        first, second: the two signals.
        gate: g, the weight of `second`. None if it is a plain number (1 if only c is a gate).
        other_gate: c, the weight of `first`. None if it is 1 - g.
    """

    first: Operand
    second: Operand
    gate: Operand | None
    other_gate: Operand | None


def blend_of(tape: Tape, call: Call) -> Blend | None:
    """Return the blend that ends with this call, if any."""
    if call.name == "lerp":
        return _lerp(call)
    if call.name == "addcmul":
        return _fused_step(tape, call)
    if call.name != "add":
        return None
    operands = [read for read in call.reads if tape.values[read.value].origin == "data"]
    if len(operands) != 2 or "alpha" in call.constants[1]:
        return None
    return _step(tape, call, *operands) or _weighted_sum(tape, *operands) or _carry_gate_sum(tape, call, *operands)


def is_only_weighted(lineage: Lineage, value: int) -> bool:
    """Return True if a value is only multiplied, as x - h in h + t·(x - h), or inspected."""
    readers = {lineage.tape.calls[number].name for number in lineage.readers.get(value, [])}
    return len(readers) > 0 and readers <= PRODUCTS | MAGNITUDES | {"addcmul"}


def only_opens_gates(lineage: Lineage, value: int) -> bool:
    """Return True if a value is used for gates only: its results are squashed and then used as factors."""
    tape = lineage.tape
    # Pairs of a value and whether it was squashed on the way to it
    waiting, seen = [(value, False)], {(value, False)}
    while waiting:
        at, is_squashed = waiting.pop()
        readers = lineage.readers.get(at, [])
        if tape.uses[at] > len(readers) or not readers:
            return False  # it leaves the model, or Python reads it
        for number in readers:
            call = tape.calls[number]
            if is_squashed and call.name in PRODUCTS | {"lerp", "addcmul"}:
                continue
            if is_squashed and call.name not in TRANSPARENT | PIECES | COMPLEMENTS | {"sub", "subtract"}:
                return False
            for made in call.values:
                onward = made, is_squashed or call.name in SQUASHES
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


def _step(tape: Tape, call: Call, a: Read, b: Read) -> Blend | None:
    """Match u + g·(v - u)."""
    for base, step in ((a, b), (b, a)):
        product = _producer(tape, step.value, PRODUCTS)
        if product is not None:
            found = _step_towards(tape, product, list(product.reads), base.value, _operand(call, base))
            if found is not None:
                return found
    return None


def _fused_step(tape: Tape, call: Call) -> Blend | None:
    """Match addcmul(u, g, v - u)."""
    base = next((read for read in call.reads if _argument(read, ("input", "tensor1", "tensor2")) == "input"), None)
    if base is None or call.constants[1].get("value", 1) != 1:
        return None
    return _step_towards(
        tape, call, [read for read in call.reads if read is not base], base.value, _operand(call, base)
    )


def _step_towards(tape: Tape, product: Call, factors: list[Read], start: int, first: Operand) -> Blend | None:
    if len(factors) > 2:
        return None
    for factor in factors:
        step = _producer(tape, factor.value, frozenset({"sub", "subtract"}))
        if step is None or len(step.reads) != 2 or "alpha" in step.constants[1]:
            continue
        end, back = step.reads
        if back.value == start:
            gate = next((_operand(product, read) for read in factors if read is not factor), None)
            return Blend(first, _operand(step, end), gate, None)
    return None


def _weighted_sum(tape: Tape, a: Read, b: Read) -> Blend | None:
    """Match g·v + (1 - g)·u, or g·v + c·u with two gates that were squashed separately."""
    products = [_producer(tape, read.value, PRODUCTS) for read in (a, b)]
    if products[0] is None or products[1] is None:
        return None
    ours, theirs = products[0], products[1]
    if not len(ours.reads) == len(theirs.reads) == 2:
        return None
    for (u, v), (w, z) in ((_factors(ours, i), _factors(theirs, j)) for i in (0, 1) for j in (0, 1)):
        # u is the gate of v, and w of z
        if _is_complement(tape, u.value, w.value):
            return Blend(_operand(ours, v), _operand(theirs, z), _operand(theirs, w), None)
        if _is_complement(tape, w.value, u.value):
            return Blend(_operand(theirs, z), _operand(ours, v), _operand(ours, u), None)
    gates = [sorted(call.reads, key=lambda read: _gate_score(tape, read.value)) for call in (ours, theirs)]
    if any(_gate_score(tape, pair[1].value) == 0 for pair in gates):
        return None
    (v, u), (z, w) = gates
    return Blend(_operand(ours, v), _operand(theirs, z), _operand(theirs, w), _operand(ours, u))


def _carry_gate_sum(tape: Tape, call: Call, a: Read, b: Read) -> Blend | None:
    """Match v + c·u, where only c is a gate, that is a squashed value or 1 minus a squashed value."""
    for weighed, added in ((a, b), (b, a)):
        product = _producer(tape, weighed.value, PRODUCTS)
        if product is None or len(product.reads) != 2:
            continue
        signal, gate = sorted(product.reads, key=lambda read: _weight_score(tape, read.value))
        if _weight_score(tape, gate.value) > _weight_score(tape, signal.value):
            return Blend(_operand(product, signal), _operand(call, added), None, _operand(product, gate))
    return None


def _weight_score(tape: Tape, value: int) -> int:
    """Return the `_gate_score` of a value, or of g if the value is 1 - g."""
    call = _producer(tape, value, COMPLEMENTS | {"sub", "subtract"})
    if call is not None and any(_is_complement(tape, value, read.value) for read in call.reads):
        return max(_gate_score(tape, read.value) for read in call.reads)
    return _gate_score(tape, value)


def _factors(product: Call, gate: int) -> tuple[Read, Read]:
    return product.reads[gate], product.reads[1 - gate]


def _is_complement(tape: Tape, a: int, b: int) -> bool:
    """Return True if a = 1 - b."""
    call = _producer(tape, a, COMPLEMENTS | {"sub", "subtract"})
    if call is None or "alpha" in call.constants[1]:
        return False
    args, kwargs = call.constants
    if call.name in COMPLEMENTS:
        numbers = [value for value in (*args, *kwargs.values()) if isinstance(value, (int, float))]
        return numbers == [1] and _unwrapped(tape, call.reads[0].value) == _unwrapped(tape, b)
    minuend, *others = args
    is_one = minuend == 1 if isinstance(minuend, (int, float)) else _is_ones(tape, minuend)
    return is_one and bool(others) and _unwrapped(tape, call.reads[-1].value) == _unwrapped(tape, b)


def _is_ones(tape: Tape, read: object) -> bool:
    call = tape.values[read.value].call if isinstance(read, Read) else None
    return call is not None and tape.calls[call].name in ("ones", "ones_like", "new_ones")


def _gate_score(tape: Tape, value: int) -> int:
    """Return 2 for a value squashed in a module named "...Gate", 1 for other squashed values, and 0 for the rest."""
    # A piece of a squashed tensor counts as squashed.
    call = _producer(tape, value, SQUASHES, TRANSPARENT | PIECES)
    if call is None:
        return 0
    return 2 if "Gate" in tape.frames[call.frame].kind else 1


def _producer(tape: Tape, value: int, names: frozenset[str], through: frozenset[str] = TRANSPARENT) -> Call | None:
    """Return the call that computed a value or the tensor it is a view of. None if its name is not in `names`."""
    number = tape.values[_unwrapped(tape, value, through)].call
    call = None if number is None else tape.calls[number]
    return call if call is not None and call.name in names else None


def _unwrapped(tape: Tape, value: int, through: frozenset[str] = TRANSPARENT) -> int:
    """Return the value of which a value is a view or cast, or the value itself."""
    while (number := tape.values[value].call) is not None:
        call = tape.calls[number]
        if call.name not in through or len(call.reads) != 1:
            return value
        value = call.reads[0].value
    return value


def _operand(call: Call, read: Read) -> Operand:
    return Operand(read.value, call.number, read.path)

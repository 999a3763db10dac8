"""Reads the text of XLA programs: computations, instructions and how often they run."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

# Bytes of an element; smaller types are stored as bytes.
_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "s2", "u2"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_HEADER = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[^\s(]+) .*\{$")
_NAME = re.compile(r"\s+(?:ROOT )?%?(?P<name>\S+) = ")
_CALLED = re.compile(
    r"\b(?P<role>to_apply|calls|body|condition|branch_computations|true_computation|"
    r"false_computation)=(?P<names>\{[^}]*\}|[\w%.\-]+)"
)
# Instructions whose computations consist of instructions with their own kernels.
_CONTROL = {"call", "while", "conditional", "async-start"}
_TRIPS = re.compile(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)')


class Array(NamedTuple):
    """Type and shape of an array in a program."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size in bytes, without padding."""
        return math.prod(self.shape) * _BYTES.get(self.dtype, 1)


class Instruction(NamedTuple):
    """An instruction of a program.

    Attributes:
      name: name, unique in its computation.
      opcode: operation, such as "dot".
      results: the arrays that it returns.
      operands: names of its operands.
      attributes: text after the operands.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str

    @property
    def result_bytes(self) -> int:
        """Bytes of all results."""
        return sum(array.bytes for array in self.results)


Computation = dict[str, Instruction]


class Program(NamedTuple):
    """A program of XLA.

    Attributes:
      computations: instructions by name, by computation.
      entry: name of the computation that runs first.
      runs: how often each computation runs. A loop whose length is unknown counts as
        one pass, and every branch of a conditional counts.
      fused: names of the computations that are part of an instruction, such as the
        body of a fusion or the sum of a reduction.
    """

    computations: dict[str, Computation]
    entry: str
    runs: dict[str, int]
    fused: set[str]

    def instructions(self) -> Iterator[tuple[Instruction, Computation, int]]:
        """Yields every instruction, its computation and how often it runs."""
        for name, computation in self.computations.items():
            for instruction in computation.values():
                yield instruction, computation, self.runs[name]


def parse_program(text: str) -> Program:
    """Parses the text of a program, lowered or compiled.

    Args:
      text: the text, as `as_text(dialect="hlo")` of a lowered and `as_text()` of a
        compiled function return it.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry = None
    current: Computation = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                current = computations.setdefault(header["name"], {})
                entry = header["name"] if header["entry"] else entry
        elif instruction := _parse_instruction(line):
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("the program has no entry computation")
    fused = {
        called
        for computation in computations.values()
        for instruction in computation.values()
        if instruction.opcode not in _CONTROL
        for called, _ in _calls(instruction)
    }
    return Program(computations, entry, _count_runs(computations, entry), fused)


def _parse_instruction(line: str) -> Instruction | None:
    name = _NAME.match(line)
    if name is None:
        return None
    rest = line[name.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    operands = rest[opening + 1 : closing]
    return Instruction(
        name=name["name"],
        opcode=rest[:opening],
        results=tuple(
            Array(dtype, tuple(int(n) for n in sides.split(",") if n))
            for dtype, sides in _ARRAY.findall(shape)
        ),
        operands=tuple(
            operand.split()[-1].lstrip("%")
            for operand in re.sub(r"/\*.*?\*/", "", operands).split(",")
            if operand.strip()
        ),
        attributes=rest[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """Returns the position of the bracket that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return len(text)


def _count_runs(computations: dict[str, Computation], entry: str) -> dict[str, int]:
    calls: dict[str, list[tuple[str, int]]] = {}
    for name, computation in computations.items():
        calls[name] = [
            call
            for instruction in computation.values()
            for call in _calls(instruction)
            if call[0] in computations
        ]
    runs: dict[str, int] = defaultdict(int)
    # A computation stands after all those that it calls.
    runs[entry] = 1
    for name in reversed(_callees_first(calls, entry)):
        for called, times in calls[name]:
            runs[called] += times * runs[name]
    return runs


def _callees_first(calls: dict[str, list[tuple[str, int]]], entry: str) -> list[str]:
    """Orders the computations that `entry` reaches, each after those that it calls."""
    order: list[str] = []
    seen = {entry}
    stack = [(entry, iter(calls[entry]))]
    while stack:
        name, rest = stack[-1]
        for called, _ in rest:
            if called not in seen:
                seen.add(called)
                stack.append((called, iter(calls[called])))
                break
        else:
            order.append(name)
            stack.pop()
    return order


def _calls(instruction: Instruction) -> Iterator[tuple[str, int]]:
    trips = _TRIPS.search(instruction.attributes)
    for match in _CALLED.finditer(instruction.attributes):
        in_loop = match["role"] in ("body", "condition")
        times = int(trips[1]) if in_loop and trips else 1
        for called in match["names"].strip("{}").split(","):
            yield called.strip().lstrip("%"), times

"""What a compiled program does: collectives, precision, kernels of libraries, bytes."""

import re
from collections import Counter
from typing import NamedTuple

from isojax.targets.hlo import Computation, Instruction, Program

_COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_CALL_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_TRITON_PRODUCT = re.compile(r'"kind":"__triton_\w*gemm\w*"')
_PRECISION = re.compile(r"operand_precision=\{(\w+)")
# What the calls of the compiler's libraries compute. Others appear by their own name.
_LIBRARIES = {
    "__cudnn$convForward": "cuDNN forward convolution",
    "__cudnn$convBiasActivationForward": "cuDNN forward convolution with activation",
    "__cudnn$convBackwardInput": "cuDNN input gradient",
    "__cudnn$convBackwardFilter": "cuDNN weight gradient",
    "__cublas$gemm": "cuBLAS product",
    "__cublas$lt$matmul": "cuBLASLt product",
    "cusolver_syevd_ffi": "cuSOLVER eigendecomposition",
    "EighTpu": "TPU eigendecomposition",
}
# Calls that only describe indices or memory.
_DESCRIPTIONS = {
    "AllocateBuffer",
    "AssumeGatherIndicesInBound",
    "AsyncCollectiveDone",
    "AsyncCollectiveStart",
    "ConcatBitcast",
    "GatherScatterIndicesBitpacked",
    "Sharding",
}
_TRITON = "Triton product"
_OVERLAPPED = '"async_collective_fusion_config":'
_STARTS = 'custom_call_target="AsyncCollectiveStart"'
# Instructions without a kernel: they name parts of memory.
_WITHOUT_TRAFFIC = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "call",
    "while",
    "conditional",
    "opt-barrier",
}
_HOST_OPCODES = {"infeed", "outfeed", "send", "recv"}


class Collective(NamedTuple):
    """The collectives of one kind in a program.

    Attributes:
      number: how many of them run.
      bytes: bytes of the arrays that they reduce, gather or send, on one device.
    """

    number: int
    bytes: int


class Product(NamedTuple):
    """What a convolution or matrix product computes with.

    Attributes:
      kind: "convolution" or "product".
      dtype: the wider type of the operands, as XLA names it.
      precision: "default", "high" or "highest".
    """

    kind: str
    dtype: str
    precision: str


def collectives(program: Program) -> dict[str, Collective]:
    """Returns the collectives of a compiled program by kind."""
    found: dict[str, Collective] = {}
    for instruction, computation, runs in program.instructions():
        kind = instruction.opcode.removesuffix("-start")
        if kind in _COLLECTIVES and runs and not _continues(instruction, computation):
            old = found.get(kind, Collective(0, 0))
            size = _collective_bytes(kind, instruction, computation)
            found[kind] = Collective(old.number + runs, old.bytes + runs * size)
    return found


def _continues(instruction: Instruction, within: Computation) -> bool:
    """Whether a collective is a part of one that another instruction starts.

    XLA for TPUs repeats a collective in each fusion that runs at the same time.
    """
    return _OVERLAPPED in instruction.attributes and not any(
        _STARTS in other.attributes for other in within.values()
    )


def _collective_bytes(kind: str, instruction: Instruction, within: Computation) -> int:
    operands = sum(_operand_bytes(instruction, within))
    if kind != "all-gather":
        return operands
    # The result of the asynchronous form includes its operands.
    started = instruction.opcode.endswith("-start")
    return instruction.result_bytes - (operands if started else 0)


def products(program: Program) -> Counter[Product]:
    """Returns how often each kind of convolution and product runs.

    Args:
      program: a lowered program, before XLA replaces products by its own forms.
    """
    counts: Counter[Product] = Counter()
    kinds = {"convolution": "convolution", "dot": "product"}
    for instruction, computation, runs in program.instructions():
        if instruction.opcode in kinds and runs:
            dtypes = [
                computation[name].results[0].dtype for name in instruction.operands
            ]
            precision = _PRECISION.search(instruction.attributes)
            counts[
                Product(
                    kinds[instruction.opcode],
                    max(dtypes, key=lambda dtype: int(re.sub(r"\D", "", dtype) or 0)),
                    precision[1] if precision else "default",
                )
            ] += runs
    return counts


def library_calls(program: Program) -> Counter[str]:
    """Returns how often a compiled program calls each kernel outside of XLA."""
    counts: Counter[str] = Counter()
    for instruction, _, runs in program.instructions():
        target = _CALL_TARGET.search(instruction.attributes)
        if instruction.opcode == "custom-call" and target:
            if runs and target[1] not in _DESCRIPTIONS:
                counts[_LIBRARIES.get(target[1], target[1])] += runs
        elif runs and _TRITON_PRODUCT.search(instruction.attributes):
            counts[_TRITON] += runs
    return counts


def has_float64(program: Program) -> bool:
    """Whether any array of a program has 64-bit floats."""
    return any(
        array.dtype in ("f64", "c128")
        for instruction, _, _ in program.instructions()
        for array in instruction.results
    )


def host_calls(program: Program) -> list[str]:
    """Returns the instructions of a compiled program that involve the host."""
    return [
        instruction.name
        for instruction, _, runs in program.instructions()
        if runs
        and (
            instruction.opcode.removesuffix("-done") in _HOST_OPCODES
            or "callback" in (_CALL_TARGET.findall(instruction.attributes) or [""])[0]
        )
    ]


def bytes_accessed(program: Program) -> int:
    """Returns the bytes that the kernels of a compiled program read and write.

    Every kernel is assumed to read its operands and to write its results once.
    """
    return sum(
        runs * (instruction.result_bytes + sum(_operand_bytes(instruction, within)))
        for name, within in program.computations.items()
        if (runs := program.runs[name]) and name not in program.fused
        for instruction in within.values()
        if instruction.opcode not in _WITHOUT_TRAFFIC
        and not instruction.opcode.endswith("-done")
    )


def _operand_bytes(instruction: Instruction, within: Computation) -> list[int]:
    return [
        within[name].result_bytes for name in instruction.operands if name in within
    ]

"""Specified rates and memory of accelerators."""

from typing import NamedTuple


class Peak(NamedTuple):
    """What a device can do at most, as its manufacturer specifies.

    Attributes:
      operations: floating-point operations per second, by precision of the network:
        dense products of bfloat16 operands; and of float32 operands in JAX's default
        precision, which is TF32 on GPUs and one pass of bfloat16 on TPUs.
      memory: bytes of memory.
      bandwidth: bytes per second between memory and chip.
    """

    operations: dict[str, float]
    memory: float
    bandwidth: float


def _gpu(bfloat16: float, memory: float, bandwidth: float) -> Peak:
    # NVIDIA specifies half the rate for TF32.
    return Peak({"bfloat16": bfloat16, "float32": bfloat16 / 2}, memory, bandwidth)


def _tpu(operations: float, memory: float, bandwidth: float) -> Peak:
    return Peak(dict.fromkeys(("bfloat16", "float32"), operations), memory, bandwidth)


# By prefix of the device kind, the longest first. Data sheets of NVIDIA, system
# architecture pages of Google Cloud.
PEAKS = {
    "NVIDIA A100": _gpu(312e12, 80e9, 2.04e12),
    "NVIDIA H100 PCIe": _gpu(756e12, 80e9, 2.0e12),
    "NVIDIA H100": _gpu(989e12, 80e9, 3.35e12),
    "NVIDIA H200": _gpu(989e12, 141e9, 4.8e12),
    "TPU v4": _tpu(275e12, 32e9, 1.228e12),
    "TPU v5 lite": _tpu(197e12, 16e9, 0.819e12),
    "TPU v5": _tpu(459e12, 95e9, 2.765e12),
    "TPU v6 lite": _tpu(918e12, 32e9, 1.64e12),
}


def peak_of(kind: str) -> Peak | None:
    """Returns the peak of a device kind; None if it is not in the table.

    Args:
      kind: `device_kind` of a device of JAX.
    """
    return next((peak for name, peak in PEAKS.items() if kind.startswith(name)), None)

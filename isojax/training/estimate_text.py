"""Text about a step that was compiled for devices that are not present."""

from isojax.targets.peaks import peak_of
from isojax.training.step_estimate import StepEstimate, roofline_seconds


def describe_estimate(estimate: StepEstimate) -> str:
    """Formats the costs as lines to print."""
    peak = peak_of(estimate.device)
    lines = [
        f"a step of batch {estimate.batch_size} in {estimate.precision}, compiled for "
        f"{estimate.devices} × {estimate.device} on {estimate.hosts} host(s); "
        "per device:",
        _row("arguments", f"{_megabytes(estimate.arguments)} of state and batch"),
        _row("temporaries", f"{_megabytes(estimate.temporaries)}"),
        _row(
            "memory",
            _megabytes(estimate.memory)
            + (f", {estimate.memory / peak.memory:.1%} of the device" if peak else ""),
        ),
        _row(
            "donated",
            f"{_megabytes(estimate.aliased)} reused for results, of "
            f"{_megabytes(estimate.state)} of state",
        ),
        _row("operations", f"{estimate.flops / 1e9:,.1f} GFLOP"),
        _row(
            "bytes",
            f"{estimate.bytes_accessed / 1e9:,.1f} GB accessed "
            f"({'XLA estimates' if estimate.bytes_by_xla else 'sum over kernels'}), "
            f"{estimate.flops / estimate.bytes_accessed:,.1f} FLOP per byte",
        ),
    ]
    if peak is not None:
        seconds = roofline_seconds(estimate, peak)
        lines.append(
            _row(
                "roofline",
                f"{seconds * 1e3:,.2f} ms, {estimate.batch_size / seconds:,.0f} "
                "images/s over all devices",
            )
        )
    lines += [
        _row("collectives", _list_collectives(estimate)),
        _row("precision", _list_products(estimate)),
        _row(
            "libraries",
            ", ".join(f"{n} {name}" for name, n in estimate.library_calls.items())
            or "none",
        ),
        _row("compiled in", f"{estimate.seconds_to_compile:,.1f} s"),
    ]
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"  {name:12} {text}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def _list_collectives(estimate: StepEstimate) -> str:
    kinds = [
        f"{found.number} {kind} of {found.bytes / 1e6:,.1f} MB"
        for kind, found in estimate.collectives.items()
    ]
    return ", ".join(kinds) or "none"


def _list_products(estimate: StepEstimate) -> str:
    return ", ".join(
        f"{count} {product.kind}{'s' * (count != 1)} in {product.dtype}"
        + (
            ""
            if product.precision == "default"
            else f" at {product.precision} precision"
        )
        for product, count in sorted(estimate.products.items())
    )

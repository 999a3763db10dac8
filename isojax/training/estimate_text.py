"""Text about a step that was compiled for devices that are not present."""

from isojax.targets.peaks import peak_of
from isojax.targets.program_costs import ProgramCosts
from isojax.training.step_estimate import StepEstimate


def describe_estimate(estimate: StepEstimate) -> str:
    """Formats the costs as lines to print."""
    costs = estimate.costs
    source = "XLA estimates" if costs.bytes_by_xla else "sum over kernels"
    rows = {
        "arguments": f"{_megabytes(costs.arguments)} of state and batch",
        "temporaries": _megabytes(costs.temporaries),
        "memory": f"{_megabytes(costs.memory)}{_fraction(costs)}",
        "donated": f"{_megabytes(costs.aliased)} reused for results, of "
        f"{_megabytes(estimate.state)} of state",
        "operations": f"{estimate.flops / 1e9:,.1f} GFLOP",
        "bytes": f"{costs.bytes_accessed / 1e9:,.1f} GB accessed ({source}), "
        f"{estimate.flops / costs.bytes_accessed:,.1f} FLOP per byte",
    }
    if seconds := estimate.roofline_seconds:
        rate = estimate.batch_size / seconds
        rows["roofline"] = (
            f"{seconds * 1e3:,.2f} ms, {rate:,.0f} images/s over all devices"
        )
    rows |= {
        "collectives": _list_collectives(costs),
        "precision": _list_products(costs),
        "libraries": _list_libraries(costs),
        "compiled in": f"{costs.seconds_to_compile:,.1f} s",
    }
    return "\n".join(
        [
            f"a step of batch {estimate.batch_size} in {estimate.precision}, compiled "
            f"for {costs.devices} × {costs.device} on {costs.hosts} host(s); per "
            "device:",
            *(f"  {name:12} {text}" for name, text in rows.items()),
        ]
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def _fraction(costs: ProgramCosts) -> str:
    peak = peak_of(costs.device)
    return "" if peak is None else f", {costs.memory / peak.memory:.1%} of the device"


def _list_collectives(costs: ProgramCosts) -> str:
    kinds = [
        f"{found.number} {kind} of {found.bytes / 1e6:,.1f} MB"
        for kind, found in costs.collectives.items()
    ]
    return ", ".join(kinds) or "none"


def _list_products(costs: ProgramCosts) -> str:
    texts = []
    for product, number in sorted(costs.products.items()):
        text = f"{number} {product.kind}{'s' * (number != 1)} in {product.dtype}"
        if product.precision != "default":
            text += f" at {product.precision} precision"
        texts.append(text)
    return ", ".join(texts)


def _list_libraries(costs: ProgramCosts) -> str:
    calls = costs.library_calls.items()
    return ", ".join(f"{number} {name}" for name, number in calls) or "none"

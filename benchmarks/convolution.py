"""Measures the speed of XLA's convolutions and prints a Markdown table.

    python -m benchmarks.convolution [--json=FILE]
    export XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=individual_dot,reduce
    python -m benchmarks.convolution

The table shows the GFLOP/s of the 3×3 convolutions of ResNet-18 for 32 images of 32×32
pixels in float32: forward, gradient of the input, gradient of the weights. Without the
flag, XLA chooses the kernels. With the flag, it uses the kernels that
`isojax.compilation.configure_cpu` selects. The last column is the same
convolution as one product with all patches, which isojax uses for narrow feature maps.
All rates are medians over repetitions.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import Array

from benchmarks.timing import (
    alternate,
    markdown,
    median,
    parse_arguments,
    write_json,
)
from isojax.models.convolution import convolve_directly, convolve_patches

IMAGES, REPETITIONS = 32, 7
# Input channels, output channels, side of the input, stride.
LAYERS = (
    (64, 64, 32, 1),
    (64, 128, 32, 2),
    (128, 128, 16, 1),
    (128, 256, 16, 2),
    (256, 256, 8, 1),
    (256, 512, 8, 2),
    (512, 512, 4, 1),
)


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments(__doc__)
    rows, results = [], []
    for layer in LAYERS:
        inputs, outputs, side, stride = layer
        rates = {
            convolve.__name__: gigaflops(convolve, *layer)
            for convolve in (convolve_directly, convolve_patches)
        }
        shown = [" / ".join(f"{rate:,.0f}" for rate in of) for of in rates.values()]
        rows.append([f"{inputs} to {outputs}", f"{side}", f"{stride}", *shown])
        results.append({"layer": layer, **rates})
    columns = ["channels", "side", "stride", "convolution", "patches"]
    print(markdown(columns, rows))
    write_json(arguments.json, results)


def gigaflops(
    convolve: Callable[..., Array], inputs: int, outputs: int, side: int, stride: int
) -> list[float]:
    """Rates of the forward pass and of both gradients, in GFLOP/s."""
    convolve = partial(convolve, stride=stride)
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (IMAGES, side, side, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    y = convolve(x, kernel)
    passes = (
        jax.jit(convolve),
        jax.jit(lambda x, k: jax.vjp(lambda x: convolve(x, k), x)[1](y)),
        jax.jit(lambda x, k: jax.vjp(lambda k: convolve(x, k), k)[1](y)),
    )
    works = [partial(one, x, kernel) for one in passes]
    flop = 2 * 9 * inputs * y.size
    return [flop / median(t).wall / 1e9 for t in alternate(works, REPETITIONS)]


if __name__ == "__main__":
    main()

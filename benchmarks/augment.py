"""Measures how many augmented views per second one processor core makes.

    export XLA_FLAGS=--xla_cpu_multi_thread_eigen=false
    taskset -c 0 python -m benchmarks.augment

A view is the result of SimCLR's complete pipeline, from uint8 images in memory to
normalised float32 arrays. One jitted function makes views in batches. `taskset`
restricts the process to one core, and the flag keeps XLA from splitting a product among
threads. The printed Markdown table has the rate at the median time of a batch, the
rates of the slowest and the fastest repetition, and the views per second of processor
time, which is less sensitive to other programs on the same machine.

If torchvision is installed, its transforms make the same views from the same images,
one PIL image after another in one thread, alternating with the repetitions of isojax.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.timing import alternate, markdown, median
from isojax.data.augment import SimclrSettings, ViewSettings, random_views

BATCH = 256
REPETITIONS = 15
TORCHVISION_VIEWS = 64  # per repetition
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


def main() -> None:
    """Prints the table."""
    columns = ["side", "jitter", "blur", "views/s", "slowest to fastest", "by CPU time"]
    if HAS_TORCHVISION:
        columns += ["torchvision, views/s", "ratio"]
    rows = []
    for size, strength, blur_probability in (
        (32, 0.5, 0),
        (64, 0.5, 0),
        (96, 1.0, 0.5),
    ):
        config = simclr_settings(strength, blur_probability)
        makers: list[Callable[[], Any]] = [isojax_maker(size, config)]
        if HAS_TORCHVISION:
            makers.append(torchvision_maker(size, config))
        ours, *theirs = alternate(makers, REPETITIONS)
        rates = [BATCH / timing.wall for timing in ours]
        rate = BATCH / median(ours).wall
        processor_rate = BATCH / median(ours).processor
        row = [
            f"{size}",
            f"s = {strength}",
            f"{blur_probability:.0%}",
            f"{rate:,.0f}",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            f"{processor_rate:,.0f}",
        ]
        for timings in theirs:
            their_rate = TORCHVISION_VIEWS / median(timings).wall
            row += [f"{their_rate:,.0f}", f"{rate / their_rate:.1f}"]
        rows.append(row)
    print(markdown(columns, rows), flush=True)


def simclr_settings(strength: float, blur_probability: float) -> SimclrSettings:
    """The settings of SimCLR's views."""
    return SimclrSettings(
        crop_scale=(0.08, 1.0),
        crop_ratio=(3 / 4, 4 / 3),
        flip_probability=0.5,
        jitter_probability=0.8,
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        grayscale_probability=0.2,
        blur_probability=blur_probability,
        blur_sigma=(0.1, 2.0),
        solarize_probability=0.0,
    )


def random_images(n: int, size: int) -> np.ndarray:
    """Random images; the pixel values do not affect the timing."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def isojax_maker(size: int, config: SimclrSettings) -> Callable[[], jax.Array]:
    """A function that makes a batch of views with isojax."""
    images = jax.device_put(random_images(BATCH, size))
    keys = jax.random.split(jax.random.key(0), BATCH)
    settings = ViewSettings("simclr", config)
    views = jax.jit(
        lambda keys, images: random_views(
            keys, images, views=settings, mean=MEAN, std=STD
        )
    )

    return lambda: views(keys, images)


def torchvision_maker(size: int, config: SimclrSettings) -> Callable[[], object]:
    """A function that makes views with torchvision from PIL images."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    jitter = v2.ColorJitter(
        config.brightness, config.contrast, config.saturation, config.hue
    )
    transforms = [
        v2.RandomResizedCrop(
            size,
            scale=config.crop_scale,
            ratio=config.crop_ratio,
            interpolation=v2.InterpolationMode.BICUBIC,
        ),
        v2.RandomHorizontalFlip(config.flip_probability),
        v2.RandomApply([jitter], p=config.jitter_probability),
        v2.RandomGrayscale(config.grayscale_probability),
    ]
    if config.blur_probability > 0:
        blur = v2.GaussianBlur(size // 20 * 2 + 1, sigma=config.blur_sigma)
        transforms.append(v2.RandomApply([blur], p=config.blur_probability))
    transforms += [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    transform = v2.Compose(transforms)
    images = [
        Image.fromarray(image) for image in random_images(TORCHVISION_VIEWS, size)
    ]

    return lambda: torch.stack([transform(image) for image in images]).numpy()


if __name__ == "__main__":
    main()

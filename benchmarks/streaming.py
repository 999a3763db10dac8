"""Measures how fast images are streamed from files and prints a Markdown table.

    python -m benchmarks.streaming [--json=FILE]

Reads 256 JPEG files of 500×375 pixels and 118 KB on average, written to a temporary
folder, and makes two random crops of 224×224 of each. isojax reads them as a run with
config.data.streaming does, up to the batch in host memory. torchvision reads them with
ImageFolder, RandomResizedCrop twice and a DataLoader with a worker per processor, as
bytes or, like its examples, as floats. Its crops are bicubic, like those of isojax, or
bilinear, its default. Images per second and core are images per second of processor
time, over all processes. Times are medians over epochs. The last line is the resident
memory of isojax after each epoch.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.timing import Timing, markdown, median, parse_arguments, write_json
from isojax.cpu_cores import cpu_cores
from isojax.data.augment.crop import CropSettings
from isojax.data.folder_listing import list_images
from isojax.data.streamed_batches import crop_batches
from isojax.data.streamed_images import FileReader, StreamedImages

IMAGES, BATCH, SIDE, REPETITIONS = 256, 32, 224, 5
CROPS = CropSettings((0.08, 1.0), (3 / 4, 4 / 3))


def main() -> None:
    """Prints the table."""
    arguments = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        size = write_images(Path(folder) / "train")
        works = {"isojax": isojax_epochs(folder)} | torchvision_epochs(folder)
        timings, memory = time_epochs(works)
    print(f"{IMAGES} JPEG files of 500×375 pixels, {size / 1e3:.0f} KB on average\n")
    medians = {name: median(of) for name, of in timings.items()}
    rows = [
        [
            name,
            f"{IMAGES / timing.processor:,.0f}",
            f"{1e3 * timing.processor / IMAGES:.2f}",
            f"{IMAGES / timing.wall:,.0f}",
            f"{timing.processor / medians['isojax'].processor:.2f}",
        ]
        for name, timing in medians.items()
    ]
    columns = ["loader", "images/s per core", "CPU, ms per image"]
    columns += [f"images/s on {cpu_cores()} cores", "CPU relative to isojax"]
    print(markdown(columns, rows))
    shown = ", ".join(f"{megabytes:.0f}" for megabytes in memory)
    print(f"Resident memory after each epoch, MB: {shown}")
    write_json(arguments.json, {"timings": timings, "memory": memory})


def write_images(folder: Path) -> float:
    """Writes photograph-like noise in two classes; returns the mean size in bytes."""
    rng = np.random.default_rng(0)
    height, width = 375, 500
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / width)  # as of natural images

    def noise() -> np.ndarray:
        white = np.fft.rfft2(rng.standard_normal((height, width)))
        return np.fft.irfft2(amplitude * white, s=(height, width))

    sizes = []
    for number in range(IMAGES):
        path = folder / f"class{number % 2}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        luma = noise()
        pixels = np.stack([luma + 0.4 * noise() for _ in range(3)], axis=-1)
        pixels = 128 + 50 * (pixels - pixels.mean()) / pixels.std()
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(path, quality=90)
        sizes.append(path.stat().st_size)
    return float(np.mean(sizes))


def isojax_epochs(folder: str) -> Callable[[int], Iterable]:
    """Returns a function from an epoch's number to its batches."""
    files = list_images(folder, "train")
    images = StreamedImages(FileReader(files), SIDE)
    return lambda epoch: crop_batches(
        images,
        files.labels,
        crops=(CROPS, CROPS),
        batch_size=BATCH,
        seed=0,
        epoch=epoch,
    )


def torchvision_epochs(folder: str) -> dict[str, Callable[[int], Iterable]]:
    """Returns such functions of torchvision by name, none without torchvision."""
    try:
        import torch
        from torchvision import datasets, transforms
    except ModuleNotFoundError:
        return {}
    modes = transforms.InterpolationMode

    def epochs(mode: str, convert: Callable) -> Callable[[int], Iterable]:
        crop = transforms.RandomResizedCrop(SIDE, interpolation=modes(mode))
        dataset = datasets.ImageFolder(
            Path(folder) / "train", partial(two_crops, crop, convert)
        )
        loader = torch.utils.data.DataLoader(
            dataset, BATCH, shuffle=True, num_workers=cpu_cores()
        )
        return lambda epoch: loader

    return {
        f"torchvision, {mode}, {kind}": epochs(mode, convert)
        for mode in ("bicubic", "bilinear")
        for kind, convert in (
            ("floats", transforms.ToTensor()),
            ("bytes", transforms.PILToTensor()),
        )
    }


def two_crops(crop: Callable, convert: Callable, image: Image.Image) -> tuple:
    """Makes both views of an image with torchvision."""
    return convert(crop(image)), convert(crop(image))


def time_epochs(
    works: dict[str, Callable[[int], Iterable]],
) -> tuple[dict[str, list[Timing]], list[float]]:
    """Runs epochs of the loaders alternately, the first without timing.

    Returns:
      The timings by loader, and the resident megabytes after each epoch of isojax.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in works}
    memory = []
    for epoch in range(1 + REPETITIONS):
        for name, epochs in works.items():
            wall, processor = time.perf_counter(), processor_seconds()
            count = sum(1 for _ in epochs(epoch))
            if count != IMAGES // BATCH:
                raise RuntimeError(f"{name} made {count} batches")
            if epoch > 0:
                timings[name].append(
                    Timing(time.perf_counter() - wall, processor_seconds() - processor)
                )
            if name == "isojax":
                memory.append(psutil.Process().memory_info().rss / 1e6)
    return timings, memory


def processor_seconds() -> float:
    """Processor time of this process and of its finished children."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()

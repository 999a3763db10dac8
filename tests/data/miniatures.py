"""Small archives in the official layouts of the four image sets.

`python -m tests.data.miniatures DIR` prepares all of them under DIR, so that
`python train.py --config=configs/cifar10.py --data_dir=DIR` runs without a network.

Every image encodes its number in its pixels, so that a test can identify it in any
order and after any compression; see `number_of`.
"""

import contextlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from isojax.data import ImageSource, load_dataset

ARCHIVES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    "stl10": "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
    "tiny_imagenet": "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
}
SIDE = {"cifar10": 32, "cifar100": 32, "stl10": 96, "tiny_imagenet": 64}
CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "tiny_imagenet": 200}
# Large enough that a held-out fifth contains an image of every class.
TRAIN = {"cifar10": 320, "cifar100": 320, "stl10": 320, "tiny_imagenet": 600}
TEST = {"cifar10": 100, "cifar100": 100, "stl10": 100, "tiny_imagenet": 200}
UNLABELLED = 160
FIRST_TEST, FIRST_UNLABELLED = 1000, 2000  # numbers of the first image of each split
WNIDS = [f"n{1_000_000 + 7919 * i % 200:08d}" for i in range(200)]  # not sorted
_BITS = 12


def draw(number: int, label: int, side: int) -> np.ndarray:
    """Draws an image (side, side, 3): its number in the upper half, its class below."""
    rng = np.random.default_rng(number)
    block = side // 8
    bits = np.zeros(16, np.uint8)
    bits[:_BITS] = number >> np.arange(_BITS) & 1
    upper = np.kron(255 * bits.reshape(2, 8), np.ones((2 * block, block), np.uint8))
    # A wave whose direction and colour depend on the class and whose phase is random.
    x, y = np.meshgrid(*[np.linspace(0, 2 * np.pi, n) for n in (side, side // 2)])
    angle, colour = 2.4 * label, np.array([0.0, 2.1, 4.2]) + label
    wave = np.sin(3 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2))
    lower = 128 + 100 * wave[..., None] * np.cos(colour)
    return np.concatenate([np.repeat(upper[..., None], 3, -1), lower]).astype(np.uint8)


def number_of(image: np.ndarray) -> int:
    """Returns the number that `draw` wrote into an image."""
    block = image.shape[0] // 8
    upper = image[: 4 * block, :, 0].reshape(2, 2 * block, 8, block)
    bits = upper.mean(axis=(1, 3)).ravel() > 128
    return int((bits[:_BITS] << np.arange(_BITS)).sum())


def label_of(name: str, number: int) -> int:
    """Returns the class of an image; -1 if it is unlabelled."""
    return -1 if number >= FIRST_UNLABELLED else number % CLASSES[name]


def write_archive(name: str, folder: Path) -> Path:
    """Writes a small version of a data set's archive under its official file name."""
    path = folder / ARCHIVES[name].rsplit("/", 1)[1]
    write = {
        "cifar10": _write_cifar10,
        "cifar100": _write_cifar100,
        "stl10": _write_stl10,
        "tiny_imagenet": _write_tiny_imagenet,
    }[name]
    write(path)
    return path


@contextlib.contextmanager
def known(names: Iterable[str], data_dir: Path) -> Iterator[None]:
    """Places small archives as downloaded files, and registers their checksums."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

    from isojax.data import tiny_imagenet  # noqa: F401  registers the builder

    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True, exist_ok=True)
    official = {}
    for name in names:
        archive = write_archive(name, manual)
        infos = tfds.builder_cls(name).url_infos
        official[name] = infos[ARCHIVES[name]]
        infos[ARCHIVES[name]] = checksums.compute_url_info(archive)
    try:
        yield
    finally:
        for name, info in official.items():
            tfds.builder_cls(name).url_infos[ARCHIVES[name]] = info


def source(name: str, /, **fields) -> ImageSource:
    """Returns the image source of one of the four data sets."""
    found = ImageSource(name, SIDE[name])
    if name == "stl10":
        found = found._replace(pretrain_split="train+unlabelled")
    if name == "tiny_imagenet":
        found = found._replace(evaluation_split="validation")
    return found._replace(**fields)


def _images(name: str, count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    numbers = range(first, first + count)
    labels = [label_of(name, number) for number in numbers]
    images = [draw(*pair, SIDE[name]) for pair in zip(numbers, labels, strict=True)]
    return np.stack(images), np.array(labels)


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _cifar_rows(images: np.ndarray, *labels: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    columns = [label[:, None].astype(np.uint8) for label in labels]
    return np.hstack([*columns, planes]).tobytes()


def _write_cifar10(path: Path) -> None:
    images, labels = _images("cifar10", TRAIN["cifar10"])
    test_images, test_labels = _images("cifar10", TEST["cifar10"], FIRST_TEST)
    names = [f"class{i}" for i in range(CLASSES["cifar10"])]
    files = {
        "batches.meta.txt": "\n".join(names).encode() + b"\n\n",
        "test_batch.bin": _cifar_rows(test_images, test_labels),
    }
    parts = np.split(images, 5), np.split(labels, 5)
    for i, part in enumerate(zip(*parts, strict=True), start=1):
        files[f"data_batch_{i}.bin"] = _cifar_rows(*part)
    _write_tar(path, {f"cifar-10-batches-bin/{k}": v for k, v in files.items()})


def _write_cifar100(path: Path) -> None:
    files = {}
    for count, first, name in (
        (TRAIN["cifar100"], 0, "train.bin"),
        (TEST["cifar100"], FIRST_TEST, "test.bin"),
    ):
        images, labels = _images("cifar100", count, first)
        files[name] = _cifar_rows(images, labels // 5, labels)  # coarse, fine
    for name, classes in (("coarse", 20), ("fine", 100)):
        lines = "".join(f"{name}{i}\n" for i in range(classes))
        files[f"{name}_label_names.txt"] = lines.encode()
    _write_tar(path, {f"cifar-100-binary/{k}": v for k, v in files.items()})


def _write_stl10(path: Path) -> None:
    files = {"class_names.txt": "".join(f"class{i}\n" for i in range(10)).encode()}
    for count, first, name in (
        (TRAIN["stl10"], 0, "train"),
        (TEST["stl10"], FIRST_TEST, "test"),
        (UNLABELLED, FIRST_UNLABELLED, "unlabeled"),
    ):
        images, labels = _images("stl10", count, first)
        # The format stores images column by column and counts classes from 1.
        files[f"{name}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        if name != "unlabeled":
            files[f"{name}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    _write_tar(path, {f"stl10_binary/{k}": v for k, v in files.items()})


def is_grey(number: int) -> bool:
    """Returns whether the small TinyImageNet stores this image in greyscale."""
    return number % 7 == 0


def _write_tiny_imagenet(path: Path) -> None:
    name, root = "tiny_imagenet", "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        words = [f"{wnid}\tname of {wnid}, other name\n" for wnid in sorted(WNIDS)]
        archive.writestr(
            f"{root}/words.txt", "".join(["n09999999\tno class\n", *words])
        )
        archive.writestr(f"{root}/wnids.txt", "".join(f"{w}\n" for w in WNIDS))
        annotations = []
        for number in range(TRAIN[name]):
            wnid = WNIDS[label_of(name, number)]
            file = f"train/{wnid}/images/{wnid}_{number}.JPEG"
            archive.writestr(f"{root}/{file}", _jpeg(name, number))
        for wnid in WNIDS:
            archive.writestr(f"{root}/train/{wnid}/{wnid}_boxes.txt", "")
        for number in range(FIRST_TEST, FIRST_TEST + TEST[name]):
            file = f"val_{number}.JPEG"
            archive.writestr(f"{root}/val/images/{file}", _jpeg(name, number))
            wnid = WNIDS[label_of(name, number)]
            annotations.append(f"{file}\t{wnid}\t0\t0\t63\t63\n")
        archive.writestr(f"{root}/val/val_annotations.txt", "".join(annotations))
        archive.writestr(f"{root}/test/images/test_0.JPEG", _jpeg(name, 0))


def _jpeg(name: str, number: int) -> bytes:
    image = Image.fromarray(draw(number, label_of(name, number), SIDE[name]))
    if is_grey(number):
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    """Prepares all four data sets in the folder given on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.data.miniatures DIR")
    data_dir = Path(sys.argv[1]).absolute()
    with known(ARCHIVES, data_dir):
        for name in ARCHIVES:
            load_dataset(source(name), data_dir=data_dir)
    print(f"Ready: add --data_dir={data_dir} to train.py and eval_linear.py.")


if __name__ == "__main__":
    main()

"""Small folders of image files."""

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee")


def write_images(folder, *, per_class, split="train", classes=CLASSES, seed=0):
    """Writes smooth JPEG files of different sizes, 20 to 40 pixels a side."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            width, height = (int(side) for side in rng.integers(20, 41, 2))
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
            picture.save(folder / split / name / f"{number:03}.jpg", quality=95)
    return folder

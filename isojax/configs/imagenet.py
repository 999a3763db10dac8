"""ImageNet: 1.28 million training images of any size in 1,000 classes.

    python train.py --config=configs/imagenet.py[:PRESET] --workdir=runs/imagenet
                    --config.data.folder=PATH

PATH contains `train/CLASS/*.JPEG` and `val/CLASS/*.JPEG`. Instead of the folder,
--config.data.name=imagenet2012 --data_dir=DATA_DIR selects the images that
tensorflow-datasets has prepared in DATA_DIR, in the format array_record;
docs/own_data_and_network.md has the commands. The images are decoded while training.

Halvagal et al. 2023 has no ImageNet: the presets are the recipe of appendix D with the
views and the stem of STL-10, and 100 epochs as in the authors' code. 100 epochs need
several accelerators. No accuracy has been measured with this config yet.

With the prefix `official`, the recipe of the authors' code: batches of 64 on each of 4
devices, accumulated 16 times, that is 4,096 images in 16 parts; LARS with learning rate
0.45 * 4096 / 256 and trust coefficient 0.001, not clipped, with and without a moving
average; weight decay 1e-5 for all methods. In addition to the list in
`isojax/configs/base.py`, the following is not replicated:

  BatchNorm    their statistics are those of the 64 images of a device, or of 256 with
               synchronisation; here always those of a part over all devices
  crops        the host crops the files with the same bicubic filter, antialiased, from
               a reduced image where that is at least 1.5 times as large as the view
"""

from ml_collections import ConfigDict

from isojax.configs import base

_BATCH, _PARTS = 4096, 16


def get_config(preset: str = base.DEFAULT_PRESET) -> ConfigDict:
    """Returns ResNet-50 on ImageNet."""
    config = base.get_config(preset)
    config.epochs = 100

    config.data.name = "folder"
    config.data.streaming = True
    config.data.resolution = 224
    config.data.pretrain_split = "train"
    config.data.train_split = "train"
    config.data.evaluation_split = "val"
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)

    config.model.backbone = "resnet50"
    config.model.kernel_size = 7
    config.model.stride = 2
    config.model.max_pool = True
    config.model.patch_size = 16

    base.set_simclr_augmentation(config, strength=1.0, blur_probability=0.5)
    if base.is_official(config):
        config.batch_size = _BATCH
        config.microbatches = _PARTS
        config.optimizer.name = "lars"
        config.optimizer.learning_rate = 0.45 * _BATCH / 256
        config.optimizer.warmup_start = 3e-5 * _BATCH / 256
        config.optimizer.trust_coefficient = 0.001
        config.optimizer.clip_trust_ratio = False
        config.optimizer.weight_decay = 1e-5
        config.augment.blur_probability = 1.0
        config.augment_view2.blur_probability = 0.1
    return config.lock()

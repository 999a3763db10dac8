"""Names of the files in a run's folder and of the metrics in them.

docs/metrics.md describes what the files and metrics hold.
"""

# Written by training.
CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
SPECTRUM_FILE = "spectrum.npz"
MACHINE_FILE = "machine.json"
NOT_FINITE_FILE = "not_finite.json"
LOCK_FILE = "run.lock"
WANDB_FILE = "wandb.json"
WANDB_FOLDER = "wandb"
TENSORBOARD_FOLDER = "tensorboard"
CHECKPOINTS_FOLDER = "checkpoints"
FIGURES_FOLDER = "figures"
# In the folder of a checkpoint, which is complete if this file exists.
RECORD_FILE = "checksums.json"
# In the folder of the figures.
VIEWS_PICTURE = "views.png"
VIEWS_ARRAYS = "views.npz"

# Written by evaluation.
RESULT_NAME = "linear_eval"
RESULT_FILE = f"{RESULT_NAME}.json"
EVALUATION_ARRAYS_FILE = "evaluation.npz"
EVALUATION_LOCK_FILE = ".evaluation.lock"

# Written by the report; the last two hold results that take seconds to compute.
REPORT_FILE = "report.html"
UMAP_FILE = "umap.npz"
THEORY_FILE = "theory.npz"

# Metrics. Those of training are means over the steps of an epoch, or belong to the
# correlation at its end.
TRAIN_PREFIX = "train/"
LOSS = "train/loss"
STD = "train/std"
VIEW_SIMILARITY = "train/view_similarity"
GRADIENT_NORM = "train/gradient_norm"
LEARNING_RATE = "train/learning_rate"
IMAGES_PER_SECOND = "train/images_per_second"
PARTICIPATION_RATIO = "train/participation_ratio"
EIGENVALUE_MIN = "train/eigenvalue_min"
EIGENVALUE_MAX = "train/eigenvalue_max"
EIGENVALUE_MEAN = "train/eigenvalue_mean"
EIGENVALUE_STD = "train/eigenvalue_std"
ALIGNMENT_MEAN = "train/alignment_mean"
ALIGNMENT_MIN = "train/alignment_min"
# On the evaluation images, at the end of an epoch.
ONLINE_ACCURACY = "eval/online_accuracy"
EFFECTIVE_RANK = "eval/effective_rank"
SPECTRUM_EXPONENT = "eval/alpha_req"
EIGENVALUE_SUM = "eval/nesum"
LIDAR = "eval/lidar"
# For TensorBoard and Weights & Biases only.
STEP_PREFIX = "step/"
FIGURES_PREFIX = "figures/"
LOG_EIGENVALUES = "spectrum/log10_eigenvalues"

"""Live metrics for TensorBoard and Weights & Biases."""

from isojax.training.metric_writers.options import LoggingOptions as LoggingOptions
from isojax.training.metric_writers.options import read_options as read_options
from isojax.training.metric_writers.writers import MetricWriters as MetricWriters
from isojax.training.metric_writers.writers import check_packages as check_packages
from isojax.training.metric_writers.writers import open_writers as open_writers
from isojax.training.metric_writers.writers import write_accuracies as write_accuracies

"""What a frozen encoder's representations are good for."""

from isojax.evaluation.evaluate import evaluate_run as evaluate_run
from isojax.evaluation.features import extract_features as extract_features
from isojax.evaluation.finetuning import finetune as finetune
from isojax.evaluation.knn import knn_accuracy as knn_accuracy
from isojax.evaluation.linear import LinearReadout as LinearReadout
from isojax.evaluation.linear import fit_linear_readout as fit_linear_readout
from isojax.evaluation.options import Options as Options

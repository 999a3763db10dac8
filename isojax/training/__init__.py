"""Pretraining: the training step, the loop, and the trained encoder."""

from isojax.training.encoder import Trained as Trained
from isojax.training.encoder import load_encoder as load_encoder
from isojax.training.encoder import load_trained as load_trained
from isojax.training.encoder import random_encoder as random_encoder
from isojax.training.loop import pretrain as pretrain

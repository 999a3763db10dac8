"""Non-contrastive self-supervised learning with closed-form predictors, in JAX."""

__version__ = "0.1.0"

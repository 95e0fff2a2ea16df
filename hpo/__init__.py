"""hpo: hyperparameter studies for PyTorch models, kept, pruned, fronted, shipped."""

__version__ = "0.1.0"

"""Bring your own training code: a function, a LightningModule or a Hugging Face Trainer as an objective.

Importing this loads none of their libraries.
"""

from hpo.adoption.function import adopt
from hpo.adoption.huggingface import adopt_trainer
from hpo.adoption.lightning import adopt_lightning

__all__ = ["adopt", "adopt_lightning", "adopt_trainer"]

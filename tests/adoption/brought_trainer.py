"""A Trainer of transformers around a small model, and the line that adopts it."""

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

import hpo

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(64, 4, generator=GENERATOR)
Y = X.sum(1, keepdim=True)
ROWS = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x=None, labels=None):
        outputs = self.net(x)
        return {"loss": nn.functional.mse_loss(outputs, labels), "logits": outputs}


def error(predicted):
    return {"mae": float(abs(predicted.predictions - predicted.label_ids).mean())}


def make_trainer(params, arguments):
    if params["lr"] < 0:
        raise ValueError("a negative learning rate")
    args = TrainingArguments(learning_rate=params["lr"], per_device_train_batch_size=8, **arguments)
    return Trainer(model=Net(), args=args, train_dataset=ROWS[:48], eval_dataset=ROWS[48:], compute_metrics=error)


Tuned = hpo.adopt_trainer(
    make_trainer,
    goals={"eval_loss": "minimize"},
    metrics={"eval_mae": "minimize"},
    space={"lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True}},
)

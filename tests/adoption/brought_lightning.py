"""A LightningModule and its DataModule as people have them, and the line that adopts them."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hpo


class Net(pl.LightningModule):
    def __init__(self, lr=0.01, dropout=0.2):
        super().__init__()
        self.save_hyperparameters()
        if lr < 0:
            raise ValueError("a negative learning rate")
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1))

    def training_step(self, batch, index):
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)]


class Data(pl.LightningDataModule):
    def __init__(self, batch_size=8):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        y = x.sum(1, keepdim=True)
        self.train, self.val = TensorDataset(x[:48], y[:48]), TensorDataset(x[48:], y[48:])

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 16)


SPACE = {
    "lr": {"type": "float", "low": 0.001, "high": 0.1, "log": True},
    "batch_size": {"type": "categorical", "choices": [8, 16]},
}
Tuned = hpo.adopt_lightning(Net, Data, goals={"val_loss": "minimize"}, metrics={"train_loss": "minimize"}, space=SPACE)

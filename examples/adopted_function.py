"""A training script as it was before hpo: a loop over epochs, and somebody to tell how it goes."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

EPOCHS = 12


def load():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    return train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)


def train(params, report):
    x, x_val, y, y_val = load()
    width, dropout = params["width"], params.get("dropout", 0.1)
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=params["lr"], momentum=0.9)
    for epoch in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(x)).split(params["batch_size"]):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            outputs = model(x_val)
        accuracy = (outputs.argmax(1) == y_val).float().mean()
        report(epoch, val_loss=nn.functional.cross_entropy(outputs, y_val), val_accuracy=accuracy)


if __name__ == "__main__":
    train({"lr": 0.05, "width": 64, "batch_size": 32}, print)

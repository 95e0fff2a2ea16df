"""A training function as people have one, with checkpoints of its own."""

import torch
from torch import nn

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(64, 4, generator=GENERATOR)
Y = X.sum(1, keepdim=True)


def train(params, report, folder, epochs, resume):
    if params["lr"] < 0:
        raise ValueError("a negative learning rate")
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=params["lr"], momentum=0.9)
    path, begin = folder / "last.pt", 0
    if resume and path.exists():
        state = torch.load(path)
        begin = state["epoch"] + 1
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
    for epoch in range(begin, epochs):
        for rows in torch.randperm(48).split(8):
            optimizer.zero_grad()
            nn.functional.mse_loss(model.train()(X[rows]), Y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = nn.functional.mse_loss(model.eval()(X[48:]), Y[48:])
        report(epoch, val_loss=loss)
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
        torch.save({"epoch": epoch, **parts}, folder / "new.pt")
        (folder / "new.pt").replace(path)

"""What the shared trainer's loop costs: beside a bare PyTorch loop and Lightning's Trainer.

    python benchmarks/trainer_loop.py [--rounds 9] [--threads 1] [--device cpu] [--precision fp32] [--lean]

All do the same work: shuffled batches out of memory, forward, backward, the gradients'
norm clipped, a fused AdamW step, a cosine schedule, the mean loss, and a validation pass
per epoch. ``--lean`` leaves clipping and schedule out on every side; the shared trainer
still measures the gradients' norm, which the bare loop then does not.

Rounds are interleaved (bare, hpo, Lightning, bare, ...), so that a noisy machine hits all
sides; a round's figure is its median epoch, the first left out, and the ratio of a round
is to the bare loop's epochs just before and after it. Reported: the median ratio and its
95 % interval by order statistics. Checkpoints are measured apart (``trainer_options.py``):
here the validation metric never improves. Lightning is left out where it is not installed
(``pip install lightning -c constraints.txt``).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hpo.training.settings import TrainerSettings
from hpo.training.task import Split, Task
from hpo.training.trainer import Trainer
from hpo.trial import GO_ON, Goal, Job, TrialContext

LR, CLIP = 1e-4, 1.0


@dataclass(frozen=True)
class Case:
    name: str
    widths: tuple[int, ...]
    batch_size: int
    samples: int
    epochs: int

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for a, b in pairwise(self.widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def data(self, samples: int, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(samples, self.widths[0], generator=generator)
        return x, x[:, :1].clone()


CASES = (
    Case("large", (2056, 1024, 512, 256, 1), 128, 4096, 6),
    Case("small", (10, 32, 1), 32, 16384, 10),
)


def bare(case: Case, device: torch.device, dtype: torch.dtype | None, lean: bool) -> float:
    """Median seconds of an epoch of the plainest loop that does the work."""
    model = case.model().to(device)
    x, y = (part.to(device) for part in case.data(case.samples, 1))
    vx, vy = (part.to(device) for part in case.data(case.samples // 8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0, fused=True)
    updates = math.ceil(case.samples / case.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.epochs * updates)
    times = []
    for _ in range(case.epochs):
        began = time.perf_counter()
        total = torch.zeros((), device=device)
        norms = []
        for picked in torch.randperm(case.samples).to(device).split(case.batch_size):
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                output = model(x[picked])
            loss = nn.functional.mse_loss(output.float(), y[picked])
            optimizer.zero_grad()
            loss.backward()
            if not lean:
                norms.append(nn.utils.clip_grad_norm_(model.parameters(), CLIP))
            optimizer.step()
            if not lean:
                schedule.step()
            total += loss.detach() * len(picked)
        float(total), float(torch.stack(norms).mean()) if norms else None
        model.eval()
        with torch.no_grad():
            parts = [
                nn.functional.mse_loss(model(a), b) * len(a)
                for a, b in zip(vx.split(4 * case.batch_size), vy.split(4 * case.batch_size), strict=True)
            ]
            float(torch.stack(parts).sum())
        model.train()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def hpo_trainer(case: Case, device: torch.device, precision: str, lean: bool) -> float:
    """Median seconds between two reports of the shared trainer."""
    train, validation = case.data(case.samples, 1), case.data(case.samples // 8, 2)
    task = Task(
        model=case.model(),
        train=Split(train),
        validation=Split(validation, lambda outputs, targets: {"val_constant": 0.0}),
        loss=nn.functional.mse_loss,
        example=(validation[0][:1],),
    )
    settings = TrainerSettings(
        lr=LR, batch_size=case.batch_size, grad_clip=None if lean else CLIP,
        schedule="constant" if lean else "cosine", precision=precision,  # type: ignore[arg-type]
        threads=torch.get_num_threads(), checkpoint_every=10_000,
    )  # fmt: skip
    goal = Goal("val_constant")
    at: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            study="b", series="search", number=0, objective="b", params={}, data={}, trainer=settings, goals=(goal,),
            monitor=goal, seed=0, data_seed=0, epochs=case.epochs, folder=folder,
        )  # fmt: skip
        context = TrialContext(job, lambda point: (at.append(time.perf_counter()), GO_ON)[1], device=str(device))
        Trainer(settings).fit(task, context)
    # The last report comes after the last checkpoint, which is not the loop's.
    return statistics.median(b - a for a, b in pairwise(at[:-1]))


def lightning_trainer(case: Case, device: torch.device, precision: str, lean: bool) -> float:
    """Median seconds of an epoch of Lightning's Trainer with everything optional switched off."""
    import lightning

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    at: list[float] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = case.model()

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            loss = nn.functional.mse_loss(self.model(x).float(), y)
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            x, y = batch
            self.log("val_loss", nn.functional.mse_loss(self.model(x).float(), y))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=LR, weight_decay=0.0, fused=True)
            if lean:
                return optimizer
            total = case.epochs * math.ceil(case.samples / case.batch_size)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

        def on_train_epoch_end(self) -> None:
            at.append(time.perf_counter())

    def loader(tensors: tuple[Tensor, Tensor], size: int, shuffle: bool) -> Any:
        # Whole batches out of memory, as the other two do; a DataLoader of samples is slower still.
        rows = torch.utils.data.RandomSampler(range(len(tensors[0]))) if shuffle else range(len(tensors[0]))
        batches = torch.utils.data.BatchSampler(rows, size, drop_last=False)
        data = torch.utils.data.TensorDataset(*tensors)
        return torch.utils.data.DataLoader(data, sampler=batches, batch_size=None)

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=case.epochs, accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            gradient_clip_val=None if lean else CLIP,
            num_sanity_val_steps=0, default_root_dir=folder, log_every_n_steps=10_000,
            precision={"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision],
        )  # fmt: skip
        trainer.fit(
            Module(),
            loader(case.data(case.samples, 1), case.batch_size, True),
            loader(case.data(case.samples // 8, 2), 4 * case.batch_size, False),
        )
    return statistics.median(b - a for a, b in pairwise(at))


def interval(values: list[float]) -> list[float]:
    """Median and the ranks (n ± 1.96 √n) / 2 around it (Conover 1999, 3.2)."""
    ranked, n = sorted(values), len(values)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half) - 1)
    return [round(value, 3) for value in (statistics.median(values), ranked[low], ranked[high])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--lean", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(options.precision)
    try:
        import lightning  # noqa: F401

        with_lightning = True
    except ImportError:
        with_lightning = False
    found: dict[str, Any] = {"threads": options.threads, "device": options.device, "precision": options.precision}
    found["lean"] = lean = options.lean
    for case in CASES:
        bare(case, device, dtype, lean)  # the first of a process is slow
        ours, theirs, seconds = [], [], []
        before = bare(case, device, dtype, lean)
        for _ in range(options.rounds):
            mine = hpo_trainer(case, device, options.precision, lean)
            between = bare(case, device, dtype, lean)
            ours.append(mine / ((before + between) / 2))
            seconds.append(between)
            before = between
            if with_lightning:
                peer = lightning_trainer(case, device, options.precision, lean)
                between = bare(case, device, dtype, lean)
                theirs.append(peer / ((before + between) / 2))
                before = between
        updates = math.ceil(case.samples / case.batch_size)
        found[case.name] = {
            "model": "-".join(map(str, case.widths)), "batch": case.batch_size,
            "bare_ms_per_update": round(statistics.median(seconds) / updates * 1e3, 3),
            "hpo_to_bare [median, low, high]": interval(ours),
            **({"lightning_to_bare [median, low, high]": interval(theirs)} if theirs else {}),
        }  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

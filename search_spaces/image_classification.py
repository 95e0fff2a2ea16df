"""What can be varied in ``image_classification``; the two hand-picked points, before and after, lie in it.

The effective batch is ``batch_size`` times ``accumulation``. ``lr`` reaches from fine-tuning
a pretrained model (1e-5) to training a small one from nothing (5e-3). One cycle's peak is
``peak_factor`` times ``lr``. ``patience`` is early stopping's.
"""

from search_spaces import Choice, Float, Int, SearchSpace

SPACE = SearchSpace(
    {
        "lr": Float(1e-6, 5e-3, log=True),
        "weight_decay": Float(1e-3, 0.3, log=True),
        "dropout": Float(0.0, 0.5),
        "drop_path": Float(0.0, 0.3),
        "label_smoothing": Float(0.0, 0.2),
        "batch_size": Choice((4, 8, 16, 32, 64)),
        "accumulation": Choice((1, 2, 4, 8, 16)),
        "patience": Int(3, 10),
        "warmup_epochs": Int(0, 2),
        "schedule": Choice(("one_cycle", "cosine")),
        "peak_factor": Float(1.0, 10.0, log=True, when=(("schedule", ("one_cycle",)),)),
        "augment": Choice(("none", "small", "standard")),
    }
)

"""What can be varied in ``language_modeling``.

The physical batch stays fixed (``trainer: {batch_size: ...}``): what memory holds is no question
of taste, and the effective batch is searched through ``accumulation``.
"""

from search_spaces import Choice, Float, SearchSpace

SPACE = SearchSpace(
    {
        "lr": Float(1e-5, 5e-4, log=True),
        "warmup_share": Float(0.05, 0.15),
        "weight_decay": Float(1e-3, 1e-1, log=True),
        "grad_clip": Float(0.5, 2.0),
        "accumulation": Choice((1, 2, 4, 8)),
        "schedule": Choice(("linear", "cosine", "cosine_with_restarts", "polynomial")),
        "beta1": Float(0.8, 0.95),
        "beta2": Float(0.95, 0.9999),
        "eps": Float(1e-8, 1e-6, log=True),
        "dropout": Float(0.0, 0.3),
    }
)

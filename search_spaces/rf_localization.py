"""What can be varied in ``rf_localization``; today's hand-picked point is one of it, and so is the whole grid.

The grid (``examples/rf-grid.yaml``) has three values each of the first four.
"""

from search_spaces import Choice, Float, SearchSpace

SPACE = SearchSpace(
    {
        "lr": Float(1e-4, 2e-2, log=True),
        "batch_size": Choice((8, 16, 32, 64)),
        "dropout": Float(0.0, 0.5),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        "feature_dropout": Float(0.0, 0.3),
        "scale_jitter": Float(0.0, 0.1),
    }
)

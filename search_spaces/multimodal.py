"""What can be varied in ``multimodal``.

``w_graph``, ``w_cube`` and ``beta`` weigh the parts of the loss, so ``val_loss`` of two
trials cannot be compared: goals look at ``val_cross_entropy`` or ``val_accuracy``.
``fusion_scale`` is the fusion's width over that of the size preset.
"""

from search_spaces import Choice, Float, SearchSpace

# What fits beside the model; at full size ``accumulation`` makes one update of many.
BATCH_SIZES = {"tiny": (16, 32, 64), "small": (8, 16, 32), "full": (1, 2, 4)}


def space(preset: str) -> SearchSpace:
    """The space for a size preset of the model."""
    return SearchSpace(
        {
            "lr": Float(3e-5, 1e-2, log=True),
            "weight_decay": Float(1e-5, 1.0, log=True),
            "batch_size": Choice(BATCH_SIZES[preset]),
            "w_graph": Float(1e-3, 1.0, log=True),
            "w_cube": Float(1e-3, 1.0, log=True),
            "beta": Float(1e-3, 1.0, log=True),
            "dropout": Float(0.0, 0.4),
            "fusion_scale": Choice((0.5, 1.0, 2.0)),
            "fusion_heads": Choice((2, 4, 8)),
        }
    )


SPACE = space("tiny")

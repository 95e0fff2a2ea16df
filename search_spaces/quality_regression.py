"""What can be varied in ``quality_regression``; today's hand-picked network is one point of it.

``width`` is the first hidden layer's, each further one has half; ``dropout`` is the first
layer's and falls evenly, so depth 3, width 1024 and dropout 0.3 give 1024-512-256 with
0.3 / 0.2 / 0.1. The last five stand for structure beyond the plain network and are off at
1.0, 0.001, 0.0, false and false.
"""

from search_spaces import Choice, Float, Int, SearchSpace

SPACE = SearchSpace(
    {
        "lr": Float(1e-4, 1e-2, log=True),
        "weight_decay": Float(1e-6, 1.0, log=True),
        "batch_size": Choice((32, 64, 128, 256)),
        "depth": Int(1, 4),
        "width": Int(64, 2048, log=True),
        "dropout": Float(0.0, 0.6),
        "activation": Choice(("relu", "gelu", "silu")),
        "settings_gain": Float(1.0, 32.0, log=True),
        "scale_floor": Float(1e-3, 1.0, log=True),
        "input_dropout": Float(0.0, 0.4),
        "squash": Choice((False, True)),
        "modulate": Choice((False, True)),
    }
)

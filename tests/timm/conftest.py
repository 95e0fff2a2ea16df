"""Makes the torchvision of the package index importable beside a torch for CPUs, by itself and for loader workers.

Its wheel is built for CUDA. Without CUDA its library of operators does not load, and
importing the Python part then fails because two operators that it describes to PyTorch are
not defined. Defined here, with no code behind them, they are never called by a classifier.
On a machine with a GPU, or with torchvision's own wheel for CPUs, nothing is done.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

collect_ignore_glob = [] if find_spec("timm") else ["test_*.py"]  # make test-timm has it

if find_spec("torchvision") and not torch.cuda.is_available():
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

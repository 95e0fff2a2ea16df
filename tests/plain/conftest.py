"""What runs where there is onnxruntime and nothing of ours; by ``make test-plain``, which says where that is."""

from __future__ import annotations

import os

PYTHON = os.environ.get("HPO_PLAIN_PYTHON", "")  # the interpreter of that environment
collect_ignore_glob = [] if PYTHON else ["test_*.py"]

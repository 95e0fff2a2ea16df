"""Small objectives stand beside these tests, as a user's stand beside a study file."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)

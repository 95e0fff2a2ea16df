"""Which optional packages the trainer's settings need, and whether they are installed. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from hpo.errors import UserError
from hpo.training.settings import TrainerSettings

# optimizer -> (package, extra of hpo)
OPTIONAL_OPTIMIZERS: Mapping[str, tuple[str, str]] = {"adamw8bit": ("bitsandbytes", "8bit")}


def check_installed(settings: TrainerSettings) -> None:
    """Refuse settings whose package is absent; imports nothing.

    Raises:
        UserError: it is; the message says how to install it.
    """
    package, extra = OPTIONAL_OPTIMIZERS.get(settings.optimizer, (None, None))
    if package is not None and find_spec(package) is None:
        raise UserError(
            f"optimizer {settings.optimizer} needs the package {package}, which is not installed. "
            f"Install it (pip install 'hpo[{extra}]'), or choose another optimizer."
        )

"""What is kept of each ended trial besides its numbers: its log and a picture of its curves."""

from hpo.archive.keeping import Archive

__all__ = ["Archive"]

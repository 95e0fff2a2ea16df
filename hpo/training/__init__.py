"""The shared trainer. Importing this package imports no torch; ``trainer`` and friends do."""

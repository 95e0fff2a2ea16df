"""Trials from and to elsewhere: Optuna's databases and journals, CSV, JSON lines."""

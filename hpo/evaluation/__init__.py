"""How good a model is: metrics, the same per group, and splits that do not flatter. Imports nothing heavy."""

"""How good a model is: metrics, intervals, the same per group, and splits that do not flatter.

Importing a file loads neither torch nor torchmetrics; the first call of a metric may (1.5 s).
"""

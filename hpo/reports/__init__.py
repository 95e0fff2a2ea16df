"""What people look at: one study's page and plots (``page``) and the live view of a launch (``live``).

Reads plain records and nothing else: no database, no Optuna, no Ray, no PyTorch.
"""

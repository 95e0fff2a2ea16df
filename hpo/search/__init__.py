"""Who proposes the next trial, and who says that one is not worth going on. Optuna lives here."""

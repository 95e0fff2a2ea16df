"""What can be tuned: one folder per objective, found by name. Importing this loads no torch."""

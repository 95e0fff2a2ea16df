"""Models and their versions: publishing, labels, and one version held against another."""

"""What a shipped model says of new inputs: read, held against the manifest, run in batches, written. No torch."""

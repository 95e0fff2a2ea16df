"""Two or more studies side by side: what each had found when all had spent the same, and how sure one can be."""

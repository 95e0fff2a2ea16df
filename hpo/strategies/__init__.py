"""What a search takes from others, and when it ends: pure functions over records and spaces."""

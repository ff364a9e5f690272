"""One published architecture a file: its settings, how it learns, and the dictionary it becomes."""

"""The text side of models: tokens, letters, and the rules by which a checkpoint writes them."""

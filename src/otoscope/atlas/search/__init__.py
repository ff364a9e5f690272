"""Search: from labels, numbers, moments and sounds to features, and from features to moments."""

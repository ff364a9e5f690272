"""Exports: the atlas in the formats of other programs."""

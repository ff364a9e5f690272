"""Labels: which classes every feature detects, with evidence."""

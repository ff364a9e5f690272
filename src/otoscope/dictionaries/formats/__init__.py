"""File formats of dictionaries: ours, which is SAELens', and other programs'."""

"""The networks themselves, in plain torch: blocks that all families share, and each family's front end and decoder."""

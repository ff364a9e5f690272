"""One declarative adapter per model family: where its modules hold each site."""

"""Where corpora come from: folders, manifests, saved corpora, known data sets. One file each, found by its `READER`."""

"""Where corpora come from: folders, manifests, saved corpora, known data sets."""

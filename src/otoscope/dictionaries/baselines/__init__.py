"""What a trained dictionary has to beat: neurons, random directions, principal components, random decoders."""

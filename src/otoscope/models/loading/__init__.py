"""From a name, folder or file to a network with its weights: finding, reading and checking checkpoints."""

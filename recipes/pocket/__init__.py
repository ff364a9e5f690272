"""How the pocket model was made: synthetic speech, real digits and sounds, training, evaluation, export."""

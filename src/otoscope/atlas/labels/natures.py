"""What a feature is by nature, as far as tests tell."""

NATURES = ("unlabelled", "phonetic", "lexical", "positional", "speaker", "acoustic", "sound")
"""Column `nature` of `features.safetensors` holds numbers of these.

phonetic: a phone, natural class or diphone. lexical: a word, better than its best phone in all other words.
positional: a place in word, syllable or phrase, or a pause. speaker: who speaks, or a trait. acoustic: loudness, tilt
and voicing explain more of it than its label does (see `otoscope.atlas.labels.judging`). sound: a class of sounds.
"""

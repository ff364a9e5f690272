"""Naming features: what frames are labelled as, which classes each feature detects, and whether that is chance.

In reading order: `label_sets`, `contexts`, `traits` (kinds of labels), `labelling`, `collector` (the labels of a
corpus, and how chance moves them), `labeller`, `keeping` (features against them), `choosing`, `scoring`, `targets`,
`bands` (what it counts), `discovery`.
"""

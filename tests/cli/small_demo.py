"""A plan that takes seconds, for tests of how the demo behaves."""

from otoscope.workspace import DictionaryPlan, Plan

SMALL = Plan(
    (
        DictionaryPlan("sae-2", "encoder.2.resid_post", n_features=64, k=4, steps=20, batch_size=256, lr=2e-3),
        DictionaryPlan("neurons-0", "encoder.0.mlp.out", kind="neurons"),
    )
)

"""Many dictionaries from one configuration: one for every combination of the values that are swept over."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otoscope.dictionaries.registry import architecture
from otoscope.dictionaries.training.config import TrainingConfig
from otoscope.dictionaries.training.fields import fields_of, read_values
from otoscope.dictionaries.training.settings import FIELDS

KIND, SITE = "kind", "site"
_SHORT = {"n_features": "n", "seed": "s"}
"""What stands in names for fields that are swept often."""


@dataclass(frozen=True)
class SweepPoint:
    """One dictionary of a sweep.

    Attributes:
        config: what it is trained with; nothing in it is swept any more.
        choices: the values that set it apart, by field: site, kind, then fields in the order of `--help`.
    """

    config: TrainingConfig
    choices: Mapping[str, Any] = field(default_factory=dict)

    def name(self, sites: Sequence[str], given: str | None = None) -> str:
        """Return its name, such as `sae-2-batchtopk-k16-s1`; values that are added to the sweep later do not change it.

        It begins with `given` (then the sites are left out unless they are swept), else with the architecture and the
        sites, where `2` stands for `encoder.2.resid_post`.
        """
        kind = self.config.spec_class.kind
        parts = [given or ("sae" if KIND in self.choices or kind == "topk" else kind.replace("_", "-"))]
        if given is None or SITE in self.choices:
            parts.append("-".join(site.removeprefix("encoder.").removesuffix(".resid_post") for site in sites))
        parts += [_said(name, value) for name, value in self.choices.items() if name != SITE]
        return "-".join(parts)


def sweep_points(config: TrainingConfig) -> list[SweepPoint]:
    """Return what is to be trained: a point for every combination of the values in `config.sweep`.

    A field that only some of the swept architectures have counts for those: `kind = ["topk", "l1"]`, `k = [8, 16]` and
    `alpha = [10]` make two dictionaries with a `k` and one with an `alpha`.

    Raises:
        InputError: as `TrainingConfig.axes`, or values that do not go together.
    """
    axes = config.axes()
    read_values(config.fields(), config.architecture, f"the architecture {', '.join(config.kinds)}")
    found = []
    for kind in config.kinds:
        own = fields_of(architecture(kind))
        named = [name for name in (SITE, KIND, *own, *FIELDS) if name in axes]
        for values in itertools.product(*((kind,) if name == KIND else axes[name] for name in named)):
            choices = dict(zip(named, values, strict=True))
            point = TrainingConfig(
                kind,
                {name: value for name, value in {**config.architecture, **choices}.items() if name in own},
                {name: value for name, value in {**config.training, **choices}.items() if name in FIELDS},
                sites=choices.get(SITE, config.sites),
                model=config.model,
            )
            point.spec()
            point.settings()
            found.append(SweepPoint(point, choices))
    return found


def _said(name: str, value: Any) -> str:
    """Return how a value of a field stands in the name of a dictionary."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    if value is None:
        return f"{name}-none"
    text = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{_SHORT.get(name, name)}{text}"

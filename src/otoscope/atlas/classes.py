"""The label classes of an atlas: their names by number."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from otoscope.atlas.format import CLASSES
from otoscope.atlas.labels.natures import NATURES
from otoscope.storage.arrays import Strings
from otoscope.storage.sealed import SealedFolder


class Classes:
    """Classes by number, of all kinds one after another."""

    def __init__(self, sealed: SealedFolder) -> None:
        self.file = sealed.arrays(CLASSES)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[str, str]:
        """Label and kind of a class."""
        return self.labels[number], self.kinds[number]

    @cached_property
    def labels(self) -> list[str]:
        """`[c]` names."""
        return Strings(self.file, "label").all()

    @cached_property
    def kinds(self) -> list[str]:
        """`[c]` kind of each."""
        return Strings(self.file, "kind").all()

    def named_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Replace class numbers in columns of `features.safetensors` by names; None for none. Adds `label_kind`."""
        labels, kinds = (np.array([*names, None], dtype=object) for names in (self.labels, self.kinds))
        numbers = {name: columns[name] for name in ("label", "purity_label")}
        return {
            **columns,
            **{name: labels[number] for name, number in numbers.items()},
            "label_kind": kinds[numbers["label"]],
            "nature": np.array(NATURES, dtype=object)[columns["nature"]],
        }

    def named(self, row: dict[str, Any]) -> dict[str, Any]:
        """Replace class numbers of a row of `features.safetensors` by names; None for none."""
        label, purest = row["label"], row["purity_label"]
        row["label_kind"] = self.kinds[label] if label >= 0 else None
        row["label"] = self.labels[label] if label >= 0 else None
        row["purity_label"] = self.labels[purest] if purest >= 0 else None
        row["nature"] = NATURES[row["nature"]]
        return row

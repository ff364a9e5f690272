"""What attention heads do, over many clips: measures of their maps, taken block by block while a model runs.

No map is ever stored: of each head only sums over queries and the mean weight of each key are kept (`O(T)` numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.dims import SAMPLE_RATE_HZ
from otoscope.models.edits import Edit, bind_edits
from otoscope.models.loaded import LoadedModel
from otoscope.models.networks.taps import Tape
from otoscope.models.running import tokens_read
from otoscope.models.sites import Site, parse_site

if TYPE_CHECKING:
    import pandas as pd

    from otoscope.models.front_end import Window

MEASURES = {
    "entropy": "mean entropy of a query's weights, in nats",
    "peak": "mean of a query's largest weight",
    "first": "mean weight on the first key",
    "uniformity": "entropy of the mean weight of each key / log of the number of keys: 1 is spread evenly",
    "energy": "correlation of the mean weight of each key with the log energy of the sound there",
    "sound": "mean weight on keys inside the sound, the rest being on padding",
    "distance": "mean distance |i - j| of query i to the keys j it attends to, in positions",
    "locality": "1 - distance / number of positions",
    "diagonal": "mean weight on the query's own position",
    "previous": "mean weight on the position before the query's",
    "forward": "share of queries whose mean key position lies beyond that of the query before",
}
"""What is measured of each head; `distance` to `previous` need queries and keys of one kind, so attention from text
to sound has none of them; it alone has `forward`."""
_OF_ONE_KIND = ("distance", "locality", "diagonal", "previous")
_REGIONS = ("sound", "window")
_FLOOR = 1e-10  # mean square of digital silence, so that its logarithm exists


class _Reader:
    """Takes one attention's map of one window in blocks and measures its heads, within the sound and in all."""

    def __init__(self, n_valid: int | None, energy: np.ndarray | None, *, one_kind: bool) -> None:
        self._n_valid = n_valid  # keys (and queries, where they are of one kind) inside the sound; None: all
        self._energy = energy
        self._one_kind = one_kind
        self._rows: dict[str, list[dict[str, Tensor]]] = {region: [] for region in _REGIONS}
        self._columns: dict[str, Tensor] = {}

    def __call__(self, block: Tensor, row: int, first: int) -> None:
        """Take the weights `[h, q, k]` of queries from `first` on."""
        n_queries, n_keys = block.shape[1:]
        inside = n_keys if self._n_valid is None else min(self._n_valid, n_keys)
        rows_inside = max(0, min(n_queries, inside - first)) if self._one_kind else n_queries
        queries = torch.arange(first, first + n_queries, device=block.device)[:, None]
        keys = torch.arange(n_keys, device=block.device)
        place = (queries - keys).abs().float() if self._one_kind else keys.float().expand(n_queries, -1)
        heads = [_measured(p.float(), place, queries[:, 0], inside, one_kind=self._one_kind) for p in block]
        for region, n_rows in zip(_REGIONS, (rows_inside, n_queries), strict=True):
            if not n_rows:
                continue
            found = [head[region] for head in heads]
            rows = {name: torch.stack([one[name][:n_rows] for one in found]) for name in found[0]}
            self._rows[region].append({name: value.cpu().double() for name, value in rows.items()})
            width, mass = (inside, "mass") if region == "sound" else (n_keys, None)
            column = (
                torch.stack(
                    [
                        (p[:n_rows, :width].float() / (1 if mass is None else one[mass][:n_rows, None])).sum(0)
                        for p, one in zip(block, found, strict=True)
                    ]
                )
                .cpu()
                .double()
            )
            self._columns[region] = column + self._columns.get(region, 0)

    def result(self, region: str) -> np.ndarray:
        """Return `[h, measures]`; NaN where a measure does not apply."""
        parts = self._rows[region]
        rows = {name: torch.cat([part[name] for part in parts], 1).numpy() for name in parts[0]}
        n_rows = rows["entropy"].shape[1]
        column = self._columns[region].numpy() / n_rows
        n_keys = column.shape[1]
        found = {name: value.mean(1) for name, value in rows.items() if name in MEASURES}
        found["uniformity"] = _uniformity(column)
        if self._energy is not None:
            found["energy"] = _correlation(column, self._energy[:n_keys])
        if self._one_kind:
            found["distance"] = rows["place"].mean(1)
            found["locality"] = 1 - found["distance"] / n_keys
            if n_rows > 1:
                found["previous"] = rows["previous"][:, 1:].mean(1)
        elif n_rows > 1:
            found["forward"] = (np.diff(rows["place"], axis=1) > 0).mean(1)
        missing = np.full(len(column), np.nan)
        measured: np.ndarray = np.stack([found.get(name, missing) for name in MEASURES], 1)
        return measured


def _measured(
    p: Tensor, place: Tensor, queries: Tensor, inside: int, *, one_kind: bool
) -> dict[str, dict[str, Tensor]]:
    """Measure one head's weights `p [q, k]`, query by query: renormalised over the keys inside the sound, and as they
    are."""
    entropies, places = torch.special.entr(p), p * place
    mass = p[:, :inside].sum(1)
    safe = mass.clamp_min(torch.finfo(torch.float32).tiny)
    within = {
        "mass": safe,
        "sound": mass,
        "entropy": entropies[:, :inside].sum(1) / safe + safe.log(),
        "place": places[:, :inside].sum(1) / safe,
        "peak": p[:, :inside].amax(1) / safe,
        "first": p[:, 0] / safe,
    }
    whole = {
        "sound": mass,
        "entropy": entropies.sum(1),
        "place": places.sum(1),
        "peak": p.amax(1),
        "first": p[:, 0],
    }
    if one_kind:
        own = p.gather(1, queries[:, None])[:, 0]
        before = p.gather(1, (queries - 1).clamp_min(0)[:, None])[:, 0]
        within |= {"diagonal": own / safe, "previous": before / safe}
        whole |= {"diagonal": own, "previous": before}
    return {"sound": within, "window": whole}


def _uniformity(column: np.ndarray) -> np.ndarray:
    n_keys = column.shape[1]
    if n_keys < 2:
        return np.full(len(column), np.nan)
    share = column / column.sum(1, keepdims=True)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-(share * logs).sum(1) / np.log(n_keys))


def _correlation(column: np.ndarray, energy: np.ndarray) -> np.ndarray:
    x, y = column - column.mean(1, keepdims=True), energy - energy.mean()
    scale = np.sqrt((x**2).sum(1) * (y**2).sum())
    correlation: np.ndarray = np.divide(x @ y, scale, out=np.full(len(column), np.nan), where=scale > 0)
    return correlation


@dataclass(frozen=True, eq=False)
class HeadStatistics:
    """Measures of heads (see `MEASURES`), averaged over windows; add two to join what was seen in each.

    Within the `sound`, queries and keys of padding are left out and the rest of a query's weights made to sum to 1;
    in the `window`, all count. Where nothing is padded (text, families that hear samples) the two are the same.
    """

    sums: dict[tuple[str, int, str], np.ndarray]
    """For (part, layer, region), `[3, h, measures]`: how many windows have the measure, its sum, its sum of squares."""
    n_windows: int

    def __add__(self, other: HeadStatistics) -> HeadStatistics:
        both = {key: value.copy() for key, value in self.sums.items()}
        for key, value in other.sums.items():
            both[key] = both[key] + value if key in both else value
        return HeadStatistics(both, self.n_windows + other.n_windows)

    def mean(self, part: str, layer: int, measure: str, region: str = "sound") -> np.ndarray:
        """Return one measure of the heads of a layer of the `encoder`, the `decoder` or its `cross`-attention, `[h]`.

        Raises:
            InputError: it was not measured.
        """
        if measure not in MEASURES:
            raise InputError(f"There is no measure {measure!r} of heads; there are {', '.join(MEASURES)}.")
        if (part, layer, region) not in self.sums:
            raise InputError(f"Heads of layer {layer} of {part!r} were not measured in the {region!r}.")
        count, total, _ = self.sums[part, layer, region][:, :, list(MEASURES).index(measure)]
        mean: np.ndarray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        return mean

    def table(self) -> pd.DataFrame:
        """Return a row per head and region: each measure's mean over windows and, as `…_sd`, its spread."""
        import pandas as pd

        rows = []
        for (part, layer, region), sums in self.sums.items():
            count, total, squares = sums
            n = np.where(count > 0, count, np.nan)
            mean = total / n
            spread = np.sqrt(np.maximum(squares / n - mean**2, 0))
            for head in range(sums.shape[1]):
                values = dict(zip(MEASURES, mean[head], strict=True))
                spreads = {f"{name}_sd": sd for name, sd in zip(MEASURES, spread[head], strict=True)}
                place = {"part": part, "layer": layer, "head": head, "region": region}
                rows.append(place | {"n_windows": int(count[head].max())} | values | spreads)
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        n_heads = sum(value.shape[1] for (_, _, region), value in self.sums.items() if region == _REGIONS[0])
        return f"HeadStatistics({n_heads} heads, {len(MEASURES)} measures, {self.n_windows} windows)"


def head_statistics(
    model: LoadedModel,
    clips: Clip | Iterable[Clip],
    layers: Sequence[int] | None = None,
    parts: Sequence[str] | None = None,
    edits: Sequence[Edit] = (),
    text: Callable[[Clip], str | None] | None = None,
) -> HeadStatistics:
    """Measure attention heads over clips (see `SpeechModel.head_statistics`)."""
    known = ("encoder", "decoder", "cross") if "decoder" in model.dims.traits else ("encoder",)
    if strange := [part for part in parts or () if part not in known]:
        raise InputError(f"This model has no heads of {strange[0]!r}; it has those of {', '.join(known)}.")
    chosen = [part for part in known if parts is None or part in parts]
    sites = _sites(model, chosen, layers)
    total = HeadStatistics({}, 0)
    for clip in [clips] if isinstance(clips, Clip) else clips:
        windows = model.windows(clip)
        bound = bind_edits(edits, model.dims, clip.duration_s)
        given = None if text is None else text(clip)
        (tokens,) = tokens_read(model, clip, windows, list(sites), [edits], given, None)
        for window, here in zip(windows, tokens, strict=True):
            energy = _energy(model, clip, window)
            readers = {
                site.name: _Reader(
                    window.n_frames if part != "decoder" and model.dims.n_mels else None,
                    energy if part != "decoder" else None,
                    one_kind=part != "cross",
                )
                for site, (part, _) in sites.items()
            }
            ids = torch.tensor([[position.id for position in here]]) if here else None
            model.forward(Tape((), bound, [window.start_s], watchers=readers), window.input[None], ids)
            total += _of_window(sites, readers)
    if not total.n_windows:
        raise InputError("There are no clips to measure attention heads on.")
    return total


def _sites(model: LoadedModel, parts: Sequence[str], layers: Sequence[int] | None) -> dict[Site, tuple[str, int]]:
    """The patterns to watch, with the part and layer of each."""
    prefixes = {"encoder": "encoder.{}.attn", "decoder": "decoder.{}.attn", "cross": "decoder.{}.cross"}
    found = {}
    for part in parts:
        n_layers = model.dims.n_layers if part == "encoder" else model.dims.n_decoder_layers
        for layer in range(n_layers) if layers is None else layers:
            found[parse_site(prefixes[part].format(layer) + ".pattern", model.dims)] = (part, layer)
    return found


def _of_window(sites: Mapping[Site, tuple[str, int]], readers: dict[str, _Reader]) -> HeadStatistics:
    sums = {}
    for site, (part, layer) in sites.items():
        for region in _REGIONS:
            values = readers[site.name].result(region)
            seen = ~np.isnan(values)
            filled = np.where(seen, values, 0.0)
            sums[part, layer, region] = np.stack([seen.astype(float), filled, filled**2])
    return HeadStatistics(sums, 1)


def _energy(model: LoadedModel, clip: Clip, window: Window) -> np.ndarray:
    """Log energy of the sound around each position of a window, padding included."""
    dims, clock = model.dims, model.clock
    start = round(window.start_s * SAMPLE_RATE_HZ)
    samples = clip.samples()[start : start + dims.window_samples].astype(np.float64)
    n_positions = dims.n_positions if dims.n_mels else window.n_frames
    summed = np.concatenate([[0.0], np.cumsum(samples**2)])
    centres = (np.arange(n_positions) * clock.frame_s + clock.offset_s) * SAMPLE_RATE_HZ
    half = dims.hop_samples / 2
    first, stop = (np.clip(np.round(centres + side * half), 0, len(samples)).astype(int) for side in (-1, 1))
    return np.asarray(np.log10((summed[stop] - summed[first]) / dims.hop_samples + _FLOOR))


def band_edits(
    model: LoadedModel,
    k: int,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    stack: str = "encoder",
) -> list[Edit]:
    """Return the edits that let positions attend only to those at most `k` away, in the layers and heads given (None:
    all)."""
    n_layers = model.dims.n_decoder_layers if stack == "decoder" else model.dims.n_layers
    names = [f"{stack}.{layer}.attn" for layer in (range(n_layers) if layers is None else layers)]
    if heads is not None:
        names = [f"{name}[{head}]" for name in names for head in heads]
    return [Edit.band(name, k) for name in names]

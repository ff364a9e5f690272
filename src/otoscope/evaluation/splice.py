"""What the model still hears when its activations are replaced by a dictionary's reconstruction.

Each clip is heard as it is, with the reconstruction spliced in, and with the same sites set to zero and to their mean,
all in one pass that shares what lies before the first edit. Only the frames that the clip fills are edited: a
dictionary is made from those, and what a model makes of its padding is not its affair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from otoscope.audio import Clip
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.frames import MIN_SPEAKERS
from otoscope.evaluation.measure import Measure, clustered_interval
from otoscope.evaluation.word_errors import character_errors, spoken_form, word_errors
from otoscope.models import Edit, SpeechModel
from otoscope.models.edits import MeanSource, Where
from otoscope.models.generation import Transcript
from otoscope.models.run import Run
from otoscope.progress import ProgressReport, track

Floats = npt.NDArray[np.float64]

UNEDITED, ZERO, MEAN = "none", "zero", "mean"
COLUMNS = (
    *("words", "substitutions", "insertions", "deletions", "characters", "character_errors"),
    *("tokens", "nats", "divergence", "sounds", "words_in_sounds"),
)
"""What is counted for each clip and condition. `tokens`, `nats` and `divergence`: tokens of the reference (end token
included), their negative log-probability and KL(unedited ‖ edited), summed; 0 where they cannot be had. `sounds`: 1
for a clip without speech, in which every word is an insertion (`words_in_sounds`), counted apart."""
_COLUMN = {name: number for number, name in enumerate(COLUMNS)}


@dataclass(frozen=True, eq=False)
class SpliceEffect:
    """The counts of every condition and clip, from which all figures follow.

    Attributes:
        conditions: `"none"`, the names given, and for each set of sites `"zero"` and `"mean"` (of several sets:
            `"zero encoder.2.resid_post"`…).
        counts: `[condition, clip, column]`, see `COLUMNS`.
        ablation: for each name given, the conditions in which its sites are zero, and their mean (where known).
        clusters: of each clip, the number of the speaker or clip over which intervals are drawn.
        by: what is drawn, "speakers" or "clips".
        missing: what could not be measured, and why.
        texts: of each condition, what was written for each clip.
    """

    conditions: tuple[str, ...]
    counts: Floats
    ablation: Mapping[str, tuple[str, ...]]
    clusters: npt.NDArray[np.int64]
    by: str
    missing: tuple[str, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def total(self, condition: str, column: str) -> float:
        """Return the sum of a column over all clips."""
        return float(self.counts[self.conditions.index(condition), :, _COLUMN[column]].sum())

    def measures(self, names: Sequence[str] | None = None) -> list[Measure]:
        """Return all figures of some conditions (None: all), each with its interval.

        `splice.ce` and `splice.kl` in nats per token; `splice.wer`, `splice.cer` and the three kinds of word error
        per word of the reference; `splice.delta_*` minus the unedited model on the same clips (paired);
        `splice.loss_recovered` = (CE zero − CE spliced) / (CE zero − CE unedited); `splice.words_per_sound`.
        """
        found: list[Measure] = []
        for name in self.conditions if names is None else names:
            found += self._plain(name)
            if name != UNEDITED:
                found += self._against_unedited(name)
            if name in self.ablation and self.total(UNEDITED, "tokens"):
                zero = self.ablation[name][0]
                upper, mine, lower = ([(each, "nats")] for each in (zero, name, UNEDITED))
                recovered = self._measure("splice.loss_recovered", name, "tokens", upper, mine, upper, lower)
                found.append(recovered)
        return found

    def _plain(self, name: str) -> list[Measure]:
        ratios = {
            "wer": (("substitutions", "insertions", "deletions"), "words"),
            "substitutions": (("substitutions",), "words"),
            "insertions": (("insertions",), "words"),
            "deletions": (("deletions",), "words"),
            "cer": (("character_errors",), "characters"),
            "ce": (("nats",), "tokens"),
            "kl": (("divergence",), "tokens"),
            "words_per_sound": (("words_in_sounds",), "sounds"),
        }
        return [
            self._measure(f"splice.{key}", name, per, [(name, column) for column in top], [], [(name, per)], [])
            for key, (top, per) in ratios.items()
            if self.total(UNEDITED, per) and not (key == "kl" and name == UNEDITED)
        ]

    def _against_unedited(self, name: str) -> list[Measure]:
        differences = {
            "wer": (("substitutions", "insertions", "deletions"), "words"),
            "insertions": (("insertions",), "words"),
            "deletions": (("deletions",), "words"),
            "cer": (("character_errors",), "characters"),
            "ce": (("nats",), "tokens"),
        }
        found = []
        for key, (columns, per) in differences.items():
            if self.total(UNEDITED, per):
                mine, theirs = ([(which, column) for column in columns] for which in (name, UNEDITED))
                found.append(self._measure(f"splice.delta_{key}", name, per, mine, theirs, [(name, per)], []))
        return found

    def _measure(
        self,
        figure: str,
        name: str,
        unit: str,
        plus: list[tuple[str, str]],
        minus: list[tuple[str, str]],
        below_plus: list[tuple[str, str]],
        below_minus: list[tuple[str, str]],
    ) -> Measure:
        """The ratio (Σ plus − Σ minus) / (Σ below plus − Σ below minus) of columns summed over clips."""
        top = self._sums(plus) - self._sums(minus)
        bottom = self._sums(below_plus) - self._sums(below_minus)
        per_cluster = np.zeros((int(self.clusters.max()) + 1, 2))
        np.add.at(per_cluster, self.clusters, np.stack([top, bottom], axis=1))
        low, high = clustered_interval(per_cluster, lambda drawn: drawn[:, 0] / drawn[:, 1])
        total = float(bottom.sum())
        value = float(top.sum()) / total if total else math.nan
        return Measure(figure, value, low, high, {"condition": name}, int(self.total(UNEDITED, unit)), unit)

    def _sums(self, columns: list[tuple[str, str]]) -> Floats:
        total = np.zeros(self.counts.shape[1])
        for name, column in columns:
            total += self.counts[self.conditions.index(name), :, _COLUMN[column]]
        return total


def splice_effect(
    model: SpeechModel,
    dictionaries: Dictionary | Mapping[str, Dictionary | Sequence[Dictionary]],
    clips: Sequence[Clip],
    *,
    means: MeanSource | None = None,
    padding: bool = False,
    progress: bool | ProgressReport = False,
) -> SpliceEffect:
    """Replace sites by their reconstruction, and measure what that does to the transcripts of clips.

    Clips with a text are scored teacher-forced (where the model has a text decoder) and against what the model writes
    greedily by itself; clips whose text is empty count the words written for nothing.

    Args:
        model: the model that the dictionaries were made from.
        dictionaries: one; or several by name, each spliced in alone, a list of them (several layers) all at once.
        clips: what is heard.
        means: knows the mean of each site (an `ActivationStore`); None: no mean ablation.
        padding: replace the frames after the clip's end as well.
        progress: True for a bar, False for silence, or a function to report to.

    Raises:
        InputError: no clips, no dictionary, or one that does not belong to the model.
    """
    named = {dictionaries.name: dictionaries} if isinstance(dictionaries, Dictionary) else dict(dictionaries)
    groups = {name: [each] if isinstance(each, Dictionary) else list(each) for name, each in named.items()}
    if not clips or not groups or not all(groups.values()):
        raise InputError("Splicing needs at least one clip and one dictionary.")
    plan = _Plan(model, groups, means, padding)
    counts = np.zeros((len(plan.conditions), len(clips), len(COLUMNS)))
    texts: list[list[str]] = [[] for _ in plan.conditions]
    missing: dict[str, int] = {}
    with track("splice", len(clips), progress, unit="clips") as advance:
        for number, clip in enumerate(clips):
            sweep = plan.sweep(clip)
            written = _transcripts(model, clip, sweep, missing)
            for row, transcript in enumerate(written):
                _count_errors(counts[row, number], clip, transcript)
                texts[row].append(transcript.text)
            _force(model, clip, sweep, written, counts[:, number], missing)
            advance(1)
    clusters, by = _clusters(clips)
    notes = tuple(f"{reason} ({n:,} of {len(clips):,} clips)" for reason, n in missing.items())
    kept = {name: tuple(text) for name, text in zip(plan.conditions, texts, strict=True)}
    return SpliceEffect(plan.conditions, counts, plan.ablation, clusters, by, notes, kept)


class _Plan:
    """Which edits make each condition."""

    def __init__(
        self,
        model: SpeechModel,
        groups: Mapping[str, Sequence[Dictionary]],
        means: MeanSource | None,
        padding: bool,
    ) -> None:
        self.model, self.groups, self.padding = model, groups, padding
        self.vectors: dict[str, Tensor] = {}
        self.ablated: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.ablation: dict[str, tuple[str, ...]] = {}
        sets = {name: tuple(site for each in group for site in _targets(each)) for name, group in groups.items()}
        several = len(set(sets.values())) > 1
        kinds = (ZERO,) if means is None else (ZERO, MEAN)
        for name, sites in sets.items():
            if name in (UNEDITED, ZERO, MEAN):
                raise InputError(f"A spliced dictionary cannot be called {name!r}: that is a condition of its own.")
            tail = f" {'+'.join(sites)}" if several else ""
            self.ablated[sites] = self.ablation[name] = tuple(f"{kind}{tail}" for kind in kinds)
            for site in sites:
                if means is not None and site not in self.vectors:
                    self.vectors[site] = torch.as_tensor(means.mean(site), dtype=torch.float32)
        self.conditions = (UNEDITED, *groups, *(name for names in self.ablated.values() for name in names))

    def sweep(self, clip: Clip) -> list[list[Edit]]:
        """Return the edits of every condition for one clip."""
        lists: list[list[Edit]] = [[]]
        for group in self.groups.values():
            lists.append([edit for each in group for edit in self._splice(each, clip)])
        for sites, names in self.ablated.items():
            lists.append([Edit.zero(site, **self._where(site, clip)) for site in sites])
            if len(names) > 1:
                lists.append([Edit.mean(site, self.vectors[site], **self._where(site, clip)) for site in sites])
        return lists

    def _where(self, site: str, clip: Clip) -> Where:
        if self.padding or self.model.site(site).of_text(self.model.dims):
            return {}
        return {"time_s": (0.0, clip.duration_s)}

    def _splice(self, dictionary: Dictionary, clip: Clip) -> list[Edit]:
        """The edits that put in what the dictionary rebuilds: from the same site, or from others heard unedited."""
        if _reads_what_it_rebuilds(dictionary):
            return [Edit.splice(dictionary, **self._where(dictionary.site, clip))]
        heard = self.model.run(clip, list(dictionary.sites))
        rebuilt = dictionary.reconstruct(torch.cat([heard[site] for site in dictionary.sites], dim=-1))
        sites = _targets(dictionary)
        parts = torch.split(rebuilt, [self.model.width(site) for site in sites], dim=-1)
        tensors = {self.model.site(site).name: part for site, part in zip(sites, parts, strict=True)}
        run = Run(clip.clip_id, self.model.name, self.model.dims, tensors)
        return [Edit.patch(site, run, **self._where(site, clip)) for site in sites]


def _reads_what_it_rebuilds(dictionary: Dictionary) -> bool:
    return len(dictionary.sites) == 1 and dictionary.target_site == dictionary.site


def _targets(dictionary: Dictionary) -> tuple[str, ...]:
    """The sites that a dictionary rebuilds: of a transcoder its output, of a crosscoder all it reads."""
    return dictionary.sites if len(dictionary.sites) > 1 else (dictionary.target_site,)


def _transcripts(
    model: SpeechModel, clip: Clip, sweep: Sequence[Sequence[Edit]], missing: dict[str, int]
) -> list[Transcript]:
    try:
        return model.transcribe_each(clip, sweep)
    except InputError:
        model.run(clip, [sweep[-1][0].site], sweep[-1])  # what is wrong with the clip or the edits is said here
        _miss(missing, f"No transcripts: {model.name} writes no text")
        return []


def _count_errors(row: Floats, clip: Clip, transcript: Transcript) -> None:
    reference, written = spoken_form(clip.text or ""), spoken_form(transcript.text)
    if not reference:
        row[_COLUMN["sounds"]], row[_COLUMN["words_in_sounds"]] = 1, len(written.split())
        return
    words, characters = word_errors(reference, written), character_errors(reference, written)
    row[:6] = (words.length, *words[:3], characters.length, characters.total)


def _force(
    model: SpeechModel,
    clip: Clip,
    sweep: Sequence[Sequence[Edit]],
    written: Sequence[Transcript],
    counts: Floats,
    missing: dict[str, int],
) -> None:
    """Add CE and KL of a clip's reference text; what cannot be forced is noted in `missing`."""
    if not clip.text or not clip.text.strip():
        return
    if not model.writes_with_decoder:
        _miss(missing, f"No teacher-forced CE and KL: {model.name} has no text decoder to force")
        return
    tokens = len(model.require_tokenizer().encode(" " + clip.text.strip()))
    language = _language(model, clip, written)
    room = model.dims.n_text_positions - len(model.rules.prompt_for(language))
    if clip.duration_s > model.dims.window_s or tokens > room:
        _miss(missing, f"No teacher-forced CE and KL: longer than a window of {model.dims.window_s:g} s or its text")
        return
    runs = model.run_each(clip, ["logits"], sweep, text=clip.text, language=language)
    ids = torch.tensor([position.id for position in runs[0].positions])
    wanted = torch.cat([ids, torch.tensor([model.rules.end])])[len(ids) - tokens :]
    log_probs = [run["logits"][-tokens - 1 :].double().log_softmax(-1) for run in runs]
    for row, here in enumerate(log_probs):
        nats = -here.gather(1, wanted[:, None]).sum()
        divergence = (log_probs[0].exp() * (log_probs[0] - here)).nan_to_num(0.0).sum()
        counts[row, _COLUMN["tokens"] : _COLUMN["divergence"] + 1] = (len(wanted), float(nats), float(divergence))


def _language(model: SpeechModel, clip: Clip, written: Sequence[Transcript]) -> str | None:
    """The language to force: the clip's, or what the unedited model takes it for."""
    if not model.rules.needs_language():
        return None
    known = clip.language is not None and clip.language.lower() in model.rules.languages
    return clip.language if known else written[0].language


def _clusters(clips: Sequence[Clip]) -> tuple[npt.NDArray[np.int64], str]:
    """Number the clusters over which intervals are drawn: speakers, where there are enough of them, else clips."""
    speakers = {clip.speaker for clip in clips if clip.speaker}
    if len(speakers) < MIN_SPEAKERS:
        return np.arange(len(clips)), "clips"
    names = [f"speaker {clip.speaker}" if clip.speaker else f"clip {clip.clip_id}" for clip in clips]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names]), "speakers"


def _miss(missing: dict[str, int], reason: str) -> None:
    missing[reason] = missing.get(reason, 0) + 1

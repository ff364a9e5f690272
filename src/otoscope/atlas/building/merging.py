"""Atlases in parts: codes of a share of the clips, made anywhere, and what joins them to the atlas of all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from otoscope.activations import ActivationStore
from otoscope.atlas.atlas import Atlas
from otoscope.atlas.building.atlases import (
    begin,
    dictionary_facts,
    finish,
    floor_facts,
    fresh,
    link_codes,
    place,
    workplace,
)
from otoscope.atlas.building.encoding import Encoding, encode
from otoscope.atlas.building.indexing import clip_bounds
from otoscope.atlas.building.reuse import PART_FORMAT, PART_VERSION, Donors, all_of
from otoscope.atlas.building.sources import frame_stream
from otoscope.atlas.building.tables import clip_fingerprints, texts
from otoscope.atlas.format import CLIPS, TOTALS
from otoscope.audio import Corpus
from otoscope.dictionaries import Dictionary
from otoscope.errors import InputError
from otoscope.evaluation.naming.labeller import N_SHIFTS
from otoscope.models import Clock, SpeechModel
from otoscope.progress import ProgressReport
from otoscope.storage.arrays import write_arrays
from otoscope.storage.sealed import seal


def clips_of_part(corpus: Corpus, part: int, of: int) -> Corpus:
    """Return the clips of part `part` (from 1) of `of` even parts.

    Raises:
        InputError: there is no such part, or it would be empty.
    """
    if not 1 <= part <= of <= len(corpus):
        raise InputError(
            f"There is no part {part}/{of} of corpus {corpus.name!r}: its {len(corpus)} clips make parts 1/1 to "
            f"{len(corpus)}/{len(corpus)}."
        )
    return corpus[(part - 1) * len(corpus) // of : part * len(corpus) // of]


def build_parts(
    source: ActivationStore | SpeechModel,
    dictionaries: Sequence[Dictionary],
    corpus: Corpus,
    clips: Corpus,
    to: Sequence[str | os.PathLike[str]],
    *,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> list[Path]:
    """Encode `clips`, any of the clips of `corpus`, with several dictionaries, and return the folders written.

    `merge_atlases` joins such parts to the atlas of the whole corpus. An interrupted part continues when called again.

    Raises:
        InputError: as `build_atlas`.
        OtoscopeError: a folder cannot be written, or another process is building there.
    """
    needed = corpus if any(dictionary.dense for dictionary in dictionaries) else clips  # floors are of the whole
    stream = frame_stream(source, dictionaries, needed)
    folders = [Path(folder) for folder in to]
    with contextlib.ExitStack() as locks:
        for folder in folders:
            locks.enter_context(workplace(folder, wait))
        encodings = [
            begin(folder, each, clips, stream.fingerprint, Donors((), each, clips), whole=corpus)
            for folder, each in zip(folders, dictionaries, strict=True)
        ]
        encode(stream, encodings, clips, corpus, progress)
        for each, folder in zip(encodings, folders, strict=True):
            new = fresh(folder)
            facts = {"model": stream.model, "source": stream.fingerprint, **_write_part(each, clips, new)}
            facts["corpus"] = {"name": corpus.name, "fingerprint": corpus.fingerprint}
            facts |= {"frame_s": stream.clock.frame_s, "first_frame_s": stream.clock.offset_s}
            seal(new, facts, format=PART_FORMAT, version=PART_VERSION)
            place(new, folder)
    return folders


def _write_part(each: Encoding, clips: Corpus, folder: Path) -> dict[str, Any]:
    """Write the files of a part and return what goes into `meta.json`."""
    clip_frames = each.writer.clip_frames
    parts = link_codes(each.writer, folder)
    arrays = {
        **texts("clip_id", [clip.clip_id for clip in clips]),
        **texts("fingerprint", clip_fingerprints(clips)),
        "first_frame": clip_bounds(clip_frames)[:-1],
        "n_frames": np.array(clip_frames, dtype=np.int64),
    }
    write_arrays(folder / CLIPS, arrays)
    if (totals := each.totals()) is not None:
        totals.save(folder / TOTALS, each.floors)
    return {
        "dictionary": dictionary_facts(each.dictionary),
        "n_frames": each.writer.n_frames,
        "n_clips": len(clip_frames),
        "floors": floor_facts(each),
        "codes": {"parts": parts},
    }


def merge_atlases(
    parts: Sequence[str | os.PathLike[str]],
    dictionary: Dictionary,
    corpus: Corpus,
    to: str | os.PathLike[str],
    *,
    name: str | None = None,
    seed: int = 0,
    n_shifts: int = N_SHIFTS,
    progress: bool | ProgressReport = True,
    wait: bool = False,
) -> Atlas:
    """Join atlases or parts of one dictionary over different clips to the atlas of all clips of `corpus`.

    Nothing is encoded again, and the result is byte for byte what `build_atlas` makes of the corpus. Statistics and
    labels are made anew: they are of the whole. Dense dictionaries take parts of this very corpus only, since their
    floors are those of the whole.

    Args:
        parts: folders of atlases, or of parts written by `build_parts`.
        dictionary: the one they were made with.
        corpus: the clips, in the order that the atlas shall have.
        to: folder to write; may be one of `parts`.
        name: what to call it; the dictionary's name if not given.
        seed, n_shifts, progress: as in `build_atlas`.
        wait: wait for another process that builds there instead of refusing.

    Raises:
        InputError: parts of different models or dictionaries, clips that are missing, or floors that do not fit.
        OtoscopeError: a part is damaged, the folder cannot be written, or another process is building there.
    """
    folder = Path(to)
    with workplace(folder, wait):
        donors = all_of(parts, dictionary, corpus)
        known = donors.donors[0].meta
        each = begin(folder, dictionary, corpus, known["source"], donors, whole=corpus)
        encode(None, [each], corpus, corpus, progress)
        facts = {"name": name or dictionary.name, "model": known["model"], "source": known["source"]}
        clock = Clock(known["frame_s"], known["first_frame_s"])
        finish(folder, each, corpus, clock, facts, seed=seed, n_shifts=n_shifts, progress=progress)
    return Atlas.open(folder)

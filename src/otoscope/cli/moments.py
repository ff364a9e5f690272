"""What `otoscope search` prints of moments: those like a sound, with a value, or at which features combine."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from otoscope.cli.options import open_clip
from otoscope.cli.terminal import escape, number, out, print_json, share, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.atlas import Atlas
    from otoscope.atlas.search.ranges import FrameRange
    from otoscope.atlas.search.regions import Region
    from otoscope.workspace import Workspace

N_FEATURES = 10
_SPAN = re.compile(r"(.+?)(?:@(\d+(?:\.\d*)?)-(\d+(?:\.\d*)?))?")


def like(folder: Workspace, text: str, dictionary: str | None, limit: int, json: bool) -> None:
    """Print what fires in a stretch of sound more than elsewhere, and the moments most like it."""
    name, atlas = _atlas(folder, dictionary)
    match = _SPAN.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not a stretch of a clip; write CLIP@1.2-1.5, or CLIP for all of it.")
    span = None if match[2] is None else (float(match[2]), float(match[3]))
    if span is not None and span[0] >= span[1]:
        raise InputError(f"{text!r} ends before it begins; write CLIP@START-END in seconds.")
    region, clip_id = _region(folder, name, atlas, match[1], span)
    features = region.features(top=N_FEATURES)
    similar = region.similar(top=limit, exclude_clip=clip_id)
    if json:
        rows = [{**asdict(row), "feature": f"{name}:{row.feature}", **_label(atlas, row.feature)} for row in features]
        found = [{**asdict(each), "shared": [f"{name}:{feature}" for feature in each.shared]} for each in similar]
        print_json({"atlas": name, "frames": region.n_frames, "features": rows, "similar": found})
        return
    listing = table("fires here", "label", "in>", "elsewhere>", "lift>", "q>", "max>")
    for row in features:
        label = _label(atlas, row.feature)
        listing.add_row(
            f"[bold cyan]{name}:{row.feature}[/]",
            f"{label['label']} [dim]{label['label_kind']}[/]" if label["label"] else "[dim]unnamed[/]",
            share(row.share),
            share(row.density),
            f"{row.lift:.1f}×",
            f"{row.q_value:.1g}",
            number(row.max),
        )
    out().print(listing)
    moments = table("similar moment", "from>", "to>", "similarity>", "because of")
    for each in similar:
        names = [_label(atlas, feature)["label"] or str(feature) for feature in each.shared[:4]]
        moments.add_row(
            each.clip_id, f"{each.start_s:.2f} s", f"{each.end_s:.2f} s", number(each.similarity), ", ".join(names)
        )
    out().print(moments)


def where(folder: Workspace, query: str, dictionary: str | None, limit: int, json: bool) -> None:
    """Print the moments at which a combination of features holds."""
    name, atlas = _atlas(folder, dictionary)
    _print(folder, name, atlas.frames_where(query, limit=limit), query, "fit", json)


def between(folder: Workspace, feature: str | None, bounds: tuple[float, float], limit: int, json: bool) -> None:
    """Print the moments at which a feature has a value between two bounds; negative ones are those of a neuron."""
    from otoscope.workspace import Address

    if feature is None:
        raise InputError("--between needs a feature, for example `otoscope search sae-2:30 --between 2 4`.")
    address = Address.parse(feature)
    atlas = folder.atlas(address.dictionary)
    low, high = bounds
    if low < 0 < high:
        raise InputError(f"{low:g} to {high:g} spans zero; ask for the values of one sign at a time.")
    found = (
        atlas.frames_in_range(address.index, -high, -low, sign="-", limit=limit)
        if low < 0
        else atlas.frames_in_range(address.index, low, high, limit=limit)
    )
    _print(folder, address.dictionary, found, f"{feature} from {low:g} to {high:g}", "value", json)


def _print(folder: Workspace, name: str, found: FrameRange, asked: str, figure: str, json: bool) -> None:
    if json:
        print_json({"atlas": name, **asdict(found)})
        return
    out().print(
        f"{escape(asked)}: {found.n_frames:,} frames in {found.n_moments:,} moments of {found.n_clips:,} clips",
        soft_wrap=True,
    )
    if found.complete_from > 0:
        out().print(f"[dim]values below {found.complete_from:.3g} are not kept[/]")
    if not found.moments:
        return
    corpus = folder.corpus_of(name)
    listing = table("clip", "from>", "to>", f"{figure}>", "said")
    for each in found.moments:
        said = corpus.get(each.clip_id).text or ""
        listing.add_row(
            each.clip_id, f"{each.start_s:.2f} s", f"{each.end_s:.2f} s", number(each.value), escape(said[:60])
        )
    out().print(listing)


def _atlas(folder: Workspace, dictionary: str | None) -> tuple[str, Atlas]:
    """Return the atlas asked for, else the first of a sparse dictionary."""
    if dictionary is not None:
        return dictionary, folder.atlas(dictionary)
    names = folder.names("atlases")
    sparse = [name for name in names if not folder.atlas(name).meta["dictionary"].get("dense")]
    name = (sparse or names)[0]
    return name, folder.atlas(name)


def _region(
    folder: Workspace, name: str, atlas: Atlas, source: str, span: tuple[float, float] | None
) -> tuple[Region, str | None]:
    """Return a stretch of a clip that the atlas holds (with the clip's id), or of any other sound, encoded now."""
    start_s, end_s = span or (None, None)
    if source in atlas.clips:
        return atlas.region(source, start_s, end_s), source
    from otoscope.atlas.building.code_pass import frame_code
    from otoscope.atlas.building.encoding import encoded
    from otoscope.atlas.building.sources import frame_stream
    from otoscope.atlas.search.regions import Region

    clip, dictionary = open_clip(source, folder), folder.dictionary_of(name)
    (frames,) = frame_stream(folder.model(), [dictionary], folder.corpus_of(name)).frames(clip, [dictionary])
    code = frame_code(encoded(dictionary, frames))
    if span is not None:
        if span[0] >= clip.duration_s:
            raise InputError(f"{source!r} has nothing from {span[0]:g} s on: it ends at {clip.duration_s:.2f} s.")
        code = code.part(*atlas.clock.span(*span))
    return Region.of_code(atlas, code), None


def _label(atlas: Atlas, feature: int) -> dict[str, Any]:
    stats = atlas[feature].stats
    return {"label": stats["label"], "label_kind": stats["label_kind"]}

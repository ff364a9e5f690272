"""`otoscope edit`: transcribe a clip as it is and with features or sites changed, and say what that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otoscope.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    WorkspaceOption,
    open_clip,
    open_model,
    workspace_if_any,
)
from otoscope.cli.terminal import escape, number, out, print_json, table
from otoscope.errors import InputError

if TYPE_CHECKING:
    from otoscope.models import Edit, Transcript
    from otoscope.models.edits import Where
    from otoscope.workspace import Workspace

TARGETS = ("--feature", "--site", "--head", "--splice")
ALONE = {"--head": "knock_out", "--splice": "splice"}
"""Targets that say already what happens to them."""
OPERATIONS = ("--zero", "--scale", "--add", "--clamp", "--limit", "--band")
PLACES = ("--units", "--time", "--tokens", "--keys")


@dataclass
class Change:
    """One edit as it stands on the command line: a target, what to do with it, and where."""

    target: tuple[str, str]
    op: str | None = None
    value: float = 0.0
    bounds: tuple[float | None, float | None] = (None, None)
    where: Where = field(default_factory=dict)  # type: ignore[assignment]
    words: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join([f"{self.target[0]} {self.target[1]}", *self.words])


def run(
    ctx: typer.Context,
    clip: Annotated[str, typer.Argument(help="A recording, or the id of a clip.", metavar="CLIP")],
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", "-f", metavar="FEATURE", help="A feature, e.g. sae-2:30; repeatable."),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option("--site", "-s", metavar="SITE", help="A site, e.g. encoder.2.mlp.post; repeatable."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head", metavar="HEAD", help="Knock out an attention head, e.g. decoder.1.cross[2]; repeatable."
        ),
    ] = None,
    splice: Annotated[
        list[str] | None,
        typer.Option("--splice", metavar="DICTIONARY", help="Put in a dictionary's reconstruction; repeatable."),
    ] = None,
    scale: Annotated[
        list[float] | None, typer.Option("--scale", metavar="FACTOR", help="Multiply it (0 switches a feature off).")
    ] = None,
    zero: Annotated[bool, typer.Option("--zero", help="Set it to zero.")] = False,
    clamp: Annotated[
        list[float] | None, typer.Option("--clamp", metavar="VALUE", help="Set it to a value everywhere.")
    ] = None,
    add: Annotated[list[float] | None, typer.Option("--add", metavar="VALUE", help="Add a value.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", metavar="LOW,HIGH", help="Keep it within bounds, e.g. 0, or 0,1.5.")
    ] = None,
    band: Annotated[
        list[int] | None,
        typer.Option("--band", metavar="K", help="Of --site encoder.2.attn: attend at most K positions away."),
    ] = None,
    units: Annotated[
        list[str] | None, typer.Option("--units", metavar="LIST", help="Only these units of the site, e.g. 3,17.")
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option("--time", metavar="SPAN", help="Only between these seconds, e.g. 0.5-1.2.")
    ] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option("--tokens", metavar="SPAN", help="Only at these tokens of the decoder's input, e.g. 4-6."),
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--keys", metavar="SPAN", help="Of attention maps: only keys between these seconds."),
    ] = None,
    model: ModelOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Change features while the model listens; compare the text.

    Each --feature, --site, --head or --splice begins an edit; the options after it say what to do with it and where.

    When a feature is edited, the rest of the activation, the reconstruction error included, stays as it was.
    """
    del feature, site, scale, zero, clamp, add, units, time, head, splice, limit, band, tokens, keys  # parsed below
    changes = parse_changes(ctx.find_root().obj["words"])
    folder = workspace_if_any(workspace)
    edits = [make_edit(change, folder) for change in changes]
    sound = open_clip(clip, folder)
    speech_model = open_model(model, folder, device, dtype)
    base = speech_model.transcribe(sound)
    edited = speech_model.transcribe(sound, edits=edits)
    rows = compare(base, edited, speech_model.score(sound, base, edits=edits))
    if json:
        print_json(
            {
                "clip_id": sound.clip_id,
                "uri": clip,
                "edits": [str(change) for change in changes],
                "base": {"text": base.text, "avg_log_prob": base.avg_log_prob},
                "edited": {"text": edited.text, "avg_log_prob": edited.avg_log_prob},
                "changed": base.text != edited.text,
                "tokens": rows,
            }
        )
        return
    show(changes, base, edited, rows)


def parse_changes(words: Sequence[str]) -> list[Change]:
    """Read the edits off a command line, in order; what stands before the first target belongs to it.

    Raises:
        InputError: no target, a target without an operation or with two, or a malformed value.
    """
    found: list[Change] = []
    early: list[tuple[str, str]] = []
    for name, value in _pairs(words):
        if name in TARGETS:
            found.append(Change((name, value), ALONE.get(name)))
            for item in early:
                _apply(found[-1], *item)
            early.clear()
        elif found:
            _apply(found[-1], name, value)
        else:
            early.append((name, value))
    if not found:
        raise InputError(
            "There is nothing to edit: name a feature (--feature sae-2:30 --scale 0) or a site "
            "(--site encoder.2.mlp.post --units 3 --zero)."
        )
    for change in found:
        if change.op is None:
            raise InputError(f"{change} says what to edit but not how; add --scale, --zero, --clamp or --add after it.")
    return found


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """The edit options among `words` as (name, value)."""
    short = {"-f": "--feature", "-s": "--site"}
    pairs, rest = [], list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = short.get(name, name)
        if name == "--zero":
            pairs.append((name, ""))
        elif name in (*TARGETS, *OPERATIONS, *PLACES):
            pairs.append((name, value if equals else rest.pop(0) if rest else ""))
    return pairs


def _apply(change: Change, name: str, value: str) -> None:
    change.words.append(f"{name} {value}".strip())
    if name == "--units":
        change.where["units"] = _units(value)
    elif name == "--time":
        change.where["time_s"] = _span(value, name)
    elif name == "--keys":
        change.where["keys_s"] = _span(value, name)
    elif name == "--tokens":
        first, stop = _span(value, name)
        change.where["tokens"] = (int(first), int(stop))
    elif change.op is not None:
        raise InputError(f"{change} has two operations; give each its own target, such as --feature or --site.")
    else:
        change.op = name.removeprefix("--")
        if name == "--limit":
            change.bounds = _bounds(value)
        else:
            change.value = float(value) if value else 0.0


def _units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--units {text!r} is not a list of unit numbers; write for example 3,17.") from None


def _bounds(text: str) -> tuple[float | None, float | None]:
    low, comma, high = text.partition(",")
    try:
        bounds = (float(low) if low.strip() else None, float(high) if high.strip() else None)
    except ValueError:
        comma = ""
    if not comma:
        raise InputError(f"--limit {text!r} is not LOW,HIGH; write for example 0,1.5 or, without an upper bound, 0,.")
    return bounds


def _span(text: str, name: str) -> tuple[float, float]:
    what, example, number = ("tokens", "4-6", int) if name == "--tokens" else ("seconds", "0.5-1.2", float)
    start, _, end = text.partition("-")
    try:
        span: tuple[float, float] = number(start), number(end)
    except ValueError:
        span = (0, 0)
    if not 0 <= span[0] < span[1]:
        raise InputError(f"{name} {text!r} is not a span of {what}; write for example {example}.")
    return span


def make_edit(change: Change, workspace: Workspace | None) -> Edit:
    """Turn a parsed change into an edit of the model.

    Raises:
        InputError: unknown dictionary, feature out of range, or units given for a feature.
    """
    from otoscope.models import Edit

    assert change.op is not None
    (kind, name), (low, high) = change.target, change.bounds
    if kind == "--head":
        return Edit.knock_out(name, **change.where)
    if kind == "--splice":
        from otoscope.workspace import Workspace

        return Edit.splice((workspace or Workspace.open()).dictionary(name), **change.where)
    if kind == "--feature":
        return _feature_edit(change, name, workspace)
    if change.op == "band":
        return Edit.band(name, int(change.value), **change.where)
    if change.op == "limit":
        return Edit.limit(name, low=low, high=high, **change.where)
    if change.op == "zero":
        return Edit.zero(name, **change.where)
    if change.op == "add":
        return Edit.add(name, change.value, **change.where)
    make = Edit.scale if change.op == "scale" else Edit.clamp
    return make(name, change.value, **change.where)


def _feature_edit(change: Change, name: str, workspace: Workspace | None) -> Edit:
    from otoscope.workspace import Address, Workspace

    if "units" in change.where:
        raise InputError(f"{change}: --units belongs to a --site; a feature has no units.")
    address = Address.parse(name)
    feature = (workspace or Workspace.open()).dictionary(address.dictionary).feature(address.index)
    if change.op == "zero":
        return feature.zero(**change.where)
    if change.op == "limit":
        return feature.limit(low=change.bounds[0], high=change.bounds[1], **change.where)
    if change.op == "band":
        raise InputError(f"{change}: --band limits attention; a feature has none.")
    make = feature.scale if change.op == "scale" else feature.add if change.op == "add" else feature.clamp
    return make(change.value, **change.where)


def compare(base: Transcript, edited: Transcript, forced: Sequence[float]) -> list[dict[str, Any]]:
    """One row for each base token: how likely it was, and is when it is forced under the edits; was it kept?"""
    matcher = SequenceMatcher(None, [t.id for t in base.tokens], [t.id for t in edited.tokens], autojunk=False)
    kept = {block.a + i for block in matcher.get_matching_blocks() for i in range(block.size)}
    return [
        {
            "text": token.text,
            "log_prob": token.log_prob,
            "edited_log_prob": log_prob,
            "delta": log_prob - token.log_prob,
            "kept": index in kept,
        }
        for index, (token, log_prob) in enumerate(zip(base.tokens, forced, strict=True))
    ]


def show(changes: Sequence[Change], base: Transcript, edited: Transcript, rows: Sequence[dict[str, Any]]) -> None:
    """Print both transcripts, words that differ marked, and what the edits did to each token of the base one."""
    console = out()
    for change in changes:
        console.print(f"[dim]{change}[/]", soft_wrap=True)
    before, after = marked_words(base.text, edited.text)
    console.print(f"[dim]base  [/]  {before or '[dim](nothing)[/]'}", soft_wrap=True)
    console.print(f"[dim]edited[/]  {after or '[dim](nothing)[/]'}", soft_wrap=True)
    if base.text == edited.text:
        console.print("[dim]The text is the same; Δ log p says how much the edit mattered.[/]")
    listing = table("token", "log p>", "edited>", "Δ log p>", "")
    for row in rows:
        text = row["text"].strip() or "␣"
        listing.add_row(
            escape(text) if row["kept"] else f"[yellow]{escape(text)}[/]",
            number(row["log_prob"]),
            number(row["edited_log_prob"]),
            _delta(row["delta"]),
            "" if row["kept"] else "[yellow]no longer written[/]",
        )
    if rows:
        console.print(listing)


def marked_words(base: str, edited: str) -> tuple[str, str]:
    """Both texts with the words that the other lacks marked."""
    before, after = base.split(), edited.split()
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    left, right = [], []
    for tag, i, j, k, m in matcher.get_opcodes():
        style = "" if tag == "equal" else "bold yellow"
        left += [_styled(word, style) for word in before[i:j]]
        right += [_styled(word, style) for word in after[k:m]]
    return " ".join(left), " ".join(right)


def _styled(word: str, style: str) -> str:
    return f"[{style}]{escape(word)}[/]" if style else escape(word)


def _delta(value: float) -> str:
    if abs(value) < 0.005:
        return "[dim]0.00[/]"
    return f"[{'red' if value < 0 else 'green'}]{value:+.2f}[/]"

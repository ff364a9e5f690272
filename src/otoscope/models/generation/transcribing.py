"""From clips to transcripts: windows side by side, or from segment to segment by the model's own timestamps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.edits import BoundEdit, Edit, bind_edits
from otoscope.models.generation.decoding import WindowDecoder
from otoscope.models.generation.listening import (
    _BATCH,
    Heard,
    Seekable,
    encode,
    heard_again,
    side_by_side,
)
from otoscope.models.generation.options import DecodingOptions
from otoscope.models.generation.scoring import score
from otoscope.models.generation.segments import (
    emptied,
    shorten_long_words,
    timed_segments,
    whole_segment,
    with_words,
    written_tokens,
)
from otoscope.models.generation.steps import RowEdits
from otoscope.models.generation.timing import align_tokens, alignment_heads
from otoscope.models.generation.token_rules import TokenRules
from otoscope.models.generation.transcript import (
    Decoded,
    Segment,
    Token,
    Transcript,
    WrittenWindow,
    in_window,
    join,
)
from otoscope.models.generation.words import merge_punctuation
from otoscope.models.loaded import LoadedModel

_FRAMES_PER_S = 100  # mel frames
_TEMPERATURE_OF_NO_PROMPT = 0.5  # text drawn at a higher one is not fed to the next window


def transcribe_clips(
    model: LoadedModel,
    clips: Sequence[Clip],
    edits: Sequence[Sequence[Edit]],
    options: DecodingOptions,
) -> list[Transcript]:
    """Write down what is said in each clip, clip i under `edits[i]`; windows of all clips are decoded in batches.

    Raises:
        InputError: an edit that does not fit, an option that the model cannot follow, or an unreadable clip.
    """
    decoder = WindowDecoder(model.module, model.require_tokenizer(), model.rules, options)
    if options.word_times:
        alignment_heads(options.alignment_heads, model.checkpoint.generation, model.dims)
    writers = [_Writer(model, decoder, clip, own) for clip, own in zip(clips, _bound(model, clips, edits), strict=True)]
    if options.timestamps:
        _seek_through(model, decoder, writers)
    else:
        _write_side_by_side(model, decoder, writers)
    return [writer.transcript() for writer in writers]


def _bound(model: LoadedModel, clips: Sequence[Clip], edits: Sequence[Sequence[Edit]]) -> list[list[BoundEdit]]:
    """Check the edits of each clip; lists that are the same object stay the same."""
    by_list: dict[int, list[BoundEdit]] = {}
    found = []
    for clip, own in zip(clips, edits, strict=True):
        bound = bind_edits(own, model.dims, clip.duration_s)
        found.append(by_list.setdefault(id(own), bound))
    return found


@dataclass(eq=False)
class _Writer:
    """What has been written of one clip so far."""

    model: LoadedModel
    decoder: WindowDecoder
    clip: Clip
    edits: Sequence[BoundEdit]
    decoded: list[Decoded] = field(default_factory=list)
    windows: list[WrittenWindow] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    last_speech_s: float = 0.0
    # of long clips only
    seek: int = 0
    before: list[int] = field(default_factory=list)
    fed_from: int = 0
    language: int | None = None

    def __post_init__(self) -> None:
        self.before = list(self.decoder.initial_prompt)

    def prompt(self) -> tuple[int, ...]:
        """The tokens that count as said before the next window."""
        return tuple(self.before[self.fed_from :])

    def note(self, decoded: Decoded, heard: Heard) -> int:
        """Keep how a window was decoded; return its number."""
        self.decoded.append(decoded)
        self.windows.append(
            WrittenWindow(heard.start_s, heard.end_s, decoded.prompt, decoded.temperature, decoded.silent)
        )
        return len(self.windows) - 1

    def take(self, decoded: Decoded, heard: Heard, encoded: Tensor) -> None:
        """Add a window of a clip cut side by side."""
        window = self.note(decoded, heard)
        if decoded.silent:
            return
        tokens = in_window(decoded.tokens, window)
        segment = whole_segment(decoded, tokens, heard.start_s, heard.end_s, self.decoder.tokenizer, window)
        found = self._with_words([segment], heard, encoded)
        self.tokens += written_tokens(found)
        self.segments += [each for each in found if each.text.strip()]

    def take_timed(self, decoded: Decoded, heard: Heard, encoded: Tensor, end: int) -> None:
        """Add a window that began at mel frame `seek` and move on (`end`: the clip's last frame)."""
        size = min(round((heard.end_s - heard.start_s) * _FRAMES_PER_S), end - self.seek)
        window = self.note(decoded, heard)
        if decoded.silent:
            self.seek += size
            return
        marked = replace(decoded, tokens=list(in_window(decoded.tokens, window)))
        rules = self.decoder.rules
        segments, heard_to = timed_segments(marked, heard.start_s, heard.end_s, rules, self.decoder.tokenizer, window)
        self.seek += size if heard_to is None else 2 * heard_to
        segments = self._with_words(segments, heard, encoded)
        # words are a surer guide than timestamps to where speech ended, unless a lone last timestamp says it is over
        over = [rules.is_timestamp(token.id) for token in decoded.tokens[-2:]] == [False, True]
        if self.decoder.options.word_times and not over and self.last_speech_s > heard.start_s:
            self.seek = round(self.last_speech_s * _FRAMES_PER_S)
        self.tokens += [self._timed(token, heard.start_s) for token in written_tokens(segments)]
        kept = [emptied(segment) for segment in segments]
        self.segments += [segment for segment in kept if segment.text]
        self.before += [token.id for token in written_tokens(kept)]
        options = self.decoder.options
        if not options.condition_on_previous_text or decoded.temperature > _TEMPERATURE_OF_NO_PROMPT:
            self.fed_from = len(self.before)

    def _timed(self, token: Token, start_s: float) -> Token:
        rules = self.decoder.rules
        if rules.first_timestamp is None or not rules.is_timestamp(token.id):
            return token
        moment = start_s + self.model.clock.time_s(token.id - rules.first_timestamp)
        return replace(token, start_s=moment, end_s=moment)

    def _with_words(self, segments: list[Segment], heard: Heard, encoded: Tensor) -> list[Segment]:
        """Find when the words of a window's segments are spoken."""
        options, rules, model = self.decoder.options, self.decoder.rules, self.model
        if not options.word_times:
            return segments
        text = [[token for token in segment.tokens if token.id < rules.end] for segment in segments]
        decoded = self.decoded[-1]
        aligned = align_tokens(
            model.module,
            model.dims,
            self.decoder.tokenizer,
            encoded,
            [token.id for of_segment in text for token in of_segment],
            heard.n_frames,
            prompt=rules.prompt_for(decoded.language, task=options.task),
            end=rules.end,
            heads=alignment_heads(options.alignment_heads, model.checkpoint.generation, model.dims),
            language=decoded.language,
            edits=self.edits,
            start_s=heard.start_s,
        )
        spans = iter(aligned.token_times)
        timed = [
            replace(
                segment, tokens=tuple(_at(token, spans) if token.id < rules.end else token for token in segment.tokens)
            )
            for segment in segments
        ]
        words, median = shorten_long_words(aligned.words)
        counts = [len(of_segment) for of_segment in text]
        found = with_words(timed, merge_punctuation(words), counts, median, self.last_speech_s)
        spoken = [word.end_s for segment in found for word in segment.words]
        self.last_speech_s = spoken[-1] if spoken else found[-1].end_s
        return found

    def transcript(self) -> Transcript:
        """Return everything written."""
        glue = "" if self.decoder.options.timestamps else " "
        texts = [segment.text if self.decoder.options.timestamps else segment.text.strip() for segment in self.segments]
        return join(
            self.clip,
            self.decoded,
            self.windows,
            self.segments,
            self.tokens,
            glue.join(texts).strip(),
            self.decoder.options,
        )


def _at(token: Token, spans: Iterator[tuple[float, float]]) -> Token:
    start_s, end_s = next(spans)
    return replace(token, start_s=start_s, end_s=end_s)


def _row_edits(writers: Sequence[_Writer], heard: Sequence[Heard]) -> RowEdits:
    """The edits of a batch of windows; shared where all rows are under the same."""
    starts_s = [window.start_s for window in heard]
    if all(writer.edits is writers[0].edits for writer in writers):
        return RowEdits(writers[0].edits, (), starts_s)
    return RowEdits((), [writer.edits for writer in writers], starts_s)


def _write_side_by_side(model: LoadedModel, decoder: WindowDecoder, writers: Sequence[_Writer]) -> None:
    groups = (list(group) for _, group in groupby(writers, key=lambda writer: id(writer.clip)))
    windows = ((writer, heard) for group in groups for heard in side_by_side(model, group[0].clip) for writer in group)
    while batch := list(islice(windows, _BATCH)):
        owners, heard = [writer for writer, _ in batch], [window for _, window in batch]
        edits = _row_edits(owners, heard)
        encoded = encode(model, heard, edits)
        numbers = [round(window.start_s * _FRAMES_PER_S) for window in heard]
        found = decoder(encoded, edits, before=[decoder.initial_prompt] * len(batch), numbers=numbers)
        for row, (writer, window) in enumerate(batch):
            writer.take(found[row], window, encoded[row : row + 1])


def _seek_through(model: LoadedModel, decoder: WindowDecoder, writers: Sequence[_Writer]) -> None:
    """Decode the next window of several clips at a time; those whose prompts are equally long go together."""
    waiting = iter(writers)
    going: list[tuple[_Writer, Seekable]] = []
    while True:
        going = [(writer, sound) for writer, sound in going if writer.seek < sound.end]
        going += [(writer, Seekable(model, writer.clip)) for writer in islice(waiting, _BATCH - len(going))]
        if not going:
            return
        alike: dict[int, list[tuple[_Writer, Seekable]]] = {}
        for writer, sound in going:
            alike.setdefault(len(decoder.previous(writer.prompt())), []).append((writer, sound))
        for rows in alike.values():
            _decode_next(model, decoder, rows)


def _decode_next(model: LoadedModel, decoder: WindowDecoder, rows: Sequence[tuple[_Writer, Seekable]]) -> None:
    """Decode the next window of clips whose prompts are equally long."""
    heard = [sound.at(writer.seek) for writer, sound in rows]
    edits = _row_edits([writer for writer, _ in rows], heard)
    encoded = encode(model, heard, edits)
    if any(not writer.windows for writer, _ in rows):
        tokens, _ = decoder.languages(encoded, edits)
        for (writer, _), token in zip(rows, tokens, strict=True):
            writer.language = token if not writer.windows else writer.language
    found = decoder(
        encoded,
        edits,
        before=[writer.prompt() for writer, _ in rows],
        languages=[writer.language for writer, _ in rows],
        numbers=[writer.seek for writer, _ in rows],
    )
    for row, (writer, sound) in enumerate(rows):
        writer.take_timed(found[row], heard[row], encoded[row : row + 1], sound.end)


def score_clip(
    model: LoadedModel, clip: Clip, transcript: Transcript, edits: Sequence[Sequence[Edit]]
) -> list[list[float]]:
    """Return the log-probability of each token of a transcript, forced, under each list of edits.

    Raises:
        InputError: an edit that does not fit, or a transcript of another clip.
    """
    options, rules = transcript.options, model.rules
    token_rules = TokenRules.of(options, rules, model.require_tokenizer(), model.device)
    bound = [bind_edits(own, model.dims, clip.duration_s) for own in edits]
    windows = heard_again(model, clip, transcript.windows, seeking=options.timestamps)
    if any(token.window >= len(windows) for token in transcript.tokens):
        raise InputError(f"The transcript has more windows than the clip {clip.clip_id!r}; it belongs to another.")
    scores: list[list[float]] = [[] for _ in edits]
    for number, heard in enumerate(windows):
        ids = [token.id for token in transcript.tokens if token.window == number]
        if not ids:
            continue
        if number < len(transcript.windows):
            prompt: Sequence[int] = transcript.windows[number].prompt
        else:
            prompt = rules.prompt_for(transcript.language, task=options.task)
        rows = RowEdits((), bound, [heard.start_s] * len(bound))
        encoded = encode(model, [heard] * len(bound), rows)
        for row, found in enumerate(score(model.module, token_rules, encoded, prompt, ids, rows)):
            scores[row] += found
    return scores

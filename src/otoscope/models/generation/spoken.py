"""When each word of a given text is spoken: word times on request, for a text, tokens or a transcript."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from otoscope.audio import Clip
from otoscope.errors import InputError
from otoscope.models.edits import Edit, bind_edits
from otoscope.models.generation.decoding import WindowDecoder
from otoscope.models.generation.listening import encode, heard_again, side_by_side
from otoscope.models.generation.options import DecodingOptions
from otoscope.models.generation.steps import RowEdits
from otoscope.models.generation.timing import Heads, align_tokens, alignment_heads
from otoscope.models.generation.transcribing import transcribe_clips
from otoscope.models.generation.transcript import Transcript
from otoscope.models.generation.words import Word, merge_punctuation
from otoscope.models.loaded import LoadedModel


def word_times(
    model: LoadedModel,
    clip: Clip,
    text: str | Sequence[int] | Transcript | None = None,
    heads: Heads | None = None,
    *,
    language: str | None = None,
    edits: Sequence[Edit] = (),
) -> list[Word]:
    """Return when each word of a text is spoken in a clip, by dynamic time warping of the decoder's cross-attention.

    `text` is what is said, as text or tokens, or a transcript (default: what the model writes). A text must fit one
    window; long clips take a transcript. `heads` are decoder heads `(layer, head)` (default: see `alignment_heads`).
    Times are those of `whisper.timing`, in steps of 0.02 s; punctuation is merged with its word.

    Raises:
        InputError: a model without decoder, an unknown head, token or language, a text that is too long, or a text
            (rather than a transcript) for a clip of several windows.
    """
    if "decoder" not in model.dims.traits:
        raise InputError(f"{model.name} has no text decoder, so it has no cross-attention to find word times by.")
    chosen = alignment_heads(heads, model.checkpoint.generation, model.dims)
    tokenizer, rules = model.require_tokenizer(), model.rules
    bound = bind_edits(edits, model.dims, clip.duration_s)
    if text is None:
        text = transcribe_clips(model, [clip], [edits], DecodingOptions(language=language))[0]
    if isinstance(text, Transcript):
        task, language = text.options.task, text.language
        heard = heard_again(model, clip, text.windows, seeking=text.options.timestamps)
        texts = [[token.id for token in text.tokens if token.window == number] for number in range(len(heard))]
    else:
        task = None
        heard = side_by_side(model, clip)
        texts = [_tokens(text, model)]
        if len(heard) > 1:
            raise InputError(
                f"The clip {clip.clip_id!r} spans {len(heard)} windows of {model.dims.window_s:g} s, and a text says "
                "not which words are in which; give a transcript, or cut the clip with start_s and end_s."
            )
    words: list[Word] = []
    for window, ids in zip(heard, texts, strict=True):
        if not (ids := [token for token in ids if token < rules.end]):
            continue
        here = RowEdits(bound, (), [window.start_s])
        encoded = encode(model, [window], here)
        language = language or _detected(model, encoded, here)
        aligned = align_tokens(
            model.module,
            model.dims,
            tokenizer,
            encoded,
            ids,
            window.n_frames,
            prompt=rules.prompt_for(language, task=task),
            end=rules.end,
            heads=chosen,
            language=language,
            edits=bound,
            start_s=window.start_s,
        )
        words += [word for word in merge_punctuation(aligned.words) if word.word]
    return words


def _tokens(text: str | Sequence[int], model: LoadedModel) -> list[int]:
    if isinstance(text, str):
        return model.require_tokenizer().encode(" " + text.strip()) if text.strip() else []
    wrong = [token for token in text if not 0 <= token < model.dims.n_vocab]
    if wrong:
        raise InputError(f"There is no token {wrong[0]}; the model's tokens are 0 to {model.dims.n_vocab - 1}.")
    return [int(token) for token in text]


def _detected(model: LoadedModel, encoded: Tensor, edits: RowEdits) -> str | None:
    """The language that the model hears in a window."""
    tokens, _ = WindowDecoder(model.module, model.require_tokenizer(), model.rules, DecodingOptions()).languages(
        encoded, edits
    )
    return model.rules.language_of(tokens[0])

"""Rules: what a checkpoint says about prompts, special tokens and forbidden ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from otoscope.errors import InputError, nearest
from otoscope.models.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Rules:
    """The tokens with a meaning of their own, and those a checkpoint forbids."""

    start: int
    end: int
    """Written when nothing more is said; ordinary text has smaller numbers, other special tokens larger ones."""
    no_timestamps: int | None
    first_timestamp: int | None
    """The token of 0.00 s; later moments follow. None where the vocabulary has no times."""
    languages: dict[str, int]
    tasks: dict[str, int]
    forced: dict[int, int | None]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    previous: int | None
    """Begins the text that was said before (`<|startofprev|>`)."""
    no_speech: int | None
    special: tuple[int, ...]
    """Tokens that are never text and that openai-whisper always forbids: start, tasks, previous, no speech…"""
    max_length: int
    """The most tokens, prompt included, that the decoder reads and writes."""

    @classmethod
    def of(cls, generation: Mapping[str, Any], config: Mapping[str, Any], tokenizer: Tokenizer) -> Rules:
        """Read the rules of a checkpoint: its `generation_config.json`, else its `config.json`."""

        def setting(name: str, default: Any = None) -> Any:
            for source in (generation, config):
                if source.get(name) is not None:
                    return source[name]
            return default

        known = tokenizer.vocabulary
        no_speech = next((known[name] for name in ("<|nospeech|>", "<|nocaptions|>") if name in known), None)
        end = setting("eos_token_id", 0)
        start = setting("decoder_start_token_id", 0)
        limit = config.get("max_target_positions", 448)
        no_timestamps = setting("no_timestamps_token_id", known.get("<|notimestamps|>"))
        first = known.get("<|0.00|>", None if no_timestamps is None else no_timestamps + 1)
        n_vocab = config.get("vocab_size", len(known))
        tasks = setting("task_to_id") or {}
        previous = setting("prev_sot_token_id", known.get("<|startofprev|>"))
        special = [start, previous, no_speech, *tasks.values(), known.get("<|startoflm|>")]
        special += [known[f"<|{task}|>"] for task in ("transcribe", "translate") if f"<|{task}|>" in known]
        return cls(
            start=start,
            end=end[0] if isinstance(end, list) else end,
            no_timestamps=no_timestamps,
            first_timestamp=first if first is not None and first < n_vocab else None,
            languages={name.strip("<|>"): index for name, index in (setting("lang_to_id") or {}).items()},
            tasks=tasks,
            forced={int(at): token for at, token in setting("forced_decoder_ids") or ()},
            suppressed=tuple(setting("suppress_tokens") or ()),
            suppressed_first=tuple(setting("begin_suppress_tokens") or ()),
            previous=previous,
            no_speech=no_speech,
            special=tuple(sorted({token for token in special if token is not None})),
            max_length=min(setting("max_length", limit), limit),
        )

    def language_id(self, language: str) -> int:
        """Return the token of a language code such as `en`.

        Raises:
            InputError: the model does not know it.
        """
        code = language.lower().strip("<|>")
        if code not in self.languages:
            if not self.languages:
                raise InputError(f"This model writes one language only, so language={language!r} cannot be chosen.")
            known = nearest(code, self.languages) or f"; it knows {', '.join(sorted(self.languages))}"
            raise InputError(f"The model does not know the language {language!r}{known}.")
        return self.languages[code]

    def language_of(self, token: int | None) -> str | None:
        """Return the code of a language token."""
        return next((code for code, index in self.languages.items() if index == token), None)

    def prompt(
        self, language: int | None, chosen: bool, *, task: str | None = None, timestamps: bool = False
    ) -> list[int]:
        """Return the tokens that precede the text: start, language, task, "no timestamps".

        The same as Hugging Face's `generate` feeds with `language` and `task`, and as openai-whisper always feeds.
        `language` is the language token (None in one-language models); `chosen` says that the user asked for it,
        which overrides what the checkpoint forces. `task` defaults to what the checkpoint forces, else "transcribe".

        Raises:
            InputError: the model does not know the task, or writes no timestamps.
        """
        forced = {} if chosen else self.forced
        tokens: list[int | None] = [self.start]
        while len(tokens) in forced:
            tokens.append(forced[len(tokens)])
        if len(tokens) == 1:
            tokens.append(language)
        elif tokens[1] is None:
            tokens[1] = language
        if task is not None:
            wanted = self._task_id(task)
            tokens = [token for token in tokens if token not in self.tasks.values()]
            tokens.insert(2, wanted)
        elif not set(tokens) & set(self.tasks.values()):
            tokens.append(self.tasks.get("transcribe"))
        if timestamps:
            if self.first_timestamp is None:
                raise InputError("This model's vocabulary has no timestamps; transcribe without them.")
            tokens = [token for token in tokens if token != self.no_timestamps]
        elif tokens[-1] != self.no_timestamps:
            tokens.append(self.no_timestamps)
        return [token for token in tokens if token is not None]

    def _task_id(self, task: str) -> int | None:
        if task in self.tasks:
            return self.tasks[task]
        if self.tasks or task != "transcribe":
            raise InputError(f"This model can {' or '.join(self.tasks) or 'transcribe'}, not {task!r}.")
        return None

    def prompt_for(self, language: str | None, *, task: str | None = None, timestamps: bool = False) -> list[int]:
        """Return the prompt for a language code (None: the one the checkpoint forces, if any)."""
        if language is None or not self.languages:
            return self.prompt(self.forced.get(1), False, task=task, timestamps=timestamps)
        return self.prompt(self.language_id(language), True, task=task, timestamps=timestamps)

    def needs_language(self) -> bool:
        """Whether the prompt has a place for a language that must be detected."""
        return bool(self.languages) and self.forced.get(1) is None

    def is_timestamp(self, token: int) -> bool:
        """Whether a token is a moment of its window."""
        return self.first_timestamp is not None and token >= self.first_timestamp

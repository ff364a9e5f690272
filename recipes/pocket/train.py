"""Stage 2: train the model; a killed training resumes from its last checkpoint."""

from __future__ import annotations

import json
import math
import time

import jiwer
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import WhisperForConditionalGeneration

from . import mel, network, speech, vocabulary, voices
from .data import IGNORE, Batches, Vocabulary
from .settings import WINDOW_FRAMES, Settings

CHECKPOINT_EVERY = 250


def pick_device(name: str) -> torch.device:
    """`auto` takes a CUDA GPU when there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def losses(
    model: WhisperForConditionalGeneration, phone_head: nn.Linear, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the next token, and of the phone at each encoder position."""
    encoded = network.encode(model, batch["mels"])
    logits, _ = network.decode(model, batch["ids"], encoded)
    token_loss = F.cross_entropy(logits.flatten(0, 1).float(), batch["targets"].flatten(), ignore_index=IGNORE)
    phones = phone_head(encoded).flatten(0, 1).float()
    return token_loss, F.cross_entropy(phones, batch["phones"].flatten(), ignore_index=IGNORE)


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine down to 3 %."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    x = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.learning_rate * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * x)))


def _dev_set(settings: Settings, n: int) -> tuple[Tensor, list[str]]:
    """Held-out sentences in held-out voices, [n, 80, 600] normalised, and their texts."""
    texts = json.loads((settings.build / "heldout.json").read_text())["en"][-n:]
    out = np.full((n, WINDOW_FRAMES, 80), mel.FLOOR, np.float32)
    for i, text in enumerate(texts):
        voice = f"{voices.ACCENTS[i % len(voices.ACCENTS)]}+{voices.HELD_OUT_VARIANTS[i % 8]}"
        mels = mel.log_power(speech.say(text, voice).audio)[:WINDOW_FRAMES]
        out[i, : len(mels)] = mels
        out[i] = mel.normalise(out[i])
    return torch.from_numpy(out.transpose(0, 2, 1).copy()), texts


class Trainer:
    """Model, optimiser and the step they have reached."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.device = settings, pick_device(settings.device)
        folder = settings.build / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            vocabulary.train_tokenizer(folder, settings.seed)
        self.tokenizer = vocabulary.load_tokenizer(folder)
        self.vocabulary = Vocabulary(self.tokenizer)
        self.model = network.build_model(len(self.tokenizer), self.vocabulary.end, settings.seed).to(self.device)
        self.phone_head = nn.Linear(128, 1 + len(speech.PHONES)).to(self.device)
        trained = [p for p in self.model.parameters() if p.requires_grad] + list(self.phone_head.parameters())
        decayed = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.05}]
        plain = [{"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(decayed + plain, lr=0.0, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0
        self.path = settings.build / "checkpoint.pt"
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.phone_head.load_state_dict(state["phone_head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"train: resumed at step {self.step}", flush=True)

    def save(self) -> None:
        parts = {"model": self.model, "phone_head": self.phone_head, "optimiser": self.optimiser}
        state = {name: part.state_dict() for name, part in parts.items()}
        partial = self.path.with_suffix(".tmp")
        torch.save({**state, "step": self.step, "seconds": self.seconds}, partial)
        partial.rename(self.path)

    def update(self, batch: dict[str, Tensor]) -> tuple[float, float]:
        """One optimiser step; returns the token and the phone loss."""
        aid = max(0.0, 1 - self.step / (self.settings.phone_aid_share * self.settings.steps))
        with torch.autocast(self.device.type, torch.bfloat16):
            token_loss, phone_loss = losses(self.model, self.phone_head, batch)
        (token_loss + aid * phone_loss).backward()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self.settings)
        nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return float(token_loss.detach()), float(phone_loss.detach())

    def word_error(self, mels: Tensor, texts: list[str]) -> float:
        """Word error rate with forced English, greedy."""
        prompt = self.vocabulary.prompt("en")
        said: list[str] = []
        for i in range(0, len(texts), 50):
            rows = network.greedy(self.model, mels[i : i + 50].to(self.device), prompt, self.vocabulary.end)
            said += [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]
        return float(jiwer.wer(texts, said))


def run(settings: Settings) -> None:
    """Train to `settings.steps`, printing losses, held-out word error and the time left."""

    trainer = Trainer(settings)
    dev_mels, dev_texts = _dev_set(settings, 100)
    batches = Batches(settings, trainer.vocabulary)
    loader = DataLoader(
        Subset(batches, range(trainer.step, settings.steps)), batch_size=None, num_workers=1, prefetch_factor=8
    )
    print(f"train: {sum(p.numel() for p in trainer.model.parameters())} parameters on {trainer.device}", flush=True)
    last, recent = time.time(), []
    for batch in loader:
        recent.append(trainer.update({k: v.to(trainer.device) for k, v in batch.items()}))
        now = time.time()
        trainer.seconds, last = trainer.seconds + now - last, now
        if trainer.step % 50 == 0:
            token_loss, phone_loss = np.mean(recent, 0)
            left = trainer.seconds / trainer.step * (settings.steps - trainer.step) / 60
            line = f"train: step {trainer.step}/{settings.steps} tokens {token_loss:.3f} phones {phone_loss:.3f}"
            print(f"{line}, {trainer.seconds / 60:.1f} min, {left:.1f} min left", flush=True)
            recent = []
        if trainer.step % CHECKPOINT_EVERY == 0:
            trainer.save()
        if trainer.step % 1000 == 0 or trainer.step == settings.steps:
            error = trainer.word_error(dev_mels, dev_texts)
            record = {"step": trainer.step, "minutes": trainer.seconds / 60, "wer": error}
            with (settings.build / "train.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            print(f"train: held-out voices' word error {error:.3f} at {trainer.seconds / 60:.1f} min", flush=True)
    trainer.save()

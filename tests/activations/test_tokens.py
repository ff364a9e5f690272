"""Tokens beside the frames they attend to: what a row is, that it lies where its word is spoken, and training on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from otoscope.activations.tokens import TokenStore, token_activations
from otoscope.audio import Corpus
from otoscope.dictionaries import train
from otoscope.dictionaries.architectures.crosscoder import Crosscoder, CrosscoderDictionary
from otoscope.errors import InputError

ENCODER, DECODER = "encoder.3.resid_post", "decoder.3.resid_post"


@pytest.fixture(scope="module")
def spoken(mini: Corpus) -> Corpus:
    with_words = [clip for clip in mini if clip.text and clip.tier("words") and clip.language == "en"]
    return Corpus("spoken", with_words[:40])


@pytest.fixture(scope="module")
def store(pocket, spoken: Corpus) -> TokenStore:
    return token_activations(pocket, spoken, [ENCODER, DECODER], progress=False)


def test_rows_are_the_tokens_of_the_transcripts(store: TokenStore, spoken: Corpus, pocket) -> None:
    for clip in spoken:
        first, count = store.clips[clip.clip_id]
        written = pocket.require_tokenizer().decode([token.id for token in store.tokens[first : first + count]])
        assert written.strip() == clip.text.strip()
    assert store.read(ENCODER).shape == store.read(DECODER).shape == (store.n_frames, pocket.width(ENCODER))


def test_a_row_holds_the_decoder_at_its_token_and_the_frames_it_attended_to(store, spoken, pocket) -> None:
    clip = spoken[3]
    maps = store.meta["alignment_heads"]
    run = pocket.run(clip, [ENCODER, DECODER, *maps], text=clip.text, language="en")
    rows = [row for row, position in enumerate(run.positions) if position.kind == "text"]
    weights = sum(run[name][rows] for name in maps)
    weights = weights / weights.sum(dim=1, keepdim=True)
    assert torch.allclose(torch.from_numpy(store.clip(DECODER, clip.clip_id)), run[DECODER][rows], atol=1e-4)
    assert torch.allclose(torch.from_numpy(store.clip(ENCODER, clip.clip_id)), weights @ run[ENCODER], atol=1e-4)


def test_rows_of_the_encoder_come_from_where_the_speech_is_at_that_token(store, spoken, pocket) -> None:
    """The frame most like a row moves through the clip as the text does; with rows in another order it does not."""
    rng = np.random.default_rng(0)
    together, shuffled = [], []
    for clip in list(spoken)[:12]:
        rows = torch.from_numpy(store.clip(ENCODER, clip.clip_id))
        frames = pocket.run(clip, [ENCODER])[ENCODER]
        unit = torch.nn.functional.normalize
        place = (unit(rows, dim=1) @ unit(frames, dim=1).T).argmax(dim=1).numpy()
        if len(place) >= 5:
            together.append(np.corrcoef(np.arange(len(place)), place)[0, 1])
            shuffled.append(np.corrcoef(np.arange(len(place)), rng.permutation(place))[0, 1])
    assert np.mean(together) > 0.8
    assert abs(np.mean(shuffled)) < 0.5


def test_batches_show_every_token_once_and_keep_sites_together(store: TokenStore) -> None:
    clips = list(store.clips)[:5]
    rows = np.concatenate([np.arange(first, first + count) for first, count in (store.clips[c] for c in clips)])
    found = list(store.batches([ENCODER, DECODER], 16, seed=1, epoch=0, clips=clips))
    both = torch.cat([torch.cat([batch.frames[ENCODER], batch.frames[DECODER]], dim=1) for batch in found])
    expected = torch.cat([store.frames[ENCODER][rows], store.frames[DECODER][rows]], dim=1)
    assert len(both) == len(rows)
    assert torch.equal(both[both[:, 0].argsort()], expected[expected[:, 0].argsort()])
    assert [len(batch) for batch in found[:-1]] == [16] * (len(found) - 1)


def test_more_features_are_shared_than_when_tokens_are_mixed_up(store: TokenStore) -> None:
    def share(of: TokenStore) -> float:
        made = train(of, Crosscoder(24, k=2), steps=200, batch_size=128, lr=1e-2, progress=False)
        assert isinstance(made, CrosscoderDictionary)
        assert made.sites == (ENCODER, DECODER)
        return float((made.owners() < 0).float().mean())

    assert share(store) > share(store.unpaired()) + 0.15


def test_the_control_keeps_rows_and_breaks_pairs(store: TokenStore) -> None:
    mixed = store.unpaired(seed=1)
    assert torch.equal(mixed.frames[DECODER], store.frames[DECODER])
    assert not torch.equal(mixed.frames[ENCODER], store.frames[ENCODER])
    assert np.allclose(mixed.mean(ENCODER), store.mean(ENCODER), atol=1e-5)
    assert mixed.fingerprint != store.fingerprint


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["decoder.3.cross.pattern"], "has no vector for a token"),
        ([], "at least one site"),
        (["encoder.9.resid_post"], "encoder.9"),
    ],
)
def test_what_cannot_be_laid_beside_tokens_is_refused(pocket, spoken, sites: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        token_activations(pocket, spoken, sites, progress=False)


def test_unknown_sites_and_clips_are_refused(store: TokenStore) -> None:
    with pytest.raises(InputError, match=r"no site 'encoder\.3\.resid'"):
        store.mean("encoder.3.resid")
    with pytest.raises(InputError, match="no clip 'nobody'"):
        store.clip(ENCODER, "nobody")

"""Where frames come from makes no difference: a store, or the model itself; synthetic speech or real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from otoscope.activations import harvest
from otoscope.atlas import build_atlas, build_atlases
from otoscope.atlas.building.measures import MEASURES, frame_measures
from otoscope.audio import Clip, Corpus
from otoscope.dictionaries import Neurons
from otoscope.dictionaries.architectures.crosscoder import CrosscoderDictionary
from otoscope.errors import InputError
from otoscope.evaluation.acoustics import acoustics
from otoscope.models import Clock, SpeechModel

SITE = "encoder.1.mlp.post"


def test_a_store_and_its_model_give_one_atlas(pocket: SpeechModel, mini: Corpus, tmp_path: Path) -> None:
    clips = mini[::50]
    neurons = Neurons(SITE, pocket.width(SITE))
    store = harvest(pocket, clips, [SITE], tmp_path / "store", progress=False)
    stored = build_atlas(store, neurons, clips, tmp_path / "a", progress=False)
    direct = build_atlas(pocket, neurons, clips, tmp_path / "b", progress=False)
    assert stored.meta["model"] == direct.meta["model"]
    assert stored.meta["n_frames"] == direct.meta["n_frames"] == store.n_frames
    for column in ("density", "max", "mean"):
        np.testing.assert_allclose(stored.features[column], direct.features[column], rtol=0.02, atol=2e-3)
    best = stored.features["max"].idxmax()
    assert stored[best].examples("top", 1)[0].clip_id == direct[best].examples("top", 1)[0].clip_id


def test_a_store_that_lacks_what_is_asked_for_is_refused(pocket: SpeechModel, mini: Corpus, tmp_path: Path) -> None:
    store = harvest(pocket, mini[:2], [SITE], tmp_path / "store", progress=False)
    with pytest.raises(InputError, match=r"lacks 1 of the 3 clips"):
        build_atlas(store, Neurons(SITE, 512), mini[:3], tmp_path / "a", progress=False)
    with pytest.raises(InputError, match=f"holds only {SITE}"):
        build_atlas(store, Neurons("encoder.2.mlp.post", 512), mini[:2], tmp_path / "a", progress=False)


def crosscoder(*sites: str, widths: tuple[int, ...]) -> CrosscoderDictionary:
    """A crosscoder with random weights."""
    rng = torch.Generator().manual_seed(0)
    encoder = torch.randn(64, sum(widths), generator=rng)
    return CrosscoderDictionary(
        encoder=encoder,
        encoder_bias=torch.zeros(64),
        decoder=encoder / encoder.norm(dim=1, keepdim=True),
        decoder_bias=torch.zeros(sum(widths)),
        site_scales=torch.ones(len(sites)),
        widths=widths,
        k=4,
        site=sites[0],
        sites=sites,
    )


def test_a_crosscoder_reads_its_sites_side_by_side_in_one_run(
    pocket: SpeechModel, mini: Corpus, tmp_path: Path
) -> None:
    clips, sites = mini[::100], ("encoder.1.resid_post", "encoder.3.mlp.post")
    both = crosscoder(*sites, widths=(128, 512))
    to = [tmp_path / "both", tmp_path / "neurons"]
    atlas, neurons = build_atlases(pocket, [both, Neurons(SITE, 512)], clips, to, n_shifts=2, progress=False)
    run = pocket.run(clips[1], read=list(sites))
    expected = both.encode(torch.cat([run[site] for site in sites], dim=1)).dense().numpy()
    start, stop = atlas.clips.span(1)
    code, found = atlas.codes[start:stop], np.zeros_like(expected)
    found[code.frame_of_entry(), code.features] = code.values
    np.testing.assert_allclose(found, np.maximum(expected, 0), atol=1e-4)
    alone = build_atlas(pocket, Neurons(SITE, 512), clips, n_shifts=2, progress=False)
    np.testing.assert_allclose(neurons.column("mean"), alone.column("mean"), rtol=1e-5)


def test_a_crosscoder_of_other_widths_or_tokens_is_refused(pocket: SpeechModel, mini: Corpus, tmp_path: Path) -> None:
    swapped = crosscoder("encoder.1.resid_post", "encoder.3.mlp.post", widths=(512, 128))
    with pytest.raises(InputError, match=r"width 512 \+ 128, .* has 128 \+ 512 here"):
        build_atlas(pocket, swapped, mini[:2], tmp_path / "a", progress=False)
    tokens = crosscoder("encoder.1.resid_post", "decoder.1.resid_post", widths=(128, 128))
    with pytest.raises(InputError, match="a row per token of text; an atlas is made of frames"):
        build_atlas(pocket, tokens, mini[:2], tmp_path / "a", progress=False)


def test_measures_in_float32_are_those_of_the_reference(mini: Corpus) -> None:
    """Speech, sounds, digital silence, a click and what fades out of float32's range; within what float32 can say."""
    silent, click = np.zeros(8000, np.float32), np.zeros(8000, np.float32)
    click[4000] = 1
    fading = (np.sin(np.arange(16000) / 20) * np.exp(-np.arange(16000) / 120)).astype(np.float32)
    made = [Clip.from_samples(samples, 16000, clip_id=str(i)) for i, samples in enumerate((silent, click, fading))]
    for clip in [*mini[::59], *made]:
        n = round(clip.duration_s * 50)
        found = frame_measures(clip, Clock(), n)
        reference = acoustics(clip.samples(), np.arange(n) * 0.02)
        for column, name in enumerate(MEASURES):
            np.testing.assert_allclose(found[:, column], getattr(reference, name), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("f0_hz", [60.5, 97.0, 211.3, 399.0])
def test_pitch_in_float32_is_that_of_the_reference_down_to_the_lowest(f0_hz: float) -> None:
    phase = 2 * np.pi * f0_hz * np.arange(16000) / 16000
    voice = sum(0.1 * np.sin(h * phase) / h for h in range(1, 13)).astype(np.float32)
    found = frame_measures(Clip.from_samples(voice, 16000), Clock(offset_s=0.1), 40)
    reference = acoustics(voice, 0.1 + 0.02 * np.arange(40))
    np.testing.assert_allclose(found[:, 3], reference.f0_hz, rtol=1e-4)
    np.testing.assert_allclose(found[:, 2], reference.voicing, atol=1e-4)


def test_before_and_beyond_the_recording_is_silence() -> None:
    for n in (40, 700, 1600):  # windows that hear both ends, too
        noise = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        found = frame_measures(Clip.from_samples(noise, 16000), Clock(offset_s=-0.1), 20)
        reference = acoustics(noise, 0.02 * np.arange(20) - 0.1)
        np.testing.assert_allclose(found[:, 0], reference.energy_db, atol=2e-3)
        np.testing.assert_allclose(found[:, 1], reference.tilt_db, atol=2e-3)
        assert (found[[0, 1, -1], 0] < -79.9).all()


def test_the_measures_of_a_frame_depend_on_nothing_but_its_window(mini: Corpus) -> None:
    """Neither on the frames that are analysed with it, nor on the number of threads."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = frame_measures(mini[0], Clock(), 150)
        torch.set_num_threads(2)
        for n in (1, 101):
            assert frame_measures(mini[0], Clock(), n).tobytes() == whole[:n].tobytes()
            later = frame_measures(mini[0], Clock(offset_s=0.02 * n), 150 - n)
            assert later.tobytes() == whole[n:].tobytes()
        assert frame_measures(mini[0], Clock(offset_s=0.01), 150).tobytes() != whole.tobytes()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.shared
def test_an_atlas_of_real_digits_can_be_searched_by_word(pocket: SpeechModel, shared: Path) -> None:
    """Digits fill their clips: labels are dealt between clips and judged on speakers that chose nothing."""
    digits = Corpus.from_folder(shared / "data" / "digits")
    kept = digits.select([clip.clip_id for clip in digits][::16])
    site = "encoder.3.resid_post"
    atlas = build_atlas(pocket, Neurons(site, pocket.width(site)), kept, progress=False)
    assert atlas.meta["held_out"] == "speakers"
    labels = atlas.labels
    assert set(labels["kind"][labels["n_features"] > 0]) == {"word"}  # speakers are labels too, and held out
    found = atlas.find("six")
    assert len(found) > 0
    assert (found["f1"] > found["chance"]).iloc[0]

import json
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from setandseq_core.backbone import Backbone
from setandseq_core.clips.video import read_info
from setandseq_core.concept_file.file import load_concept
from setandseq_core.config import SequenceConfig, SetConfig
from setandseq_core.embedded import demo, model
from setandseq_core.embedded.files import TRANSFORMER_FILE, VAE_FILE
from setandseq_core.embedded.model import EMBEDDED_CONFIG, load_embedded
from setandseq_core.embedded.probes.detectors import detect
from setandseq_core.embedded.world.concepts import CONCEPTS
from tools.embedded_model.quality import generate, generate_together, held_out_captions, vae_psnr
from tools.embedded_model.train_transformer import TRANSFORMER_CONFIG
from tools.embedded_model.train_vae import VAE_CONFIG


@pytest.fixture(scope="module")
def embedded() -> Backbone:
    return load_embedded()


def test_weights_take_at_most_60_megabytes():
    assert TRANSFORMER_FILE.stat().st_size + VAE_FILE.stat().st_size <= 60_000_000


def test_diffusers_loads_the_same_files(embedded, tmp_path):
    folder = tmp_path / "config"
    WanTransformer3DModel(**TRANSFORMER_CONFIG).save_config(folder / "transformer")
    AutoencoderKLWan(**VAE_CONFIG).save_config(folder / "vae")
    transformer = WanTransformer3DModel.from_single_file(
        str(TRANSFORMER_FILE), config=str(folder), subfolder="transformer", torch_dtype=torch.float32
    )
    vae = AutoencoderKLWan.from_single_file(
        str(VAE_FILE), config=str(folder), subfolder="vae", torch_dtype=torch.float32
    )
    for ours, theirs in ((embedded.module, transformer), (embedded.vae, vae)):
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_vae_gives_back_clips_of_held_out_prompts(embedded):
    assert vae_psnr(embedded.vae, 4) > 31


def test_small_clips_are_taken_whole_and_long_ones_in_chunks_with_the_same_result(embedded, monkeypatch):
    frames = CONCEPTS[demo.DEMO].frames()[:9]
    whole = embedded.encode_frames(frames)
    decoded = embedded.decode_latents(whole)
    monkeypatch.setattr(model, "MOST_PIXELS", 0)
    with monkeypatch.context() as patch:
        for name in ("encode_moments", "decode_clip"):
            patch.delattr(model, name)
        chunks = embedded.encode_frames(frames)
        torch.testing.assert_close(embedded.decode_latents(chunks), decoded, rtol=0, atol=1e-4)
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-4)


def test_base_follows_the_background_of_held_out_prompts(embedded):
    captions = held_out_captions(12)[::2]
    right = [detect(generate(embedded, str(c), seed)).background == c.background for seed, c in enumerate(captions)]
    assert sum(right) >= 5


def test_same_seed_same_clip(embedded):
    prompt = str(held_out_captions(1)[0])
    assert torch.equal(generate(embedded, prompt, 1), generate(embedded, prompt, 1))


def test_clips_generated_together_are_the_ones_generated_alone(embedded):
    prompts = [str(caption) for caption in held_out_captions(2)]
    together = generate_together(embedded.module, embedded.vae, prompts, 1, "cpu")
    alone = torch.stack([generate(embedded, prompt, 1 + index) for index, prompt in enumerate(prompts)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3)


def test_demo_writes_everything_it_says(tmp_path, monkeypatch):
    stages = {"set_stage": SetConfig(steps=2, batch=1), "sequence_stage": SequenceConfig(steps=2, batch=1)}
    quick = replace(EMBEDDED_CONFIG, **stages, prior=replace(EMBEDDED_CONFIG.prior, clips=1))
    shots = [shot for shot in demo.demo_shots() if shot.name in ("base", "star")]
    monkeypatch.setattr(demo, "EMBEDDED_CONFIG", quick)
    monkeypatch.setattr(demo, "demo_shots", lambda: shots)
    lines: list[str] = []
    demo.run_demo(tmp_path, lines.append)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["seconds"]) == {"set", "sequence"}
    names = {shot.name for shot in shots}
    assert set(report["figures"]) == names and {"identity", "motion", "adherence"} <= set(report["figures"]["star"])
    for name in names:
        assert read_info(tmp_path / f"{name}.mp4").width == 256
    assert (tmp_path / "contact_sheet.png").stat().st_size > 10_000
    concept = load_concept(tmp_path / f"{demo.DEMO}.safetensors")
    assert concept.info.training["finished"] and concept.info.thumbnail
    assert "demo_clip.mp4: read 1.1 s of 256x256 at 24 fps" in lines[0]
    assert str(tmp_path) in lines[-1] and any("sequence stage, step 2 of 2" in line for line in lines)

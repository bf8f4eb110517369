from random import Random

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from setandseq_core.training.checkpoint import load_training, save_training
from tools.embedded_model import train_transformer, train_vae
from tools.embedded_model.train_transformer import TransformerTraining, encode_pool, load_pool
from tools.embedded_model.train_vae import VaeTraining


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    monkeypatch.setitem(train_vae.VAE_CONFIG, "base_dim", 4)
    monkeypatch.setitem(train_transformer.TRANSFORMER_CONFIG, "num_attention_heads", 1)
    monkeypatch.setitem(train_transformer.TRANSFORMER_CONFIG, "num_layers", 1)
    monkeypatch.setitem(train_transformer.TRANSFORMER_CONFIG, "ffn_dim", 64)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_vae_training_resumed_equals_vae_training_in_one_go(tmp_path):
    def train(folder, frame_steps):
        return train_vae.train_vae(
            folder, VaeTraining(frame_steps=frame_steps, clip_steps=1, decoder_steps=1, save_every=1)
        )

    whole = train(tmp_path / "whole", 1)
    step = train_vae._Optimizer.step
    with pytest.MonkeyPatch.context() as patch:
        steps = []

        def crash(self, rate):
            if len(steps) == 2:
                raise KeyboardInterrupt
            steps.append(rate)
            step(self, rate)

        patch.setattr(train_vae._Optimizer, "step", crash)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", 1)
    assert same(train(tmp_path / "parts", 1), whole)


def test_last_part_of_vae_training_leaves_the_encoder_alone(tmp_path):
    config = {"frame_steps": 1, "clip_steps": 0, "save_every": 1}
    before = train_vae.train_vae(tmp_path, VaeTraining(**config, decoder_steps=0))
    after = train_vae.train_vae(tmp_path, VaeTraining(**config, decoder_steps=1))
    assert same(before.encoder, after.encoder) and not same(before.decoder, after.decoder)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # bfloat16 against float32 norms
def test_transformer_trains_on_the_pool_and_resumes(tmp_path):
    torch.manual_seed(0)
    encode_pool(AutoencoderKLWan(**train_vae.VAE_CONFIG), tmp_path, 0, 8, 0.2)
    latents, captions = load_pool(tmp_path)
    assert latents.shape == (8, 16, 5, 8, 8) and set(captions[0]) == {"full", "static", "motion"}
    config = {"batch": 2, "save_every": 1}
    first = train_transformer.train_transformer(tmp_path, TransformerTraining(steps=1, **config))
    second = train_transformer.train_transformer(tmp_path, TransformerTraining(steps=2, **config))
    assert not same(first, second)
    assert same(second, train_transformer.train_transformer(tmp_path, TransformerTraining(steps=2, **config)))


def test_transformer_training_can_begin_at_given_weights(tmp_path):
    torch.manual_seed(0)
    encode_pool(AutoencoderKLWan(**train_vae.VAE_CONFIG), tmp_path, 0, 8, 0.2)
    start = WanTransformer3DModel(**train_transformer.TRANSFORMER_CONFIG)
    before = [parameter.clone() for parameter in start.parameters()]
    after = train_transformer.train_transformer(tmp_path, TransformerTraining(steps=0), start)
    assert all(torch.equal(a, b) for a, b in zip(before, after.parameters(), strict=True))


def test_strange_and_empty_prompts_appear_at_their_rates():
    caption = {"full": "a b c", "static": "a b", "motion": "a b, c"}
    rng, config = Random(0), TransformerTraining(empty_prompt=0.5, strange_word=1.0)
    prompts = [train_transformer._prompt(caption, rng, config) for _ in range(400)]
    assert 150 < sum(p == "" for p in prompts) < 250
    assert all(len(p.split()) == 4 for p in prompts if "c" in p.split() and p.startswith(("a b c", "a b,")))


def test_training_state_round_trip_keeps_the_optimizer(tmp_path):
    def model():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    one, optimizer = model()
    step(one, optimizer)
    save_training(tmp_path / "state.safetensors", dict(one.named_parameters()), optimizer, {"step": "1"})
    two, other = model()
    assert load_training(tmp_path / "state.safetensors", dict(two.named_parameters()), other) == {"step": "1"}
    step(one, optimizer)
    step(two, other)
    assert same(one, two)

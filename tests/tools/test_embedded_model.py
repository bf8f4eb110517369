import pytest
import torch

from setandseq_core.training.checkpoint import load_training, read_record, save_training
from tools.embedded_model import train_transformer, train_vae
from tools.embedded_model.train_transformer import TransformerTraining, encode_pool, load_pool
from tools.embedded_model.train_vae import VaeBatches, VaeTraining


def tiny_vae():
    torch.manual_seed(0)
    return train_vae.new_vae(width=4)


def tiny_transformer_training(**changes):
    return TransformerTraining(**{"heads": 1, "layers": 1, "batch": 2, "save_every": 1, **changes})


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def tiny_training(**changes):
    return VaeTraining(
        **{"width": 4, "frame_steps": 1, "clip_steps": 1, "decoder_steps": 1, "save_every": 1, **changes}
    )


def stop_after(patch, steps):
    """Make the VAE's training crash after that number of steps."""
    step, done = train_vae._Optimizer.step, []

    def crash(self, rate):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(rate)
        step(self, rate)

    patch.setattr(train_vae._Optimizer, "step", crash)


@pytest.mark.parametrize("keep_latents", [0.0, 0.3])
def test_vae_training_resumed_equals_vae_training_in_one_go(tmp_path, keep_latents):
    config = tiny_training(keep_latents=keep_latents)
    start = tiny_vae() if keep_latents else None
    whole = train_vae.train_vae(tmp_path / "whole", config, start)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_vae.train_vae(tmp_path / "parts", config, start)
    assert same(train_vae.train_vae(tmp_path / "parts", config, start), whole)


def test_last_part_of_vae_training_leaves_the_encoder_alone(tmp_path):
    start = tiny_vae()
    after = train_vae.train_vae(tmp_path, tiny_training(frame_steps=0, clip_steps=0), start)
    assert same(start.encoder, after.encoder) and not same(start.decoder, after.decoder)


def test_latents_are_kept_within_the_grammar_alone():
    """The loss has no other term: there is no gradient at the start, and there is one as soon as the latents differ."""
    config = tiny_training(keep_latents=1.0, kl_weight=0.0)
    old = tiny_vae().requires_grad_(False)
    batch = VaeBatches(config)[3]

    def kept(vae):
        with_it, without = (train_vae.vae_loss(vae, batch, torch.zeros_like, config, other) for other in (old, None))
        return float(with_it - without)

    vae = tiny_vae().requires_grad_(False)
    assert kept(vae) == 0
    dict(vae.named_parameters())["quant_conv.bias"].add_(1)
    scale = torch.tensor(vae.config["latents_std"])
    assert kept(vae) == pytest.approx(float(scale.square().reciprocal().mean()), rel=1e-3)


def test_batches_are_frames_then_whole_clips_and_crops_at_sprites():
    config = tiny_training(frame_steps=1, clips=2)
    frames, crops, whole = (VaeBatches(config)[step] for step in (0, 1, 3))
    assert frames.pixels_BCFHW.shape == (16, 3, 1, 64, 64)
    assert crops.pixels_BCFHW.shape == (8, 3, 17, 32, 32) and crops.near_BFHW.shape == (8, 17, 32, 32)
    assert whole.pixels_BCFHW.shape == (2, 3, 17, 64, 64)
    assert all(near.any() for near in crops.near_BFHW)
    assert torch.equal(whole.pixels_BCFHW, VaeBatches(config)[3].pixels_BCFHW)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # bfloat16 against float32 norms
def test_transformer_trains_on_the_pool_and_resumes(tmp_path):
    encode_pool(tiny_vae(), tmp_path, 8, TransformerTraining())
    latents, captions = load_pool(tmp_path)
    assert latents.shape == (8, 16, 5, 8, 8) and set(captions[0]) == {"full", "static", "motion"}
    first = train_transformer.train_transformer(tmp_path, tiny_transformer_training(steps=1))
    second = train_transformer.train_transformer(tmp_path, tiny_transformer_training(steps=2))
    assert not same(first, second)
    assert same(second, train_transformer.train_transformer(tmp_path, tiny_transformer_training(steps=2)))


def test_transformer_training_can_begin_at_given_weights(tmp_path):
    encode_pool(tiny_vae(), tmp_path, 8, TransformerTraining())
    start = train_transformer.new_transformer(heads=1, layers=1)
    before = [parameter.clone() for parameter in start.parameters()]
    after = train_transformer.train_transformer(tmp_path, tiny_transformer_training(steps=0), start)
    assert all(torch.equal(a, b) for a, b in zip(before, after.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_an_expert_is_trained_at_its_own_noise_levels_only(tmp_path):
    encode_pool(tiny_vae(), tmp_path, 8, TransformerTraining())
    start, seen = train_transformer.new_transformer(heads=1, layers=1), []
    start.register_forward_pre_hook(lambda _, given: seen.extend((given[1] / 1000).tolist()))
    config = tiny_transformer_training(steps=3, batch=4, lowest_time=0.875)
    train_transformer.train_transformer(tmp_path, config, start)
    assert len(seen) == 12 and min(seen) >= 0.875 and max(seen) - min(seen) > 0.05


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_training_stops_when_its_time_is_over(tmp_path):
    vae = train_vae.train_vae(tmp_path, tiny_training(clip_steps=50, frame_steps=0, minutes=1e-9), tiny_vae())
    assert read_record(tmp_path / "vae_adam.safetensors") == {"step": "1"}
    assert not any(parameter.isnan().any() for parameter in vae.parameters())
    encode_pool(tiny_vae(), tmp_path, 8, TransformerTraining())
    train_transformer.train_transformer(tmp_path, tiny_transformer_training(steps=50, minutes=1e-9))
    assert read_record(tmp_path / "transformer_adam.safetensors") == {"step": "1"}


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

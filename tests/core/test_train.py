import dataclasses

import pytest
import torch

from setandseq_core.clips.encode import FrameSequence, Material, encode_frame_sequence, encode_frame_set
from setandseq_core.config import MethodConfig, SequenceConfig, SetConfig
from setandseq_core.errors import PromptError, SetAndSequenceError
from setandseq_core.lora import trainable_concept
from setandseq_core.train import run_sequence_stage, train_identity, train_motion
from setandseq_core.training.progress import StopTraining
from setandseq_core.training.run import StageRun


def tiny_config(**changes) -> MethodConfig:
    stages = {
        "set_stage": SetConfig(steps=4, batch=2, learning_rate=1e-2),
        "sequence_stage": SequenceConfig(steps=4, batch=2, learning_rate=1e-2),
    }
    return MethodConfig(**{"rank": 4, "gradient_clipping": 1.0, **stages, **changes})


@dataclasses.dataclass
class Both:
    """The results of both stages."""

    layers: dict
    finished: bool
    record: dict


def train_both(backbone, frame_set, sequence, config, **common) -> Both:
    identity = train_identity(backbone, Material(clips=[frame_set]), config, **common)
    if not identity.finished:
        return Both(identity.layers, False, {"set": identity.record})
    material: Material[FrameSequence] = Material(clips=[sequence])
    motion = train_motion(backbone, identity.layers, material, config, **common)
    return Both(motion.layers, motion.finished, {"set": identity.record, "sequence": motion.record})


def losses(trained):
    return trained.record["set"]["losses"] + trained.record["sequence"]["losses"]


def test_same_seed_same_losses_bit_for_bit(tiny_backbone, tiny_set, tiny_sequence):
    first, second = (train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config()) for _ in range(2))
    assert losses(first) == losses(second) and len(losses(first)) == 8
    assert losses(first) != losses(train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(seed=1)))


def test_losses_do_not_depend_on_the_random_state_before(tiny_backbone, tiny_set, tiny_sequence):
    torch.manual_seed(5)
    first = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config())
    torch.manual_seed(6)
    marker = torch.random.get_rng_state()
    second = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config())
    assert losses(first) == losses(second)
    assert torch.equal(torch.random.get_rng_state(), marker)


def test_frame_order_does_not_change_the_set_stage(tiny_backbone, tiny_frames):
    found = []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        frame_set = encode_frame_set(tiny_backbone, tiny_frames[order], "a sks blob")
        sequence = encode_frame_sequence(tiny_backbone, tiny_frames[order], "a sks blob hopping")
        found.append(train_both(tiny_backbone, frame_set, sequence, tiny_config()))
    assert found[0].record["set"]["losses"] == found[1].record["set"]["losses"]
    assert found[0].record["sequence"]["losses"] != found[1].record["sequence"]["losses"]


def test_sequence_stage_leaves_identity_unchanged(tiny_backbone, tiny_set, tiny_sequence):
    config = tiny_config()
    only_set = train_both(
        tiny_backbone, tiny_set, tiny_sequence, dataclasses.replace(config, sequence_stage=SequenceConfig(steps=0))
    )
    both = train_both(tiny_backbone, tiny_set, tiny_sequence, config)
    for name, layer in both.layers.items():
        assert torch.equal(layer.identity_basis_OR, only_set.layers[name].identity_basis_OR)
        assert torch.equal(layer.coefficients_RI, only_set.layers[name].coefficients_RI)
        assert layer.motion_residual_RI.any() and not only_set.layers[name].motion_residual_RI.any()


def test_training_lowers_the_loss(tiny_backbone, tiny_set, tiny_sequence):
    config = tiny_config(set_stage=SetConfig(steps=60, batch=4, learning_rate=1e-2, coefficient_dropout=0.0))
    found = train_both(tiny_backbone, tiny_set, tiny_sequence, config).record["set"]["losses"]
    assert sum(found[-15:]) < 0.95 * sum(found[:15])


def test_base_gives_the_same_output_after_training(tiny_backbone, tiny_set, tiny_sequence):
    def velocity():
        with torch.no_grad():
            x_t = tiny_sequence.latents_CFHW.unsqueeze(0)
            return tiny_backbone.velocity(x_t, torch.tensor([0.5]), [tiny_sequence.text])

    before = velocity()
    train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config())
    assert torch.equal(velocity(), before)


@pytest.mark.parametrize("stop_at", [("set", 2), ("set", 4), ("sequence", 3)])
def test_stopped_training_goes_on_where_it_stopped(tiny_backbone, tiny_set, tiny_sequence, tmp_path, stop_at):
    def stop(progress):
        if (progress.stage, progress.step) == stop_at:
            raise StopTraining

    whole = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config())
    part = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path, progress=stop)
    assert not part.finished and part.record[stop_at[0]]["steps"] == stop_at[1]
    seen = []
    rest = train_both(
        tiny_backbone,
        tiny_set,
        tiny_sequence,
        tiny_config(),
        folder=tmp_path,
        progress=lambda p: seen.append((p.stage, p.step)),
    )
    assert rest.finished and losses(rest) == losses(whole)
    assert len(seen) == 8 - stop_at[1] - (4 if stop_at[0] == "sequence" else 0)
    for name, layer in rest.layers.items():
        assert torch.equal(layer.motion_residual_RI, whole.layers[name].motion_residual_RI)


def test_an_error_in_the_middle_keeps_the_steps_done(tiny_backbone, tiny_set, tiny_sequence, tmp_path):
    def fail(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path, progress=fail)
    seen = []
    train_both(
        tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path, progress=lambda p: seen.append(p.step)
    )
    assert seen == [4, 1, 2, 3, 4]


def test_a_stop_in_the_middle_of_an_update_keeps_the_state_before_it(tiny_backbone, tiny_set, tiny_sequence, tmp_path):
    whole = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config())
    step, count = torch.optim.AdamW.step, iter(range(100))

    def interrupted(self, closure=None):
        if next(count) == 2:
            raise KeyboardInterrupt
        return step(self, closure)

    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        patch.setattr("setandseq_core.training.run.SAVE_SECONDS", -1.0)
        patch.setattr("setandseq_core.training.run.SAVE_SHARE", 1e9)
        with pytest.raises(KeyboardInterrupt):
            train_both(
                tiny_backbone,
                tiny_set,
                tiny_sequence,
                tiny_config(),
                folder=tmp_path,
                progress=lambda p: seen.append(p.step),
            )
    assert seen == [1, 2]
    rest = train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path)
    assert rest.finished and losses(rest) == losses(whole)


def test_damaged_unfinished_training_is_named(tiny_backbone, tiny_set, tiny_sequence, tmp_path):
    train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path)
    (state,) = tmp_path.glob("set_*.safetensors")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(SetAndSequenceError, match=f"{state.name} cannot be read.*Delete that file to train anew"):
        train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), folder=tmp_path)


def test_finished_work_is_not_done_again_and_other_settings_are(tiny_backbone, tiny_set, tiny_sequence, tmp_path):
    def count(config):
        seen = []
        train_both(
            tiny_backbone, tiny_set, tiny_sequence, config, folder=tmp_path, progress=lambda p: seen.append(p.stage)
        )
        return seen.count("set"), seen.count("sequence")

    config = tiny_config()
    assert count(config) == (4, 4)
    assert count(config) == (0, 0)
    changed = dataclasses.replace(config.sequence_stage, learning_rate=2e-2)
    assert count(dataclasses.replace(config, sequence_stage=changed)) == (0, 4)
    assert count(dataclasses.replace(config, token_masking=0.2)) == (4, 4)
    tiny_backbone.variant = "a LoRA"
    assert count(config) == (4, 4)
    assert count(config) == (0, 0)


def test_progress_tells_step_loss_and_time_left(tiny_backbone, tiny_set, tiny_sequence):
    seen = []
    train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(), progress=seen.append)
    assert [(p.stage, p.step, p.steps) for p in seen] == [(s, i, 4) for s in ("set", "sequence") for i in (1, 2, 3, 4)]
    assert all(p.seconds_left >= 0 and p.loss > 0 for p in seen) and seen[3].seconds_left == 0


@pytest.mark.parametrize("encode", [encode_frame_set, encode_frame_sequence])
@pytest.mark.parametrize("prompt", ["", "  "])
def test_empty_prompt_is_refused(tiny_backbone, tiny_frames, encode, prompt):
    with pytest.raises(PromptError, match="is empty"):
        encode(tiny_backbone, tiny_frames, prompt)


def test_sequence_stage_sees_the_clip_and_the_motion_prompt_only(tiny_backbone, tiny_set, tiny_sequence):
    seen = []
    velocity = tiny_backbone.velocity

    def spy(x_t, time, text):
        seen.append((tuple(x_t.shape), text))
        return velocity(x_t, time, text)

    tiny_backbone.velocity = spy
    config = tiny_config(token_masking=0.0)
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        parameters = concept.begin_sequence_stage(0.5)
        run = StageRun(stage="sequence", key="k", parameters=parameters, config=config.sequence_stage, method=config)
        material: Material[FrameSequence] = Material(clips=[tiny_sequence])
        run_sequence_stage(tiny_backbone, concept, material, config, run)
    assert {shape for shape, _ in seen} == {(2, 16, 2, 4, 4)}
    assert all(torch.equal(texts[0].tokens_ND, tiny_sequence.text.tokens_ND) for _, texts in seen)


def test_frames_can_be_shown_as_still_clips(tiny_backbone, tiny_frames, tiny_set):
    still = encode_frame_set(tiny_backbone, tiny_frames, "a sks blob", still_frames=5)
    assert still.latents_SCFHW.shape == (5, 16, 2, 4, 4) and tiny_set.latents_SCFHW.shape == (5, 16, 1, 4, 4)
    assert torch.equal(still.latents_SCFHW[:, :, :1], tiny_set.latents_SCFHW)
    mask = torch.zeros(5, 32, 32)
    mask[:, :16] = 1
    masked = encode_frame_set(tiny_backbone, tiny_frames, "a sks blob", mask, still_frames=5)
    config = tiny_config()
    plain, weighted = (train_identity(tiny_backbone, Material(clips=[each]), config) for each in (still, masked))
    assert plain.record["losses"] != weighted.record["losses"]
    assert torch.equal(
        encode_frame_set(tiny_backbone, tiny_frames, "a", still_frames=81).latents_SCFHW, still.latents_SCFHW
    )


def test_time_shift_is_of_the_set_stage_alone(tiny_backbone, tiny_set, tiny_sequence, monkeypatch):
    def times_with(shift: float) -> tuple[list[float], list[float]]:
        seen: list[float] = []
        velocity = tiny_backbone.velocity

        def spy(x_t, time, text):
            if torch.is_grad_enabled():  # not in validation
                seen.extend(time.tolist())
            return velocity(x_t, time, text)

        monkeypatch.setattr(tiny_backbone, "velocity", spy)
        stage = SetConfig(steps=4, batch=2, learning_rate=1e-2, time_shift=shift)
        train_both(tiny_backbone, tiny_set, tiny_sequence, tiny_config(set_stage=stage))
        monkeypatch.undo()
        return seen[:8], seen[8:]

    (own, sequence), (plain, after) = times_with(0.0), times_with(1.0)
    assert sequence == after and times_with(tiny_backbone.shift) == (own, sequence)
    assert own == pytest.approx(
        [tiny_backbone.shift * t / (1 + (tiny_backbone.shift - 1) * t) for t in plain], abs=1e-6
    )

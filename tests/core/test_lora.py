import pytest
import torch

from setandseq_core.errors import BackboneError
from setandseq_core.lora import _AddUp, applied_coefficients, coefficient_dropout, trainable_concept


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same_state(module, before):
    after = module.state_dict()
    return after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def run(backbone):
    generator = torch.Generator().manual_seed(3)
    x_t = torch.randn(1, 16, 2, 4, 4, generator=generator)
    texts = [backbone.encode_prompt("a sks blob")]
    with torch.no_grad():
        return backbone.velocity(x_t, torch.tensor([0.5]), texts)


def fill(parameters, seed, scale=0.05):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def test_dropout_keeps_the_expected_value_and_drops_the_given_share():
    torch.manual_seed(0)
    coefficients = torch.ones(200, 500, dtype=torch.float64)
    dropped = coefficient_dropout(coefficients, 0.8)
    assert set(dropped.unique().tolist()) == {0.0, 1 / (1 - 0.8)}
    assert abs(float((dropped == 0).double().mean()) - 0.8) < 0.01
    assert abs(float(dropped.mean()) - 1) < 0.05


def test_no_dropout_is_the_identity():
    coefficients = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(coefficient_dropout(coefficients, 0.0), coefficients)


def test_untrained_concept_changes_nothing(tiny_backbone):
    base = run(tiny_backbone)
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        concept.begin_set_stage(0.8)
        assert torch.equal(run(tiny_backbone), base)


def test_zero_motion_residual_equals_set_stage(tiny_backbone):
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        fill(concept.begin_set_stage(0.0), 1)
        set_stage = run(tiny_backbone)
        concept.begin_sequence_stage(0.5)
        assert torch.equal(run(tiny_backbone), set_stage)
    assert not torch.equal(set_stage, run(tiny_backbone))


def test_each_stage_trains_only_its_own_matrices(tiny_backbone):
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        names = {name.rsplit(".", 1)[1] for name in concept.begin_set_stage(0.8)}
        assert names == {"identity_basis", "coefficients"}
        names = {name.rsplit(".", 1)[1] for name in concept.begin_sequence_stage(0.5)}
        assert names == {"motion_residual"}
        trainable = [n for n, p in tiny_backbone.module.named_parameters() if p.requires_grad]
        assert trainable and all("lora_A.motion" in name for name in trainable)


def test_the_trained_weights_change_each_layer_by_equation_6(tiny_backbone):
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        fill(concept.begin_set_stage(0.0), 1)
        fill(concept.begin_sequence_stage(0.0), 2)
        adapted, layers = run(tiny_backbone), concept.read()
    with torch.no_grad():
        for name, path in tiny_backbone.layers.items():
            layer = layers[name]
            delta = layer.identity_basis_OR @ (layer.coefficients_RI + layer.motion_residual_RI)
            tiny_backbone.module.get_submodule(path).weight += delta
    torch.testing.assert_close(run(tiny_backbone), adapted, rtol=0, atol=1e-5)


def test_one_plain_lora_with_summed_coefficients_equals_the_concept(tiny_backbone):
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        fill(concept.begin_set_stage(0.0), 1)
        fill(concept.begin_sequence_stage(0.0), 2)
        adapted, layers = run(tiny_backbone), concept.read()
    factors = {n: (v.identity_basis_OR, v.coefficients_RI + v.motion_residual_RI) for n, v in layers.items()}
    with applied_coefficients(tiny_backbone.module, tiny_backbone.layers, factors):
        torch.testing.assert_close(run(tiny_backbone), adapted, rtol=0, atol=1e-5)


def test_model_is_exactly_itself_after_training(tiny_backbone):
    before, base = state(tiny_backbone.module), run(tiny_backbone)
    classes = [type(m) for m in tiny_backbone.module.modules()]
    with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept:
        fill(concept.begin_set_stage(0.8), 1)
        concept.begin_sequence_stage(0.5)
    assert same_state(tiny_backbone.module, before) and torch.equal(run(tiny_backbone), base)
    assert [type(m) for m in tiny_backbone.module.modules()] == classes
    assert not hasattr(tiny_backbone.module, "peft_config") and not tiny_backbone.module.training
    assert not any(p.requires_grad for p in tiny_backbone.module.parameters())


def test_model_is_itself_after_an_error(tiny_backbone):
    before = state(tiny_backbone.module)
    with (
        pytest.raises(KeyboardInterrupt),
        trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=0) as concept,
    ):
        concept.begin_set_stage(0.8)
        raise KeyboardInterrupt
    assert same_state(tiny_backbone.module, before)


def test_seed_decides_the_first_coefficients(tiny_backbone):
    found = []
    for seed in (0, 0, 1):
        with trainable_concept(tiny_backbone.module, tiny_backbone.layers, rank=4, seed=seed) as concept:
            found.append(concept.read()["blocks.0.ffn.0"].coefficients_RI)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_a_model_without_layers_is_refused(tiny_backbone):
    with (
        pytest.raises(BackboneError, match="no layers to adapt"),
        trainable_concept(tiny_backbone.module, {}, rank=4, seed=0),
    ):
        pass


def test_the_path_up_is_added_into_the_output_with_right_gradients():
    """GPUs do this in half precision, where it saves four passes over the output."""
    generator = torch.Generator().manual_seed(0)
    output, z, basis = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, 6), (2, 3, 4), (6, 4))
    )
    made = output.clone()
    added = _AddUp.apply(made, z, basis)
    assert added.data_ptr() == made.data_ptr()
    assert torch.allclose(added, output + z @ basis.t(), rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(lambda *args: _AddUp.apply(args[0].clone(), *args[1:]), (output, z, basis))

import pytest
import torch

from setandseq_core.flow import (
    flow_loss,
    interpolate,
    random_times,
    sampling_times,
    shift_time,
    target_velocity,
    velocity_from_denoised,
)


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 4, 3, 2, 5, 5, generator=generator, dtype=torch.float64)
    return x_0, noise, torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)


def test_interpolation_is_data_at_time_zero_and_noise_at_time_one(samples):
    x_0, noise, time = samples
    x_t = interpolate(x_0, noise, time)
    assert torch.equal(x_t[0], x_0[0])
    assert torch.equal(x_t[3], noise[3])
    torch.testing.assert_close(x_t[1], 0.75 * x_0[1] + 0.25 * noise[1], rtol=0, atol=1e-15)


def test_target_velocity_is_the_derivative_of_the_path(samples):
    x_0, noise, time = samples
    step = 1e-6
    difference = (interpolate(x_0, noise, time + step) - interpolate(x_0, noise, time)) / step
    torch.testing.assert_close(difference, target_velocity(x_0, noise), rtol=0, atol=1e-8)


def test_velocity_of_the_true_data_is_the_target(samples):
    x_0, noise, time = samples
    x_t = interpolate(x_0[1:], noise[1:], time[1:])
    velocity = velocity_from_denoised(x_t, x_0[1:], time[1:])
    torch.testing.assert_close(velocity, target_velocity(x_0[1:], noise[1:]), rtol=0, atol=1e-12)


def test_loss_is_the_mean_of_squares(samples):
    x_0, noise, _ = samples
    expected = ((x_0 - noise) ** 2).sum() / x_0.numel()
    torch.testing.assert_close(flow_loss(x_0, noise), expected, rtol=0, atol=1e-14)


def test_shift_keeps_the_ends_and_is_inverted_by_its_reciprocal():
    time = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift_time(time, 3.0)
    assert shifted[0] == 0 and shifted[-1] == 1 and (shifted[1:-1] > time[1:-1]).all()
    torch.testing.assert_close(shift_time(shifted, 1 / 3), time, rtol=0, atol=1e-14)


def test_sampling_times_fall_from_one_to_zero():
    times = sampling_times(8, 3.0)
    assert times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all() and len(times) == 9


def test_random_times_stay_in_their_range_and_are_shifted():
    torch.manual_seed(0)
    like = torch.zeros(20_000, 1, dtype=torch.float64)
    times = random_times(like, 3.0, (0.875, 1.0))
    assert times.min() >= 0.875 and times.max() <= 1
    everything = random_times(like, 3.0, (0.0, 1.0))
    assert everything.min() < 0.01 and abs(everything.median() - 0.75) < 0.01  # half of them beyond shift / (1 + shift)
    torch.manual_seed(0)
    plain = random_times(like, 1.0, (0.0, 1.0))
    torch.manual_seed(0)
    assert torch.equal(plain, torch.rand(20_000))


def test_weights_of_one_change_no_loss_and_zero_hides_errors(samples):
    x_0, noise, _ = samples
    weights = torch.ones_like(x_0[:, :1])
    torch.testing.assert_close(flow_loss(x_0, noise, weights), flow_loss(x_0, noise), rtol=0, atol=1e-14)
    weights[0] = 0
    torch.testing.assert_close(flow_loss(x_0, noise, weights), flow_loss(x_0[1:], noise[1:]), rtol=0, atol=1e-14)

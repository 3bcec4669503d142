"""Schedules: derivative, inverse, complement, finiteness in float32, and what they refuse."""

import pytest
import torch

from unmask.diffusion import SCHEDULES, Cosine, Geometric, Gidd, LogLinear, Polynomial, Schedule
from unmask.errors import ConfigError

ALL = [
    LogLinear(),
    LogLinear(1e-5),
    Geometric(),
    Cosine(),
    Polynomial(),
    Polynomial(3, 1e-4),
    Polynomial(1.0),
    Gidd(),
    Gidd(0.4, 1e-6),
    Gidd(0.0),
]
each = pytest.mark.parametrize("schedule", ALL, ids=repr)


@each
def test_derivatives_by_autograd(schedule: Schedule) -> None:
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.dalpha(t), slope)
    (slope,) = torch.autograd.grad(schedule.sigma(t).sum(), t)
    torch.testing.assert_close(schedule.dsigma(t), slope)


@each
def test_inverse(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(schedule.inverse(schedule.alpha(t)), t, rtol=0, atol=1e-6)
    ends = schedule.inverse(torch.tensor([1.0, 1e-30], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.0, 1.0], abs=1e-12)


@each
def test_the_four_faces_agree(schedule: Schedule) -> None:
    t = torch.linspace(1e-6, 1, 500, dtype=torch.float64)
    alpha = schedule.alpha(t)
    torch.testing.assert_close(schedule.one_minus_alpha(t), 1 - alpha, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(schedule.sigma(t), -alpha.log(), rtol=1e-9, atol=1e-14)
    weight = schedule.dsigma(t) / torch.expm1(schedule.sigma(t))
    torch.testing.assert_close(schedule.weight(t), weight, rtol=1e-8, atol=0)
    assert bool((alpha[1:] < alpha[:-1]).all())


@each
def test_float32_is_finite_and_accurate_to_the_ends(schedule: Schedule) -> None:
    t = torch.cat([torch.tensor([0.0, 1e-7, 1e-5]), torch.linspace(1e-3, 1, 2001)])
    for face in ("alpha", "one_minus_alpha", "sigma", "dsigma", "dalpha"):
        got = getattr(schedule, face)(t)
        assert got.dtype == torch.float32 and got.shape == t.shape and bool(torch.isfinite(got).all()), face
        want = getattr(schedule, face)(t.double())
        torch.testing.assert_close(got.double(), want, rtol=2e-4 if face == "alpha" else 1e-4, atol=1e-12)


@each
def test_any_shape(schedule: Schedule) -> None:
    for shape in ((), (3,), (2, 3), (2, 3, 4)):
        t = torch.rand(shape)
        assert schedule.alpha(t).shape == schedule.sigma(t).shape == schedule.weight(t).shape == shape


def test_known_values() -> None:
    t = torch.tensor([0.25], dtype=torch.float64)
    assert LogLinear(1e-3).alpha(t).item() == pytest.approx(1 - 0.999 * 0.25)
    assert LogLinear(1e-3).weight(t).item() == 4.0
    assert Polynomial(3, 1e-3).weight(t).item() == 12.0
    assert Geometric().sigma(t * 0).item() == pytest.approx(1e-4)
    assert Geometric().sigma(t * 4).item() == pytest.approx(20.0)
    assert Gidd(0.2, 1e-9).alpha(t).item() == pytest.approx(0.75 / (1 + 0.5 * 0.1875**0.5))
    assert Gidd(0.0, 1e-4).clock(t * 4).item() == pytest.approx(1 - 1e-4) and Cosine().clock(t) is t
    assert Cosine(1e-3).alpha(t * 2).item() == pytest.approx(1 - 0.999 * 2**-0.5)


def test_the_table_names_them() -> None:
    assert {name: type(make()) for name, make in SCHEDULES.items()} == {
        "loglinear": LogLinear,
        "geometric": Geometric,
        "gidd": Gidd,
        "cosine": Cosine,
        "polynomial": Polynomial,
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LogLinear(0.0), "eps is 0.0"),
        (lambda: Cosine(1.0), "eps is 1.0"),
        (lambda: Polynomial(2, -1.0), "eps is -1.0"),
        (lambda: Polynomial(0.5), "power is 0.5"),
        (lambda: Geometric(0.0, 20.0), "sigma_min is 0.0"),
        (lambda: Geometric(2.0, 1.0), "sigma_max is 1.0"),
        (lambda: Geometric(1e-4, 90.0), "sigma_max is 90.0"),
        (lambda: LogLinear(float("nan")), "eps is nan"),
        (lambda: Gidd(1.0), "p_uniform is 1.0"),
        (lambda: Gidd(0.1, 0.6), "eps is 0.6"),
    ],
)
def test_bad_parameters_are_refused(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()

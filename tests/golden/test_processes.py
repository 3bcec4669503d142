"""Our processes against SEDD's own graph_lib and noise_lib, float32 on the CPU, vocabulary 7."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from unmask.diffusion import Absorbing, Geometric, LogLinear, Process, Uniform, denoising_score_entropy

GOLDEN = load_file(Path(__file__).parent / "processes.safetensors")
PROCESSES: dict[str, Process] = {"absorb": Absorbing(7, LogLinear()), "uniform": Uniform(7, Geometric())}
each = pytest.mark.parametrize("name", PROCESSES)


def close(got: Tensor, want: Tensor, rtol: float = 1e-5) -> None:
    """atol is half a unit in the last place of 1: theirs are differences from 1, ours are not."""
    torch.testing.assert_close(got, want, rtol=rtol, atol=6e-8)


@each
def test_schedule(name: str) -> None:
    schedule = PROCESSES[name].schedule
    for t, sigma, dsigma in (("t", "sigma", "dsigma"), ("tt", "sg", "dsg")):
        at = GOLDEN[f"{name}.{t}"]
        close(schedule.sigma(at), GOLDEN[f"{name}.{sigma}"])
        close(schedule.dsigma(at), GOLDEN[f"{name}.{dsigma}"], rtol=2e-5)  # theirs cancels near t = 1


def test_where_dsigma_differs_the_published_float32_formula_is_what_is_off() -> None:
    """(1 - eps) / (1 - (1 - eps) t): theirs in float32 to the bit; ours is the same formula in float64."""
    t, kept = GOLDEN["absorb.t"], 1 - 1e-3
    assert torch.equal(GOLDEN["absorb.dsigma"], kept / (1 - kept * t))
    torch.testing.assert_close(LogLinear().dsigma(t.double()), kept / (1 - kept * t.double()), rtol=1e-12, atol=0)


def test_a_step_with_the_published_float32_gap_of_sigma_is_theirs() -> None:
    """The looser tolerances of `test_one_step` are those of a difference of float32 sigmas; here it is theirs."""
    process, t, step = PROCESSES["absorb"], GOLDEN["absorb.tt"], float(GOLDEN["absorb.step"])
    gap = -torch.log1p(-(1 - 1e-3) * t) + torch.log1p(-(1 - 1e-3) * (t - step))
    before = process.staggered_score(GOLDEN["absorb.log_score"].exp(), gap)
    close(before * process.transpose_transition(GOLDEN["absorb.x"], gap), GOLDEN["absorb.tweedie_probs"])


@each
def test_one_step(name: str) -> None:
    process = PROCESSES[name]
    g = {key.removeprefix(f"{name}."): value for key, value in GOLDEN.items() if key.startswith(f"{name}.")}
    xt, score, step = g["x"], g["log_score"].exp(), float(g["step"])
    close(denoising_score_entropy(process, g["log_score"], g["x0"], xt, g["sg"]), g["score_entropy"])

    rate = process.reverse_rate(xt, score)
    close(rate, g["reverse_rate"])
    here = torch.nn.functional.one_hot(xt, process.num_states)
    close(here + step * g["dsg"][..., None] * rate, g["euler_probs"])

    t = g["tt"].double()
    gap = (process.schedule.sigma(t) - process.schedule.sigma(t - step)).float()
    before, into = process.staggered_score(score, gap), process.transpose_transition(xt, gap)
    torch.testing.assert_close(before, g["staggered"], rtol=2e-5, atol=1e-5)  # sums that cancel, of either sign
    close(into, g["transp_transition"])
    close(before * into, g["tweedie_probs"], rtol=2e-5)
    sigma = g["sg"]
    close(process.staggered_score(score, sigma) * process.transpose_transition(xt, sigma), g["denoise_probs"])

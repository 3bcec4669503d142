"""The autoregressive path gives what lm-eval's own `hf` backend gives on the same network."""

import pytest
import tokenizers
import torch

from unmask.evaluation.harness import evaluate_tasks, tasks
from unmask.evaluation.harness.causal import continuation
from unmask.evaluation.harness.model import UnmaskLM

from .benchmark_sets import ASKED, instance, sets

__all__ = ["sets"]  # a fixture
import lm_eval


@pytest.fixture(scope="module")
def twins(tmp_path_factory, small_tokenizer):
    """One GPT-2 in lm-eval's `hf` backend and in ours."""
    import transformers
    from lm_eval.models.huggingface import HFLM

    from unmask.compat import load

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    size = small_tokenizer.vocab_size
    config = transformers.GPT2Config(
        vocab_size=size, n_positions=48, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3,
        bos_token_id=small_tokenizer.eos_id, eos_token_id=small_tokenizer.eos_id,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config)
    theirs.save_pretrained(folder)
    small_tokenizer.save(folder)
    text = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    text.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", small_tokenizer.eos_id)]
    )
    ours = load(folder)
    ours.tokenizer = small_tokenizer
    hf = {bos: HFLM(pretrained=theirs, tokenizer=text, batch_size=2, add_bos_token=bos) for bos in (False, True)}
    return hf, ours


@pytest.mark.parametrize("bos", [False, True])
def test_the_autoregressive_path_is_that_of_hf(twins, bos):
    hf, ours = twins
    mine = UnmaskLM(ours, add_bos=bos)
    starts = ["The state", "Peace", "We", "a", "One", "public", "no", "Let", "If", "This is"]
    likeliest = [continuation(mine.judge, mine.tok_encode(start), 1) for start in starts]
    pairs, count = zip(starts, likeliest, strict=True), lambda text: len(mine.text.encode(text))
    written = [(start, more) for start, more in pairs if count(start + more) == count(start) + 1]  # they stay two
    requests = [instance(*pair) for pair in [*ASKED, *written]]
    expected = hf[bos].loglikelihood(requests, disable_tqdm=True)
    seen = []
    mine.progress = lambda *at: seen.append(at)
    found = mine.loglikelihood(requests)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in found} == {True, False}
    assert len({round(value, 3) for value, _ in found}) > 4 and seen[-1] == (len(requests), len(requests))


def test_whole_texts_are_those_of_hf(twins):
    hf, ours = twins
    texts = [instance(text, kind="loglikelihood_rolling") for text in ("Peace", "The public debt. " * 9)]
    assert len(ours.tokenizer.encode(texts[1].args[0])) > 2 * ours.length  # several windows
    found = UnmaskLM(ours).loglikelihood_rolling(texts)
    assert found == pytest.approx(hf[False].loglikelihood_rolling(texts, disable_tqdm=True), abs=1e-3)


def test_greedy_text_is_that_of_hf(twins, capsys):
    hf, ours = twins
    options = {"until": ["\n\n"], "max_gen_toks": 9}
    requests = [instance(context, dict(options), kind="generate_until") for context in ("The state", "Our duty is")]
    assert UnmaskLM(ours).generate_until(requests) == hf[False].generate_until(requests, disable_tqdm=True)


def test_accuracies_are_those_of_hf(twins, sets):
    hf, ours = twins
    found = evaluate_tasks(ours, ("piqa", "lambada_openai"))
    loaded = tasks._load(("piqa", "lambada_openai"), True)
    results = lm_eval.evaluate(hf[False], {"tasks": loaded, "groups": {}, "group_map": {}}, bootstrap_iters=10)
    for row in found:
        theirs = results["results"][row.name.removeprefix("accuracy ")]
        assert row.value == pytest.approx(100 * theirs["acc,none"])
        assert row.stderr == pytest.approx(100 * theirs["acc_stderr,none"])
    assert found[0].n == 9 and 0 < found[0].value < 100

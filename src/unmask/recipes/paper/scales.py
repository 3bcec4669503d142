"""How much is measured at each scale: which models, which judge, how many rows, samples and steps."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model of the tables. label: what rows call it. paper: the row of the paper that its numbers stand beside."""

    label: str
    model: str
    paper: str
    parameters: float  # about, for estimates of time
    size: str = "small"


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How many samples at which numbers of steps: `few` where there are more than `many_until` steps."""

    steps: tuple[int, ...]
    raced: Mapping[int, int]  # of these, how many are drawn a second time with the published arithmetic
    many: int
    few: int
    many_until: int
    batch: int
    dtype: str = "bfloat16"  # of the network while it samples

    def number(self, steps: int) -> int:
        """Samples at so many steps."""
        return self.many if steps <= self.many_until else self.few


@dataclasses.dataclass(frozen=True)
class Conditional:
    """Tables 5 and 6: prompts and continuations of so many tokens, and how they are made and compared."""

    prompts: str
    count: int
    prompt_tokens: int
    reference_tokens: int
    steps: int
    features: int  # tokens that MAUVE sees
    seeds: int
    batch: int


@dataclasses.dataclass(frozen=True)
class Speed:
    """Figure 1: sizes by name (see `unmask.evaluation.speed`), steps run whole and extrapolated, batches, repeats."""

    sizes: tuple[str, ...]
    whole: tuple[int, ...]
    extrapolated: tuple[int, ...]
    batches: tuple[int, ...]
    throughput_steps: tuple[int, ...]
    repeats: int
    tokens: int | None = None


@dataclasses.dataclass(frozen=True)
class Scale:
    """One size of the whole evaluation."""

    name: str
    words: str
    diffusion: tuple[Contender, ...]
    autoregressive: tuple[Contender, ...]
    references: tuple[Contender, ...]  # autoregressive models of other tokens: benchmarks only
    judge: str
    judge_dtype: str
    text: str | None  # the corpus whose held-out part is `real text`; None: that of the diffusion model
    sets: dict[str, str]  # column of table 1 -> zero-shot set
    absent: dict[str, str]  # column of table 1 -> why it is not measured
    set_tokens: int | None
    times: int
    packing: str
    harness_limit: int | None
    reference_limit: int | None
    mc: int
    tasks: tuple[str, ...]
    sampling: Sampling
    conditional: Conditional | None
    speed: Speed
    conditionals: int  # of the judge, for the closed form
    variance_rows: int
    flops_per_second: float

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """The models of most tables, diffusion first."""
        return self.diffusion + self.autoregressive


TASKS = ("lambada_openai", "hellaswag", "piqa", "arc_easy", "arc_challenge", "winogrande")
STEPS = (16, 32, 64, 100, 256, 512, 1024)
NOT_OFFLINE = "no copy on the package index; measured at scale paper"

TINY = Scale(
    name="tiny",
    words="the embedded twins, a judge and text from package-index mirrors, two CPU cores",
    diffusion=(Contender("SEDD twin", "sedd-twin", "SEDD small", 8.1e6),),
    autoregressive=(Contender("AR twin", "ar-twin", "GPT-2 small", 6.8e6),),
    references=(Contender("SmolLM2 135M", "smollm2", "GPT-2 small", 134.5e6),),
    judge="smollm2",
    judge_dtype="float32",  # as the samples: bfloat16 is the faster one on some processors only (LOG.md)
    text=None,
    sets={"LAMBADA": "lambada-openai", "WikiText2": "wikipedia", "BoolQ passages": "boolq"},
    absent={"PTB": NOT_OFFLINE, "WikiText103": NOT_OFFLINE, "1BW": NOT_OFFLINE},
    set_tokens=200_000, times=8, packing="sedd", harness_limit=100, reference_limit=25, mc=16, tasks=TASKS,
    sampling=Sampling(
        steps=STEPS, raced={16: 32, 64: 32, 1024: 8}, many=128, few=24, many_until=64, batch=8, dtype="float32",
    ),
    conditional=Conditional("", 256, 50, 50, steps=64, features=100, seeds=5, batch=8),
    speed=Speed(
        sizes=("small", "medium", "xl"), whole=(16, 32, 64), extrapolated=(100, 256, 512, 1024), batches=(1, 4, 16, 64),
        throughput_steps=(16, 32, 64), repeats=3,
    ),
    conditionals=512, variance_rows=32, flops_per_second=3e11,
)  # fmt: skip

SMOKE = dataclasses.replace(
    TINY,
    name="smoke",
    words="the embedded twins on the excerpt of the package, judged by one of them: shows that all runs, no more",
    references=(),
    judge="ar-twin",
    judge_dtype="float32",
    text="excerpt",
    sets={"Excerpt": "excerpt"},
    absent={name: "left out at scale smoke" for name in ("LAMBADA", "WikiText2", "PTB", "WikiText103", "1BW")},
    set_tokens=2048, times=4, harness_limit=0, mc=2, conditionals=64, variance_rows=2,
    sampling=Sampling(steps=(2, 4), raced={4: 2}, many=2, few=2, many_until=64, batch=2),
    conditional=Conditional("excerpt", 20, 12, 12, steps=4, features=24, seeds=2, batch=20),
    speed=Speed(
        sizes=("tiny",), whole=(2,), extrapolated=(4,), batches=(1, 2), throughput_steps=(2,), repeats=2, tokens=32
    ),
)  # fmt: skip

PAPER = Scale(
    name="paper",
    words="the published checkpoints from the hub, the paper's sets, lengths and numbers of samples",
    diffusion=(
        Contender("SEDD small", "louaaron/sedd-small", "SEDD small", 170e6),
        Contender("SEDD medium", "louaaron/sedd-medium", "SEDD medium", 424e6, "medium"),
    ),
    autoregressive=(
        Contender("GPT-2 small", "openai-community/gpt2", "GPT-2 small", 124e6),
        Contender("GPT-2 medium", "openai-community/gpt2-medium", "GPT-2 medium", 355e6, "medium"),
        Contender("GPT-2 large", "openai-community/gpt2-large", "GPT-2 large", 774e6, "large"),
    ),
    references=(),
    judge="openai-community/gpt2-large",
    judge_dtype="float32",
    text="openwebtext",
    sets={"LAMBADA": "lambada", "WikiText2": "wikitext2", "PTB": "ptb", "WikiText103": "wikitext103", "1BW": "1bw"},
    absent={},
    set_tokens=None, times=64, packing="sedd", harness_limit=None, reference_limit=None, mc=128, tasks=TASKS,
    sampling=Sampling(
        steps=STEPS, raced=dict.fromkeys(STEPS, 32), many=1000, few=1000, many_until=1024, batch=32,
    ),
    conditional=Conditional("webtext-test", 1000, 50, 50, steps=1024, features=100, seeds=5, batch=32),
    speed=Speed(
        sizes=("small", "medium", "xl"), whole=(16, 32, 64, 128, 256, 512, 1024), extrapolated=(),
        batches=(1, 4, 16, 64), throughput_steps=(16, 32, 64), repeats=5,
    ),
    conditionals=4096, variance_rows=64, flops_per_second=1e14,
)  # fmt: skip

SCALES = {scale.name: scale for scale in (TINY, SMOKE, PAPER)}

"""The judge: a causal language model that scores text, its own reader for SmolLM2's GGUF included.

Shapes: B batch, L length, D width, V tokens. The values of two judges are not comparable token for token, since their
tokenizers differ: compare nats per byte, and name the judge.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask import assets, compat
from unmask.compat.gguf import GGUF, llama_config, llama_state_dict, llama_tokenizer, read_gguf
from unmask.errors import CheckpointError, ConfigError, DataError
from unmask.model import AutoregressiveLM

if TYPE_CHECKING:
    from unmask.text.tokenizers import Tokenizer

ASSET_JUDGES = ("smollm2",)  # assets that hold one GGUF file
# names that need no owner, as everybody writes them
HUB_NAMES = {name: f"openai-community/{name}" for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")}
CHUNK = 2**24  # logits that stand in memory at once in `token_nll`: 64 MB of float32


class Judge(Protocol):
    """A causal language model that scores text. Position i of what it returns says what token i + 1 is."""

    name: str
    length: int  # the longest sequence it reads

    @property
    def tokenizer(self) -> "Tokenizer":
        """Between text and its ids; `tokenizer.eos_id` ends a document."""

    @property
    def bos_id(self) -> int | None:
        """What a text may be put behind, if the model has such a token."""

    @property
    def device(self) -> torch.device:
        """Where the weights are, and ids are expected."""

    def hidden(self, ids: Tensor) -> Tensor:
        """Hidden states after the last norm, [B, L, D] float32, of ids [B, L] int64."""

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] float32 of hidden states [..., D]."""

    def logits(self, ids: Tensor) -> Tensor:
        """`head` of `hidden`, [B, L, V] float32: mind the memory."""


class OurJudge:
    """An AutoregressiveLM of this package as a judge. It reads what it is given: no bos is put in front."""

    def __init__(self, name: str, model: AutoregressiveLM) -> None:
        if model.tokenizer is None:
            raise DataError(
                f"the judge {name} has no tokenizer, so text cannot be scored",
                "put its tokenizer.json in its folder, or use another judge",
            )
        self.name, self.model, self.tokenizer = name, model, model.tokenizer
        self.length, self.bos_id = model.length, model.bos_id
        model.net.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @torch.no_grad()
    def hidden(self, ids: Tensor) -> Tensor:
        """[B, L, D] float32."""
        _check(ids, self)
        return self.model.net.hidden(ids).float()

    @torch.no_grad()
    def head(self, hidden: Tensor) -> Tensor:
        """[..., V] float32."""
        return self.model.net.head(hidden).float()

    def logits(self, ids: Tensor) -> Tensor:
        """[B, L, V] float32."""
        return self.head(self.hidden(ids))


class LlamaJudge:
    """A LlamaForCausalLM of transformers as a judge. `bos_id` is what its file names so."""

    def __init__(self, name: str, model: Any, tokenizer: "Tokenizer", bos_id: int | None) -> None:
        self.name, self.model, self.tokenizer, self.bos_id = name, model.eval(), tokenizer, bos_id
        self.length = int(model.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @torch.no_grad()
    def hidden(self, ids: Tensor) -> Tensor:
        """[B, L, D] float32."""
        _check(ids, self)
        states: Tensor = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        return states.float()

    @torch.no_grad()
    def head(self, hidden: Tensor) -> Tensor:
        """[..., V] float32."""
        weight = self.model.lm_head.weight
        return F.linear(hidden.to(weight.dtype), weight).float()

    def logits(self, ids: Tensor) -> Tensor:
        """[B, L, V] float32."""
        return self.head(self.hidden(ids))


def find_judge(
    name: str, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> OurJudge | LlamaJudge:
    """The judge of a name: "smollm2" (an asset, fetched if need be), a .gguf file of the Llama kind, "gpt2-large" and
    its sisters, an embedded twin, or any folder or hub id that `unmask.compat.load` reads as autoregressive.

    device: default CPU. dtype: of the weights, default float32; logits are float32 in any case. Raises ConfigError
    for a name that means nothing, a diffusion model, or a GGUF without transformers; DataError for a judge without
    a tokenizer; AssetError for one that cannot be had; CheckpointError for a damaged one.
    """
    path = Path(name).expanduser()
    if name in ASSET_JUDGES:
        llama = _transformers()  # before anything is fetched
        return _gguf_judge(llama, name, _only_gguf(assets.fetch(name)), device, dtype)
    if path.suffix == ".gguf":
        return _gguf_judge(_transformers(), path.stem, path, device, dtype)
    found = name if path.exists() else HUB_NAMES.get(name, name)
    try:
        model = compat.load(found, device=device, dtype=dtype)
    except ConfigError as error:
        judges = ", ".join([*ASSET_JUDGES, *HUB_NAMES])
        raise ConfigError(f"no judge {name!r}: {error.message}", f"judges by name: {judges}; {error.hint}") from None
    if not isinstance(model, AutoregressiveLM):
        raise ConfigError(
            f"{name} is a diffusion model; a judge is autoregressive, so that its likelihoods are exact",
            "use smollm2, ar-twin or gpt2-large",
        )
    return OurJudge(name, model)


def _only_gguf(folder: Path) -> Path:
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        raise CheckpointError(f"{folder} holds {len(files)} GGUF files, expected 1", "delete the folder, fetch again")
    return files[0]


def _gguf_judge(
    llama: Any, name: str, path: Path, device: torch.device | str | None, dtype: torch.dtype | None
) -> LlamaJudge:
    gguf = read_gguf(path)
    tokenizer = llama_tokenizer(gguf)
    model = _llama(llama, gguf).to(device=device, dtype=dtype)
    bos = gguf.metadata.get("tokenizer.ggml.bos_token_id")
    return LlamaJudge(name, model, tokenizer, None if bos is None else int(bos))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            "this judge is a Llama model and runs on transformers, which is not installed",
            "pip install 'unmask[judge]', or use --judge ar-twin",
        ) from None
    return transformers


def _llama(transformers: Any, gguf: GGUF) -> Any:
    config = transformers.LlamaConfig(**llama_config(gguf))
    with torch.device("meta"):  # random weights that nobody reads would take seconds
        model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(llama_state_dict(gguf), assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)  # its buffers are in no checkpoint
    return model


def _check(ids: Tensor, judge: OurJudge | LlamaJudge) -> None:
    if ids.ndim != 2 or ids.shape[1] > judge.length:
        raise ConfigError(
            f"ids of shape {list(ids.shape)} for the judge {judge.name}, which reads [B, L] up to L = {judge.length}",
            "cut the sequences",
        )


@torch.no_grad()
def token_nll(judge: Judge, ids: Tensor) -> Tensor:
    """-log p in nats of tokens 2 to L given those before them, [B, L - 1] float32, of ids [B, L].

    Logits are made for at most CHUNK numbers at a time; [B, L, V] never stands in memory.
    """
    hidden = judge.hidden(ids.to(judge.device))[:, :-1]
    flat, target = hidden.reshape(-1, hidden.shape[-1]), ids[:, 1:].to(judge.device).reshape(-1)
    size = max(1, CHUNK // judge.tokenizer.vocab_size)
    parts = [
        F.cross_entropy(judge.head(rows), wanted, reduction="none")
        for rows, wanted in zip(flat.split(size), target.split(size), strict=True)
    ]
    return torch.cat(parts).view(hidden.shape[:2]) if parts else hidden.new_zeros(hidden.shape[:2])

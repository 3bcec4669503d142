"""Our own model folder: config.json, model.safetensors, tokenizer.json. Written whole or not at all.

A diffusion model that knows the law of single tokens keeps it in unigram.safetensors. Parameter names are SEDD's,
so SEDD's weights need no renaming. `config.json` holds a format version.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmask.diffusion import PROCESSES
from unmask.diffusion.parametrizations import PARAMETRIZATIONS
from unmask.diffusion.schedules import SCHEDULES
from unmask.errors import AssetError, CheckpointError, ConfigError, InputError, unknown
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.model_card import model_card
from unmask.nn.quantized import is_quantized
from unmask.nn.transformer import Transformer, TransformerConfig
from unmask.text.tokenizers import Tokenizer

FORMAT = 1
FILES = ("config.json", "model.safetensors", "tokenizer.json", "unigram.safetensors", "README.md")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well; else it vanishes.

    What stood at `target` stays there, untouched, unless the new folder is in its place.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        yield temporary
        temporary.chmod(0o755)
        for path in [*temporary.rglob("*"), temporary]:
            if path.is_file():
                path.chmod(0o644)  # safetensors writes for the owner alone; a model is for whoever may read the folder
            _fsync(path)
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        _fsync(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder to flush it
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=False) + "\n", encoding="utf-8")
        _fsync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Read JSON, or say which file is not there or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"no {path.name} in {path.parent}", "is this a model folder?") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", "fetch or write the file again") from None


def describe(model: LanguageModel) -> dict[str, Any]:
    """The config.json of a model: enough to build it again, without its weights."""
    config: dict[str, Any] = {
        "format": FORMAT,
        "library": "unmask",
        "kind": model.kind,
        "network": dataclasses.asdict(model.net.config),
    }
    if isinstance(model, DiffusionLM):
        process = model.process
        config |= {
            "process": {k: v for k, v in entry(PROCESSES, process).items() if k != "schedule"},
            "schedule": entry(SCHEDULES, process.schedule),
            "parametrization": entry(PARAMETRIZATIONS, model.parametrization),
            "conditioning": model.conditioning,
        }
    else:
        config["bos_id"] = model.bos_id
    return config | ({"card": model.card} if model.card else {})


def entry(table: dict[str, Any], value: Any) -> dict[str, Any]:
    """A dataclass as its name in the table and its fields; `make` reads it."""
    return {"name": name_of(table, value), **dataclasses.asdict(value)}


def name_of(table: dict[str, Any], value: Any) -> str:
    """The name under which a table holds the class of `value`."""
    for name, kind in table.items():
        if type(value) is kind:
            return name
    raise CheckpointError(f"{type(value).__name__} has no name in the checkpoint format", "it cannot be saved")


def build(config: dict[str, Any], *, tokenizer: Tokenizer | None = None) -> LanguageModel:
    """The model that `config` describes, with fresh weights. Raises CheckpointError for what it lacks."""
    try:
        if config["format"] != FORMAT:
            raise CheckpointError(f"config.json has format {config['format']}, this version reads {FORMAT}")
        net = Transformer(TransformerConfig(**config["network"]))
        card = config.get("card", {})
        if config["kind"] == "autoregressive":
            return AutoregressiveLM(net, bos_id=config["bos_id"], tokenizer=tokenizer, card=card)
        if config["kind"] != "diffusion":
            raise unknown("kind of model", str(config["kind"]), ["diffusion", "autoregressive"])
        if config["conditioning"] not in ("sigma", "t", "zero", None):
            raise unknown("conditioning", str(config["conditioning"]), ["sigma", "t", "zero", "null"])
        schedule = make(SCHEDULES, "schedule", config["schedule"])
        process = make(PROCESSES, "process", config["process"] | {"schedule": schedule})
        parametrization = make(PARAMETRIZATIONS, "parametrization", config["parametrization"])
        return DiffusionLM(
            net,
            process,
            parametrization,
            conditioning=config["conditioning"],
            tokenizer=tokenizer,
            card=card,
        )
    except KeyError as error:
        raise CheckpointError(f"config.json lacks the key {error.args[0]!r}") from None
    except (TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json does not describe a model: {error}") from None


def make(table: dict[str, Any], kind: str, values: dict[str, Any]) -> Any:
    """An instance from a table, given its name and its fields."""
    fields = dict(values)
    name = fields.pop("name")
    if name not in table:
        raise unknown(kind, str(name), table)
    return table[name](**fields)


def save(
    model: LanguageModel, folder: str | Path, *, dtype: torch.dtype | None = None, readme: str | None = None
) -> Path:
    """Write a model folder, replacing one that is there; weights as `dtype` (default: as they are).

    readme: what README.md is to say; without it there is none. Raises CheckpointError where `folder` is a file, or
    holds anything else that would be lost; ConfigError for a quantized model.
    """
    if is_quantized(model.net):
        raise ConfigError("a quantized model is not saved", "save it before, and quantize it where it is loaded")
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target} is a file: a model is saved as a folder", "choose another name")
    if foreign := sorted(p.name for p in target.glob("*") if p.name not in FILES):
        raise CheckpointError(
            f"{target} holds {_some(foreign)}, which saving a model there would delete",
            "choose another folder",
        )
    with whole_folder(target) as temporary:
        tensors = {k: v.detach().cpu() for k, v in model.net.state_dict().items()}
        if dtype is not None:
            tensors = {k: v if k == "rotary_emb.inv_freq" else v.to(dtype) for k, v in tensors.items()}
        save_file(
            {k: v.contiguous() for k, v in tensors.items()},
            temporary / "model.safetensors",
            {"format": "pt"},
        )
        write_json(temporary / "config.json", describe(model))
        if model.tokenizer is not None:
            model.tokenizer.save(temporary)
        if readme is not None:
            (temporary / "README.md").write_text(readme, encoding="utf-8")
        if isinstance(model, DiffusionLM) and model.unigram is not None:
            save_file({"unigram": model.unigram.detach().cpu().float().contiguous()}, temporary / "unigram.safetensors")
    return target


def check_hub_id(repo_id: str) -> None:
    """ConfigError for what is not owner/name."""
    if not HUB_ID.fullmatch(repo_id):
        raise ConfigError(f"{repo_id!r} is not a hub id", "give owner/name")


def push_to_hub(
    model: LanguageModel,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    dtype: torch.dtype | None = None,
    message: str = "Upload a model with unmask",
) -> str:
    """Upload a model folder to the Hugging Face hub as `owner/name`, made if need be; returns its address.

    revision: the branch, made if need be, default the main one. dtype: of the weights, default as they are. A README.md
    that the repository has already is left as it is; else a model card is written. Files of an earlier model that this
    one has not are deleted. Raises ConfigError for a malformed id and AssetError where the hub refuses or cannot be
    reached.
    """
    from huggingface_hub import HfApi

    check_hub_id(repo_id)
    with tempfile.TemporaryDirectory(prefix="unmask-") as temporary:
        folder = save(model, Path(temporary) / "model", dtype=dtype, readme=model_card(model, repo_id, dtype))
        at = {"revision": revision} if revision else {}
        try:
            api = HfApi()
            address = str(api.create_repo(repo_id, private=private, exist_ok=True))
            if revision:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            keep = ["README.md"] if api.file_exists(repo_id, "README.md", **at) else None
            api.upload_folder(
                repo_id=repo_id, folder_path=folder, ignore_patterns=keep, commit_message=message,
                delete_patterns=[name for name in FILES if name != "README.md"], **at,
            )  # fmt: skip
        except Exception as error:  # the client raises its own, its HTTP library's and the system's errors
            raise AssetError(
                f"{repo_id} could not be uploaded: {type(error).__name__}: {error}",
                "log in with `hf auth login`, and check the owner's name and the connection",
            ) from error
    return address


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. CheckpointError for a missing or damaged file."""
    if not path.exists():
        raise CheckpointError(f"no {path.name} in {path.parent}", "fetch the model again")
    try:
        with safe_open(path, "pt"):
            return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({path.stat().st_size} bytes): {error}",
            "fetch the model again",
        ) from None


def fill(net: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Load tensors strictly: nothing missing, nothing extra, every shape right; else one CheckpointError.

    The network may be on the meta device; it gets copies on the tensors' device, in its own dtype.
    """
    wanted = {k: v.shape for k, v in net.state_dict().items()}
    problems = []
    if missing := sorted(wanted.keys() - tensors.keys()):
        problems.append(f"missing {_some(missing)}")
    if extra := sorted(tensors.keys() - wanted.keys()):
        problems.append(f"unexpected {_some(extra)}")
    for name in sorted(wanted.keys() & tensors.keys()):
        if tensors[name].shape != wanted[name]:
            problems.append(f"{name} has shape {list(tensors[name].shape)}, expected {list(wanted[name])}")
    if problems:
        raise CheckpointError(
            f"the weights in {where} do not fit its config.json: {'; '.join(problems[:4])}",
            "the folder mixes files of different models, or was not downloaded whole",
        )
    own = {k: tensors[k].to(v.dtype, copy=True) for k, v in net.state_dict().items()}
    net.load_state_dict(own, strict=True, assign=True)


def _read_unigram(path: Path, vocab_size: int) -> Tensor:
    """The law of single tokens, [V] float32."""
    unigram = read_tensors(path).get("unigram")
    if unigram is None or unigram.shape != (vocab_size,):
        shape = "is missing" if unigram is None else f"has shape {list(unigram.shape)}"
        raise CheckpointError(
            f"{path}: unigram {shape}, expected [{vocab_size}]", "the folder mixes files of different models"
        )
    return unigram


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load(folder: Path) -> LanguageModel:
    """Read a folder that `save` wrote. Weights come as float32 unless the caller casts them."""
    config = read_json(folder / "config.json")
    try:
        tokenizer = Tokenizer.load(folder) if (folder / "tokenizer.json").exists() else None
        with torch.device("meta"):
            model = build(config, tokenizer=tokenizer)
    except InputError as error:
        raise CheckpointError(f"{folder}: {error.message}", error.hint) from None
    size = model.process.vocab_size if isinstance(model, DiffusionLM) else model.net.config.num_inputs
    if tokenizer is not None and tokenizer.vocab_size > size:
        raise CheckpointError(
            f"{folder}: tokenizer.json has {tokenizer.vocab_size} tokens, the model {size}",
            "the folder mixes files of different models",
        )
    fill(model.net, read_tensors(folder / "model.safetensors"), str(folder))
    if isinstance(model, DiffusionLM) and (folder / "unigram.safetensors").exists():
        model.unigram = _read_unigram(folder / "unigram.safetensors", model.process.vocab_size)
    model.net.eval()
    return model

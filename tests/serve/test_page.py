"""The page as one document: it may run its own script, and nothing in it points elsewhere."""

import html.parser
import json
import re

from unmask.report import replay
from unmask.report.replay.scripts import digest
from unmask.serve.page import HERE, MODULES, page, policy


class Document(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.current = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.current = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag):
        self.current = ""

    def handle_data(self, data):
        if self.current in self.inside:
            self.inside[self.current][-1] += data


def test_it_may_run_its_own_script_and_ask_its_own_server_only(client):
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == f"{policy()}; frame-ancestors 'none'"
    document = Document(answer.text)
    [meta] = [a["content"] for tag, a in document.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert meta == policy() and "unsafe" not in meta and "default-src 'none'" in meta
    for kind, hashed in (("script", document.inside["script"][1:]), ("style", document.inside["style"])):
        allowed = re.search(rf"{kind}-src ([^;]+)", meta)[1].split(" ")
        assert allowed == [digest(text) for text in hashed]  # the first script is data
    assert not any(name.startswith("on") or name == "style" for _, attributes in document.tags for name in attributes)
    sources = [a.get("src") or a.get("href") for _, a in document.tags if "src" in a or "href" in a]
    assert sources == ["data:,", "#ask"] and "http" not in re.sub(r"http-equiv", "", page())


def test_the_replay_that_it_saves_has_the_viewer_that_it_runs():
    document = Document(page())
    data, viewer, _ = document.inside["script"]
    assert json.loads(data) == replay.shell() and digest(viewer) in replay.shell()
    assert document.inside["style"][0] == replay.style()


def test_names_at_the_top_of_its_modules_are_different():
    """They share one scope once they are one script, and what the viewer exports is in it too."""
    names = re.findall(r"\w+", replay.prelude().partition("}")[0].removeprefix("const"))
    for module in MODULES:
        source = HERE.joinpath(f"{module}.js").read_text(encoding="utf-8")
        names += re.findall(r"^(?:export )?(?:async )?(?:const|let|class|function\*?) (\w+)", source, re.MULTILINE)
        imported = [re.findall(r"\w+", found) for found in re.findall(r"^import \{([^}]+)\}", source, re.MULTILINE)]
        assert {name for each in imported for name in each} <= set(re.findall(r"\w+", page()))
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_every_field_has_a_label_and_every_button_a_name():
    document = Document(page())
    labelled = {a["for"] for tag, a in document.tags if tag == "label" and "for" in a}
    inside = re.findall(r"<label[^>]*>(?:(?!</label>).)*<(?:input|select)", page(), re.DOTALL)
    fields = [a for tag, a in document.tags if tag in ("input", "select", "textarea")]
    assert len(fields) == len(labelled) + len(inside) and len(fields) > 10
    assert all(
        re.search(rf'id="{a["id"]}"[^>]*>\s*\w', page()) for tag, a in document.tags if tag == "button" if "id" in a
    )

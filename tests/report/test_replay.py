"""Replays: one file that asks for nothing, whole or not there; the same pictures as a GIF."""

import html.parser
import io
import json
import re
import sys

import pytest

from unmask import checkpoint
from unmask.errors import ConfigError
from unmask.report import replay
from unmask.report.ramp import LIGHT, ramp
from unmask.report.replay import gif, scripts
from unmask.sampling import Canvas
from unmask.sampling.recording import record

HOSTILE = "</script><script>alert(1)</script> %%SCRIPT%% <b>\u2028&amp;"


@pytest.fixture(scope="module")
def recording(small_models):
    model = checkpoint.load(small_models / "sedd")
    canvas = Canvas.template(model.tokenizer.encode("Dear 🙂\n\n"), 9, model.tokenizer.encode(" end"), 4)
    return record(model, canvas, model.tokenizer, steps=6, seed=1, facts={"model": HOSTILE, "rule": "tweedie"})


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_replay_holds_its_run_and_may_run_only_its_own_script(recording):
    page = Page(replay.html([recording], HOSTILE))
    held = [attributes for tag, attributes in page.tags if tag == "script"]
    assert held == [{"type": "application/json", "id": "recordings"}, {}]
    data = next(text for text in page.texts if text.startswith('[{"format"'))
    assert json.loads(data) == json.loads(json.dumps([recording.as_json()]))
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ") and scripts.digest(replay.script()) in policy
    assert "unsafe" not in policy and "http" not in policy
    assert replay.script() in page.texts and replay.style() in page.texts
    assert page.texts.count(HOSTILE) == 2  # the title, twice, as text


def test_a_replay_asks_for_nothing_else(recording):
    text = replay.html([recording, recording], "two")
    assert not re.search(r"""(src|href|url\()\s*=?\s*["']?(https?:|//)""", text) and "@import" not in text
    with pytest.raises(ConfigError, match="3 recordings"):
        replay.html([recording] * 3, "three")


def test_modules_become_one_script(tmp_path):
    (tmp_path / "a.js").write_text('export const one = 1;\nexport async function two() { return "export x"; }\n')
    (tmp_path / "b.js").write_text('import { one } from "./a.js";\nexport class Three {}\nconst hidden = one;\n')
    made = scripts.bundle(tmp_path, ["a", "b"], name="all")
    assert "import" not in made and made.count("export") == 1 and "return { one, two, Three };" in made
    assert scripts.fill("%%A%% %%B%% %%C%%", {"A": "%%B%%", "B": r"\1"}) == r"%%B%% \1 %%C%%"


def test_names_at_the_top_of_the_viewers_modules_are_different():
    """They share one scope once they are one script."""
    names = []
    for module in replay.MODULES:
        source = replay.HERE.joinpath(f"{module}.js").read_text(encoding="utf-8")
        names += re.findall(r"^(?:export )?(?:const|let|class|function) (\w+)", source, re.MULTILINE)
    assert len(names) == len(set(names)) and "Film" in names


def test_a_gif_shows_each_frame_in_the_colours_of_the_ramp(recording):
    """Pictures that are the same are one, shown for longer."""
    from PIL import Image

    picture = Image.open(io.BytesIO(gif.draw(recording)))
    settled = [k for k in recording.settled() if k is not None]
    time, last = 0, len(recording.frames) - 1
    for number in range(picture.n_frames):
        picture.seek(number)
        frame, time = min(time // gif.LONGEST, last), time + picture.info["duration"]
        colors = {color: count for count, color in picture.convert("RGB").getcolors(1 << 20)}
        assert (colors.get(rgb(LIGHT.mask), 0) > 100) == (frame < max(settled))  # edges of letters may have it too
    assert picture.width == gif.WIDTH and time == gif.LONGEST * last + gif.HOLD
    assert all(rgb(color) in colors for color in ramp(LIGHT))  # the legend


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_lines_are_broken_between_words_and_long_words_anywhere():
    width = gif._width("one two ") + 1
    lines = [box.line for box in gif.place(["one", " two", " thr", "ee", "\n", "four"], width)]
    assert lines == [0, 0, 1, 1, 1, 2, 2]  # a line break is in both lines
    boxes = gif.place([None] * 9 + ["a" * 30] * 3, 4 * gif.MASK_WIDTH)
    assert [box.line for box in boxes[:9]] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert [box.line for box in boxes[9:]] == [3, 4, 5] and {box.x for box in boxes[9:]} == {0.0}


@pytest.mark.parametrize("name", ["run.html", "run.GIF"])
def test_a_file_is_written_whole_or_not_at_all(recording, tmp_path, monkeypatch, name):
    path = replay.write(tmp_path / name, recording, "a run")
    before = path.read_bytes()
    assert before[:4] in (b"<!do", b"GIF8")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replay.write(path, recording, "another run")
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == [name]


def test_names_that_cannot_be_written_are_refused_before_the_run(tmp_path, monkeypatch):
    for name, wrong in (("run.mp4", "ends in '.mp4'"), ("run", "ends in 'nothing'"), ("no/run.gif", "no folder")):
        with pytest.raises(ConfigError, match=re.escape(wrong)):
            replay.check_target(tmp_path / name)
    (tmp_path / "there.html").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        replay.check_target(tmp_path / "there.html")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        replay.check_target(tmp_path / "run.gif")
    assert "unmask[figures]" in caught.value.hint

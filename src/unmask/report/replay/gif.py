"""A replay as an animated GIF, drawn with Pillow and the fonts that come with matplotlib: the extra [figures]."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from unmask.errors import ConfigError
from unmask.report import ramp
from unmask.report.ramp import LIGHT
from unmask.sampling.recording import Recording
from unmask.text.tokenizers import EOS

WIDTH, MARGIN, SIZE, LINE, SMALL = 880, 40, 24, 40, 17  # pixels
IN_ALL, SHORTEST, LONGEST, HOLD = 6000, 40, 250, 2500  # milliseconds: a round, a frame, and the last frame
STRENGTHS = 7  # of ink on a ground, at the edges of letters
MASK_WIDTH = 36  # of a token whose text is not known


@dataclasses.dataclass(frozen=True)
class Box:
    """A token, or its part on one line: where it stands, in pixels and lines."""

    token: int
    text: str
    x: float
    width: float
    line: int


def require() -> None:
    """ConfigError where Pillow or matplotlib, whose fonts it draws with, is not installed."""
    try:
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
    except ImportError:
        raise ConfigError(
            "a GIF is drawn with Pillow and matplotlib's fonts, which are not installed",
            "pip install 'unmask[figures]', or export a .html",
        ) from None


@cache
def _faces(size: int) -> tuple[tuple[Any, frozenset[int]], ...]:
    """The fonts in the order of preference, each with the characters that it has."""
    import matplotlib
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [folder / f"{name}.ttf" for name in ("DejaVuSerif", "DejaVuSans")]
    return tuple(
        (ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC), frozenset(FT2Font(path).get_charmap()))
        for path in paths
    )


def _face(text: str, size: int) -> Any:
    """The first font that has all of a text, else the one that has most characters."""
    faces = _faces(size)
    return next((font for font, has in faces if all(ord(c) in has for c in text)), faces[-1][0])


def _width(text: str, size: int = SIZE) -> float:
    return float(_face(text, size).getlength(text)) if text else 0.0


def _words(texts: Sequence[str | None]) -> Iterator[list[int]]:
    """Runs of tokens that must not be parted: each begins with white space, or after some."""
    run: list[int] = []
    for i, text in enumerate(texts):
        before = texts[i - 1] if i else None
        if run and (text is None or before is None or text[:1].isspace() or (before or " ")[-1].isspace()):
            yield run
            run = []
        run.append(i)
    if run:
        yield run


def place(texts: Sequence[str | None], width: float) -> list[Box]:
    """Where each token stands in lines of `width` pixels; None is a token whose text is not known."""
    boxes, x, line = [], 0.0, 0
    for run in _words(texts):
        size = sum(MASK_WIDTH if texts[i] is None else _width(_shown(texts[i]).replace("\n", "")) for i in run)
        if x and x + size > width:
            x, line = 0.0, line + 1
        for i in run:
            for n, part in enumerate(_shown(texts[i]).split("\n") if texts[i] is not None else [""]):
                if n:
                    x, line = 0.0, line + 1
                part = part.lstrip(" ") if x == 0 and line and not n else part
                wide = MASK_WIDTH if texts[i] is None else _width(part)
                if x and x + wide > width:
                    x, line = 0.0, line + 1
                boxes.append(Box(i, part, x, wide, line))
                x += wide
    return boxes


def _shown(text: str | None) -> str:
    return "" if text is None else " [end of text] " if text == EOS else text.replace("\t", "    ")


def draw(recording: Recording) -> bytes:
    """The GIF: a picture a frame in about six seconds, then the whole text for a while, and again."""
    require()
    rows = _rows(recording)
    final = place(rows[-1], WIDTH - 2 * MARGIN)
    layouts = [final if recording.commits else place(row, WIDTH - 2 * MARGIN) for row in rows]
    height = MARGIN + LINE * (1 + max(box.line for boxes in layouts for box in boxes)) + 3 * SMALL + MARGIN
    settled = recording.settled()
    pictures = [
        _picture(recording, settled, k, row, boxes, height)
        for k, (row, boxes) in enumerate(zip(rows, layouts, strict=True))
    ]
    palette = _palette()
    frames = [picture.quantize(palette=palette, dither=0) for picture in pictures]
    pace = min(max(IN_ALL // len(frames), SHORTEST), LONGEST)
    out = io.BytesIO()
    times = [pace] * (len(frames) - 1) + [HOLD]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)
    return out.getvalue()


def _rows(recording: Recording) -> list[list[str | None]]:
    """The text at each position in each frame."""
    row: list[str | None] = [None] * len(recording.tokens)
    rows = []
    for moment in recording.frames:
        for position, text in moment.changes:
            row[position] = text
        rows.append(list(row))
    return rows


def _picture(
    recording: Recording,
    settled: Sequence[int | None],
    k: int,
    row: Sequence[str | None],
    boxes: Sequence[Box],
    height: int,
) -> Any:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, height), LIGHT.page)
    pen = ImageDraw.Draw(picture)
    for box in (box for box in boxes if box.width >= 2):
        top, left = MARGIN + box.line * LINE, MARGIN + box.x
        lead = _width(box.text[: len(box.text) - len(box.text.lstrip())])
        room = (left + min(lead, box.width - 2), top + 4, left + box.width - 2, top + LINE - 4)
        known, since = row[box.token] is not None, settled[box.token]
        ink = LIGHT.ink
        if not known:
            pen.rounded_rectangle(room, 3, fill=LIGHT.mask)
        elif since is not None and since <= k and box.text.strip() and row[box.token] != EOS:
            pen.rounded_rectangle(room, 2, fill=ramp.ramp(LIGHT)[ramp.stop(1 - recording.frames[since].t)])
        elif since is not None:
            ink = LIGHT.muted
        if known and box.text.strip():
            face = _face(box.text, SIZE)
            pen.text((left, top + LINE // 2 + SIZE // 3), box.text, fill=ink, font=face, anchor="ls")
    foot, step = height - MARGIN, recording.frames[k].step
    facts = (str(recording.facts[name]) for name in ("model", "rule") if recording.facts.get(name))
    words = ", ".join([*facts, f"step {step} of {recording.frames[-1].step}"])
    pen.text((MARGIN, foot), words, fill=LIGHT.muted, font=_face(words, SMALL), anchor="ls")
    _legend(pen, foot)
    return picture


@cache
def _palette() -> Any:
    """A picture that holds the colours of all frames: each ground, and ink on it in a few strengths."""
    from PIL import Image

    def mixed(ground: str, ink: str, share: float) -> tuple[int, ...]:
        pairs = ((int(ground[i : i + 2], 16), int(ink[i : i + 2], 16)) for i in (1, 3, 5))
        return tuple(round(a + (b - a) * share) for a, b in pairs)

    grounds = [LIGHT.page, LIGHT.mask, *ramp.ramp(LIGHT)]
    colors = [mixed(ground, LIGHT.ink, i / STRENGTHS) for ground in grounds for i in range(STRENGTHS + 1)]
    colors += [mixed(LIGHT.page, LIGHT.muted, i / STRENGTHS) for i in range(1, STRENGTHS + 1)]
    picture = Image.new("P", (1, 1))
    picture.putpalette([channel for color in colors for channel in color])
    return picture


def _legend(pen: Any, foot: int) -> None:
    """The ramp, with what its ends mean, at the right."""
    first, last = "settled first", "last"
    end = WIDTH - MARGIN - _width(last, SMALL)
    begin = end - 8 - 10 * ramp.STOPS
    pen.text((begin - 8, foot), first, fill=LIGHT.muted, font=_face(first, SMALL), anchor="rs")
    pen.text((end, foot), last, fill=LIGHT.muted, font=_face(last, SMALL), anchor="ls")
    for i, color in enumerate(ramp.ramp(LIGHT)):
        pen.rectangle((begin + 10 * i, foot - 12, begin + 10 * i + 9, foot + 1), fill=color)

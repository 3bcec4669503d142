"""The same tables and verdicts as Markdown."""

import re

from unmask.evaluation.results import Entry
from unmask.report.digits import ABSENT
from unmask.report.markdown import grid as lines
from unmask.report.paper import figures, layout, sections
from unmask.report.paper.content import Fact, PaperReport
from unmask.report.paper.layout import Grid, Marks, Section

TAG = re.compile(r"<(?=[A-Za-z/!?])")


def markdown(report: PaperReport) -> str:
    """The report without its texts; the figures are named as files of the folder beside it."""
    marks = Marks.of(report)
    listed = layout.sections(report)
    parts = [f"# {_line(report.title)}", *_paragraphs(report, "summary"), _state(report)]
    parts += ["## The verdict", *_claims(report)]
    for section in listed:
        parts += [f"## {section.heading}", *_section(report, section, marks)]
    parts += ["## How to repeat this", f"    {_line(sections.command(report))}", *_paragraphs(report, "erratum")]
    if marks.protocols:
        letters = [f"- ({letter}) {_line(text)}" for text, letter in marks.protocols.items()]
        parts += ["### Protocols", "\n".join(letters)]
    if report.pending:
        waiting = [f"- `{_line(key)}`: {_line(reason)}" for key, reason in report.pending.items()]
        parts += ["### Not done", "\n".join(waiting)]
    said = report.provenance
    parts.append(
        f"unmask {said.get('unmask', ABSENT)}, commit {said.get('commit', ABSENT)}, {said.get('date', ABSENT)}"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _claims(report: PaperReport) -> list[str]:
    if not report.claims:
        return ["No claim has been judged yet."]
    body = [
        (f"**{claim.verdict}**", f"“{_line(claim.quote)}” ({_line(claim.where)})", _line(f"{claim.number}"),
         _line(claim.because))
        for claim in report.claims
    ]  # fmt: skip
    return [sections.tally(report), "\n".join(lines(("verdict", "the paper says", "we find", "because"), body))]


def _state(report: PaperReport) -> str:
    done, whole = sections.counts(report)
    return f"Scale {_line(report.scale)}; {done} of {whole} numbers are measured."


def _section(report: PaperReport, section: Section, marks: Marks) -> list[str]:
    parts: list[str] = [*_paragraphs(report, section.name)]
    for name in section.tables:
        parts += [*_paragraphs(report, name), _table(report, name, marks)]
    for name in section.figures:
        if name not in section.tables and name != section.name:
            parts += _paragraphs(report, name)
        made = figures.figure(report, name)
        if made is None:
            parts.append(_line(figures.absent(report, section, name)))
        else:
            parts.append(f"![{_line(made.title)}](figures/{layout.slug(name)}.png)\n\n*{_line(made.caption)}*")
    return parts


def _table(report: PaperReport, name: str, marks: Marks) -> str:
    cells = layout.grid(report, name)
    label, words = layout.title(cells)
    if not cells.cells:
        reason = layout.pending(report, (name,)) or "nothing was measured for it"
        return f"{_line(label)}: no rows yet, {_line(reason)}."
    return "\n\n".join([f"**{_line(label)}.** {_line(words)}", "\n".join(_grid(cells, marks)), *_notes(cells, marks)])


def _grid(cells: Grid, marks: Marks) -> list[str]:
    head = [""]
    for column in cells.columns:
        head += [column, f"{column} (paper)"] if cells.has_paper(column) else [column]
    body = []
    for row in cells.rows:
        beside = cells.paper_row(row)
        line = [f"{row} (paper: {beside})" if beside else row]
        for column in cells.columns:
            here = cells.at(row, column)
            line.append("; ".join(_ours(cell, cells, marks) for cell in here))
            if cells.has_paper(column):
                decimals = cells.paper_decimals(column)
                line.append("; ".join(text for cell in here if (text := _theirs(cell, marks, decimals))))
        body.append([_line(text) for text in line])
    return lines([_line(text) for text in head], body, right=set(map(_line, head[1:])))


def _ours(cell: Entry | Fact, cells: Grid, marks: Marks) -> str:
    bound, value, error = layout.ours(cell)
    text = f"{bound}{value or ABSENT}" + (f" ± {error}" if error else "")
    text += f", sd {spread}" if (spread := layout.our_spread(cell)) else ""
    row = cell.measured if isinstance(cell, Entry) else None
    letter = f" ({marks.protocols[row.protocol]})" if row is not None else ""
    return text + letter + "".join(f" [{cells.footnotes[note]}]" for note in layout.footnotes(cell))


def _theirs(cell: Entry | Fact, marks: Marks, decimals: int | None) -> str:
    bound, value, spread = layout.papers(cell, decimals)
    if not value:
        return ""
    return f"{bound}{value}" + (f", sd {spread}" if spread else "") + (
        f" [{marks.unlikes[cell.unlike]}]" if cell.unlike else ""
    )  # fmt: skip


def _notes(cells: Grid, marks: Marks) -> list[str]:
    found = [f"- [{marks.unlikes[text]}] {_line(text)}" for text in cells.unlikes]
    found += [f"- [{index}] {_line(text)}" for text, index in cells.footnotes.items()]
    return ["\n".join(found)] if found else []


def _paragraphs(report: PaperReport, name: str) -> list[str]:
    return [_line(text) for text in report.notes.get(name, ())]


def _line(text: str) -> str:
    """Text on one line, in which nothing can open a tag."""
    return TAG.sub("&lt;", " ".join(text.split()))

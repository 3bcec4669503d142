"""The tables of the page: ours and the paper's in columns of their own, a mark wherever they are not alike."""

from collections.abc import Sequence

from unmask.evaluation.results import Entry
from unmask.report.digits import ABSENT, number, row_value
from unmask.report.html import Html, join, tag
from unmask.report.paper import layout
from unmask.report.paper.content import Fact, PaperReport
from unmask.report.paper.layout import Grid, Marks, anchor, grid, table_label


def table(report: PaperReport, name: str, marks: Marks) -> Html:
    """A table of the paper with the notes below it; a line that says why where it has no cells."""
    cells = grid(report, name)
    label, words = layout.title(cells)
    if not cells.cells:
        reason = layout.pending(report, (name,)) or "nothing was measured for it"
        return tag("p", f"{label}: no rows yet, {reason}.", class_="absent", id=anchor(name))
    said = f"{anchor(name)}-title"
    heading = tag("p", tag("strong", f"{label}."), f" {words}", id=said, class_="title")
    inner = tag("table", _head(cells), tag("tbody", _body(cells, marks)), class_="both", aria_labelledby=said)
    box = tag("div", inner, class_="scroll", role="region", aria_labelledby=said, tabindex=0)
    return tag("div", heading, box, _notes(cells, marks), id=anchor(name), class_="sheet")


def _paired(cells: Grid) -> list[str]:
    """The columns in which the paper prints something."""
    return [column for column in cells.columns if cells.has_paper(column)]


def _head(cells: Grid) -> Html:
    paired = _paired(cells)
    deep = 2 if paired else 1
    top = [tag("td", rowspan=deep if deep > 1 else None, class_="corner")]
    below: list[Html] = []
    for column in cells.columns:
        if column in paired:
            top.append(tag("th", tag("span", column), scope="colgroup", colspan=2, class_="span"))
            below += [
                tag("th", "ours", scope="col", class_="number ours"),
                tag("th", "paper", scope="col", class_="number theirs"),
            ]
        else:
            top.append(tag("th", column, scope="col", rowspan=deep if deep > 1 else None, class_="number solo"))
    return tag("thead", tag("tr", top), tag("tr", below) if below else None)


def _body(cells: Grid, marks: Marks) -> list[Html]:
    columns = [_column(cells, column, marks) for column in cells.columns]
    rows = []
    for index, row in enumerate(cells.rows):
        beside = cells.paper_row(row)
        name = tag("th", row, tag("span", f"paper: {beside}", class_="beside") if beside else None, scope="row")
        rows.append(tag("tr", name, [column[index] for column in columns]))
    return rows


def _column(cells: Grid, column: str, marks: Marks) -> list[Html]:
    """The cells of a column from top to bottom, points under points; two cells a row where the paper has a column."""
    decimals = cells.paper_decimals(column)
    listed = cells.in_column(column)
    ours = dict(zip(map(id, listed), layout.fractions([layout.ours(cell)[1] for cell in listed]), strict=True))
    theirs = dict(
        zip(map(id, listed), layout.fractions([layout.papers(cell, decimals)[1] for cell in listed]), strict=True)
    )
    paired = cells.has_paper(column)
    out = []
    for row in cells.rows:
        here = cells.at(row, column)
        made = tag("td", [_ours(cell, cells, marks, ours[id(cell)]) for cell in here], class_="number ours")
        if paired:
            other = [_theirs(cell, marks, decimals, theirs[id(cell)], cells.table) for cell in here]
            made = join(made, tag("td", other, class_="number theirs"))
        out.append(made)
    return out


def _pad(text: str) -> Html | None:
    return tag("span", class_="pad", data_pad=text) if text else None


def _ours(cell: Entry | Fact, cells: Grid, marks: Marks, pad: str) -> Html:
    """Our number with its error below and the letter of its protocol; a dash and the number of the reason."""
    bound, value, error = layout.ours(cell)
    signs: list[Html | str] = []
    if isinstance(cell, Entry) and cell.measured is not None:
        letter = marks.protocols[cell.measured.protocol]
        signs.append(
            tag("a", letter, href=f"#protocol-{letter}", aria_label=f"protocol {letter}", title=cell.measured.protocol)
        )
    for text in layout.footnotes(cell):
        count = str(cells.footnotes[text])
        signs.append(
            tag("a", count, href=f"#{anchor(cells.table)}-note-{count}", aria_label=f"note {count}", title=text)
        )
    return tag(
        "div",
        tag("span", bound, class_="bound") if bound else None,
        value or tag("span", ABSENT, class_="none"), _signs(signs), _pad(pad),
        tag("span", "± ", error, _signs([]), _pad(pad), class_="se") if error else None,
        tag("span", "sd ", spread, _signs([]), class_="se") if (spread := layout.our_spread(cell)) else None,
        class_="cell",
        title=_certificate(cell),
    )  # fmt: skip


def _theirs(cell: Entry | Fact, marks: Marks, decimals: int | None, pad: str, table: str) -> Html:
    """The paper's number in grey, with a capital letter where it is not made as ours is."""
    bound, value, spread = layout.papers(cell, decimals)
    if not value:
        return tag("div", class_="cell")
    signs = []
    if cell.unlike:
        letter = marks.unlikes[cell.unlike]
        words = {"aria_label": f"of another protocol, {letter}", "title": cell.unlike}
        signs.append(tag("a", letter, href=f"#{anchor(table)}-unlike-{letter}", class_="unlike", **words))
    return tag(
        "div", bound, value, _signs(signs), _pad(pad),
        tag("span", "sd ", spread, _signs([]), _pad(pad), class_="se") if spread else None, class_="cell",
    )  # fmt: skip


def _signs(signs: Sequence[Html | str]) -> Html:
    """Marks that hang to the right of a number, as wide where there are none."""
    spaced = [part for i, sign in enumerate(signs) for part in (("\u2009", sign) if i else (sign,))]
    return tag("sup", spaced, class_="hang")


def _certificate(cell: Entry | Fact) -> str | None:
    """What a pointer resting on a number is told."""
    if isinstance(cell, Fact):
        return None
    if cell.measured is None:
        return cell.reason or None
    row = cell.measured
    parts = [f"{row.model}, {row.name.replace('_', ' ')}: {row_value(row)} {row.unit}"]
    parts += [f"n = {row.n:,}"] if row.n is not None else []
    parts += [f"seed {row.seed}"] if row.seed is not None else []
    return ", ".join(parts)


def _notes(cells: Grid, marks: Marks) -> Html | None:
    """What the capitals and the numbers below a table mean."""
    lines = [(marks.unlikes[text], "unlike", text) for text in cells.unlikes]
    lines += [(str(index), "note", text) for text, index in cells.footnotes.items()]
    if not lines:
        return None
    items = [
        tag("div", tag("dt", sign), tag("dd", text), id=f"{anchor(cells.table)}-{kind}-{sign}")
        for sign, kind, text in lines
    ]
    return tag("dl", items, class_="marks")


def every_number(report: PaperReport, marks: Marks) -> Html:
    """All entries, one a line, with all that is known of each."""
    head = (
        "Table", "Row", "Column", "Ours", "Paper", "Row of the paper", "Unit", "n", "Seed", "Model", "Quantity",
        "Protocol", "Unlike", "Remark",
    )  # fmt: skip
    flush = {3, 4, 7, 8}
    body = []
    for entry in report.entries:
        texts = list(_line(entry, marks))
        kinds = ["number" if i in flush else None for i in range(len(texts))]
        first, rest = tag("th", texts[0], scope="row"), zip(texts[1:], kinds[1:], strict=True)
        body.append(tag("tr", first, [tag("td", text, class_=kind) for text, kind in rest]))
    heads = [tag("th", text, scope="col", class_="number" if i in flush else None) for i, text in enumerate(head)]
    caption = "Every number, with one standard error, and its birth certificate."
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", body), class_="every")
    return tag("div", inner, class_="scroll", role="region", aria_label=caption, tabindex=0)


def _line(entry: Entry, marks: Marks) -> tuple[str, ...]:
    row = entry.measured
    paper = "" if entry.paper is None else f"{entry.paper:.10g}"
    if entry.paper is not None and entry.paper_spread is not None:
        paper += f" (sd {entry.paper_spread:.10g})"
    where = (table_label(entry.table).partition(",")[0], entry.row, entry.column)
    unlike = marks.unlikes.get(entry.unlike, "")
    if row is None:
        return (
            *where, ABSENT, paper, entry.paper_row, "", "", "", "", "", "", unlike, entry.reason or "not measured"
        )  # fmt: skip
    return (
        *where, row_value(row), paper, entry.paper_row, row.unit, number(row.n) if row.n is not None else "",
        "" if row.seed is None else str(row.seed), row.model, row.name.replace("_", " "),
        marks.protocols[row.protocol], unlike, row.note,
    )  # fmt: skip

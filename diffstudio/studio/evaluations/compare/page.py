"""The page of a comparison: one self-contained HTML file that follows the system's light or dark theme."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from diffstudio.atomic import write_text
from diffstudio.plurals import by_number, count_of
from diffstudio.studio.evaluations.compare.figures import plots_of
from diffstudio.studio.evaluations.compare.result import HOW_TO_READ, MEASURES, OTHERS, PAGE, Comparison, Entry, cell
from diffstudio.studio.evaluations.compare.verdict import evidence_of
from diffstudio.studio.evaluations.plots.files import svg
from diffstudio.studio.evaluations.results.text import number

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--raised:#f6f7f9;--line:#dfe3ea;--text:#20242c;--dim:#5f6877;
--good:#1f8a57;--fair:#a06a00;--poor:#c23b50;--accent:#3f5fe0}
@media (prefers-color-scheme:dark){:root{--paper:#101216;--raised:#1a1e25;--line:#2a2f39;--text:#e7e9ee;--dim:#9aa3b2;
--good:#57c28a;--fair:#e5b567;--poor:#e2697a;--accent:#7c9cff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:24px;background:var(--paper);color:var(--text);
font:14px/1.5 Inter,system-ui,sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:36px 0 8px}
h3{font-size:14px;margin:16px 0 4px}p{margin:4px 0 12px;max-width:80ch}.dim{color:var(--dim)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}
th{font-weight:600;color:var(--dim);font-size:12px}td small{display:block;color:var(--dim);font-size:11px}
tr.real td{background:var(--raised)}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:16px}
.card{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:12px 16px}
.finding{margin:10px 0}.finding b{display:block}
.good{color:var(--good)}.fair{color:var(--fair)}.poor{color:var(--poor)}.unknown{color:var(--dim)}
img{max-width:100%;height:auto;border-radius:4px;background:#fff}figure{margin:0}figcaption{color:var(--dim);font-size:12px}
.pairs{display:flex;flex-wrap:wrap;gap:16px}.pair{display:flex;gap:4px;align-items:flex-start}.pair img{width:72px}
.pair figcaption{max-width:150px;overflow-wrap:anywhere}summary{cursor:pointer;color:var(--accent)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:16px}
"""


def write_page(found: Comparison, out: Path) -> Path:
    """Write the page into the folder of the comparison, with the images there; returns its path. StorageProblem."""
    path = out / PAGE
    write_text(path, page(found, out))
    return path


def page(found: Comparison, out: Path) -> str:
    """The HTML with all images embedded; images that cannot be read are left out."""
    name = escape(Path(found.folder).name or found.folder)
    body = "".join([*_head(found, name), *_verdicts(found), *_table(found), *_grids(found, out), *_plots(found),
                    *_copies(found, out), *_by_class(found), *_training(found), *_notes(found)])  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{name}: models compared</title><style>{_STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _head(found: Comparison, name: str) -> Iterator[str]:
    yield f"<h1>{name}: models compared</h1>"
    yield (
        f'<p class="dim">{count_of(found.training_images, "training image")}, '
        f"{count_of(found.held_out_images, 'held-out image')} of "
        f"{escape(found.folder)}. {escape(found.total)} Features: {escape(found.features)}, {escape(found.resizing)}.</p>"
    )
    yield (
        "<p>Every model was trained on the same images for the same time. This page compares the fidelity, diversity and "
        "originality of their images. Start with the verdicts, check their evidence in the table, then look at the images.</p>"
    )
    if found.problem is not None:
        yield f'<p class="poor">{escape(str(found.problem))}</p>'


def _verdicts(found: Comparison) -> Iterator[str]:
    yield "<h2>Verdicts</h2><div class='cards'>"
    for one in found.verdicts:
        yield f"<section class='card'><h3>{escape(one.model)}</h3>"
        for finding in one.findings:
            yield (
                f"<div class='finding'><b>{escape(finding.aspect.capitalize())}</b> "
                f"<span class='{finding.grade}'>{escape(finding.sentence)}</span></div>"
            )
        evidence = evidence_of(found.of_model(one.model), found.real)
        yield f"<small class='dim'>{escape(evidence)}</small></section>"
    yield "</div>"


def _table(found: Comparison) -> Iterator[str]:
    names = found.measures()
    if not names:
        return
    titles = [
        f'<th title="{escape(MEASURES[name].says, quote=True)}">{escape(MEASURES[name].title)}</th>' for name in names
    ]
    yield "<h2>Measures</h2>"
    yield f"<p>{escape(HOW_TO_READ)}</p><div class='scroll'><table><tr><th></th><th>images</th>{''.join(titles)}"
    yield "".join(f"<th>{escape(title)}</th>" for title in OTHERS) + "</tr>"
    if found.real is not None:
        values = [cell(found.real.figures.get(name)) for name in names]
        yield _row("real images", found.real.compared, values, [found.real], "real")
    for model in found.models:
        entries = found.of_model(model)
        values = [cell(found.figure(model, name)) for name in names]
        yield _row(_title(model, entries), entries[0].compared or entries[0].count, values, entries)
    yield "</table></div><p class='dim'>"
    yield " · ".join(
        f"{escape(MEASURES[name].title)}: {escape(MEASURES[name].says)} ({MEASURES[name].better})" for name in names
    )
    yield "</p>"
    yield from _seeds(found, names)


def _seeds(found: Comparison, names: Sequence[str]) -> Iterator[str]:
    several = [model for model in found.models if len(found.of_model(model)) > 1]
    if not several:
        return
    yield "<details><summary>Each seed, with 95% intervals</summary><div class='scroll'><table><tr><th></th><th>images</th>"
    yield "".join(f"<th>{escape(MEASURES[name].title)}</th>" for name in names) + "".join(
        f"<th>{escape(title)}</th>" for title in OTHERS
    )
    yield "</tr>"
    for model in several:
        for entry in found.of_model(model):
            values = [cell(entry.figures.get(name)) for name in names]
            yield _row(entry.name, entry.compared or entry.count, values, [entry])
    yield "</table></div></details>"


def _row(title: str, count: int, values: Sequence[tuple[str, str]], entries: Sequence[Entry], kind: str = "") -> str:
    pairs = [*values, *(of(entries) for of in OTHERS.values())]
    cells = "".join(f"<td>{escape(value)}<small>{escape(spread)}</small></td>" for value, spread in pairs)
    return f"<tr class='{kind}'><td>{escape(title)}</td><td>{count:,}</td>{cells}</tr>"


def _title(model: str, entries: Sequence[Entry]) -> str:
    return model if len(entries) == 1 else f"{model} ({len(entries)} seeds)"


def _grids(found: Comparison, out: Path) -> Iterator[str]:
    yield "<h2>Images</h2><p>Not hand-picked: evenly spread over all generated images. The first sheet shows real images.</p>"
    if found.held_out_grid:
        yield _figure(out, found.held_out_grid, "held-out images")
    for model in found.models:
        first, *others = found.of_model(model)
        yield f"<h3>{escape(model)}</h3>"
        yield _figure(out, first.grid, _grid_caption(first)) if first.grid else f"<p>{escape(first.problem or '–')}</p>"
        if others:
            sheets = "".join(_figure(out, entry.grid, _grid_caption(entry)) for entry in others if entry.grid)
            yield f"<details><summary>Other seeds</summary>{sheets}</details>"


def _grid_caption(entry: Entry) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in entry.sampling.items())
    return f"{entry.name}; {settings}" if settings else entry.name


def _plots(found: Comparison) -> Iterator[str]:
    yield "<h2>Plots</h2><p>All are in the folder <code>plots</code> as SVG, PNG and CSV.</p><div class='plots'>"
    for figure in plots_of(found):
        yield f"<figure class='card'>{svg(figure)}</figure>"
    yield "</div>"


def _copies(found: Comparison, out: Path) -> Iterator[str]:
    yield (
        "<h2>Copies of training images</h2><p>The generated images (left) that are nearest to a training image (right). The "
        "ratio divides that distance by the distances to the next nearest training images: near 0 for a copy.</p>"
    )
    for model in found.models:
        for position, entry in enumerate(found.of_model(model)):
            if not entry.pairs:
                continue
            called = f"{entry.called_copies:,} {by_number(entry.called_copies, 'copy', 'copies')} found"
            pairs = "".join(
                f"<figure class='pair'>{_image(out, pair.image_file, 'generated')}{_image(out, pair.training_file, 'training')}"
                f"<figcaption>{escape(pair.image)}, {escape(pair.training)}, ratio {number(pair.ratio)}"
                f"{', <b class=poor>copy</b>' if pair.is_copy else ''}</figcaption></figure>"
                for pair in entry.pairs
            )
            block = f"<div class='pairs'>{pairs}</div>"
            title = f"{escape(entry.name)}: {called}"
            yield (
                f"<h3>{title}</h3>{block}" if not position else f"<details><summary>{title}</summary>{block}</details>"
            )


def _by_class(found: Comparison) -> Iterator[str]:
    entries = [found.of_model(model)[0] for model in found.models]
    classes = sorted({name for entry in entries for name in entry.by_class})
    if not classes:
        return
    yield (
        "<h2>Diversity within each class</h2><p>The Vendi score of each class for the first seed, with that of as many real "
        "images in grey. A class far below its real images has collapsed.</p><div class='scroll'><table><tr><th></th>"
    )
    yield "".join(f"<th>{escape(name)}</th>" for name in classes) + "</tr>"
    for entry in entries:
        cells = []
        for name in classes:
            one = entry.by_class.get(name)
            shown = f"{number(one.vendi)}<small>{number(one.real_vendi)}</small>" if one is not None else "–"
            cells.append(f"<td>{shown}</td>")
        yield f"<tr><td>{escape(entry.name)}</td>{''.join(cells)}</tr>"
    yield "</table></div>"


def _training(found: Comparison) -> Iterator[str]:
    rows = [entry for entry in found.entries if entry.training is not None]
    if not rows:
        return
    yield (
        "<h2>Training</h2><div class='scroll'><table><tr><th></th><th>steps</th><th>images seen</th><th>seconds</th>"
        "<th>parameters</th><th>device</th><th>stability</th></tr>"
    )
    for entry in rows:
        trained = entry.training
        assert trained is not None
        yield (
            f"<tr><td>{escape(entry.name)}</td><td>{trained.steps:,}</td><td>{trained.images_seen:,}</td>"
            f"<td>{trained.seconds:,.0f}</td><td>{trained.parameters:,}</td><td>{escape(trained.device)}</td>"
            f"<td class='{'' if trained.is_stable else 'poor'}'>{escape(trained.sentence())}</td></tr>"
        )
    yield "</table></div>"


def _notes(found: Comparison) -> Iterator[str]:
    notes = [escape(note) for note in found.notes]
    notes += [f"{escape(entry.name)}: {escape(note)}" for entry in found.entries for note in entry.notes]
    notes += [f"{escape(entry.name)}: {escape(entry.problem)}" for entry in found.entries if entry.problem]
    notes += [
        f"{escape(entry.name)}: {escape(entry.likelihood.note)}" for entry in found.entries if entry.likelihood.note
    ]
    if notes:
        yield f"<h2>Notes</h2><ul>{''.join(f'<li>{note}</li>' for note in dict.fromkeys(notes))}</ul>"


def _figure(out: Path, file: str, caption: str) -> str:
    return f"<figure>{_image(out, file, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _image(out: Path, file: str, alt: str) -> str:
    try:
        data = base64.b64encode((out / file).read_bytes()).decode("ascii")
    except OSError:
        return ""
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'

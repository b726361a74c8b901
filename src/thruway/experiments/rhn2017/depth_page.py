"""Report of the study of recurrence depth: rows, bits against depth, training curves, and the paper's numbers."""

import math
from typing import Any

import plotly.graph_objects as go

from thruway.experiments.machinery import Rows, Study, StudyPage
from thruway.experiments.machinery.study import differences
from thruway.experiments.rhn2017.depth import CLAIMS, PAPER, SCALES, Config, by_depth, ratio_to_shallowest
from thruway.experiments.rhn2017.depth_model import parameters_of, width_for
from thruway.experiments.rhn2017.depth_training import Net, load_text, nets, run_study
from thruway.figures import run_curves
from thruway.report import Section, TableData, paper_comparison
from thruway.runs import RunReader

__all__ = ["STUDY", "depth_table", "page", "read_rows", "read_text"]

# quantity -> epoch -> value
Curves = dict[str, dict[int, float]]


def read_text(reader: RunReader) -> dict[str, Any]:
    """Return the record of the text: characters, symbols, sha256 and python; empty before the run has started."""
    return dict(reader.load("text").state or {}) if "text" in reader.checkpoints() else {}


def read_curves(reader: RunReader, config: Config) -> dict[Net, Curves]:
    """Return train_bits, valid_bits, test_bits and seconds of every network, by epoch."""
    table = reader.table()
    curves_of: dict[Net, Curves] = {net: {} for net in nets(config)}
    of_site = {(net.site, net.seed): curves for net, curves in curves_of.items()}
    columns = (table[name] for name in ("site", "member", "step", "quantity", "value"))
    for site, member, step, quantity, value in zip(*columns, strict=True):
        # A killed and resumed run logs some epochs twice, with the same numbers.
        of_site[str(site), int(member)].setdefault(str(quantity), {})[int(step)] = float(value)
    return {net: curves for net, curves in curves_of.items() if curves}


def read_rows(reader: RunReader, config: Config) -> list[dict[str, Any]]:
    """Return one row per finished network, with validation and test bits of the epoch with the best validation."""
    text = read_text(reader)
    rows = []
    for net, curves in read_curves(reader, config).items():
        if config.epochs not in curves.get("test_bits", {}):
            continue
        valid = {epoch: bits for epoch, bits in curves["valid_bits"].items() if math.isfinite(bits)}
        best = min(valid, key=lambda epoch: valid[epoch], default=config.epochs)
        width = width_for(config.parameters, text["symbols"], config.embedding, net.depth)
        rows.append(
            {
                "depth": net.depth,
                "width": width,
                "parameters": parameters_of(text["symbols"], config.embedding, width, net.depth),
                "seed": net.seed,
                "epochs": config.epochs,
                "best_epoch": best,
                "train_bits": curves["train_bits"][config.epochs],
                "valid_bits": curves["valid_bits"][best],
                "test_bits": curves["test_bits"][best],
                "seconds": curves["seconds"][config.epochs],
            }
        )
    return rows


# --- the page

_DIFFERENT = (
    "the text is Python's documentation, split into characters; the paper's numbers for each depth are for words of "
    "the Penn Treebank",
    "the paper's networks are regularised by dropout, without which they overfit; if the dropout rates above are 0, "
    "small networks are compared after a few epochs instead",
    "weights have Glorot's normalized initialization and embeddings a standard normal one; the authors draw all from "
    "one narrow uniform distribution",
    "word types are not dropped from the input, and input and output weights are not tied",
    "the best epoch is the one with the lowest validation loss, computed on as many parallel segments as in training; "
    "the authors evaluate on the text in one piece",
    "the thresholds are ours, set before any run",
)


def page(reader: RunReader, config: Config, rows: Rows) -> StudyPage:
    """Return the page of the report."""
    table = depth_table(rows)
    return StudyPage(
        title="Does a recurrent network with deeper time steps model text better?",
        subtitle="Recurrence depth at a fixed number of parameters: Recurrent Highway Networks, Zilly, Srivastava, "
        "Koutník & Schmidhuber 2017",
        lead=_lead(rows, config, reader.status),
        sections=(*_against_depth(rows, config, table), *_training_curves(reader, config), *_beside_the_paper(rows)),
        table=table,
        facts=_facts(reader, config),
        cost=f"{sum(row['seconds'] for row in rows) / 60:.1f} minutes of training",
        differs=[*differences(config, SCALES["paper"]), *_DIFFERENT],
    )


def depth_table(rows: Rows) -> TableData:
    """Return a table with one line per depth, with means over seeds."""
    lines = []
    for depth in by_depth(rows, "seed"):
        mine = [row for row in rows if row["depth"] == depth]
        means = [
            sum(row[key] for row in mine) / len(mine) for key in ("train_bits", "valid_bits", "test_bits", "seconds")
        ]
        lines.append((depth, mine[0]["width"], mine[0]["parameters"], len(mine), *means))
    columns = ("depth", "width", "parameters", "seeds", "training", "validation", "test", "seconds")
    caption = (
        "Bits per character, averaged over seeds: training, during the last epoch; validation and "
        "test, after the epoch with the best validation."
    )
    return TableData(columns, tuple(lines), caption)


def _lead(rows: Rows, config: Config, status: str) -> str:
    """Return the lead of the report: the main result in words."""
    expected = len(nets(config))
    unfinished = (
        "" if len(rows) == expected else f"{len(rows)} of {expected} networks have finished (the run is {status}). "
    )
    ratios = ratio_to_shallowest(rows)
    if len(ratios) < 2:
        return unfinished
    bits = {depth: sum(values) / len(values) for depth, values in by_depth(rows, "test_bits").items()}
    shallowest, deepest = min(bits), max(bits)
    best = min(bits, key=lambda depth: bits[depth])
    change = ratios[deepest] - 1
    return unfinished + (
        f"With {config.parameters:,} parameters, a network of recurrence depth {shallowest} needs "
        f"{bits[shallowest]:.3f} bits per character of unseen text, one of depth {deepest} {bits[deepest]:.3f}: "
        f"{abs(change):.1%} {'less' if change < 0 else 'more'}. The best depth is {best}, with {bits[best]:.3f}."
    )


def _band(found: dict[int, list[float]]) -> tuple[list[int], list[float], list[float]]:
    return list(found), [min(each) for each in found.values()], [max(each) for each in found.values()]


def _against_depth(rows: Rows, config: Config, table: TableData) -> list[Section]:
    if not rows:
        return []
    found = {name: by_depth(rows, key) for name, key in (("test", "test_bits"), ("training", "train_bits"))}
    curves = {name: (list(each), [sum(v) / len(v) for v in each.values()]) for name, each in found.items()}
    bands = {name: _band(each) for name, each in found.items()} if config.seeds > 1 else {}
    figure = run_curves(curves, bands=bands, x_name="recurrence depth", y_name="bits per character")
    figure.update_xaxes(tickvals=list(found["test"]))
    reading = (
        "A line that falls to the right means that deeper networks are better, with narrower layers and no more "
        f"parameters. Mean over seeds{', with their range' if config.seeds > 1 else ''}."
    )
    return [Section("Bits against depth", figure, reading, table)]


def _training_curves(reader: RunReader, config: Config) -> list[Section]:
    found: dict[int, dict[int, list[float]]] = {}
    for net, of_net in read_curves(reader, config).items():
        for epoch, bits in of_net.get("valid_bits", {}).items():
            found.setdefault(net.depth, {}).setdefault(epoch, []).append(bits)
    if not found:
        return []
    curves = {
        f"depth {depth}": (sorted(epochs), [sum(epochs[e]) / len(epochs[e]) for e in sorted(epochs)])
        for depth, epochs in sorted(found.items())
    }
    figure: go.Figure = run_curves(curves, x_name="epochs", y_name="validation bits per character")
    reading = (
        "Mean over seeds, after every epoch. A curve that still falls at the end would fall further with more epochs."
    )
    return [Section("Training curves", figure, reading)]


def _beside_the_paper(rows: Rows) -> list[Section]:
    ratios = ratio_to_shallowest(rows)
    if 1 not in ratios or len(ratios) < 2:
        return []
    entries: list[tuple[str, Any, Any, str]] = [
        (f"bits at depth {depth} / at depth 1", math.log2(PAPER[depth]) / math.log2(PAPER[1]), ratio, _where(depth))
        for depth, ratio in ratios.items()
        if depth in PAPER and depth > 1
    ]
    caption = "The paper's numbers are bits per word, ours are bits per character: compare how they change with depth."
    reading = (
        "The paper's perplexities on the Penn Treebank fall from 90.6 to 65.4 from depth 1 to 10, with 1,275 to 830 "
        "units. They are shown as bits per word, and ours as bits per character, each relative to depth 1."
    )
    return [Section("Comparison with the paper", None, reading, paper_comparison(entries, caption=caption))]


def _where(depth: int) -> str:
    return "abstract" if depth in (1, 10) else "the authors' repository, README"


def _facts(reader: RunReader, config: Config) -> dict[str, str]:
    text = read_text(reader)
    about = (
        f"the documentation of Python {text['python']}, each paragraph once: {text['characters']:,} characters of "
        f"{text['symbols']} kinds, SHA-256 {text['sha256']}; the last tenth for validation and test, half each"
        if text
        else "the documentation of this Python"
    )
    drops = ", ".join(f"{getattr(config, f'drop_{what}'):g} of the {what}" for what in ("input", "state", "output"))
    return {
        "scale": config.scale,
        "text": about,
        "nets": f"an embedding of {config.embedding} features, one recurrent highway layer, a linear layer; about "
        f"{config.parameters:,} parameters; gate bias {config.gate_bias:g}; dropout {drops}",
        "training": f"{config.epochs} epochs of {config.optimizer}, rate {config.learning_rate:g}, from "
        f"{config.steady:.0%} of the epochs on multiplied by {config.decay:.3g} in each; {config.batch} pieces of "
        f"{config.window} characters per update; gradient norm at most {config.clip:g}",
        "seeds": f"{config.seeds}, starting with seed {config.seed}",
    }


STUDY = Study(
    name="rhn2017.depth",
    title="a recurrent network models text better when its step is deeper and it has no more parameters",
    source="Zilly, Srivastava, Koutník & Schmidhuber 2017, sec. 5",
    config=Config,
    scales=SCALES,
    prepare=load_text,
    run=run_study,
    rows=read_rows,
    claims=CLAIMS,
    page=page,
    example="--scale demo --depths 1 4 --epochs 3",
)

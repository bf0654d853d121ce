"""The picture of a run: CPU time of each client's drain, as bars."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.peers import BASE, OURS, PEERS
from benchmarks.report import Drains

_OURS, _BASE, _OTHER, _INK = "#c0392b", "#555555", "#b8c0c8", "#222222"


def draw(drains: Drains, path: Path) -> None:
    """Draw the medians as horizontal bars, cheapest on top. The file's name says whether it is SVG or PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.family": "sans-serif"})
    import matplotlib.pyplot as plt

    costs = {name: statistics.median(one.cpu for one in results if one) for name, results in drains.items() if any(results)}
    names = sorted(costs, key=costs.__getitem__)
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    bars = axes.barh(
        [PEERS[name].title for name in names], [costs[name] for name in names], color=[_colour(name) for name in names]
    )
    axes.bar_label(bars, [_label(costs, name) for name in names], padding=4, color=_INK)
    axes.invert_yaxis()
    axes.margins(x=0.22)
    axes.xaxis.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(left=False, colors=_INK)
    axes.set_title("CPU time to drain 200 pages of 100 patients to NDJSON", loc="left", color=_INK)
    figure.savefig(path, metadata={"Date": None, "Creator": None} if path.suffix == ".svg" else None, facecolor="white")
    plt.close(figure)


def _label(costs: dict[str, float], name: str) -> str:
    words = f"{costs[name]:.2f} s"
    return f"{words}  ({costs[name] / costs[BASE]:.1f}x)" if BASE in costs and name != BASE else words


def _colour(name: str) -> str:
    return {OURS: _OURS, BASE: _BASE}.get(name, _OTHER)

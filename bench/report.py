"""Tables of rows: lines for the terminal as they are measured, and report.md, worst ratios first."""

from __future__ import annotations

from typing import Any

ORDER = ("numpy", "cupy", "twin", "graph", "torch", "compile")


def seconds(t: float | None) -> str:
    """A time with its unit, three digits."""
    if t is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if t >= size:
            return f"{t / size:.3g} {unit}" if t / size < 1000 else f"{t / size:.0f} {unit}"
    return f"{t / 1e-9:.3g} ns"


def speed(row: dict[str, Any]) -> str:
    """GB/s with the share of the copy bandwidth, or GFLOP/s."""
    if row.get("flops_per_second"):
        return f"{row['flops_per_second'] / 1e9:.4g} GFLOP/s"
    if not row.get("bytes_per_second") or row["group"] == "overhead":
        return ""
    share = f" ({row['share']:.0%} of copy)" if row.get("share") else ""
    return f"{row['bytes_per_second'] / 1e9:.3g} GB/s{share}"


def times(ratio: Any) -> str:
    """A ratio and its quartiles."""
    return f"{ratio[0]:.2f} ({ratio[1]:.2f}-{ratio[2]:.2f})" if ratio else ""


def line(row: dict[str, Any]) -> str:
    """One row for the terminal."""
    columns = "  ".join(f"{c} {seconds(row['columns'][c].get('median')):>8}" for c in ORDER if c in row["columns"])
    ratio = f"  x{times(row.get('ratio'))} PyTorch" if row.get("ratio") else ""
    notes = [f"  {c.upper()} WRONG: {why}" for c, why in row["wrong"].items()]
    notes += [f"  no {c}: {why}" for c, why in row["absent"].items()]
    return f"{row['name']:44} {columns}{ratio}  {speed(row)}{''.join(notes)}".rstrip()


def head(facts: dict[str, Any], bandwidth: float | None = None) -> str:
    """What was measured with, in one line for the terminal."""
    parts = [f"NumPy {facts['numpy']} ({facts['numpy_threads']} threads)"]
    if facts.get("torch"):
        parts.append(f"PyTorch {facts['torch']} ({facts['torch_threads']} threads)")
    card = facts.get("card") or {}
    parts.insert(0, f"{card['name']}, CuPy {facts['cupy']}" if card else facts["cpu"]["brand_raw"])
    if bandwidth:
        parts.append(f"copy {bandwidth / 1e9:.4g} GB/s")
    load = facts.get("load_average")
    if load and not card and load[0] > 1.5:
        parts.append(f"LOAD {load[0]:.1f}: the machine is busy, times are worth little and ratios a bit more")
    return ", ".join(parts)


# --- report.md ----------------------------------------------------------------------------------------


def table(names: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    cells = [[c.replace("|", "\\|") for c in r] for r in rows]
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names), *("| " + " | ".join(r) + " |" for r in cells)]


def measured(rows: list[dict[str, Any]], with_host: bool) -> list[str]:
    """The table of timed rows, worst ratios first, then those that PyTorch has not."""
    rows = sorted((r for r in rows if r.get("ours")), key=lambda r: -(r["ratio"][0] if r.get("ratio") else -1))
    if not rows:
        return ["Nothing was timed."]
    used = [c for c in ORDER if any(c in r["columns"] for r in rows)]
    names = ["case", *used, "ratio (quartiles)", "speed"]
    graphs = [k for k in ("graph_torch", "graph_compile") if any(r.get(k) for r in rows)]
    names += [k.replace("_", " over ") for k in graphs]
    extra = with_host and any(r["columns"][r["ours"]].get("launches") for r in rows)
    names += ["host", "launches"] if extra else []
    memory = any("peak_bytes" in v for r in rows for v in r["columns"].values())
    names += ["memory", "memory PyTorch"] if memory else []
    out = []
    for r in rows:
        ours = r["columns"][r["ours"]]
        cells = [
            r["name"],
            *(seconds(r["columns"].get(c, {}).get("median")) for c in used),
            times(r.get("ratio")),
            speed(r),
            *(times(r.get(k)) for k in graphs),
        ]
        if extra:
            cells += [seconds(ours.get("host")), str(ours.get("launches", ""))]
        if memory:
            cells += [
                f"{v / 2**20:.0f} MiB" if v is not None else ""
                for v in (ours.get("peak_bytes"), r["columns"].get("torch", {}).get("peak_bytes"))
            ]
        out.append(cells)
    return table(names, out)


def versions(facts: dict[str, Any], commit: dict[str, Any], date: str) -> list[str]:
    """What was measured, on what."""
    card = facts.get("card") or {}
    rows = [["date", date[:19].replace("T", " ") + " UTC"]]
    if card:
        rows += [
            [
                "card",
                f"{card['name']}, compute {card['compute_capability']}, {card['multiprocessors']} multiprocessors",
            ],
            [
                "driver",
                f"{card.get('driver_version', 'unknown')}, CUDA {card['driver_api']}, runtime {card['cuda_runtime']}",
            ],
            ["CuPy", str(facts.get("cupy"))],
        ]
        if "clocks.sm" in card:
            words = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "power.limit", "temperature.gpu")
            rows.append(["clocks and power", ", ".join(f"{w} {card.get(w)}" for w in words)])
    rows += [["processor", f"{facts['cpu']['brand_raw']}, {facts['cpu']['count']} logical cores"]]
    rows += [["NumPy", f"{facts['numpy']}, {facts['numpy_threads']} threads"]]
    torch = facts.get("torch")
    cudnn = f", CUDA {facts['torch_cuda']}, cuDNN {facts['cudnn']}" if facts.get("torch_cuda") else ""
    rows += [["PyTorch", f"{torch}{cudnn}, {facts['torch_threads']} threads, TF32 off" if torch else "not installed"]]
    rows += [["Python", facts["python_version"]]]
    dirty = " with changes" if commit["dirty"] else ""
    rows += [["commit", f"{commit['id']}{dirty}, source {commit['source']}"]]
    return table(["", ""], rows)


GROUPS = (
    ("Training steps", ("model",)),
    ("Convolution", ("conv2d", "depthwise")),
    ("Other ops with shapes", None),
    ("Elementwise ops", ("pointwise",)),
    ("The cost of a call: 16 elements", ("overhead",)),
)


def markdown(document: dict[str, Any]) -> str:
    """report.md of a run."""
    facts, ours = document["machine_info"], document["gradflow"]
    rows = ours["rows"]
    card = (facts.get("card") or {}).get("name") or facts["cpu"]["brand_raw"]
    text = [f"# gradflow measured on {card}", "", *versions(facts, document["commit_info"], document["datetime"]), ""]
    if (facts.get("cupy") or "").startswith("stand-in"):
        text += [
            "**The card is the stand-in, run by the CPU: this shows that the command works, its times say nothing.**",
            "",
        ]
    if ours.get("bandwidth"):
        text += [f"A copy reads and writes {ours['bandwidth'] / 1e9:.4g} GB/s here; shares are of that.", ""]
    text += [
        "Times are medians; a ratio is gradflow's time over PyTorch's, median of the rounds' ratios (under 1: faster).",
        "",
    ]
    if ours.get("parts"):
        text += [
            "## Parts",
            "",
            *table(
                ["part", "outcome", "seconds"],
                [[p["name"], p["outcome"], f"{p['seconds']:.0f}"] for p in ours["parts"]],
            ),
            "",
        ]
    if ours.get("tests"):
        text += [*tests(ours["tests"]), ""]
    bad = [[r["name"], c, why] for r in rows for c, why in r["wrong"].items()]
    if bad:
        text += ["## Wrong: reported, not timed", "", *table(["case", "column", "why"], bad), ""]
    if any(r.get("goal") for r in rows) and facts.get("card"):
        text += ["## Goals", "", *goals(rows), ""]
    named = {g for _, groups in GROUPS for g in groups or ()}
    for title, groups in GROUPS:
        part = [r for r in rows if (r["group"] in groups if groups else r["group"] not in named)]
        if part:
            text += [f"## {title}", "", *measured(part, bool(facts.get("card"))), ""]
    if ours.get("unreached"):
        text += [
            f"Not reached in the time there was: {len(ours['unreached'])} cases, from {ours['unreached'][0]} on.",
            "",
        ]
    if ours.get("memory_checker"):
        text += ["## Memory checker", ""]
        for c in ours["memory_checker"]:
            text += [f"- {c['tool']}: {c['outcome']}", *(f"    {line}" for line in c.get("lines", []))]
        text += [""]
    return "\n".join(text)


def goals(rows: list[dict[str, Any]]) -> list[str]:
    """The goals on a card and what was measured of each."""
    from .targets import verdicts

    return table(["what", "goal: time over PyTorch's, bandwidth", "measured", ""], verdicts(rows))


def tests(found: dict[str, Any]) -> list[str]:
    """The twin tests: counts, and what failed."""
    counts, failed = found["counts"], found["failed"]
    text = ["## Twin tests on the card", "", ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) + "."]
    if failed:
        rows = [[t["id"], t.get("message", "")[:200].replace("\n", " ")] for t in failed[:100]]
        text += ["", *table(["test", "why"], rows)]
        if len(failed) > 100:
            text += [f"... and {len(failed) - 100} more."]
    return text

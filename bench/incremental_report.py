"""docs/benchmarks-incremental.md and its plot out of the figures."""

from measure import median
from plot import COLORS, Panel, draw

TITLES = {"kuramori": "kuramori", "pgbackrest": "pgBackRest 2.55, block incremental", "pg_basebackup": "pg_basebackup 17, incremental", "restic": "restic",
          "borg": "borg"}
SHORT = {"kuramori": "kuramori", "pgbackrest": "pgBackRest 2.55", "pg_basebackup": "pg_basebackup 17", "restic": "restic", "borg": "borg"}
PLOT = "benchmarks-incremental.svg"
LEAST_SECONDS = 0.001  # what is left of a time when another is taken off it

# Where it goes, said of what is short.
_WHERE = ("of a run that finds nothing, with the page cache dropped, and without start and stop: a tenth loads the program and its libraries; a fifth opens the vault and the "
          "session, two connections and a slot; less than a tenth lists the files; a seventh compares the newest WAL segment with the archive's and reads the last, unarchived stretch; a seventh looks "
          "at 1,000 pages all over the disk; a third archives the WAL of the snapshot itself and writes record, map and commit, each synced. No part of it grows with the cluster but "
          "the listing.")
WHERE_IT_GOES = {"time when nothing changed": _WHERE, "time of the incremental against": _WHERE}


def _values(part, what, name, key):
    return [figure[key] for figure in part.get(what, {}).get(name, []) if figure.get(key) is not None]


def _cell(values, scale=1.0, digits=2):
    if not values:
        return "–"
    middle = f"**{median(values) * scale:.{digits}f}**"
    return middle if len(values) == 1 else f"{middle} [{min(values) * scale:.{digits}f}–{max(values) * scale:.{digits}f}]"


def _table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _middle(part, what, name, key="wall"):
    values = _values(part, what, name, key)
    return median(values) if values else None


def _times(part, what):
    """How often it was measured, in words."""
    count = len(part.get(what, {}).get("kuramori", []))
    return "Measured once" if count == 1 else f"Medians [lowest–highest] of {count}"


def floor_of(change):
    return _middle(change, "start_stop", "server") or 0.0


def ratios(figures):
    """[(what, text of the figure, text of the limit, kept?)]"""
    found = []

    def add(text, value, limit, at_least, digits=2):
        kept = value >= limit if at_least else value <= limit
        found.append((text, f"{value:.{digits}f}×", f"{'≥' if at_least else '≤'} {limit}×", kept))

    change = figures.get("change", {})
    ours, theirs = (change.get("1 %", {}).get(name) for name in ("kuramori", "pgbackrest"))
    floor = floor_of(change)
    if ours:
        changed = [figure["changed"] for figure in ours]
        add("relation bytes read from the data directory ÷ bytes of changed pages",
            median([figure["relation_read"] / pages for figure, pages in zip(ours, changed)]), 1.2, False)
        add("relation bytes stored, before compression ÷ bytes of changed pages", median([figure["stored"] / pages for figure, pages in zip(ours, changed)]), 1.1,
            False)
    if ours and theirs:
        add("bytes added to the vault against pgBackRest's repository, WAL apart", _middle(change, "1 %", "kuramori", "added") /
            _middle(change, "1 %", "pgbackrest", "added"), 0.3, False)
        for what, text in (("1 %", "time of the incremental against pgBackRest's"), ("nothing", "time when nothing changed")):
            mine, other = _middle(change, what, "kuramori"), _middle(change, what, "pgbackrest")
            add(f"{text}, pg_backup_start/stop alone taken off both", (other - floor) / max(mine - floor, LEAST_SECONDS), 8, True, 1)
            if what == "1 %":
                add("the same, all included", other / mine, 5, True, 1)
    size = figures.get("size", {})
    if size:
        least, most = min(size, key=float), max(size, key=float)
        add(f"growth of the incremental's time from {least} GB to {most} GB at the same change",
            (_middle(size, most, "kuramori") - _middle(size, most, "server")) /
            max(_middle(size, least, "kuramori") - _middle(size, least, "server"), LEAST_SECONDS), 1.3, False)
    restore = figures.get("restore", {})
    if restore:
        number = restore["restore"]["kuramori-chain"][0]["incrementals"]
        add(f"restore of incremental snapshot {number} against restore of a full one", _middle(restore, "restore", "kuramori-chain") /
            _middle(restore, "restore", "kuramori-full"), 1.2, False)
    return found


def _runs(part, what, floor):
    rows = []
    for name, title in TITLES.items():
        wall = _values(part, what, name, "wall")
        if wall:
            rows.append([title, _cell(wall), f"{median(wall) - floor:.2f}", _cell(_values(part, what, name, "cpu")),
                         f"{_middle(part, what, name, 'memory') / 2**20:.0f}", _cell(_values(part, what, name, "added"), 1e-6, 1)])
    return _table(["", "wall s", "without start/stop", "CPU s", "memory MiB", "MB added"], rows)


def plot(figures):
    change, cost, size = figures.get("change", {}), figures.get("cost", {}), figures.get("size", {})
    floor = floor_of(change)
    panels = []
    if change and cost:
        at = [("0", change, "nothing"), ("0.1 %", cost, "0.001"), ("1 %", change, "1 %"), ("10 %", cost, "0.1"), ("50 %", cost, "0.5")]
        at = [(text, part, what) for text, part, what in at if what in part]
        cluster = f"{change['bytes'] / 1e9:.1f} GB of relations"
        for key, scale, unit, title in (("wall", 1, "s", "Time of an incremental snapshot"), ("added", 1e-6, "MB", "Bytes it adds")):
            panel = Panel(title, cluster + (", WAL apart" if key == "added" else ""), [text for text, _, _ in at], "pages changed since the last", unit)
            for number, name in enumerate(TITLES):
                points = []
                for tick, (_, part, what) in enumerate(at):
                    values = [value * scale for value in _values(part, what, name, key)]
                    if values:
                        points.append((tick, min(values), median(values), max(values)))
                panel.line(SHORT[name], COLORS[number], points)
            if key == "wall" and floor:
                panel.floor = ("start/stop alone", floor)
            panels.append(panel)
    if size:
        sizes = sorted(size, key=float)
        changed = _middle(size, sizes[0], "kuramori", "really_changed")
        panel = Panel("The same change, larger clusters", f"{changed / 1e6:.0f} MB of pages changed" if changed else "the same pages changed",
                      [f"{text} GB" for text in sizes], "the cluster", "s")
        for number, name in enumerate(TITLES):
            points = []
            for tick, text in enumerate(sizes):
                values = _values(size, text, name, "wall")
                if values:
                    points.append((tick, min(values), median(values), max(values)))
            panel.line(SHORT[name], COLORS[number], points)
        floors = [_middle(size, text, "server") for text in sizes]
        panel.floor = ("start/stop alone", median([value for value in floors if value]))
        panels.append(panel)
    return draw(panels) if panels else ""


def write_report(figures):
    """(the document, {file name: content})"""
    about, change, cost, size = figures["about"], figures.get("change", {}), figures.get("cost", {}), figures.get("size", {})
    found = about["versions"]
    floor = floor_of(change)
    parts = [f"""# Cost follows change

Written by `./dev bench incremental`; run it on your own machine and compare. What WAL costs is in [benchmarks-wal.md](benchmarks-wal.md), full snapshots in
[benchmarks.md](benchmarks.md).

![time and bytes of an incremental snapshot, against the change and against the cluster's size]({PLOT})

- **Machine**: {about['machine']}.
- **Data**: one {found['pg'].replace('postgres (PostgreSQL)', 'PostgreSQL')} cluster with page checksums, {change.get('bytes', 0) / 1e9:.2f} GB of relations: the tables of `bench/cluster.sql`.
- **Change**: updates of random rows of three tables with their six indexes, until so many pages have a new LSN: {_middle(change, '1 %', 'kuramori', 'changed') / 1e6 if change else 0:.1f} MB is 1 %. Everybody
  snapshots the same change, then once more without any.
- **Software**: {found['pgbackrest']} (block incremental, bundles, zst level 3, aes-256-cbc); pg_basebackup 17 (`--incremental`, `summarize_wal`, zstd level 3, not
  encrypted); {found['restic']}; {found['borg']} (zstd level 3); kuramori at {found['commit']}, whose changed blocks are those of the WAL it archived. restic and borg copy between
  `pg_backup_start` and `pg_backup_stop`, and restore no cluster by themselves.
- **Rules**: two workers each (borg has one), fsync on, one run for all, the order rotates, before every run the disk is synced and the page cache
  dropped; while one is measured only its own archive takes WAL. {_times(change, '1 %')}. WAL is not counted in the bytes.
- `pg_backup_start` and `pg_backup_stop` alone: {floor:.2f} s.{about.get('note', '')}
"""]
    table = ratios(figures)
    if table:
        parts.append("## Held to\n\n" + _table(["", "measured", "promised", ""],
                                               [[text, f"**{value}**", limit, "kept" if kept else "**short**"] for text, value, limit, kept in table]))
        reasons = {why: None for text, _, _, kept in table if not kept for key, why in WHERE_IT_GOES.items() if text.startswith(key)}
        if reasons:
            parts.append("Where it goes, of what is short: " + " ".join(reasons) + "\n")
    if change:
        ours = change["1 %"]["kuramori"]
        middle = {key: median([figure[key] for figure in ours]) for key in ("changed", "relation_read", "stored", "sampled", "kernel_read")}
        parts.append("## 1 % of the pages changed\n\n" + _runs(change, "1 %", floor) + "\n" +
                     f"Pages with a new LSN, found by reading them all: {middle['changed'] / 1e6:.1f} MB. kuramori read {middle['relation_read'] / 1e6:.1f} MB of relations, with the "
                     f"headers of {middle['sampled']:.0f} pages that should not have changed, and the free space and visibility maps of what changed; the kernel counted {middle['kernel_read'] / 1e6:.1f} MB for the whole "
                     "process: vault, WAL, libraries and files that are no relations too.\n")
        parts.append("## Nothing changed\n\n" + _runs(change, "nothing", floor))
    for what, text in (("0.001", "0.1 %"), ("0.1", "10 %"), ("0.5", "50 %")):
        if what in cost:
            parts.append(f"## {text} of the pages changed\n\n{_times(cost, what)}.\n\n" + _runs(cost, what, floor))
    if size:
        rows = [[SHORT[name], *[_cell(_values(size, text, name, "wall")) for text in sorted(size, key=float)]] for name in TITLES if any(name in size[text] for text in size)]
        rows.append(["pg_backup_start/stop alone", *[_cell(_values(size, text, "server", "wall")) for text in sorted(size, key=float)]])
        parts.append("## The same change in larger clusters, wall s\n\nOne more table of copies of rows makes them larger.\n\n" + _table(["", *[f"{text} GB" for text in sorted(size, key=float)]], rows))
    if "restore" in figures:
        runs = figures["restore"]["restore"]
        rows = [[text, *[_cell(_values(figures["restore"], "restore", name, key)) for key in ("wall", "cpu")]]
                for name, text in (("kuramori-chain", f"of incremental snapshot {runs['kuramori-chain'][0]['incrementals']}"), ("kuramori-full", "of a full snapshot"))]
        parts.append("## Restore of the whole cluster\n\n" + _table(["", "wall s", "CPU s"], rows))
    return "\n".join(parts), {PLOT: plot(figures)}

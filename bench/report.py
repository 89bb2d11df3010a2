"""docs/benchmarks.md out of the figures."""

from measure import median

SEGMENT_MB = 16 * 2**20 / 1e6

# Where the bytes and the time go, said of what is short (docs/adr/0007 and 0012 have what was tried).
WHERE_IT_GOES = {
    "snapshot, repository bytes (ours ÷ theirs)":
        "two fifths of both repositories are the part of the data that nobody compresses, a third is long text, which is a seventh larger than theirs: they look "
        "back over two megabytes, we over a frame of 5 pages. All else together is at seven tenths of theirs by the page filter. docs/adr/0012-columns.md has the "
        "bytes of each relation and what larger frames, higher levels and dictionaries gain: not what is missing.",
    "WAL push alone, load": "two fifths of the CPU are compressing and opening again, a fifth is the SHA-256 of the segment; the wall adds two syncs.",
    "WAL push alone, page images":
        "two fifths of the CPU are compressing and opening again, a fifth is the SHA-256 of the segment, by which two servers that write the same segment are told apart; "
        "the wall adds two syncs.",
    "random page out of a cached pack, p50": "most of it is zstd on a frame of 5 pages (0.6 ns a byte); the rest is AES-GCM, the checksum and the copy.",
}
BASELINE = "pgbackrest"


def _medians(figures, what, name, of):
    costs = figures.get((what, name))
    if not costs:
        return None
    values = [of(cost) for cost in costs]
    return None if any(value is None for value in values) else (median(values), min(values), max(values))


def _cell(triple, digits=2, scale=1.0):
    if triple is None:
        return "–"
    middle, low, high = (value * scale for value in triple)
    return f"**{middle:.{digits}f}** [{low:.{digits}f}–{high:.{digits}f}]"


def _table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def _run_table(figures, contenders, what, bytes_title):
    rows = []
    for contender in contenders:
        if (what, contender.name) not in figures:
            continue
        server = _medians(figures, what, contender.name, lambda cost: getattr(cost, "server_cpu", None))
        row = [contender.title, "yes" if contender.encrypts else "no",
               _cell(_medians(figures, what, contender.name, lambda cost: cost.wall)),
               _cell(_medians(figures, what, contender.name, lambda cost: cost.cpu))]
        if what == "snapshot":
            row.append(f"{server[0]:.2f}" if server else "–")
        row += [_cell(_medians(figures, what, contender.name, lambda cost: cost.memory), 0, 1 / 2**20),
                f"{_medians(figures, what, contender.name, lambda cost: cost.bytes)[0] / 1e6:.1f}"]
        rows.append(row)
    head = ["", "encrypted", "wall s", "CPU s"] + (["server CPU s"] if what == "snapshot" else []) + ["memory MiB", bytes_title]
    return _table(head, rows)


def _push_table(figures, contenders, kind):
    rows = []
    for contender in contenders:
        wall = _medians(figures, f"push {kind}", contender.name, lambda cost: cost.wall)
        if wall is None:
            continue
        rows.append([contender.title, _cell(wall, 1, 1000), f"{1 / wall[0]:.1f}",
                     _cell(_medians(figures, f"push {kind}", contender.name, lambda cost: cost.cpu), 1, 1000),
                     f"{_medians(figures, f'push {kind}', contender.name, lambda cost: cost.bytes)[0] / 1e6:.2f}"])
    return _table(["", "ms a segment", "segments/s", "CPU ms", "MB stored"], rows)


def ratios(figures, page):
    """[(what, figure, limit, text of the limit, kept?)] of kuramori against the baseline."""

    def ratio(what, of, floor=0.0):
        ours, theirs = _medians(figures, what, "kuramori", of), _medians(figures, what, BASELINE, of)
        return None if not ours or not theirs else (theirs[0] - floor) / max(ours[0] - floor, 1e-9)

    floor = _medians(figures, "start_stop", "server", lambda cost: cost.wall)
    floor = floor[0] if floor else 0.0
    found = []

    def add(text, value, limit, at_least, form="{:.2f}×"):
        if value is not None:
            kept = value >= limit if at_least else value <= limit
            found.append((text, form.format(value), ("≥ " if at_least else "≤ ") + form.format(limit), kept))

    memory = [_medians(figures, what, "kuramori", lambda cost: cost.memory) for what in ("snapshot", "restore")]
    by = ratio("snapshot", lambda cost: cost.bytes)
    add("snapshot, speed without pg_backup_start/stop", ratio("snapshot", lambda cost: cost.wall, floor), 2.0, True)
    add("snapshot, speed as the clock saw it", ratio("snapshot", lambda cost: cost.wall), 2.0, True)
    add("snapshot, CPU (theirs ÷ ours)", ratio("snapshot", lambda cost: cost.cpu), 2.0, True)
    add("snapshot, repository bytes (ours ÷ theirs)", 1 / by if by else None, 0.90, False)
    add("restore, speed", ratio("restore", lambda cost: cost.wall), 1.5, True)
    add("restore, CPU (theirs ÷ ours)", ratio("restore", lambda cost: cost.cpu), 2.0, True)
    if all(memory):
        add("memory, the higher of both", max(m[0] for m in memory) / 2**20, 128, False, "{:.0f} MiB")
    add("WAL push alone, load", ratio("push load", lambda cost: cost.wall), 1.7, True)
    add("WAL push alone, page images", ratio("push images", lambda cost: cost.wall), 1.7, True)
    if page:
        add("random page out of a cached pack, p50", page["p50_us"], 40, False, "{:.0f} µs")
    return found


def write_report(figures, contenders, page, machine, versions, cluster_bytes, repetitions):
    floor = _medians(figures, "start_stop", "server", lambda cost: cost.wall)
    parts = [f"""# Benchmarks

Written by `./dev bench postgres`; run it on your own machine and compare.

- **Machine**: {machine}.
- **Data**: one PostgreSQL cluster with page checksums, {cluster_bytes / 1e9:.2f} GB on disk: pgbench accounts, wide text and jsonb rows, an
  event table with four indexes, binary data that does not compress (about 15 %), hundreds of small tables. Made by
  `bench/cluster.sql`, the same bytes every time.
- **Software**: {versions['pg']}; {versions['pgbackrest']} (zst level 3, aes-256-cbc, bundles); kuramori at {versions['commit']}.
- **Rules**: two workers each, fsync on, one run for all, the order rotates, before every run the disk is synced and trimmed and
  the page cache dropped. Medians of {repetitions} [lowest–highest]. CPU counts all processes of the contender; what the database server
  spends is a column of its own. Memory is the sum over the contender's processes.
- `pg_backup_start` and `pg_backup_stop` alone, without anybody copying anything: {floor[0] if floor else 0:.2f} s.
"""]
    table = ratios(figures, page)
    if table:
        parts.append("## kuramori and pgBackRest\n\n" + _table(
            ["", "measured", "promised", ""], [[text, f"**{value}**", limit, "kept" if kept else "**short**"] for text, value, limit, kept in table]) + "\n")
        short = [f"- **{text[0].upper()}{text[1:]}**: {WHERE_IT_GOES[text]}" for text, _, _, kept in table if not kept and text in WHERE_IT_GOES]
        if short:
            parts.append("Where it goes, of what is short:\n\n" + "\n".join(short) + "\n")
    parts.append("## Full snapshot\n\n" + _run_table(figures, contenders, "snapshot", "repository MB") + "\n")
    parts.append("## Restore\n\nInto an empty directory, nothing of the repository in the page cache, every file and folder fsynced (`cp` and `tar` end "
                 "with one sync).\n\n" + _run_table(figures, contenders, "restore", "restored MB") + "\n")
    for kind, words in (("load", "rows and index entries of a bulk load"), ("images", "small updates after a checkpoint: whole page images")):
        parts.append(f"## WAL push, {words}\n\nOne process a segment, its start included, one after another. The first is not counted: a server's archiver "
                     "calls the same program all day long.\n\n" + _push_table(figures, contenders, kind) + "\n")
    if page:
        parts.append(f"## A random page\n\n{page['reads']:,} reads of one 8 KiB page each out of a vault in the page cache, decrypted, decompressed and checked: "
                     f"p50 **{page['p50_us']:.1f} µs**, p95 {page['p95_us']:.1f} µs, p99 {page['p99_us']:.1f} µs.\n")
    return "\n".join(parts)

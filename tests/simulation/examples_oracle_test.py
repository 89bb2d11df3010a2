#!/usr/bin/env python3
"""Eight years of every policy in examples/, day by day, against the second opinion of retention_oracle_test.py: what `kuramori simulate`
says was made, kept, copied and dropped must be what is worked out here from the files' own words, in the zones they name and again in one
whose clocks change. Nothing here looks at how the program does it.
"""
import bisect
import collections
import concurrent.futures
import copy
import datetime
import heapq
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zoneinfo

import yaml

import retention_oracle_test as oracle

DAY, UTC = oracle.DAY, oracle.UTC
START = datetime.datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
YEARS = 8
FOREVER = datetime.datetime.max.replace(tzinfo=UTC)
OTHER_ZONE = "America/New_York"
EXAMPLES = sorted((oracle.ROOT / "examples").glob("*.yaml"))
# What the seed documents ask for (P0, B7, F1): so many a day, each for so many days, in this vault.
SEEDS = {
    "agentkey": {("ats-lite-db", "agentkey-prod"): (8, 14), ("ats-lite-db", "agentkey-prod-dr"): (8, 14), ("dev-db", "dev"): (8, 14)},
    "kaigo": {(resource, f"kaigo-subsys-{site}-backup-vault"): (1, 30) for resource in ("kaigo-subsys-prod", "efs") for site in ("prod", "dr")},
    "peoplebooster": {("peoplebooster-production", "production"): (1, 7), ("peoplebooster-production-redis", "production"): (1, 7),
                      ("peoplebooster-production-logs", "production"): (24, 90)},
    "tonebridge": {("tonebridge-db", "backups"): (1, 30), ("tonebridge-db", "dr"): (1, 30), ("hot-tables", "backups"): (24, 7),
                   ("redis", "backups"): (24, 7), ("configuration", "backups"): (1, 30), ("logs", "backups"): (1, 90)},
}
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def field(text, least, most):
    """What a field of a schedule allows; None: everything."""
    if text in ("*", "?"):
        return None
    if text.startswith("*/"):
        return set(range(least, most + 1, int(text[2:])))
    return {WEEKDAYS.index(one) if one in WEEKDAYS else int(one) for one in text.split(",")}


def moments(when, zone, start, end):
    """Of a cron line or a period of an hour or less, both ends taken in."""
    if "every" in when:
        step = {"1h": datetime.timedelta(hours=1), "15m": datetime.timedelta(minutes=15)}[when["every"]]
        first = start.replace(minute=0) - DAY
        return [first + n * step for n in range(int((end - first) / step) + 1) if start <= first + n * step <= end]
    words = when["schedule"].removeprefix("cron(").removesuffix(")").split()
    minutes, hours, days, months, weekdays = (field(word, *span) for word, span in zip(words, ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))))
    found, day = set(), (start - 2 * DAY).date()
    while day <= (end + 2 * DAY).date():
        if (days is None or day.day in days) and (months is None or day.month in months) and (weekdays is None or (day.weekday() + 1) % 7 in weekdays):
            for hour in hours if hours is not None else range(24):
                for minute in minutes:
                    found.add(oracle.moment_of(datetime.datetime(day.year, day.month, day.day, hour, minute), zone))
        day += DAY
    return sorted(moment for moment in found if start <= moment <= end)


def rules_of(keep):
    return keep if isinstance(keep, dict) else {} if keep in (None, "forever") else {"all": keep}


class Place(oracle.Place):
    """A resource in a vault, for as many snapshots as eight years of every quarter of an hour make."""

    def __init__(self, window, last):
        super().__init__(window, last)
        self.times, self.coming, self.due, self.proven = [], [], set(), set()

    def until(self, keep, zone, made):
        return super().until(keep, zone, made) if keep else FOREVER

    def add(self, made, until):
        super().add(made, until)
        bisect.insort(self.times, made)
        heapq.heappush(self.coming, (until, made))

    def prune(self, now):
        while self.coming and self.coming[0][0] <= now:
            self.due.add(heapq.heappop(self.coming)[1])
        stay = set(self.times[-max(1, self.last):]) | {max(self.proven & self.there.keys(), default=None)} if self.due else set()
        if self.due and self.window:
            old = bisect.bisect_right(self.times, oracle.moved(now, self.window, -1))
            stay.update(self.times[max(0, old - 1):old])
        for time in sorted(self.due - stay):
            del self.there[time]
            del self.times[bisect.bisect_left(self.times, time)]
            self.due.remove(time)
            self.ends[time] = now

    def copy_from(self, first, keep, zone, now):
        if keep is None:  # kept as the first
            for time in [time for time in first.times if time not in self.ever]:
                self.add(time, first.there[time])
        else:
            super().copy_from(first, keep, zone, now)
        self.proven |= first.proven & self.there.keys()

    def prove_newest(self):
        self.proven.update(self.times[-1:])


def expect(config, start, end):
    """{(resource, vault): Place}"""
    places, events, drilled = {}, [], {}
    for plan in config["plans"].values():
        for resource in plan["resources"]:
            for vault, said in [(plan["vault"], plan)] + [(one["to"], one) for one in plan.get("copies", [])]:
                place = places.setdefault((resource, vault), Place(None, 0))
                place.last = max(place.last, rules_of(said.get("keep")).get("last", 0))
                place.window = place.window or said.get("window")
    for order, (name, plan) in enumerate(config["plans"].items()):
        zone = zoneinfo.ZoneInfo(plan.get("timezone", "UTC"))
        if plan.get("every") == "change":
            runs = [start + n * DAY for n in range((end - start).days + 1)]
        elif plan.get("schedule") == "manual":
            runs = []
        else:
            runs = moments(plan, zone, start, end)
        events += [(run, 0, order, name) for run in runs]
        events += [(run, 1, order, name) for run in moments(plan["drill"], zone, start, end)]
        drilled[name] = 0
    events += [(start + n * DAY, 2, 0, "") for n in range(1, (end - start).days + 1)]
    for now, act, _, name in sorted(events):
        plan = config["plans"].get(name, {})
        vaults = [plan.get("vault")] + [one["to"] for one in plan.get("copies", [])]
        if act == 2:
            for place in places.values():
                place.prune(now)
        elif act == 1:
            wanted = plan["drill"].get("vault", plan["vault"])
            for resource in plan["resources"]:
                places[resource, vaults[drilled[name] % len(vaults)] if wanted == "alternate" else wanted].prove_newest()
            drilled[name] += 1
        else:
            for resource in plan["resources"]:
                zone = zoneinfo.ZoneInfo(plan.get("timezone", "UTC"))
                first, keep = places[resource, plan["vault"]], rules_of(plan["keep"])
                first.add(now, first.until(keep, zone, now))
                for one in plan.get("copies", []):
                    places[resource, one["to"]].copy_from(first, rules_of(one["keep"]) if "keep" in one else None, zone, now)
    return places


def until_of(text):
    return FOREVER if text in (None, "forever") else oracle.parse(text)


def check(path, zone):
    config = yaml.safe_load(path.read_text())
    told_to = copy.deepcopy(config)
    if zone:
        for plan in told_to["plans"].values():
            plan["timezone"] = zone
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "kuramori.yaml"
        file.write_text(json.dumps(told_to))
        done = subprocess.run([oracle.PROGRAM, "--config", file, "simulate", "--json", "--each", "--prune-every", "1d", "--years", str(YEARS), "--from",
                               START.strftime("%Y-%m-%dT%H:%M:%SZ")], capture_output=True, text=True, timeout=300)
    where = f"{path.name} in {zone or 'its own zones'}"
    assert done.returncode == 0, f"{where}\n{done.stderr}"
    document = json.loads(done.stdout)
    wanted = expect(told_to, START, oracle.parse(document["until"]))
    assert {(told["resource"], told["vault"]) for told in document["places"]} == wanted.keys(), where
    snapshots = 0
    for told in document["places"]:
        place = wanted[told["resource"], told["vault"]]
        got = {oracle.parse(one["time"]): (until_of(one["keep_until"]), oracle.parse(one["dropped_at"])) for one in told["snapshots"]}
        must = {time: (until, place.ends.get(time)) for time, until in place.ever.items()}
        differ = sorted(time for time in got.keys() | must.keys() if got.get(time) != must.get(time))
        lines = [f"  {time}: said {got.get(time)}, must be {must.get(time)}" for time in differ[:10]]
        assert not differ, f"{where}: {told['resource']} in {told['vault']}: {len(differ)} of {len(must)} differ\n" + "\n".join(lines)
        snapshots += len(got)
        if not zone and (told["resource"], told["vault"]) in SEEDS[path.stem]:
            each_day, days = SEEDS[path.stem].pop((told["resource"], told["vault"]))
            in_a_day = collections.Counter(time.date() for time in got if START.date() < time.date() < (START + 365 * YEARS * DAY).date())
            assert set(in_a_day.values()) == {each_day} and len(in_a_day) == 365 * YEARS - 1, f"{where}: {told['resource']}"
            assert {until - time for time, (until, _) in got.items()} == {days * DAY}, f"{where}: {told['resource']}"
    assert zone or not SEEDS[path.stem], f"{where}: {SEEDS[path.stem]} is nowhere"
    return path.stem, zone, snapshots


def main():
    work = [(path, zone) for path in EXAMPLES for zone in (None, OTHER_ZONE)]
    with concurrent.futures.ProcessPoolExecutor(int(os.environ.get("KURAMORI_ORACLE_AT_ONCE", "2"))) as pool:
        done = list(pool.map(check, *zip(*work)))
    for name, zone, snapshots in done:
        print(f"{name}{', in ' + zone if zone else ''}: {snapshots} snapshots of {YEARS} years, each made, kept and dropped as it must be (P0, B7, F1)")
        assert snapshots > 10_000
    assert len(done) == 8
    return 0


if __name__ == "__main__":
    sys.exit(main())

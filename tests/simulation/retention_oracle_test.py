#!/usr/bin/env python3
"""`kuramori simulate` against a second opinion: what must exist on each day of some years, worked out here from what
docs/interface.md promises, with Python's own calendar and time zones, and without a look at how the program does it.

Plans are drawn at random: schedules in zones whose clocks change, rules, windows, copies with rules of their own. Then
every snapshot of the program's, its end, and with that the set that exists on each day, must be the same here.
KURAMORI_ORACLE_SEED draws others; a failure prints its seed.
"""
import calendar
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import zoneinfo

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("KURAMORI_PROGRAMS", ROOT / "build/release/bin")).resolve() / "kuramori"
UTC = datetime.timezone.utc
DAY, HOUR = datetime.timedelta(days=1), datetime.timedelta(hours=1)
ZONES = ("Asia/Tokyo", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")
PLANS = 15
RULES = ("hourly", "daily", "weekly", "monthly", "yearly")


def moved(time, period, sign=1):
    """`time` and a period such as "14d" or "7y", in UTC; a day that a month lacks is its last."""
    number, unit = int(period.rstrip("dhmoyw")), period.lstrip("0123456789")
    if unit in ("mo", "y"):
        months = time.year * 12 + time.month - 1 + sign * number * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        return time.replace(year=year, month=month + 1, day=min(time.day, calendar.monthrange(year, month + 1)[1]))
    return time + sign * number * {"h": HOUR, "d": DAY, "w": 7 * DAY}[unit]


def moment_of(wall, zone):
    """The first moment at which clocks in `zone` show `wall`; of one they skip, when they do."""
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    before, after = moment - DAY, moment + DAY  # the change lies between: find it to the second
    offset = before.astimezone(zone).utcoffset()
    while after - before > datetime.timedelta(seconds=1):
        middle = (before + (after - before) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


class Plan:
    """One drawn plan, and when it runs."""

    def __init__(self, dice):
        self.zone_name = dice.choice(ZONES)
        self.zone = zoneinfo.ZoneInfo(self.zone_name)
        minute = dice.choice((0, 15, 30, 59))
        self.minute = minute
        form = dice.choice(("hours", "hours", "daily", "daily", "weekly", "monthly"))
        self.hours = [dice.randrange(24)]
        self.weekday = self.day = None
        if form == "hours":
            step = dice.choice((2, 3, 4, 6, 8, 12))
            self.hours = list(range(0, 24, step))
            self.cron = f"{minute} */{step} * * *"
        elif form == "daily":
            self.hours = [dice.choice((1, 2, 2, 3, 23))]  # where clocks change
            self.cron = f"{minute} {self.hours[0]} * * *"
        elif form == "weekly":
            self.weekday = dice.randrange(7)
            self.cron = f"{minute} {self.hours[0]} * * {self.weekday}"
        else:
            self.day = dice.choice((1, 15, 29, 31))
            self.cron = f"{minute} {self.hours[0]} {self.day} * *"
        self.keep = self.draw_keep(dice)
        self.window = dice.choice((None, None, "7d", "30d", "2mo"))
        self.copy = self.draw_keep(dice, spare=True) if dice.random() < 0.5 else None

    @staticmethod
    def draw_keep(dice, spare=False):
        keep = {}
        if not spare or dice.random() < 0.7:
            keep["all"] = dice.choice(("1d", "3d", "14d", "40d", "1mo"))
        for rule, periods in (("daily", ("10d", "30d")), ("weekly", ("6w", "26w")), ("monthly", ("12mo", "7y")), ("yearly", ("2y", "5y"))):
            if dice.random() < 0.35:
                keep[rule] = dice.choice(periods)
        if not spare and dice.random() < 0.3:
            keep["last"] = dice.randrange(1, 9)
        return keep or {"monthly": "12mo"}

    def runs(self, start, end):
        """Every moment from start to end, both taken in."""
        found, day = set(), (start - 2 * DAY).date()
        while day <= (end + 2 * DAY).date():
            if (self.weekday is None or (day.weekday() + 1) % 7 == self.weekday) and (self.day is None or day.day == self.day):
                for hour in self.hours:
                    found.add(moment_of(datetime.datetime(day.year, day.month, day.day, hour, self.minute), self.zone))
            day += DAY
        return sorted(moment for moment in found if start <= moment <= end)

    def yaml(self):
        text = {"schedule": self.cron, "timezone": self.zone_name, "resources": ["db"], "vault": "here", "keep": self.keep}
        if self.window:
            text["window"] = self.window
        if self.copy:
            text["copies"] = [{"to": "away", "keep": self.copy}]
        return json.dumps({"vaults": {"here": {"at": "/srv/here"}, "away": {"at": "/srv/away"}},
                           "resources": {"db": {"kind": "postgres"}}, "plans": {"p": text}})


class Place:
    """A vault: what exists, and until when each is promised."""

    def __init__(self, window, last):
        self.window, self.last = window, last
        self.there, self.ever, self.ends = {}, {}, {}

    def until(self, keep, zone, made):
        """The furthest of: `all`; each calendar rule whose hour, day, … has no snapshot yet that it keeps."""
        best = moved(made, keep["all"]) if "all" in keep else made
        local = made.astimezone(zone)
        for rule in RULES:
            if rule not in keep or moved(made, keep[rule]) <= best:
                continue
            if not any(self.same(rule, other.astimezone(zone), local) and other <= made and until >= moved(other, keep[rule])
                       for other, until in self.near(made, rule)):
                best = moved(made, keep[rule])
        return best

    def near(self, made, rule):
        span = {"hourly": DAY, "daily": 3 * DAY, "weekly": 9 * DAY, "monthly": 33 * DAY, "yearly": 368 * DAY}[rule]
        return [(time, until) for time, until in self.there.items() if made - span <= time]

    @staticmethod
    def same(rule, one, two):
        if rule == "weekly":
            return one.isocalendar()[:2] == two.isocalendar()[:2]
        fields = {"hourly": 4, "daily": 3, "monthly": 2, "yearly": 1}[rule]
        return one.timetuple()[:fields] == two.timetuple()[:fields]

    def add(self, made, until):
        self.there[made] = self.ever[made] = until

    def prune(self, now):
        times = sorted(self.there)
        stay = set(times[-max(1, self.last):])
        if self.window:
            old = [time for time in times if time <= moved(now, self.window, -1)]
            stay.update(old[-1:] or times[:1])
        for time in times:
            if self.there[time] <= now and time not in stay:
                del self.there[time]
                self.ends[time] = now

    def copy_from(self, first, keep, zone, now):
        archive = not {"all", "hourly", "daily", "last"} & keep.keys()
        times = sorted(first.there)
        for time in times:
            if time in self.ever:
                continue
            until = self.until(keep, zone, time)
            newest = time == times[-1]
            if until > now or (newest and not archive):
                self.add(time, until)


def expect(plan, start, end):
    first = Place(plan.window, plan.keep.get("last", 0))
    second = Place(None, 0)
    events = [(run, 0) for run in plan.runs(start, end)]
    events += [(start + n * DAY, 1) for n in range(1, (end - start).days + 1)]
    for now, is_prune in sorted(events):
        if is_prune:
            first.prune(now)
            second.prune(now)
            continue
        first.add(now, first.until(plan.keep, plan.zone, now))
        if plan.copy:
            second.copy_from(first, plan.copy, plan.zone, now)
    return [first, second] if plan.copy else [first]


def parse(text):
    return None if text is None else datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def check(seed):
    dice = random.Random(seed)
    plan = Plan(dice)
    years = dice.choice((1, 2, 3))
    start = datetime.datetime(dice.randrange(2024, 2030), dice.randrange(1, 13), dice.randrange(1, 29), dice.randrange(24), tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kuramori.yaml"
        path.write_text(plan.yaml())
        done = subprocess.run([PROGRAM, "--config", path, "simulate", "--json", "--each", "--prune-every", "1d", "--years", str(years), "--from",
                               start.strftime("%Y-%m-%dT%H:%M:%SZ")], capture_output=True, text=True, timeout=300)
    where = f"seed {seed}: {plan.yaml()} from {start}, {years} years"
    assert done.returncode == 0, f"{where}\n{done.stdout}{done.stderr}"
    document = json.loads(done.stdout)
    end = parse(document["until"])
    wanted = expect(plan, start, end)
    assert len(document["places"]) == len(wanted), where
    snapshots = 0
    for told, place in zip(document["places"], wanted):
        got = {parse(one["time"]): (parse(one["keep_until"]), parse(one["dropped_at"])) for one in told["snapshots"]}
        must = {time: (until, place.ends.get(time)) for time, until in place.ever.items()}
        if got != must:
            differ = sorted(time for time in got.keys() | must.keys() if got.get(time) != must.get(time))
            lines = [f"  {time}: said {got.get(time)}, must be {must.get(time)}" for time in differ[:10]]
            raise AssertionError(f"{where}\n{told['vault']}: {len(differ)} differ\n" + "\n".join(map(str, lines)))
        snapshots += len(got)
        # And so on each day: what the document counts at the end of each year is what exists then.
        for counted in told["over_time"]:
            at = parse(counted["at"])
            there = sum(time <= at and (ended is None or ended > at) for time, (_, ended) in must.items())
            assert there == counted["count"], f"{where}: {counted} where {there} must exist"
    return snapshots


def main():
    first = int(os.environ.get("KURAMORI_ORACLE_SEED", "1"))
    snapshots = sum(check(seed) for seed in range(first, first + PLANS))
    print(f"{PLANS} plans, {snapshots} snapshots: each made, kept and dropped as it must be")
    assert snapshots > 5_000
    return 0


if __name__ == "__main__":
    sys.exit(main())

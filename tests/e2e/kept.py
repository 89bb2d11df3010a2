"""What must remain in a vault, worked out from its records alone: a second opinion on prune, written from docs/retention.md and
src/policy/README.md. The records are read by tests/format/records.py; a commit and what a prune said of it stay while nothing is collected.
"""

import bisect
import collections
import dataclasses
import datetime
import json
import pathlib

import harness

LEAST_OFTEN = 5 * 10**9  # a prune puts its intent within this time from its decision, and no later
ROUNDED = 10**9          # so much earlier than it was may be what a store says of when it took something


@dataclasses.dataclass
class Rule:
    """What the plans promise of one resource in one vault."""
    last: int = 0
    window: int = 0  # ns; 0: none


@dataclasses.dataclass
class Kept:
    """A snapshot. Times are in ns: `started`, `finished` and `until` by the clock of who made it, `stored` by the store's."""
    id: str
    resource: str
    commit: str
    started: int
    finished: int
    until: int
    stored: int
    run: str

    @property
    def age(self):
        return self.stored, self.id


class Offsets:
    """By how much a clock was put wrong, and since when."""

    def __init__(self):
        self.since = [(0, 0)]

    def note(self, now, offset):
        self.since.append((now, offset))

    def readings(self, begin, end):
        """[(first, last)]: what it may have shown between two true moments, each without a jump."""
        first = max(0, bisect.bisect_right(self.since, (begin, 1 << 62)) - 1)
        ends = [moment for moment, _ in self.since[first + 1:]] + [end]
        # A little longer at both ends: a jump is noted just before or just after it is made.
        return [(max(begin, moment) + offset, min(end, until) + offset) for (moment, offset), until in zip(self.since[first:], ends) if moment <= end]


def bases(snapshots, start):
    """What serves a window that begins at `start`: by its own word, and by the store's as well, the newest from before, else the oldest."""
    found = set()
    for since in (lambda one: one.finished, lambda one: max(one.finished, one.stored)):
        ordered = sorted(snapshots, key=lambda one: (since(one), one.age))
        old = [one for one in ordered if since(one) <= start]
        if ordered:
            found.add((old[-1] if old else ordered[0]).id)
    return found


class Records:
    """Of a vault in `folder`, or of a copy of its records; `stored`: {object: when the store had it}."""

    def __init__(self, folder, key, stored, rules, origin=None):
        status, said = harness.second_reader(folder, key, "check")
        # What a killed one had begun to write lies in .tmp/.
        findings = [line for line in said.splitlines() if not line.startswith(("{", "finding: .tmp/"))]
        if findings or status not in (0, 4):
            raise AssertionError(f"{status}: {findings}")
        self.rules, self.stored = rules, stored
        self.commits, self.intents, self.finals = {}, {}, {}
        self.proofs, self.holds, self.retained = (collections.defaultdict(list) for _ in range(3))  # of each snapshot
        resources = {}
        for record in (json.loads(line) for line in said.splitlines() if line.startswith("{")):
            parts, says = record["object"].split("/"), record["says"]
            if parts[0] == "resources":
                resources[parts[1]] = says["name"]
            elif parts[0] == "commits" and record["type"] in (5, 27):
                snapshot = parts[2].partition(".")[0]
                made = origin.first[snapshot] if record["type"] == 27 else None
                tags = {} if made else {tag["key"]: tag["value"] for tag in says["tags"]}
                self.commits[record["object"]] = Kept(
                    snapshot, parts[1], record["object"], made.started if made else says["started"], made.finished if made else says["finished"],
                    says["keep until"], stored[record["object"]], made.run if made else tags.get("kuramori-run", ""))
            elif parts[0] == "prune":
                (self.intents if parts[2] == "intent" else self.finals)[int(parts[1])] = (record["object"], says)
            elif parts[0] == "proofs":
                self.proofs[parts[1]].append((says["started"], says["passed"], stored[record["object"]]))
            elif parts[0] == "holds":
                self.holds[parts[1]].append(stored[record["object"]])
            elif parts[0] == "retain":
                self.retained[parts[1]].append((says["keep until"], stored[record["object"]]))
        for commit in self.commits.values():
            commit.resource = resources[commit.resource]
        self.pruned = {name for _, says in self.finals.values() for name in says["commits"]}
        self.first = self.snapshots(self.commits)

    def snapshots(self, names):
        """{id: it}. What was copied twice is one, and of its names the first counts."""
        found = {}
        for name in sorted(names, reverse=True):
            found[self.commits[name].id] = self.commits[name]
        return found

    def ever(self, resource):
        return [one for one in sorted(self.first.values(), key=lambda one: one.age) if one.resource == resource]

    def visible(self, resource=None):
        there = self.snapshots(set(self.commits) - self.pruned)
        return [one for one in sorted(there.values(), key=lambda one: one.age) if resource in (None, one.resource)]

    def until(self, one, by=1 << 62):
        return max([one.until, *(until for until, stored in self.retained[one.id] if stored < by)])

    def proven(self, snapshots, by=1 << 62):
        """{id: when, by the clock of who proved it}: those whose last proof passed."""
        found = {}
        for one in snapshots:
            proofs = sorted(proof for proof in self.proofs[one.id] if proof[2] < by)
            if proofs and proofs[-1][1]:
                found[one.id] = proofs[-1][0]
        return found

    def must_stay(self, now):
        """{id: why}, by a clock that shows `now`."""
        reasons = {}
        for resource in {one.resource for one in self.visible()}:
            snapshots, rule = self.visible(resource), self.rules.get(resource, Rule())
            proven = self.proven(snapshots)
            why = {one.id: "it is kept until later" for one in snapshots if self.until(one) > now}
            why |= {one.id: "it is held" for one in snapshots if self.holds[one.id]}
            why |= {one.id: "it is among the last" for one in snapshots[-max(1, rule.last):]}
            if rule.window:
                why |= {id_: "it is the base of the window" for id_ in bases(snapshots, now - rule.window)}
            if proven:
                why[[one.id for one in snapshots if one.id in proven][-1]] = "it is the newest that is proven"
                why[max(proven, key=proven.get)] = "it was proven last"
            reasons |= why
        return reasons

    def wrongly_pruned(self, offsets):
        """[why]: what a prune let go that had to stay then, by whatever its clock can have shown."""
        wrong, gone = [], set()
        for number, (name, final) in sorted(self.finals.items()):
            intent_name, intent = self.intents[number]
            put, done = self.stored[intent_name], self.stored[name]
            readings = [(intent["at"] - LEAST_OFTEN, intent["at"])]
            jumps = offsets.readings(put - LEAST_OFTEN, put + ROUNDED)
            if len(jumps) > 1:
                readings += jumps
            there = self.snapshots(one for one in set(self.commits) - gone if self.commits[one].stored <= put + ROUNDED)
            gone |= set(final["commits"])
            for went in (self.commits[one] for one in final["commits"]):
                snapshots = sorted((one for one in there.values() if one.resource == went.resource), key=lambda one: one.age)
                rule, why = self.rules.get(went.resource, Rule()), []
                if went.commit not in intent["commits"]: why.append("its prune never meant to")
                if self.until(went, put) > max(last for _, last in readings): why.append("it was kept until later")
                if any(stored < put for stored in self.holds[went.id]): why.append("it was held")
                if went.id in [one.id for one in snapshots[-max(1, rule.last):]]: why.append("it was among the last")
                if rule.window and all(went.id in bases(snapshots, begin - rule.window) & bases(snapshots, end - rule.window) for begin, end in readings):
                    why.append("it was the base of the window")
                # A proof counts from before the intent; another one may count until the end.
                before, after = self.proven(snapshots, put), self.proven(snapshots, done + ROUNDED)
                if went.id in before and max(after, key=after.get) == went.id: why.append("it was proven last")
                wrong += [f"prune {number} let {went.id} of {went.resource} go, but {one}" for one in why]
        return wrong


def of_folder(folder, key, rules):
    stored = {path.relative_to(folder).as_posix(): path.stat().st_ctime_ns for path in pathlib.Path(folder).rglob("*") if path.is_file()}
    return Records(folder, key, stored, rules)


def of_bucket(place, folder, key, rules, origin):
    """Its records are put below `folder`, which is new."""
    stored = {}
    for name, moment in place.s3.stored_at(place.bucket, "vault/"):
        name = name.removeprefix("vault/")
        if name.split("/")[0] in ("vault", "resources", "signers", "commits", "prune", "proofs", "holds", "retain", "disowned"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(place.get(name))
            when = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
            stored[name] = int((when - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)) / datetime.timedelta(microseconds=1)) * 1000
    return Records(folder, key, stored, rules, origin)

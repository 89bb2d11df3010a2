#!/usr/bin/python3
"""Reads the small records of a vault, as docs/vault-format.md has them: which fields a record has and who may sign it comes out of that
page's own tables, so that what the page leaves out is refused here.

records.py VAULT_DIR KEY_FILE check                  every record: what it says, as a line of JSON
records.py VAULT_DIR KEY_FILE audit [HEAD …]         who did what, and whether every chain holds; HEAD, seen before: SIGNER:NUMBER:SHA256
records.py VAULT_DIR KEY_FILE approvals              what was asked for, and whose word counts

What does not hold is a line `finding: OBJECT: why`, and the status 4. With reader.py it shares no code with the program.
"""
import json
import os
import pathlib
import re
import struct
import sys

import nacl.bindings
import nacl.exceptions
import zstandard

import reader
from reader import Envelope, Keys, Message, Refused, Vault, require, sha256

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/vault-format.md"
T_SESSION, T_COMMIT, T_FENCE, T_PRUNE, T_GC, T_CATALOG, T_AUDIT, T_EPOCH = 4, 5, 6, (9, 10), (7, 8), 21, 23, 24
T_COPY, T_ARCHIVE, T_REQUEST, T_APPROVAL, T_LEASE = 27, 29, 30, 31, 34
OWNER, WRITER, READER, KEEPER = range(1, 5)
ERRORS = (Refused, nacl.exceptions.CryptoError, zstandard.ZstdError, UnicodeDecodeError, OSError)
ID8, ID16, DIGEST = (f"[0-9a-f]{{{size}}}" for size in (16, 32, 64))
NUMBER = "[0-9]{10}"

# What stands where: a name, the types that may stand there, and (groups) fields that must be the name's.
NAMES = [(re.compile(pattern), types) for pattern, types in (
    (rf"resources/(?P<id>{ID8})", (3,)),
    (rf"sessions/{ID16}", (4,)),
    (rf"sessions/{ID16}\.end", (6,)),
    (rf"commits/(?P<resource>{ID8})/(?P<snapshot>{ID8})\.(?P<session>{ID16})", (5, 6, 27)),
    (rf"gc/(?P<number>{NUMBER})/(plan|waits)", (7,)),
    (rf"gc/(?P<number>{NUMBER})/sweep", (8,)),
    (rf"prune/(?P<number>{NUMBER})/intent", (9,)),
    (rf"prune/(?P<number>{NUMBER})/final", (10,)),
    (rf"holds/(?P<snapshot>{ID8})/[^/]+\.released", (12,)),
    (rf"holds/(?P<snapshot>{ID8})/[^/]+", (11,)),
    (rf"retain/(?P<snapshot>{ID8})/{NUMBER}", (13,)),
    (rf"proofs/(?P<snapshot>{ID8})/[^/]+", (14,)),
    (rf"live/[0-9a-f]{{2}}/{ID16}-0(\.{ID16})?", (15,)),
    (rf"epochs/(?P<number>{NUMBER})/begin\.(?P<token>{ID16})", (24,)),
    (rf"epochs/(?P<number>{NUMBER})/seal", (24,)),
    (rf"disowned/(?P<object>{DIGEST})", (18,)),
    (rf"signers/(?P<key>{ID16})/grant(\.2)?", (2,)),
    (rf"signers/(?P<signer>{ID16})/revoked(\.2)?", (26,)),
    (rf"audit/(?P<number>{NUMBER})", (23,)),
    (rf"audit/(?P<chain>{ID16})/(?P<number>{NUMBER})", (23,)),
    (rf"audit/(?P<chain>{ID16})/(?P<from>{NUMBER})-(?P<to>{NUMBER})", (29,)),
    (rf"approvals/(?P<id>{ID8})/request", (30,)),
    (rf"approvals/(?P<id>{ID8})/by\.(?P<chain>{ID16})", (31,)),
    (rf"approvals/(?P<id>{ID8})/used", (32,)),
    (rf"catalog/(?P<number>{NUMBER})\.{ID8}", (21,)),
    (rf"probes/(?P<at>{ID8})-{ID8}", (28,)),
    (rf"applied/(?P<number>{NUMBER})\.{ID8}", (33,)),
    (rf"leases/(?P<chain>{ID16})/{ID8}/{NUMBER}", (34,)),
)]
# Other programs read these (reader.py, trees.py, chunks.py), or nobody does.
ELSEWHERE = re.compile(r"vault(\.[23])?|(packs|maps|wal|probe)/.*")
IN_EPOCH = re.compile(rf"(?:({NUMBER})/(?=(?:sessions|commits|prune|gc)/))?([a-z]+/.*)")


def table(document, heading, columns):
    """Rows of the first table below a heading."""
    lines = document[document.index(f"\n## {heading}\n"):].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2:]:
        if not line.startswith("|"): break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
        require(len(rows[-1]) == columns, f"{heading}: a row of the document has {len(rows[-1])} columns")
    return rows


def split(text):
    """At the dots that stand in no braces."""
    parts, depth = [""], 0
    for piece in re.split(r"( · |[{}])", text):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        if piece == " · " and depth == 0: parts.append("")
        else: parts[-1] += piece
    return parts


FIELD = re.compile(r"(\d+) (u|s|d|f|p|m|R|P|b)(\d*)(\[\])? ([^{(,]+?)(?: \{(.*)\})?(?:(?:,| \().*)?")


def fields_of(text):
    """{number: (type, size, many, name, nested)} of a cell of the document."""
    found = {}
    for part in split(text):
        match = FIELD.fullmatch(part)
        require(match, f"the document says what cannot be read: {part!r}")
        number, kind, size, many, name, nested = match.groups()
        found[int(number)] = (kind, int(size or 0), bool(many), name.strip(), fields_of(nested) if nested else None)
    return found


class Format:
    """What the document says of records."""

    def __init__(self):
        document = DOCUMENT.read_text()
        self.fields = {}
        for record, fields in table(document, "Records", 2):
            keys = [number for part in re.findall(r"\(([\d, –]+)\)", record) for number in numbers_in(part)]
            for key in keys or [re.match(r"[\w ]+", record).group().strip()]:
                self.fields[key] = fields_of(fields)
        for role, may in {WRITER: [], READER: [], KEEPER: []}.items():
            for record, *marks in table(document, "Grants", 4):
                if marks[role - WRITER]:
                    may += [number for part in re.findall(r"\(([\d, –]+)\)", record) for number in numbers_in(part)]
                    may += [reader.T_PACK] if "WAL" in record else []
            reader.MAY_SIGN[role] = tuple(may)

    def decode(self, key, message):
        return self.message(self.fields[key], message, str(key))

    def message(self, fields, message, what):
        unknown = set(message.fields) - set(fields)
        require(not unknown, f"record {what} has fields that the document does not know: {sorted(unknown)}")
        found = {}
        for number, (kind, size, many, name, nested) in fields.items():
            values = [self.value(kind, size, name, nested, value) for value in message.all(number)]
            require(many or len(values) < 2, f"{name} stands there {len(values)} times")
            require(many or values or kind != "b" or not size, f"{name} is missing")
            found[name] = values if many else values[0] if values else {"u": 0, "s": 0, "d": 0.0, "f": 0, "p": [], "b": b""}.get(kind)
        return found

    def value(self, kind, size, name, nested, value):
        require(isinstance(value, int) == (kind in "us"), f"{name} is of another wire type")
        if kind == "u": return value
        if kind == "s": return value >> 1 ^ -(value & 1)
        if kind in "df": return struct.unpack("<d" if kind == "d" else "<Q", value)[0]
        if kind == "p":
            numbers, bytes_ = [], reader.Bytes(value)
            while bytes_.left(): numbers.append(bytes_.varint())
            return numbers
        if kind == "b":
            require(not size or len(value) == size, f"{name} has {len(value)} bytes")
            return value
        fields = nested or self.fields[{"R": "reference", "P": "pair"}[kind]]
        return self.message(fields, Message(value), name)


def numbers_in(text):
    for part in text.split(","):
        first, _, last = part.strip().partition("–")
        yield from range(int(first), int(last or first) + 1)


def shown(value):
    """As JSON has it: what is no text, in hex."""
    if isinstance(value, dict): return {name: shown(one) for name, one in value.items()}
    if isinstance(value, list): return [shown(one) for one in value]
    if not isinstance(value, bytes): return value
    try:
        text = value.decode()
        return text if text.isprintable() or "\n" in text else value.hex()
    except UnicodeDecodeError:
        return value.hex()


class Record:
    """One object, authentic, of a type that belongs to its name, and about what its name says."""

    def __init__(self, vault, format_, name, data):
        epoch, inner = IN_EPOCH.fullmatch(name).groups()
        rule = next(((found, types) for pattern, types in NAMES if (found := pattern.fullmatch(inner))), None)
        require(rule, "it is nothing that belongs here")
        found, types = rule
        origin = name.partition(".")[0] if types == (15,) else name
        self.name, self.digest = name, sha256(data)
        self.type, message = vault.record(origin, data)
        require(self.type in types, "it is a record of another type than belongs here")
        envelope = Envelope(origin, data)
        self.signer = getattr(envelope, "signer", None)
        self.role = role_of(vault, self.signer) if self.signer else None
        self.says = format_.decode(self.type, message)
        groups = found.groupdict()
        if self.type == 2: groups["key"] = None if sha256(self.says["Ed25519 public key"])[:16].hex() == groups["key"] else "another key"
        if "chain" in groups and self.type in (T_AUDIT, T_APPROVAL, T_LEASE):
            require(self.signer.hex() == groups["chain"], "it is signed by another key than its name says")
        for field, wanted in groups.items():
            field = {"object": "SHA256 of the object"}.get(field, field)
            if wanted is None or field in ("chain", "from", "to", "key") and wanted != "another key" or self.type in (T_FENCE, T_COPY): continue
            value = self.says.get(field)
            is_it = value == (int(wanted, 16) if field == "at" else int(wanted)) if isinstance(value, int) else value == bytes.fromhex(wanted)
            require(is_it, f"its {field} is not its name's")
        if self.type in (T_SESSION, T_COMMIT, T_FENCE):
            own = re.search(rf"({ID16})(\.end)?$", inner).group(1)[:8] == self.signer.hex()[:8]
            require(own or self.type == T_FENCE and self.role in (OWNER, KEEPER), "it is signed by another than whose session it is of")
        if self.type in T_PRUNE + T_GC:
            objects = self.says["commits" if self.type in T_PRUNE else "objects"]
            require(objects == sorted(objects), "its names are out of order")
        if self.type in (T_AUDIT, T_REQUEST, T_ARCHIVE):
            ours = {vault.info.b(1)} | ({bytes(16)} if "chain" not in groups else set())
            require(self.says["vault"] in ours, "it is a record of another vault")
        if self.type == T_COPY:  # the commit in it stands at its own name, and a writer signed that
            commit = Record(vault, format_, self.says["origin"].decode(), self.says["commit"])
            require(commit.type == T_COMMIT and all(commit.says[field].hex() == groups[field] for field in ("resource", "snapshot")),
                    "it is a copy of something else")
        if self.type == T_CATALOG:
            for entry in self.says["entries"]: Record(vault, format_, entry["name"].decode(), entry["the object"])


def role_of(vault, signer):
    return OWNER if signer == vault.keys.owner_id else vault.owners_word(f"signers/{signer.hex()}/grant").u(2)


class Findings:
    def __init__(self):
        self.found = []

    def add(self, name, why):
        if (name, why) not in self.found: self.found.append((name, why))

    def tell(self):
        for name, why in sorted(self.found):
            print(f"finding: {name}: {why}")
        return 4 if self.found else 0


def check(vault, format_):
    findings = Findings()
    for name in sorted(vault.names("")):
        if ELSEWHERE.fullmatch(name): continue
        try:
            require(IN_EPOCH.fullmatch(name), "it is nothing that belongs here")
            record = Record(vault, format_, name, vault.get(name))
        except ERRORS as error:
            findings.add(name, str(error) or "it is not authentic")
            continue
        says = {field: value for field, value in shown(record.says).items() if field != "entries"}
        print(json.dumps({"object": name, "type": record.type, "signer": record.signer.hex() if record.signer else None, "says": says}))
    return findings.tell()


class AuditLog:
    """"The audit log" of the document: records by chain and number, and what does not hold."""

    def __init__(self, vault, format_, seen):
        self.vault, self.format, self.findings = vault, format_, Findings()
        self.chains, self.no_record = {}, set()
        for name in vault.names("audit"):
            try:
                match = re.fullmatch(rf"audit/(?:({ID16})/)?({NUMBER})(?:-({NUMBER}))?", name)
                require(match and (match.group(1) or not match.group(3)), "it is nothing that belongs here")
                chain, first, last = match.group(1) or "", int(match.group(2)), int(match.group(3) or 0)
                self.take_archive(name, chain, first, last) if last else self.take(name, chain, first, name, vault.get(name))
            except ERRORS as error:
                self.findings.add(name, str(error) or "it is not authentic")
        for chain, records in self.chains.items(): self.check_chain(chain, records)
        for text in seen:
            signer, number, digest = text.split(":")
            self.check_head({"signer": bytes.fromhex(signer), "number": int(number), "SHA256 of the object": bytes.fromhex(digest)}, "it was seen before")
        for record in self.records():
            for head in record.says["heads"]: self.check_head(head, f"{record.name} names it")

    def records(self):
        return [record for chain in self.chains.values() for record in chain.values()]

    def take_archive(self, name, chain, first, last):
        entries = Record(self.vault, self.format, name, self.vault.get(name)).says["entries"]
        names = [f"audit/{chain}/{number:010d}" for number in range(first, last + 1)]
        require([entry["name"].decode() for entry in entries] == names, "it does not hold the records that its name says")
        for number, entry in zip(range(first, last + 1), entries):
            self.take(entry["name"].decode(), chain, number, name, entry["the object"])

    def take(self, name, chain, number, holder, data):
        try:
            record = Record(self.vault, self.format, name, data)
        except ERRORS as error:
            self.no_record.add((chain, number))
            return self.findings.add(holder, f"{name}: {error or 'it is not authentic'}")
        record.holder, record.number, record.chain = holder, number, chain
        there = self.chains.setdefault(chain, {}).setdefault(number, record)
        if there.digest != record.digest: self.findings.add(holder, f"it holds another {name} than {there.holder}")

    def expired(self, chain, number, digest):
        """Whether a keeper or owner said that the chain went up to there and may begin behind it."""
        word = {"signer": bytes.fromhex(chain), "number": number, "SHA256 of the object": digest}
        return any(word in record.says["expired"] for record in self.records() if record.role in (OWNER, KEEPER))

    def check_chain(self, chain, records):
        before = None
        for number, record in sorted(records.items()):
            previous, follows = record.says["SHA256 of the record before"], before.digest if before else bytes(32)
            after = before.number + 1 if before else 1
            fits = previous == follows and (before is not None or number == 1) and (chain or number == after)
            if not fits and number == after:
                self.findings.add(before.name if before else record.name, "it is not what follows says that it was")
            elif not fits and (before or not chain or not self.expired(chain, number - 1, previous)):
                for missing in range(after, number):
                    if (chain, missing) not in self.no_record: self.findings.add(f"audit/{chain}/{missing:010d}".replace("//", "/"), "it is missing")
            before = record

    def check_head(self, head, why):
        chain, number, digest = head["signer"].hex(), head["number"], head["SHA256 of the object"]
        records, name = self.chains.get(chain, {}), f"audit/{chain}/{number:010d}"
        if number in records:
            if records[number].digest != digest: self.findings.add(name, f"it was another: {why}")
        elif not (records and number < min(records)) and not self.expired(chain, number, digest) and (chain, number) not in self.no_record:
            self.findings.add(name, f"it is missing: {why}")

    def tell(self):
        keys = self.vault.keys
        for record in sorted(self.records(), key=lambda record: (record.says["at"], record.chain, record.number)):
            says = {"name": record.name, "in": record.holder, "by": record.signer.hex(), "at": record.says["at"]}
            if record.chain:
                plain = nacl.bindings.crypto_box_seal_open(record.says["sealed to the reader"], keys.reader_public, keys.reader_secret)
                says.update(shown(self.format.decode("act", Message(plain))))
            else:
                says.update(shown({field: record.says[field] for field in ("action", "object", "detail", "host")}))
            print(json.dumps(says))
        return self.findings.tell()


def approvals(vault, format_):
    """Requests of this vault, and of each the approvals that count. What cannot be verified is none."""
    def opened(name):
        try:
            record = Record(vault, format_, name, vault.get(name))
            return None if vault.owners_word(f"signers/{record.signer.hex()}/revoked") else record
        except ERRORS as error:
            print(f"cannot be verified: {name}: {error}", file=sys.stderr)

    names = vault.names("approvals")
    for name in names:
        if not name.endswith("/request"): continue
        folder = os.path.dirname(name)
        request = opened(name)
        if request is None: continue
        words = [record for other in names if other.startswith(f"{folder}/by.") if (record := opened(other))]
        counts = sorted(record.signer.hex() for record in words if record.says["SHA256 of the request object"] == request.digest
                        and record.signer != request.signer and record.role != WRITER)
        says = request.says
        stored = os.stat(os.path.join(vault.folder, name)).st_mtime_ns  # when a folder had it
        print(json.dumps({"id": says["id"].hex(), "act": says["act"].decode(), "lines": [line.decode() for line in says["lines"]],
                          "by": request.signer.hex(), "approved": counts, "used": f"{folder}/used" in names,
                          "until": min(says["at"], stored) + says["until"] - says["at"]}))
    return 0


def main(arguments):
    commands = {"check": check, "audit": lambda vault, format_, *seen: AuditLog(vault, format_, seen).tell(), "approvals": approvals}
    if len(arguments) < 3 or arguments[2] not in commands or (len(arguments) > 3 and arguments[2] != "audit"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return commands[arguments[2]](Vault(arguments[0], Keys(arguments[1])), Format(), *arguments[3:])
    except ERRORS + (ValueError,) as error:
        print(f"refused: {error or 'not authentic'}", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

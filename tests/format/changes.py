#!/usr/bin/python3
"""Reads what WAL changes, as docs/vault-format.md says under "Changed blocks": `changes.py VAULT_DIR KEY_FILE RESOURCE`

A line for each WAL object: its file, then what it changes, or null. With reader.py it shares no code with the program.
"""
import json
import sys

from reader import Bytes, Keys, Pack, Vault, require


def read_changes(data):
    """Changed blocks: what a stretch of WAL touches."""
    reader = Bytes(data)
    require(reader.number(1) == 1, "changed blocks of an unknown version")
    found = {"system": reader.number(8), "timeline": reader.varint(), "from": reader.varint()}
    found["to"] = found["from"] + reader.varint()
    flags = reader.varint()
    require(flags in (0, 1), "changed blocks with unknown flags")
    found["minimal"] = flags == 1
    found["databases"] = [[reader.varint(), reader.varint()] for _ in range(reader.varint())]
    found["forks"], tablespace, database, relation = [], None, None, 0
    for _ in range(reader.varint()):
        kind = reader.number(1)
        require(kind < 8, "a fork of an unknown kind")
        if not kind & 4:
            tablespace, database, relation = reader.varint(), reader.varint(), 0
        relation += reader.varint()
        limit = reader.varint() if kind & 2 else None
        blocks, end = [], 0
        for _ in range(reader.varint()):
            gap = reader.varint()
            count = reader.varint() + 2 if gap & 1 else 1
            blocks += range(end + (gap >> 1), end + (gap >> 1) + count)
            end = blocks[-1] + 1
            require(len(blocks) <= 1 << 24, "changed blocks beyond all measure")
        found["forks"].append([tablespace, database, relation, "init" if kind & 1 else "main", limit, blocks])
    require(reader.left() == 0, "changed blocks with bytes too many")
    return found


def list_changes(vault, resource):
    """A line for each WAL object: its file, then what it changes, or null."""
    ids = [key for key, record in vault.resources().items() if resource in (key.hex(), record.text(2))]
    require(len(ids) == 1, f"the vault has no resource {resource}")
    for name in sorted(vault.names(f"wal/{ids[0].hex()}")):
        pack = Pack(vault, name, None)
        print(json.dumps([pack.wal.text(6), read_changes(pack.changes) if pack.changes is not None else None]))


if __name__ == "__main__":
    list_changes(Vault(sys.argv[1], Keys(sys.argv[2])), sys.argv[3])

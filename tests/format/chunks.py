#!/usr/bin/python3
"""Reads the chunk index, as docs/vault-format.md says under "Chunk index".

chunks.py VAULT_DIR KEY_FILE list NAME    each entry of a run: its id, pack, frame and veiled offset
chunks.py VAULT_DIR KEY_FILE find NAME ID the one entry, by fences and filter alone
chunks.py VAULT_DIR KEY_FILE id FILE      the id and the veil of a chunk with this content

With reader.py it shares no code with the program.
"""
import hmac
import hashlib
import sys

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from reader import Bytes, Keys, Vault, require, sha256, u64, unseal

BLOCK, FILTER_BITS = 4096, 1280


class Run:
    def __init__(self, vault, name):
        self.vault, self.name, self.data = vault, name, vault.get(name)
        data = self.data
        require(sha256(data[:-32]) == data[-32:], f"{name} is damaged: its checksum does not fit")
        reader = Bytes(data)
        require(reader.take(4) == b"KMRI" and reader.number(1) == 25, f"{name} is no run of the chunk index")
        require(reader.number(1) == 1 and reader.number(2) == 1, f"{name} is of an unknown version")
        require(reader.take(reader.number(2)) == name.encode(), f"{name} was put here under another name")
        scope = reader.take(reader.number(1))
        require(len(scope) == 8, f"{name} belongs to no resource")
        self.key, self.blocks_at = vault.keys.structure_key(scope), reader.at
        self.read_table(u64(data, len(data) - 40), len(data) - 40)

    def binding(self, context, number):
        return context + self.vault.keys.family + number.to_bytes(8, "little") + self.name.encode()

    def read_table(self, start, end):
        reader, plain, part = Bytes(self.data, start), b"", 0
        while reader.at < end:
            sealed = reader.take(reader.number(4))
            plain += unseal(self.key, self.binding(b"kuramori chunk index table 1", part), sealed)
            part += 1
        table = Bytes(plain)
        sessions = [table.take(16) for _ in range(table.varint())]
        self.packs = []
        for _ in range(table.varint()):
            session, number = sessions[table.varint()], table.varint()
            self.packs.append(f"packs/{(session[15] + number) & 255:02x}/{session.hex()}-{number}")
        self.count, blocks = table.varint(), table.varint()
        self.index = [(table.take(8), table.take(FILTER_BITS // 8)) for _ in range(blocks)]
        require(table.left() == 0 and start - self.blocks_at == blocks * (BLOCK + 40), f"{self.name}: another table")

    def block(self, number):
        start = self.blocks_at + number * (BLOCK + 40)
        sealed = self.data[start:start + BLOCK + 40]
        reader = Bytes(unseal(self.key, self.binding(b"kuramori chunk index 1", number), sealed))
        for _ in range(reader.number(2)):
            chunk = reader.take(24)
            yield chunk, self.packs[reader.varint()], reader.varint(), reader.varint()
        require(not any(reader.take(reader.left())), f"{self.name}: bytes too many in a block")

    def entries(self):
        found = [entry for number in range(len(self.index)) for entry in self.block(number)]
        require(len(found) == self.count, f"{self.name}: another number of entries")
        require(all(a[0] < b[0] for a, b in zip(found, found[1:])), f"{self.name}: entries out of order")
        return found

    def find(self, chunk):
        for number in reversed(range(len(self.index))):
            fence, filter_bits = self.index[number]
            if fence > chunk[:8]: continue
            bits = [int.from_bytes(chunk[at:at + 2], "little") % FILTER_BITS for at in range(10, 24, 2)]
            if all(filter_bits[bit // 8] >> bit % 8 & 1 for bit in bits):
                found = [entry for entry in self.block(number) if entry[0] == chunk]
                if found: return found
            if fence < chunk[:8]: return []
        return []


def show(entries):
    for chunk, *place in entries:
        print(chunk.hex(), *place)


def main(folder, key_file, command, *arguments):
    keys = Keys(key_file)
    vault = Vault(folder, keys)
    if command == "list":
        show(Run(vault, arguments[0]).entries())
    elif command == "find":
        show(Run(vault, arguments[0]).find(bytes.fromhex(arguments[1])))
    elif command == "id":
        with open(arguments[0], "rb") as file:
            content = file.read()
        key = HKDF(SHA256(), 32, keys.family, b"kuramori chunk id 1").derive(keys.chunk)
        digest = hmac.new(key, sha256(content), hashlib.sha256).digest()
        print(digest[:24].hex(), int.from_bytes(digest[24:28], "little") & (1 << 22) - 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

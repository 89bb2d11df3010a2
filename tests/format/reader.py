#!/usr/bin/python3
"""A second reader of Kuramori vaults, written from docs/vault-format.md alone: the proof that it is enough.

    reader.py VAULT_DIR KEY_FILE list
    reader.py VAULT_DIR KEY_FILE restore SNAPSHOT TARGET
    reader.py VAULT_DIR KEY_FILE wal RESOURCE TIMELINE FILE OUT

A passphrase, where the key file needs one, is taken from KURAMORI_PASSPHRASE. Needs python3-nacl,
python3-cryptography and python3-zstandard.
"""
import base64
import hashlib
import hmac
import os
import re
import struct
import sys

import thin
import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.pwhash
import nacl.signing
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PAGE, PAGES_A_FRAME, STRIPE = 8192, 5, 1 << 20
RECORD_MAX, TRAILER_MAX, BLOCK_MAX = 256 << 20, 64 << 20, 64 << 20
T_VAULT, T_RESOURCE, T_COMMIT, T_FENCE, T_PRUNE_FINAL, T_LIVE, T_MAP, T_PACK = 1, 3, 5, 6, 10, 15, 16, 17
SEALED, SIGNED, COMPRESSED = 1, 2, 4  # flags of an envelope
MAY_SIGN = {2: (T_RESOURCE, T_COMMIT, T_FENCE, T_PACK), 3: (T_FENCE,), 4: (T_FENCE, T_PRUNE_FINAL)}  # by role


class Refused(Exception):
    """The bytes are not what they should be."""


def require(condition, why):
    if not condition:
        raise Refused(why)


def number_at(layout):
    return lambda data, at: struct.unpack_from(layout, data, at)[0]


u16, u32, u64 = number_at("<H"), number_at("<I"), number_at("<Q")
sha256 = lambda data: hashlib.sha256(data).digest()  # noqa: E731
keyed = lambda key, data: hmac.new(key, data, hashlib.sha256).digest()  # noqa: E731
verify = lambda key, message, signature: nacl.signing.VerifyKey(key).verify(message, signature)  # noqa: E731


def unzstd(data, limit):
    size = zstandard.get_frame_parameters(data).content_size
    require(size <= limit, "a compressed part is too large")
    plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(size, 1))
    require(len(plain) == size, "a compressed part has another size than it says")
    return plain


def unseal(key, binding, sealed):
    require(len(sealed) >= 40, "a sealed part is truncated")
    return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[24:], binding, sealed[:24], key)


class Bytes:
    """Reads front to back, never past the end."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        require(count <= len(self.data) - self.at, "truncated")
        self.at += count
        return self.data[self.at - count:self.at]
    def number(self, size):
        return int.from_bytes(self.take(size), "little")
    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80: return value
            require(shift < 70, "a number is too long")

    def left(self):
        return len(self.data) - self.at


class Message:
    """One protobuf message: every field's values in order, by number."""

    def __init__(self, data):
        self.fields = {}
        reader = Bytes(data)
        while reader.left():
            tag = reader.varint()
            kind = tag & 7
            require(kind in (0, 1, 2, 5), "a field of an unknown wire type")
            value = reader.varint() if kind == 0 else reader.take({1: 8, 5: 4}.get(kind) or reader.varint())
            self.fields.setdefault(tag >> 3, []).append(value)

    def all(self, field):
        return self.fields.get(field, [])
    def one(self, field, default):
        return self.all(field)[-1] if self.all(field) else default
    def u(self, field):
        return self.one(field, 0)
    def s(self, field):
        value = self.one(field, 0)
        return value >> 1 ^ -(value & 1)
    def b(self, field):
        return self.one(field, b"")
    def text(self, field):
        return self.b(field).decode()
    def packed(self, field):
        numbers, reader = [], Bytes(self.b(field))
        while reader.left():
            numbers.append(reader.varint())
        return numbers

    def messages(self, field):
        return [Message(data) for data in self.all(field)]


class Keys:
    def __init__(self, path):
        with open(path, encoding="ascii") as file:
            text = file.read()
        require(text.startswith("kuramori key bundle "), "this is no key file")
        at = text.rfind("check: ")
        require(at > 0 and text[at + 7:].strip() == hashlib.sha256(text[:at].encode()).hexdigest()[:16],
                "the key file is damaged: its check does not fit")
        require(text.startswith("kuramori key bundle 1\n"), "the key file has an unknown format")
        head, body = text[:at].split("body:\n")
        body = base64.b64decode(body)
        wrap = re.search(r"^wrap: (.*)$", head, re.M).group(1)
        if wrap != "none":
            found = re.fullmatch(r"argon2id memory=(\d+) passes=(\d+) salt=([0-9a-f]{32})", wrap)
            require(found, "the key file is wrapped in an unknown way")
            phrase = os.environ.get("KURAMORI_PASSPHRASE", "").encode()
            key = nacl.pwhash.argon2id.kdf(32, phrase, bytes.fromhex(found.group(3)), opslimit=int(found.group(2)), memlimit=int(found.group(1)))
            body = unseal(key, head.encode(), body)
        bundle = Message(body)
        self.family, self.structure, self.chunk, self.owner = bundle.b(2), bundle.b(6), bundle.b(7), bundle.b(9)
        self.reader_public, self.reader_secret = bundle.b(4), bundle.b(5)
        require(len(self.reader_secret) == 32, "this key cannot open content: use the owner's or a reader's")
        self.owner_id = sha256(self.owner)[:16]

    def derive(self, purpose, resource):
        return HKDF(SHA256(), 32, self.family, purpose + resource).derive(self.structure)

    def structure_key(self, resource):
        return self.derive(b"kuramori structure 1", resource)


class Envelope:
    """Frame, version, checksum and name of a small object or of a pack's head."""

    def __init__(self, name, data, whole=True):
        reader = Bytes(data)
        require(reader.take(4) == b"KMRI", f"{name} does not begin as an object of a vault")
        self.type, version = reader.number(1), reader.number(1)
        require(version == 1, f"{name} has the unknown format version {version}")
        self.flags = reader.number(2)
        stored = reader.take(reader.number(2)).decode("ascii", "replace")
        self.scope = reader.take(reader.number(1))
        require(len(self.scope) in (0, 8), f"{name} has an impossible scope")
        self.head = data[:reader.at]
        self.body = reader.take(reader.number(4))
        self.signed_part = data[:reader.at]
        if self.flags & SIGNED:
            self.signer, self.signature = reader.take(16), reader.take(64)
        checked = data[:reader.at]
        require(reader.take(32) == sha256(checked), f"{name} is damaged: its checksum does not fit")
        require(not whole or reader.left() == 0, f"{name} has bytes too many")
        require(stored == name, f"{name} is {stored}, put here under another name")
        self.size = reader.at


def unfilter_page(page, number):
    """Page filters 1 and 2, as the document gives them."""
    def add(at, other, size):
        value = int.from_bytes(page[at:at + size], "little") + int.from_bytes(page[other:other + size], "little")
        page[at:at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")

    lower, upper, special, version = struct.unpack_from("<4H", page, 12)
    layout = {8192: "heap", 8176: "btree" if u16(page, 8190) <= 0xFF7F else "other", 8184: "other"}.get(special)
    if version != 0x2004 or not 24 < lower <= upper <= special or lower % 4 or layout is None: return
    normal, offset, length, p, p_length = [], special, 0, None, 0
    for i in range((lower - 24) // 4):
        pointer = u32(page, 24 + 4 * i)
        if pointer >> 15 & 3 == 1:
            length = (pointer >> 17) + length & 0x7FFF
            offset = offset - (length + 7 & ~7) - (pointer & 0x7FFF) & 0x7FFF
            struct.pack_into("<I", page, 24 + 4 * i, offset | 1 << 15 | length << 17)
            normal.append((offset, length, i))
    if number == 2 and layout != "other":
        unturn_columns(page, normal, 24 if layout == "heap" else 17, upper, special)
    reach, near, tid = {"heap": (18, 6, (12, 14)), "btree": (8, 16, (0, 2, 4)), "other": (1 << 16, 0, ())}[layout]
    for t, t_length, i in [usable for usable in normal if lower <= usable[0] <= special - reach]:
        apart = -1 if p is None else abs(t - p)
        for at in tid if apart >= near else ():
            add(t + at, p + at, 2)
        if layout == "heap":
            struct.pack_into("<H", page, t + 16, u16(page, t + 16) + i + 1 & 0xFFFF)
            if number == 2 and apart >= 16 and min(t_length, p_length) > 24 and max(t, p) + 24 < 8192:
                add(t + 24, p + 24, 1)
        else:
            if apart >= 16 and t_length == p_length == 16 and max(t, p) + 16 <= special:
                add(t + 8, p + 8, 8)
            begin, end = t + u16(page, t + 2), t + u16(page, t + 2) + 6 * (u16(page, t + 4) & 0xFFF)
            if number == 2 and u16(page, t + 6) & u16(page, t + 4) & 0x2000 and t + 8 <= begin and end <= special:
                for at in range(begin + 6, end, 2):
                    add(at, at - 6, 2)
        p, p_length = t, t_length


def unturn_columns(page, normal, shortest, upper, special):
    tuples, taken = [], set()
    for t, length, _ in normal:
        places = range(t, t + (length + 7 & ~7))
        if length >= shortest and t >= upper and t % 8 == 0 and places.stop <= special and taken.isdisjoint(places):
            taken.update(places)
            tuples.append(places)
    order = [t[8 * word + column] for word in range(4) for column in range(8) for t in tuples if len(t) > 8 * word]
    order += [at for t in tuples for at in t[32:]] + [at for at in range(upper, special) if at not in taken]
    for at, byte in zip(order if len(tuples) >= 16 else (), bytes(page[upper:special])):
        page[at] = byte


class Pack:
    """Frames of one pack. `bound`: (size, trailer bytes, trailer digest) that a commit names, or None (WAL)."""

    def __init__(self, vault, name, bound):
        self.name, self.keys = name, vault.keys
        self.data = data = vault.get(name) if bound is None else thin.whole(vault.folder, name, bound[0], require)
        self.trailer_of(bound)
        head = Envelope(name, data[:min(4096, self.end)], whole=False)
        require(head.type == T_PACK and len(head.scope) == 8, f"{name} is not a pack")
        structure = self.keys.structure_key(head.scope)
        plain = unseal(structure, b"kuramori pack directory 1" + self.keys.family + name.encode(), self.directory)
        directory = Message(unzstd(plain, TRAILER_MAX))
        require(directory.b(5) == sha256(data[:head.size]), f"{name}: its head is not the one its directory binds")
        self.wal, self.changes = directory.messages(4)[0] if directory.all(4) else None, directory.one(6, None)
        if bound is None:
            require(self.wal and self.signature, f"{name} is bound by no snapshot and signed by nobody")
            key, revoked = vault.signer(self.signature[0], T_PACK, name)
            require(not revoked or name.encode() in revoked.all(5), f"{name} was made by a key that was revoked")
            verify(key, b"kuramori pack signature 1" + self.keys.family + name.encode() + self.signed, self.signature[1])
        self.frames, at = [], head.size
        for stored, plain_size, kind in zip(directory.packed(1), directory.packed(2), directory.packed(3), strict=True):
            self.frames.append((at, stored, plain_size, kind >> 8, kind & 255))
            at += stored
        require(at == self.end, f"{name}: its directory does not cover its frames")
        origin = sha256(name.encode())[:16]
        self.binding = self.keys.family + origin
        box = nacl.bindings.crypto_box_seal_open(head.body[32:], self.keys.reader_public, self.keys.reader_secret)
        require(len(box) == 64 and box[32:] == self.binding, f"{name}: its key belongs to another pack")
        require(keyed(box[:32], b"kuramori pack key commitment 1") == head.body[:32], f"{name}: its key is not the one it commits to")
        self.cipher = AESGCM(box[:32])

    def trailer_of(self, bound):
        data, name = self.data, self.name
        require(len(data) >= 24, f"{name} is truncated")
        if bound:
            size, trailer_size, digest = bound
            require(size == len(data), f"{name} has {len(data)} bytes, its snapshot says {size}")
        else:
            footer = data[-24:]
            require(footer[20:] == b"KMPE" and footer[12:20] == sha256(footer[:12])[:8], f"{name}: damaged footer")
            trailer_size, digest = u32(footer, 0), None
        require(2 * trailer_size + 24 <= len(data), f"{name}: impossible trailer")
        self.end = len(data) - 24 - 2 * trailer_size
        for copy in (1, 2):
            begin = len(data) - 24 - copy * trailer_size
            trailer = data[begin:begin + trailer_size]
            if sha256(trailer[:-32]) == trailer[-32:] and digest in (None, sha256(trailer)):
                break
        else:
            raise Refused(f"{name} is damaged: no copy of its trailer is the one bound")
        reader = Bytes(trailer[:-32])
        require(reader.take(4) == b"KMPT" and reader.number(1) == 1, f"{name}: unknown trailer")
        flags = reader.number(1)
        reader.take(2)
        require(reader.number(8) == self.end, f"{name}: its trailer is of a pack of another size")
        self.directory = reader.take(reader.number(4))
        stripe, stripes = reader.number(4), reader.number(4)
        require(stripe == STRIPE and stripes == -(-self.end // STRIPE), f"{name}: its stripes do not cover it")
        reader.take(32 * stripes)
        self.signed = trailer[:reader.at]
        self.signature = (reader.take(16), reader.take(64)) if flags & 1 else None
        require(reader.left() == 0, f"{name}: its trailer has bytes too many")

    def frame(self, ordinal):
        require(ordinal < len(self.frames), f"{self.name} has no frame {ordinal}")
        at, stored, plain_size, kind, codec = self.frames[ordinal]
        binding = self.binding + struct.pack("<IBBI", ordinal, kind, codec, plain_size)
        plain = self.cipher.decrypt(bytes(8) + struct.pack(">I", ordinal), bytes(self.data[at:at + stored]), binding)
        require(codec in (0x00, 0x01, 0x11, 0x21), f"{self.name}: unknown codec {codec}")
        if codec & 15:
            plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=max(plain_size, 1))
        require(len(plain) == plain_size, f"{self.name}: frame {ordinal} has another size than promised")
        pages = memoryview(bytearray(plain))
        for begin in range(0, len(pages) if codec >> 4 else 0, PAGE):
            unfilter_page(pages[begin:begin + PAGE], codec >> 4)
        return bytes(pages)


def read_map(vault, name, data):
    """{file key: (state, pages, runs)}, a run being (page, count, pack or None, frame, slot)."""
    require(len(data) > 40 and sha256(data[:-32]) == data[-32:], f"{name} is damaged: its checksum does not fit")
    reader = Bytes(data)
    require(reader.take(4) == b"KMRI" and reader.number(1) == T_MAP, f"{name} is not a page map")
    require(reader.number(1) == 1, f"{name} has an unknown format version")
    reader.take(2)
    require(reader.take(reader.number(2)) == name.encode(), f"{name} was put here under another name")
    scope = reader.take(reader.number(1))
    require(len(scope) == 8, f"{name} belongs to no resource")
    key, end = vault.keys.structure_key(scope), u64(data, len(data) - 40)
    packs, files, block = [], {}, 0
    while reader.at < end:
        binding = b"kuramori page map 1" + vault.keys.family + struct.pack("<I", block) + name.encode()
        plain = Bytes(unzstd(unseal(key, binding, reader.take(reader.number(4))), BLOCK_MAX))
        if block == 0:
            packs = [plain.take(plain.varint()).decode() for _ in range(plain.varint())]
        else:
            while plain.left():
                file_key, state, pages = plain.take(16), plain.number(1), plain.varint()
                plain.varint(), plain.varint()  # inode and birth time: for the next capture
                runs, at = [], 0
                for _ in range(plain.varint()):
                    at += plain.varint()
                    count, pack = plain.varint(), plain.varint()
                    require(count and at + count <= pages and pack <= len(packs), f"{name}: an impossible run")
                    place = (packs[pack - 1], plain.varint(), plain.varint()) if pack else (None, 0, 0)
                    runs.append((at, count, *place))
                    at += count
                files[file_key] = (state, pages, runs)
        block += 1
    require(reader.at == end and block > 0, f"{name}: its blocks do not end where its index begins")
    return files


def resolve(maps):
    """{file key: [where each page is: None for zero, or (pack, slot counted through)]}, from maps newest first."""
    files = {}
    for entries in reversed(maps):
        for key, (state, pages, runs) in entries.items():
            if state == 3:
                files.pop(key, None)
                continue
            require(state in (1, 2), "a file in a page map has an unknown state")
            if state == 2:
                require(key in files, "a page map changes a file that no older one has")
            older = files[key] if state == 2 else []
            places = older[:pages] + ["nowhere"] * (pages - len(older))
            for page, count, pack, frame, slot in runs:
                for i in range(count):
                    places[page + i] = (pack, frame * PAGES_A_FRAME + slot + i) if pack else None
            require("nowhere" not in places, "no page map says where a page is")
            files[key] = places
    return files


class Vault:
    def __init__(self, folder, keys):
        self.folder, self.keys = folder, keys
        errors = []
        for name in ("vault", "vault.2", "vault.3"):
            try:
                self.info = self.read_info(name)
                return
            except (Refused, nacl.exceptions.CryptoError, OSError) as error:
                errors.append(str(error))
        raise Refused("; ".join(errors))

    def read_info(self, name):
        envelope = Envelope(name, self.get(name))
        info = Message(envelope.body)
        require(envelope.type == T_VAULT and envelope.flags & SIGNED, f"{name} is no vault object")
        require(info.b(2) == self.keys.family and info.b(5) == self.keys.owner, "the vault is of another key family")
        verify(self.keys.owner, b"kuramori vault 1" + info.b(2) + envelope.signed_part, envelope.signature)
        require(info.u(6) == PAGE and info.u(7) == PAGES_A_FRAME, "the vault has other parameters")
        return info

    def get(self, name):
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Refused(f"{name} is missing") from None

    def names(self, prefix):
        places = os.walk(os.path.join(self.folder, prefix))
        return sorted(os.path.relpath(os.path.join(folder, file), self.folder) for folder, _, files in places for file in files)

    def signer(self, who, kind, name):
        if who == self.keys.owner_id:
            return self.keys.owner, None
        require(any(kind in kinds for kinds in MAY_SIGN.values()), f"{name} is signed by somebody who may not")
        grant, revoked = (self.owners_word(f"signers/{who.hex()}/{word}") for word in ("grant", "revoked"))
        require(grant and sha256(grant.b(1))[:16] == who and kind in MAY_SIGN[grant.u(2)], f"{name}: an unknown signer")
        return grant.b(1), revoked

    def owners_word(self, name):
        there = [copy for copy in (name, name + ".2") if os.path.exists(os.path.join(self.folder, copy))]
        for copy in there:
            try:
                return self.record(copy)[1]
            except (Refused, nacl.exceptions.CryptoError) as error:
                require(copy != there[-1], str(error))

    def record(self, name, data=None):
        """(type, message) of a record, authentic."""
        data = self.get(name) if data is None else data
        envelope = Envelope(name, data)
        require(envelope.flags & SEALED, f"{name} is not sealed")
        if envelope.type != T_LIVE:  # what its commit binds by digest is not signed itself
            require(envelope.flags & SIGNED, f"{name} is not signed")
            key, revoked = self.signer(envelope.signer, envelope.type, name)
            require(not revoked or sha256(data) in revoked.all(4), f"{name} was made by a key that was revoked")
            verify(key, b"kuramori signature 1" + self.keys.family + envelope.signed_part, envelope.signature)
        plain = unseal(self.keys.structure_key(envelope.scope), b"kuramori record 1" + self.keys.family + envelope.head, envelope.body)
        return envelope.type, Message(unzstd(plain, RECORD_MAX) if envelope.flags & COMPRESSED else plain)

    def bound(self, reference):
        """The object that a reference names, if its bytes are the ones bound."""
        name = reference.text(1)
        data = self.get(name)
        require(len(data) == reference.u(2) and sha256(data) == reference.b(3), f"{name} is not what its snapshot binds")
        return name, data

    def snapshots(self):
        """[(commit name, commit)] of the visible ones, oldest first."""
        pruned = set()
        for name in self.names("prune"):
            if name.endswith("/final"):
                kind, record = self.record(name)
                require(kind == T_PRUNE_FINAL, f"{name} is a record of another type")
                pruned.update(commit.decode() for commit in record.all(2))
        found = []
        for name in self.names("commits"):
            try:
                kind, commit = self.record(name)
            except (Refused, nacl.exceptions.CryptoError) as error:
                print(f"cannot be verified: {name}: {error}", file=sys.stderr)
                continue
            if kind == T_FENCE or name in pruned: continue
            expected = f"commits/{commit.b(3).hex()}/{commit.b(1).hex()}.{commit.b(2).hex()}"
            require(kind == T_COMMIT and name == expected, f"{name} is the commit of another snapshot")
            found.append((name, commit))
        return sorted(found, key=lambda item: item[1].s(6))

    def resources(self):
        records = {}
        for name in self.names("resources"):
            kind, record = self.record(name)
            require(kind == T_RESOURCE and name == "resources/" + record.b(1).hex(), f"{name} is another's record")
            records[record.b(1)] = record
        return records


class Snapshot:
    def __init__(self, vault, commit):
        self.vault, self.commit, self.packs, self.last = vault, commit, {}, (None, None)
        name, data = vault.bound(commit.messages(13)[0])
        kind, live = vault.record(name, data)
        require(kind == T_LIVE, f"{name} is not a live record")
        self.live = {p.text(1): (p.u(2), p.u(3), p.b(4)) for p in live.messages(1)}
        self.path_key = vault.keys.derive(b"kuramori path 1", commit.b(3))
        tree = b""
        for span in commit.messages(15):
            tree += b"".join(self.pack(span.text(1)).frame(span.u(2) + i) for i in range(span.u(3)))
        self.tree = Message(tree)
        self.tree_packs = [name.decode() for name in self.tree.all(1)]
        maps = commit.messages(14) if any(n.u(3) == 2 for n in self.tree.messages(2)) else []  # else: the chunk index
        self.files = resolve([read_map(vault, *vault.bound(ref)) for ref in maps])

    def pack(self, name):
        if name not in self.packs:
            require(name in self.live, f"the snapshot does not bind {name}")
            self.packs[name] = Pack(self.vault, name, self.live[name])
        return self.packs[name]

    def frame(self, pack, ordinal):
        if self.last[0] != (pack, ordinal):
            self.last = ((pack, ordinal), self.pack(pack).frame(ordinal))
        return self.last[1]

    def pages(self, path, out):
        places = self.files.get(keyed(self.path_key, path)[:16])
        require(places is not None, f"no page map knows {path!r}")
        for place in places:
            page = bytes(PAGE)
            if place:
                plain = self.frame(place[0], place[1] // PAGES_A_FRAME)
                at = place[1] % PAGES_A_FRAME * PAGE
                page = plain[at:at + PAGE]
                require(len(page) == PAGE, "a frame holds fewer pages than its map says")
            out.write(page)

    def extents(self, node, out):
        numbers = node.packed(10)
        require(len(numbers) % 4 == 0, "an extent is cut short")
        for pack, ordinal, offset, count in zip(*[iter(numbers)] * 4):
            require(pack < len(self.tree_packs), "the tree names a pack it does not list")
            plain = self.frame(self.tree_packs[pack], ordinal)
            require(offset + count <= len(plain), "a frame holds fewer bytes than the tree says")
            out.write(plain[offset:offset + count])

    def restore(self, target):
        require(not self.tree.all(19), "this tree is in segments: trees.py reads it")
        nodes = [(node.b(1), node) for node in self.tree.messages(2)]
        types = {path: node.u(2) for path, node in nodes}
        require(len(types) == len(nodes), "the tree holds a path twice")
        for path, _ in nodes:
            parts = path.split(b"/")
            require(b"\0" not in path and not {b"", b".", b".."} & set(parts), f"impossible path {path!r}")
            for i in range(1, len(parts)):
                require(types.get(b"/".join(parts[:i]), 1) == 1, f"{path!r} lies below what is no folder")
        os.makedirs(target)
        folders = []
        for path, node in nodes:
            place = os.path.join(os.fsencode(target), path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            kind, content = node.u(2), node.u(3)
            if kind == 1:
                os.makedirs(place, exist_ok=True)
                folders.append((place, node))
            elif kind == 2:
                with open(place, "xb") as out:
                    if content == 2:
                        self.pages(path, out)
                    elif content == 1:
                        self.extents(node, out)
                    require(content == 0 or out.tell() == node.u(8), f"{path!r} has another size than the tree says")
                os.chmod(place, node.u(4))
                os.utime(place, ns=(node.s(7), node.s(7)))
            elif kind == 3:
                os.symlink(node.b(9), place)
            else:
                raise Refused(f"{path!r} is of an unknown type")
        for place, node in reversed(folders):  # last, so that a folder without write permission can be filled
            os.chmod(place, node.u(4))


def list_snapshots(vault):
    resources = vault.resources()
    for _, commit in vault.snapshots():
        resource = resources.get(commit.b(3))
        name = resource.text(2) if resource else commit.b(3).hex()
        print(commit.b(1).hex(), name, commit.text(4), commit.s(6), commit.u(19))


def restore(vault, snapshot, target):
    found = [commit for _, commit in vault.snapshots() if commit.b(1).hex() == snapshot]
    require(found, f"the vault has no snapshot {snapshot}")
    Snapshot(vault, found[0]).restore(target)


def fetch_wal(vault, resource, timeline, file, out):
    ids = [key for key, record in vault.resources().items() if resource in (key.hex(), record.text(2))]
    require(len(ids) == 1, f"the vault has no resource {resource}")
    for name in vault.names(f"wal/{ids[0].hex()}/{int(timeline):08x}"):
        found = re.fullmatch(r"wal/[0-9a-f]{16}/([0-9a-f]{8})/([0-9a-f]{16})-([0-9a-f]{16})\.\w+\.([0-9a-f]{16})", name)
        if not found: continue
        pack = Pack(vault, name, None)
        require([pack.wal.u(i) for i in (2, 3, 4)] == [int(text, 16) for text in found.group(1, 2, 3)], f"{name} is not what its name says")
        if pack.wal.text(6) != file: continue
        content = b"".join(pack.frame(i) for i in range(len(pack.frames)))
        digest = keyed(vault.keys.derive(b"kuramori wal digest 1", ids[0]), content)
        require(digest == pack.wal.b(8) and digest.hex()[:16] == found.group(4) and len(content) == pack.wal.u(7),
                f"{name} does not hold the bytes it was made of")
        with open(out, "xb") as target:
            target.write(content)
        return
    raise Refused(f"the archive has no {file} on timeline {timeline}")


def main(arguments):
    commands = {"list": (list_snapshots, 0), "restore": (restore, 2), "wal": (fetch_wal, 4)}
    if len(arguments) < 3 or arguments[2] not in commands or len(arguments) - 3 != commands[arguments[2]][1]:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        commands[arguments[2]][0](Vault(arguments[0], Keys(arguments[1])), *arguments[3:])
    except (Refused, nacl.exceptions.CryptoError, InvalidTag, zstandard.ZstdError, ValueError, OSError) as error:
        print(f"refused: {error or 'not authentic'}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

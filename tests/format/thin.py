"""Thin packs, of which only some frames are left ("Thin packs" in docs/vault-format.md): a part of reader.py."""
import hashlib
import os
import struct

STRIPE = 1 << 20


def whole(folder, name, size, require):
    """The whole pack, under its own name or put again; or what thin ones hold of it, laid where it belongs: frames that are
    nowhere do not open."""
    place, base = os.path.split(os.path.join(folder, name))
    there = sorted(os.listdir(place)) if os.path.isdir(place) else []
    here = []
    for file in there:
        if file == base or file.startswith(base + "."):
            with open(os.path.join(place, file), "rb") as object:
                here.append(object.read())
    require(here, f"{name} is missing")
    for data in here:
        if len(data) == size:
            return data
    laid = bytearray(size)
    for data in here:
        for at, stretch in stretches(data, size, name, require):
            laid[at:at + len(stretch)] = stretch
    return bytes(laid)


def stretches(data, size, name, require):
    def sha256(part):
        return hashlib.sha256(part).digest()

    footer = data[-24:]
    require(len(footer) == 24 and footer[20:] == b"KMPF" and footer[12:20] == sha256(footer[:12])[:8],
            f"{name} has {len(data)} bytes, its snapshot says {size}")
    length, kept = struct.unpack_from("<IQ", footer)
    require(kept + 2 * length + 24 == len(data), f"{name}: its table has an impossible size")
    table = next((t for t in (data[kept:kept + length], data[kept + length:-24]) if sha256(t[:-32]) == t[-32:]), None)
    require(table, f"{name}: no copy of its table is whole")
    at = 0

    def take(form):
        nonlocal at
        at += struct.calcsize(form)
        require(at <= len(table) - 32, f"{name}: its table ends too soon")
        return struct.unpack_from(form, table, at - struct.calcsize(form))

    magic, version, of_bytes, ranges = take("<4sB3xQI")
    require(magic == b"KMPC" and version == 1, f"{name}: unknown table")
    require(of_bytes == size, f"{name}: a thin pack of another")
    take(f"<{2 * ranges}I")
    found, held = [], 0
    for _ in range(*take("<I")):
        offset, count = take("<QQ")
        require(held + count <= kept and offset + count <= size, f"{name}: a stretch beyond its end")
        found.append((offset, data[held:held + count]))
        held += count
    require(held == kept, f"{name}: its table does not cover it")
    for begin in range(*take("<I")):
        require(take("<32s")[0] == sha256(data[begin * STRIPE:min(kept, (begin + 1) * STRIPE)]), f"{name}: stripe {begin} is damaged")
    take("<16s64s")
    require(at == len(table) - 32, f"{name}: its table has bytes too many")
    return found

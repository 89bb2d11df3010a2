#!/usr/bin/python3
"""Reads trees in segments, as docs/vault-format.md says under "Trees in segments": snapshots of files and the like.

trees.py VAULT_DIR KEY_FILE list SNAPSHOT            each entry, names with %xx for what is not plain
trees.py VAULT_DIR KEY_FILE restore SNAPSHOT TARGET  all of it into a new folder: what was captured lies in TARGET/content

With reader.py it shares no code with the program.
"""
import os
import stat
import struct
import sys
from urllib.parse import quote_from_bytes

import nacl.exceptions
import zstandard
from cryptography.exceptions import InvalidTag

from reader import Keys, Message, Refused, Snapshot, Vault, require, sha256

BYTES_FRAME, ROOT_FRAME, SEGMENT_FRAME = 2, 5, 6
FOLDER, FILE, SYMLINK, HARD_LINK, FIFO, SOCKET, CHAR_DEVICE, BLOCK_DEVICE = range(1, 9)
SPECIAL = {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHAR_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}
HOLE = 0xFFFFFFFF


def parts_of(path):
    parts = path.split(b"/")
    require(b"\0" not in path and not {b"", b".", b".."} & set(parts), f"impossible path {path!r}")
    return parts


class Entry:
    """One node of a segment, checked as far as it can be by itself."""

    def __init__(self, node, packs):
        self.path, self.type, self.content = node.b(1), node.u(2), node.u(3)
        self.mode, self.uid, self.gid, self.mtime, self.size = node.u(4), node.u(5), node.u(6), node.s(7), node.u(8)
        self.link, self.rdev, self.digest = node.b(9), node.u(11), node.one(15, None)
        self.attributes = [(attribute.b(1), attribute.b(2)) for attribute in node.messages(14)]
        self.parts = parts_of(self.path)
        numbers = node.packed(10)
        require(len(numbers) % 4 == 0, f"{self.path!r}: an extent is cut short")
        self.extents = []
        for pack, *place in zip(*[iter(numbers)] * 4):
            require(pack < len(packs) or pack == HOLE, f"{self.path!r} lies in a pack that its segment does not list")
            self.extents.append((None if pack == HOLE else packs[pack], *place))
        require(FOLDER <= self.type <= BLOCK_DEVICE, f"{self.path!r} is of an unknown type")
        require(self.content in ((0, 1) if self.type == FILE else (0,)), f"{self.path!r} has content of an impossible kind")
        require(self.content or not self.extents, f"{self.path!r} has extents and no content")
        require(not self.content or sum(extent[3] for extent in self.extents) == self.size, f"the extents of {self.path!r} do not add up")
        require((self.digest is not None) == bool(self.content), f"{self.path!r} should have a digest exactly if it has content")
        require(self.digest is None or len(self.digest) == 32, f"{self.path!r} has a digest of another size")
        if self.type == HARD_LINK: parts_of(self.link)


class Tree:
    """All entries of a snapshot, in order, none of which leads out of a target."""

    def __init__(self, snapshot):
        self.snapshot = snapshot
        spans = snapshot.commit.messages(15)
        for span in spans:
            for ordinal in range(span.u(2), span.u(2) + span.u(3)):
                self.require_type(span.text(1), ordinal, ROOT_FRAME)
        root = snapshot.tree
        numbers = root.packed(18)
        require(spans and len(numbers) % 2 == 0, "the root of the tree is cut short")
        self.entries = []
        for pack, ordinal in zip(*[iter(numbers)] * 2):
            require(pack < len(snapshot.tree_packs), "the root names a pack that it does not list")
            segment = Message(self.frame(snapshot.tree_packs[pack], ordinal, SEGMENT_FRAME))
            packs = [name.decode() for name in segment.all(1)]
            self.entries += [Entry(node, packs) for node in segment.messages(2)]
        require(len(self.entries) == root.u(19), f"the tree has {len(self.entries)} entries and says it has {root.u(19)}")
        self.check_order()

    def require_type(self, pack, ordinal, wanted):
        frames = self.snapshot.pack(pack).frames
        require(ordinal < len(frames) and frames[ordinal][3] == wanted, f"frame {ordinal} of {pack} is not of type {wanted}")

    def frame(self, pack, ordinal, wanted):
        self.require_type(pack, ordinal, wanted)
        return self.snapshot.frame(pack, ordinal)

    def check_order(self):
        """Each name once, after the folder that holds it; hard links behind what they are a name of."""
        before, open_folders, files = [], [], set()
        for entry in self.entries:
            require(before < entry.parts, f"{entry.path!r} stands after {b'/'.join(before)!r}")
            before = entry.parts
            while open_folders and entry.parts[:len(open_folders[-1])] != open_folders[-1]:
                open_folders.pop()
            require(entry.parts[:-1] == (open_folders[-1] if open_folders else []), f"no folder stands above {entry.path!r}")
            if entry.type == FOLDER: open_folders.append(entry.parts)
            elif entry.type == HARD_LINK:
                require(entry.link in files, f"{entry.path!r} is another name of {entry.link!r}, which the tree does not have before it")
            else: files.add(entry.path)

    def write_content(self, entry, out):
        message = b""
        for pack, ordinal, offset, count in entry.extents:
            message += struct.pack("<IB", count, pack is None)
            if pack is None:
                out.seek(count, os.SEEK_CUR)
                continue
            plain = self.frame(pack, ordinal, BYTES_FRAME)
            require(offset + count <= len(plain), f"a frame holds fewer bytes than {entry.path!r} says")
            out.write(plain[offset:offset + count])
            message += sha256(plain[offset:offset + count])
        out.truncate(entry.size)
        require(sha256(message) == entry.digest, f"{entry.path!r} is not the content that its digest says")

    def list(self):
        for e in self.entries:
            digest, quoted = e.digest.hex() if e.digest else "-", [quote_from_bytes(part) for part in (e.path, e.link) if part]
            attributes = ",".join(f"{quote_from_bytes(name)}={value.hex()}" for name, value in e.attributes) or "-"
            print(e.type, f"{e.mode:04o}", e.uid, e.gid, e.mtime, e.size, e.rdev, digest, attributes, *quoted)

    def restore(self, target):
        os.makedirs(target)
        for entry in self.entries:
            place = os.path.join(os.fsencode(target), entry.path)
            if entry.type == FOLDER:
                os.mkdir(place, 0o700)
            elif entry.type == FILE:
                with open(place, "xb") as out:
                    if entry.content: self.write_content(entry, out)
                apply(place, entry)
            elif entry.type == SYMLINK:
                os.symlink(entry.link, place)
                apply(place, entry)
            elif entry.type == HARD_LINK:
                os.link(os.path.join(os.fsencode(target), entry.link), place, follow_symlinks=False)
            elif attempt(place, "made", lambda: os.mknod(place, SPECIAL[entry.type] | 0o600, entry.rdev)):
                apply(place, entry)
        for entry in reversed(self.entries):  # last: what is made in a folder changes its time, and needs leave to write
            if entry.type == FOLDER: apply(os.path.join(os.fsencode(target), entry.path), entry)


def apply(place, entry):
    if os.geteuid() == 0: os.lchown(place, entry.uid, entry.gid)
    for name, value in entry.attributes:
        attempt(place, f"given {name!r}", lambda: os.setxattr(place, name, value, follow_symlinks=False))
    if entry.type != SYMLINK: os.chmod(place, entry.mode)
    os.utime(place, ns=(entry.mtime, entry.mtime), follow_symlinks=False)


def attempt(place, what, act):
    try:
        act()
        return True
    except OSError as error:  # no device nodes without root, no attributes on some filesystems: the content is there
        print(f"{place!r} could not be {what}: {error.strerror}", file=sys.stderr)
        return False


def main(arguments):
    if len(arguments) < 4 or (arguments[2], len(arguments)) not in (("list", 4), ("restore", 5)):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        vault = Vault(arguments[0], Keys(arguments[1]))
        found = [commit for _, commit in vault.snapshots() if commit.b(1).hex() == arguments[3]]
        require(found, f"the vault has no snapshot {arguments[3]}")
        tree = Tree(Snapshot(vault, found[0]))
        tree.list() if arguments[2] == "list" else tree.restore(arguments[4])
    except (Refused, nacl.exceptions.CryptoError, InvalidTag, zstandard.ZstdError, ValueError, OSError) as error:
        print(f"refused: {error or 'not authentic'}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

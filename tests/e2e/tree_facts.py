"""What a tree of files is: everything that a restore must bring back."""

import os
import stat


def describe(root, owners=True):
    """Everything that a restore must bring back, by path; of names of one file the first says it, the others name it."""
    found, first_names = {}, {}
    root = os.fsencode(root)
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in [b"."] * (folder == root) + sorted(folders + files):
            path = os.path.join(folder, name)
            is_there = os.lstat(path)
            key = os.path.relpath(path, root)
            entry = {"mode": is_there.st_mode, "mtime": is_there.st_mtime_ns}
            if owners:
                entry["owner"] = (is_there.st_uid, is_there.st_gid)
            if stat.S_ISREG(is_there.st_mode):
                if is_there.st_nlink > 1:
                    first = first_names.setdefault(is_there.st_ino, key)
                    if first != key:
                        found[key] = {"another name of": first}
                        continue
                with open(path, "rb") as file:
                    entry["content"] = file.read()
                entry["sparse"] = is_there.st_blocks * 512 < is_there.st_size // 2
            elif stat.S_ISLNK(is_there.st_mode):
                entry["link"] = os.readlink(path)
                del entry["mode"]
            elif stat.S_ISCHR(is_there.st_mode) or stat.S_ISBLK(is_there.st_mode):
                entry["device"] = is_there.st_rdev
            entry["attributes"] = {name: os.getxattr(path, name, follow_symlinks=False)
                                   for name in os.listxattr(path, follow_symlinks=False)}
            found[key] = entry
    return found

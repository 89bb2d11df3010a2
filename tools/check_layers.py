"""Holds the code to the layers it declares: `check_layers.py [ROOT]`.

Every src/**/CMakeLists.txt says `kuramori_module(NAME USES module…)`. A file may include its own module's headers
and those of the modules it names, no other; the modules form no circle; none uses a row above its own (the rows are
docs/architecture.md's, repeated below). A header includes the standard library, the system's headers and ours:
third-party headers cost seconds in every file that sees them, and stay in the .cc that wraps the library.

No two types of a namespace have one name, not even where no file sees both: the linker takes the members of either for
the other's, and says nothing.
"""

import pathlib
import re
import sys

# Lowest first. Of its own row a module may use what it declares.
ROWS = [
    ["base"],
    ["os", "net", "codec", "crypto", "conc"],
    ["store"],
    ["vault", "source"],
    ["policy"],
    ["engine"],
    ["api"],
    ["cli", "daemon"],
    ["testing"],
]
RANK = {folder: rank for rank, row in enumerate(ROWS) for folder in row}

MODULE = re.compile(r"kuramori_module\(\s*(\w+)([^)]*)\)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
KEYWORDS = {"USES", "LIBS", "PLAIN_TESTS"}

# System headers by folder, and the POSIX ones that have none.
SYSTEM_FOLDERS = ("sys/", "linux/", "netinet/", "arpa/", "bits/")
POSIX = set("aio dirent dlfcn endian errno fcntl fnmatch glob grp limits net/if netdb poll pthread pwd sched semaphore "
            "signal spawn stdarg stddef stdint stdio stdlib string strings syslog termios time ucontext unistd utime "
            "cpuid immintrin nmmintrin x86intrin".split())
FREE_IN_HEADERS = {"fmt/core.h"}  # small, and in the precompiled header anyway
# A header that is itself the wrapping of a library: what only a macro, set before its first include, can mend.
WRAPPERS = {"vault/wire.h"}

SPACE = re.compile(r"(?:inline )?namespace(?: ([\w:]+))? \{")
TYPE = re.compile(r"(?:struct|class|enum class|enum|union) (\w+)(?!\w|::)[^;]*\{")  # not Outer::Inner: it is its parent's


class Module:
    def __init__(self, name, folder, uses, headers_only=False):
        self.name, self.folder, self.uses = name, folder, uses
        self.headers_only = headers_only  # an interface: nothing to link, so nothing to declare


def words_of(arguments):
    """{keyword: [word…]} of a CMake call's arguments."""
    found, keyword = {}, None
    for word in arguments.split():
        if word in KEYWORDS:
            keyword = word
            found.setdefault(keyword, [])
        elif keyword:
            found[keyword].append(word)
    return found


def read_modules(source):
    """{folder relative to src: Module}. A folder of headers alone is an interface: it may use base."""
    modules = {}
    for listing in sorted(source.rglob("CMakeLists.txt")):
        folder = listing.parent.relative_to(source).as_posix()
        text = re.sub(r"#.*", "", listing.read_text())
        for name, arguments in MODULE.findall(text):
            modules[folder] = Module(name, folder, words_of(arguments).get("USES", []))
    for header in source.rglob("*.h"):
        folder = header.parent.relative_to(source).as_posix()
        if folder not in modules:
            modules[folder] = Module(folder.replace("/", "_"), folder, ["base"], headers_only=True)
    return modules


def rank_of(module):
    return RANK.get(module.folder.split("/")[0])


def check_declarations(modules, complain):
    by_name = {module.name: module for module in modules.values()}
    for module in modules.values():
        if rank_of(module) is None:
            complain(f"src/{module.folder}: a folder of no row; add it to tools/check_layers.py and the documentation")
            continue
        for used in module.uses:
            if used not in by_name:
                continue  # a folder that is still empty
            if rank_of(by_name[used]) is not None and rank_of(by_name[used]) > rank_of(module):
                complain(f"src/{module.folder}/CMakeLists.txt: {module.name} uses {used}, which is a layer above it")
    done, path = set(), []

    def visit(name):
        if name in path:
            complain("a circle of modules: " + " -> ".join(path[path.index(name):] + [name]))
        elif name in by_name and name not in done:
            path.append(name)
            for used in by_name[name].uses:
                visit(used)
            path.pop()
            done.add(name)

    for name in by_name:
        visit(name)


def closure(name, by_name):
    reached, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in reached:
            reached.add(name)
            waiting += by_name[name].uses
    return reached


def folder_of(path, modules):
    """The innermost module that holds `path` (relative to src)."""
    for parent in pathlib.PurePosixPath(path).parents:
        if parent.as_posix() in modules:
            return modules[parent.as_posix()]
    return None


def is_third_party(header):
    if "/" not in header and "." not in header:
        return False  # C++'s own
    if header.startswith(SYSTEM_FOLDERS) or header in FREE_IN_HEADERS:
        return False
    return header.removesuffix(".h") not in POSIX


def check_file(source, path, modules, by_name, complain):
    own = folder_of(path, modules)
    text = (source / path).read_text()
    is_test = path.endswith("_test.cc") or path.endswith(("/contract.h", "_for_tests.h", "/test_support.h"))
    # A test may use what its module stands on, and the testing layer with what that stands on.
    if own.folder.startswith("testing"):
        is_test = True
    allowed = closure(own.name, by_name) | closure("testing", by_name) if is_test else {own.name, *own.uses}
    for match in INCLUDE.finditer(text):
        kind, header = match.groups()
        line = text.count("\n", 0, match.start(2)) + 1
        if kind == "<":
            if path.endswith(".h") and path not in WRAPPERS and not is_test and is_third_party(header):
                complain(f"src/{path}:{line}: <{header}> in a header; wrap the library in a .cc file")
            continue
        target = folder_of(header, modules)
        if target is None or not (source / header).exists():
            complain(f'src/{path}:{line}: "{header}" is no file below src (write the path from src on)')
        elif target.name not in allowed and not target.headers_only:
            complain(f'src/{path}:{line}: "{header}" belongs to {target.name}, which {own.name} does not declare '
                     f"(src/{own.folder}/CMakeLists.txt, USES)")
        elif rank_of(target) is not None and rank_of(own) is not None and not is_test and rank_of(target) > rank_of(own):
            complain(f'src/{path}:{line}: "{header}" is a layer above {own.name}')


def types_of(text):
    """(namespace, name, line) of each type that is defined for other files to see; nested ones are their parent's."""
    spaces = []
    for number, line in enumerate(text.splitlines(), 1):
        if opened := SPACE.match(line):
            spaces.append(opened.group(1) or "")
        elif line.startswith("}  // namespace") and spaces:
            spaces.pop()
        elif (found := TYPE.match(line)) and all(spaces):
            yield "::".join(spaces), found.group(1), number


def check_types(source, files, complain):
    seen = {}
    for path in files:
        if path.endswith(("_test.cc", "_for_tests.h")) or path.startswith("testing/"):
            continue  # a test program is linked with its own module's tests alone
        for space, name, line in types_of((source / path).read_text()):
            first = seen.setdefault((space, name), path)
            if first != path:
                complain(f"src/{path}:{line}: {space}::{name} is another type in src/{first}; give one of them another name")


def check(root):
    source = root / "src"
    complaints = []
    modules = read_modules(source)
    by_name = {module.name: module for module in modules.values()}
    check_declarations(modules, complaints.append)
    files = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in (".h", ".cc"))
    for path in files:
        check_file(source, path, modules, by_name, complaints.append)
    check_types(source, files, complaints.append)
    return complaints, len(files), len(modules)


if __name__ == "__main__":
    found, file_count, module_count = check(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
    for complaint in found:
        print(complaint)
    print(f"{file_count} files, {module_count} modules, {len(found)} complaints")
    sys.exit(1 if found else 0)
